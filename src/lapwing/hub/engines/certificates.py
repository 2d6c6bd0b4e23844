"""The TLS contexts of links to brokers, from the options of their URLs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...io import trust

if TYPE_CHECKING:
    import ssl

__all__ = ["TLS_OPTIONS", "context_of"]

#: Options of URLs: files in PEM.
TLS_OPTIONS: Final = {"cafile", "certfile", "keyfile"}


def context_of(files: dict[str, str], shown: str) -> ssl.SSLContext:
    """The context of a URL: the system's authorities are trusted, or those of a file; perhaps with a certificate.

    Raises:
        ValueError: a file cannot be used.
    """
    if not files:
        return trust.client_context()
    import ssl

    if "keyfile" in files and "certfile" not in files:
        raise ValueError(f"keyfile is the key of a certificate: expected certfile, too, in {shown!r}")
    try:
        context = ssl.create_default_context(cafile=files.get("cafile"))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if "certfile" in files:
            context.load_cert_chain(files["certfile"], files.get("keyfile"))
    except OSError as error:
        named = ", ".join(f"{name}={path}" for name, path in files.items())
        raise ValueError(f"{named} of {shown!r} cannot be used: {error.strerror or error}") from None
    return context
