"""The fields that a proxy adds to the addresses in a header of the PROXY protocol, version 2 (section 2.2: TLVs)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["ProxyTLS", "ProxyTLVs", "split_tlvs"]

#: The registered types (sections 2.2.1 to 2.2.6).
_ALPN, _AUTHORITY, _UNIQUE_ID, _SSL, _NETNS = 0x01, 0x02, 0x05, 0x20, 0x30
#: The types within PP2_TYPE_SSL.
_SSL_VERSION, _SSL_CN, _SSL_CIPHER, _SSL_SIG_ALG, _SSL_KEY_ALG = range(0x21, 0x26)
#: Bits of its field `client`: the client came over TLS; it sent a certificate on this connection, or in the session.
_CLIENT_SSL, _CERT_CONN, _CERT_SESS = 0x01, 0x02, 0x04


class ProxyTLS(NamedTuple):
    """TLS between a client and its proxy (PP2_TYPE_SSL), as the proxy says it.

    Attributes:
        has_certificate: whether the client has sent a certificate.
        is_verified: whether it has, and the proxy has verified it.
        client_name: the common name of the certificate that was verified; None for one that was not.
        version: such as "TLSv1.3"; None where the proxy does not say, like the following ones.
        cipher: such as "ECDHE-RSA-AES128-GCM-SHA256".
        signature_algorithm: of the certificate that the proxy has shown.
        key_algorithm: of the same certificate.
    """

    has_certificate: bool
    is_verified: bool
    client_name: str | None
    version: str | None
    cipher: str | None
    signature_algorithm: str | None
    key_algorithm: str | None


class ProxyTLVs:
    """The TLVs of one header, in the order in which they came.

    Iteration gives each as its type, a number, and its value, bytes. Those that the specification names have
    properties; of several of one type the first counts.

    Args:
        tlvs: types and values.
    """

    __slots__ = ("_tlvs",)

    def __init__(self, tlvs: Iterable[tuple[int, bytes]]) -> None:
        self._tlvs = tuple(tlvs)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return iter(self._tlvs)

    def __len__(self) -> int:
        return len(self._tlvs)

    def __eq__(self, other: object) -> bool:
        return self._tlvs == other._tlvs if isinstance(other, ProxyTLVs) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._tlvs)

    def get(self, kind: int) -> bytes | None:
        """Return the value of the first TLV of a type, such as 0xEA of AWS load balancers; None without it."""
        return next((value for each, value in self._tlvs if each == kind), None)

    @property
    def alpn(self) -> bytes | None:
        """The application protocol that client and proxy agreed on (RFC 7301), such as b"h2"."""
        return self.get(_ALPN)

    @property
    def authority(self) -> str | None:
        """The host that the client named, by SNI in TLS (RFC 3546 section 3.1)."""
        return _text(self.get(_AUTHORITY))

    @property
    def unique_id(self) -> bytes | None:
        """The proxy's own id of the connection, as in its logs."""
        return self.get(_UNIQUE_ID)

    @property
    def netns(self) -> str | None:
        """The network namespace that the client came to."""
        return _text(self.get(_NETNS))

    @property
    def tls(self) -> ProxyTLS | None:
        """TLS between the client and the proxy; None without it, and where the proxy does not say."""
        value = self.get(_SSL)
        if value is None or len(value) < 5:
            return None
        client, verify = struct.unpack_from("!BI", value)
        parts = dict(reversed(split_tlvs(value[5:]) or []))
        if not client & _CLIENT_SSL:
            return None
        has_certificate = bool(client & (_CERT_CONN | _CERT_SESS))
        is_verified = has_certificate and verify == 0
        return ProxyTLS(
            has_certificate,
            is_verified,
            _text(parts.get(_SSL_CN)) if is_verified else None,
            _text(parts.get(_SSL_VERSION)),
            _text(parts.get(_SSL_CIPHER)),
            _text(parts.get(_SSL_SIG_ALG)),
            _text(parts.get(_SSL_KEY_ALG)),
        )

    def __repr__(self) -> str:
        return f"ProxyTLVs({list(self._tlvs)!r})"


def split_tlvs(data: bytes) -> list[tuple[int, bytes]] | None:
    """Split bytes into TLVs (section 2.2.1: one byte of type, two of length, the value); None where they do not end."""
    found, place = [], 0
    while place + 3 <= len(data):
        end = place + 3 + int.from_bytes(data[place + 1 : place + 3], "big")
        found.append((data[place], data[place + 3 : end]))
        place = end
    return found if place == len(data) else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
