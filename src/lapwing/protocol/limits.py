"""Every limit of the opening handshake, in the order in which a request meets them.

`limits.pxd` has the thresholds of the native engine, and `options` the limits that a program chooses.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "MAX_BODY",
    "MAX_ELEMENTS",
    "MAX_FORWARDERS",
    "MAX_HEAD",
    "MAX_HEADERS",
    "MAX_INTERIM",
    "MAX_LINE",
    "MAX_PROXY_HEADER",
]

#: The longest PROXY header that is read, in bytes. Version 1 has at most 107; in version 2 everything beyond the
#: addresses are additions (TLVs), of which a certificate's name is about the longest in use.
MAX_PROXY_HEADER: Final = 4096
#: The most bytes of a head, from the first line to the empty line, which is counted.
MAX_HEAD: Final = 65536
#: The most bytes of one line of a head by default, without its line break (the precedent: nginx and Apache, 8 KiB).
MAX_LINE: Final = 8192
#: The most header lines of a head by default (the precedent: Apache allows 100, websockets 128).
MAX_HEADERS: Final = 128
#: The most proxies on the way of one request, in Forwarded or X-Forwarded-For.
MAX_FORWARDERS: Final = 64
#: The most offers and parameters, taken together, of one Sec-WebSocket-Extensions: browsers send one offer with one or
#: two parameters.
MAX_ELEMENTS: Final = 128
#: The most interim responses (1xx) before the one that counts. None is expected; one or two are conceivable.
MAX_INTERIM: Final = 8
#: The most bytes of a rejected response's body that are kept.
MAX_BODY: Final = 65536
