"""A peer that asks for new TLS keys, again and again (RFC 8446 section 4.6.3), which the `ssl` module cannot.

`SSL_key_update` of OpenSSL does it. It is called on the SSL of an `ssl.SSLSocket`, which CPython 3.11 to 3.13 keep
where `io/openssl.h` looks for it, too; OpenSSL is asked whether it is the right one.
"""

from __future__ import annotations

import _ssl
import ctypes
import ssl
from typing import Any

import pytest

_REQUESTED = 1


def request_key_updates(sock: ssl.SSLSocket, count: int) -> int:
    """Ask for new keys up to `count` times, on a socket that does not wait.

    Returns:
        How many times, up to when the kernel takes no more.
    """
    library, session = _find(sock)
    if library.SSL_do_handshake(session) != 1:  # what the kernel did not take the last time
        return 0
    for number in range(count):
        if library.SSL_key_update(session, _REQUESTED) != 1 or library.SSL_do_handshake(session) != 1:
            return number
    return count


def _find(sock: ssl.SSLSocket) -> tuple[Any, ctypes.c_void_p]:
    held = sock._sslobj  # type: ignore[attr-defined]
    try:
        library = ctypes.PyDLL(_ssl.__file__)
        library.SSL_get_ex_data.restype = ctypes.c_void_p
    except (AttributeError, OSError):
        pytest.skip("the ssl module has no OpenSSL that could be called")
    header = object.__basicsize__
    session = ctypes.c_void_p.from_address(id(held) + header + ctypes.sizeof(ctypes.c_void_p))
    if library.SSL_get_ex_data(session, 0) != id(held):
        pytest.skip("this Python keeps the SSL of an ssl.SSLSocket elsewhere")
    return library, session
