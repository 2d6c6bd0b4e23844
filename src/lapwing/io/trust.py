"""TLS contexts, and what to say when TLS fails. Knows no protocol above TLS."""

from __future__ import annotations

import ssl
from functools import cache

__all__ = ["client_context", "explain", "server_context"]


@cache
def client_context() -> ssl.SSLContext:
    """Return the context of all clients that bring none: what the system trusts, names checked, TLS 1.2 or newer.

    There is one in a process: loading the system's certificates takes milliseconds and a megabyte.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """Make the context of a server from its files.

    Raises:
        OSError: a file cannot be read; `ssl.SSLError` when it does not hold what it should.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:
        files = certfile if keyfile is None else f"{certfile} and {keyfile}"
        error.strerror = f"cannot use {files} as certificate and key in PEM form: {error.strerror}"
        raise
    return context


#: What may help against a certificate that is not accepted, by OpenSSL's number for the reason (X509_V_ERR_...).
_WAYS_OUT = {
    9: "the clock of this machine is wrong, or the server has it too early",
    10: "the server needs a new one, or the clock of this machine is wrong",
    62: "connect by a name that it has, or say with server_hostname= which one to expect",
    64: "connect by a name that it has, or say with server_hostname= which one to expect",
}


def explain(error: OSError, host: str, port: int, *, is_proxy: bool = False) -> OSError:
    """Say in an error of TLS what it was about, and what may help. It stays the same object."""
    if is_proxy:
        return _explain_proxy(error, host, port)
    if isinstance(error, ssl.SSLCertVerificationError):
        way_out = _WAYS_OUT.get(
            error.verify_code, "to trust another authority, pass ssl=ssl.create_default_context(cafile=...)"
        )
        message = error.verify_message.rstrip(".")
        error.strerror = f"the certificate of {host}:{port} is not trusted: {message}: {way_out}"
    elif isinstance(error, ssl.SSLError) and error.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
    ):
        error.strerror = (
            f"{host}:{port} does not speak TLS: use ws:// rather than wss://, or another port ({error.strerror})"
        )
    elif isinstance(error, ssl.SSLError):
        error.strerror = f"the TLS handshake with {host}:{port} failed: {error.strerror}"
    return error


def _explain_proxy(error: OSError, host: str, port: int) -> OSError:
    if isinstance(error, ssl.SSLCertVerificationError):
        error.strerror = (
            f"the certificate of the proxy {host}:{port} is not trusted: {error.verify_message}: to trust another "
            "authority, pass proxy_ssl=ssl.create_default_context(cafile=...)"
        )
    elif isinstance(error, ssl.SSLError):
        error.strerror = (
            f"the TLS handshake with the proxy {host}:{port} failed: {error.strerror}: does its URL begin with http:// "
            "rather than https://?"
        )
    return error
