"""TLS contexts, and what to say when TLS fails. Knows no protocol above TLS."""

from __future__ import annotations

import contextlib
import ssl
from functools import cache

__all__ = ["client_context", "explain", "in_words", "require_certificate", "server_context"]


@cache
def client_context() -> ssl.SSLContext:
    """Return the default context of clients: the system's certificates trusted, names checked, TLS 1.2 or newer.

    There is one in a process: loading the system's certificates takes milliseconds and a megabyte.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_context(certfile: str, keyfile: str | None) -> ssl.SSLContext:
    """Make the context of a server from its files.

    Raises:
        OSError: a file cannot be read; `ssl.SSLError` when its content is invalid.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certfile, keyfile)
    except OSError as error:
        files = certfile if keyfile is None else f"{certfile} and {keyfile}"
        hint = ""
        if isinstance(error, ssl.SSLError):
            if keyfile is None:
                hint = ". Is the key in another file? Pass both files"
            elif error.reason == "KEY_VALUES_MISMATCH":
                hint = ". The key belongs to another certificate"
            else:
                hint = ". Has certfile the certificate, and keyfile its key?"
        error.strerror = f"cannot use {files} as certificate and key in PEM form: {error.strerror}{hint}"
        raise
    return context


def require_certificate(context: ssl.SSLContext) -> None:
    """Check that a server's context, passed as `ssl`, has a certificate.

    Raises:
        ValueError: it has none.
    """
    if not _has_certificate(context):
        raise ValueError(
            "expected ssl to be a context with a certificate, got one without: call its load_cert_chain(), or pass "
            "certfile and keyfile"
        )


def _has_certificate(context: ssl.SSLContext) -> bool:
    """Tell whether a server's context has a certificate, or an `sni_callback` which may have one.

    The `ssl` module does not say. So a client that takes anything says hello to it, in memory: a server without a
    certificate finds no cipher.
    """
    if context.sni_callback is not None:
        return True
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    client.set_ciphers("ALL:@SECLEVEL=0")
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        client.wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    try:
        context.wrap_bio(hello, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLError as error:
        return error.reason not in ("NO_SHARED_CIPHER", "UNSUPPORTED_PROTOCOL")  # the latter of TLS 1.3
    return True


#: What may help against a certificate that is not accepted, by OpenSSL's number for the reason (X509_V_ERR_...).
_WAYS_OUT = {
    9: "The clock of this machine is wrong, or the server uses it too early",
    10: "The server needs a new one, or the clock of this machine is wrong",
    62: "Connect by a name in it, or pass the expected name as server_hostname=",
    64: "Connect by a name in it, or pass the expected name as server_hostname=",
}


#: The meaning of the alerts about the client's certificate (RFC 8446 section 6.2, RFC 5246 section 7.2.2), by the
#: end of OpenSSL's name for each: its beginning differs between versions.
_CLIENT_CERTIFICATE = dict.fromkeys(
    ("ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_UNKNOWN_CA", "ALERT_ACCESS_DENIED"),
    "does not accept the client certificate: it must be signed by an authority that the server trusts",
) | {
    "ALERT_UNSUPPORTED_CERTIFICATE": "does not accept the client certificate: it must be one for TLS clients",
    "ALERT_CERTIFICATE_REVOKED": "does not accept the client certificate: it was revoked",
    "ALERT_CERTIFICATE_EXPIRED": "does not accept the client certificate: it has expired, or is not valid yet",
    "ALERT_CERTIFICATE_REQUIRED": "requires a client certificate",
    # TLS 1.2 has no alert of its own for that.
    "ALERT_HANDSHAKE_FAILURE": "refused the TLS handshake; perhaps it requires a client certificate, or other ciphers",
}
#: Those that a client without a certificate may get; some servers send the first one then.
_WITHOUT_CERTIFICATE = ("ALERT_BAD_CERTIFICATE", "ALERT_CERTIFICATE_REQUIRED", "ALERT_HANDSHAKE_FAILURE")


def _about_certificate(error: OSError, who: str, option: str) -> str | None:
    """Say it when the peer refused the client for its certificate; None for any other error."""
    reason = (isinstance(error, ssl.SSLError) and error.reason) or ""
    for end, what in _CLIENT_CERTIFICATE.items():
        if reason.endswith(end):
            step = f". To present one, call load_cert_chain() on an ssl.SSLContext, and pass that as {option}="
            return f"{who} {what}{step if end in _WITHOUT_CERTIFICATE else ''} ({error.strerror})"
    return None


def in_words(error: BaseException) -> str:
    """Put an error of a server's connection into words: in plain ones where it refused the client's certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate is not trusted: {error.verify_message} ({error})"
    if isinstance(error, ssl.SSLError) and error.reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return f"the client presented no certificate ({error})"
    return str(error)


def explain(error: OSError, host: str, port: int, *, is_proxy: bool = False) -> OSError:
    """Add the cause and a remedy to an error of TLS. It stays the same object."""
    who = f"the proxy {host}:{port}" if is_proxy else f"{host}:{port}"
    words = _about_certificate(error, who, "proxy_ssl" if is_proxy else "ssl")
    if words is not None:
        error.strerror = words
        return error
    if is_proxy:
        return _explain_proxy(error, host, port)
    if isinstance(error, ssl.SSLCertVerificationError):
        way_out = _WAYS_OUT.get(
            error.verify_code, "To trust another authority, pass ssl=ssl.create_default_context(cafile=...)"
        )
        message = error.verify_message.rstrip(".")
        error.strerror = f"the certificate of {host}:{port} is not trusted: {message}. {way_out}"
    elif isinstance(error, ssl.SSLError) and error.reason in (
        "WRONG_VERSION_NUMBER",
        "HTTP_REQUEST",
        "RECORD_LAYER_FAILURE",
    ):
        error.strerror = (
            f"{host}:{port} does not speak TLS. Use ws:// rather than wss://, or another port ({error.strerror})"
        )
    elif isinstance(error, ssl.SSLError):
        error.strerror = f"the TLS handshake with {host}:{port} failed: {error.strerror}"
    return error


def _explain_proxy(error: OSError, host: str, port: int) -> OSError:
    if isinstance(error, ssl.SSLCertVerificationError):
        error.strerror = (
            f"the certificate of the proxy {host}:{port} is not trusted: {error.verify_message}. To trust another "
            "authority, pass proxy_ssl=ssl.create_default_context(cafile=...)"
        )
    elif isinstance(error, ssl.SSLError):
        error.strerror = (
            f"the TLS handshake with the proxy {host}:{port} failed: {error.strerror}. Perhaps its URL should begin "
            "with http:// rather than https://"
        )
    return error
