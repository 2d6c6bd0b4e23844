"""The PROXY protocol, versions 1 and 2: the addresses of a connection, told by a proxy before its first byte.

The specification is HAProxy's "The PROXY protocol", of 2020. The header comes before everything else, TLS included.
Its sender can claim any address: it is read only where the server asks for it, and then it must be there.
Version 2 may add fields to the addresses (TLVs): the reader checks the checksum, and gives all of them.
"""

from __future__ import annotations

import struct
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from .limits import MAX_PROXY_HEADER
from .proxy_tlvs import ProxyTLVs, split_tlvs

__all__ = ["ProxyHeader", "ProxyHeaderError", "ProxyHeaderReader"]

#: The longest header of version 1, with its line break (section 2.1).
_MAX_LINE = 107
#: What every header of version 2 begins with (section 2.2).
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = 16
_LOCAL, _PROXY = 0, 1
#: The lengths of the addresses in version 2, by family: AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX.
_ADDRESSES = {0: 0, 1: 12, 2: 36, 3: 216}
#: STREAM, the one transport that a WebSocket comes by, and UNSPEC.
_UNSPECIFIED, _STREAM = 0, 1
#: The type of the addition that holds a checksum of the header (section 2.2.3, PP2_TYPE_CRC32C).
_CHECKSUM = 0x03
#: The polynomial of CRC32c, its bits in the order in which bytes are sent.
_CASTAGNOLI = 0x82F63B78


class ProxyHeaderError(ValueError):
    """What came is no header of the PROXY protocol: the connection is to be closed without a word."""


class ProxyHeader(NamedTuple):
    """The content of a header of the PROXY protocol.

    Attributes:
        source: the client's address and port, in the form of the `socket` module; None where the proxy speaks for
            itself (LOCAL, as for its checks of health) or names none (UNKNOWN, a unix socket): then the addresses of
            the connection itself count.
        destination: the address and port that the client connected to; None as for `source`.
    """

    source: tuple[str, int] | tuple[str, int, int, int] | None
    destination: tuple[str, int] | tuple[str, int, int, int] | None

    @property
    def tlvs(self) -> ProxyTLVs | None:
        """The fields that the proxy has added to the addresses, in version 2; None without them."""
        return None


_UNKNOWN = ProxyHeader(None, None)


class _ExtendedHeader(ProxyHeader):
    """A header with TLVs, which count for nothing where two headers are compared."""

    _tlvs: ProxyTLVs

    def __new__(cls, header: ProxyHeader, tlvs: ProxyTLVs) -> _ExtendedHeader:
        self = super().__new__(cls, *header)
        self._tlvs = tlvs
        return self

    @property
    def tlvs(self) -> ProxyTLVs | None:
        return self._tlvs


class ProxyHeaderReader:
    """Collects the header of either version, within limits. Plainly different input is refused at its first byte.

    Attributes:
        rest: the bytes that followed the header.
    """

    __slots__ = ("_buffer", "rest")

    def __init__(self) -> None:
        self._buffer = b""
        self.rest = b""

    @property
    def empty(self) -> bool:
        """Whether nothing has come yet."""
        return not self._buffer

    def receive_data(self, data: bytes) -> ProxyHeader | None:
        """Take what came from the network.

        Returns:
            The header; None while it is incomplete.

        Raises:
            ProxyHeaderError: it is malformed, too long or not there.
        """
        self._buffer += data
        start = self._buffer
        if _SIGNATURE.startswith(start[: len(_SIGNATURE)]):
            end = self._end_of_version_2()
        elif b"PROXY ".startswith(start[:6]):
            end = self._end_of_version_1()
        else:
            raise ProxyHeaderError(f"expected a header of the PROXY protocol, got {start[:16]!r}")
        if end is None:
            return None
        head, self.rest = start[:end], start[end:]
        self._buffer = b""
        return _parse_line(head) if head.startswith(b"P") else _parse_binary(head)

    def _end_of_version_1(self) -> int | None:
        end = self._buffer.find(b"\n", 0, _MAX_LINE)
        if end < 0 and len(self._buffer) >= _MAX_LINE:
            raise ProxyHeaderError(f"the PROXY line is longer than {_MAX_LINE} bytes")
        return None if end < 0 else end + 1

    def _end_of_version_2(self) -> int | None:
        if len(self._buffer) < _FIXED:
            return None
        end = _FIXED + int.from_bytes(self._buffer[14:16], "big")
        if end > MAX_PROXY_HEADER:
            raise ProxyHeaderError(f"the PROXY header has {end} bytes, more than {MAX_PROXY_HEADER}")
        return None if len(self._buffer) < end else end


def _parse_line(line: bytes) -> ProxyHeader:
    """Parse version 1 (section 2.1): exactly one space between the parts, CRLF at the end."""
    if not line.endswith(b"\r\n") or not line.isascii():
        raise ProxyHeaderError(f"expected a PROXY line that ends in CRLF, got {line!r}")
    parts = line[:-2].decode("ascii").split(" ")
    if parts[1] == "UNKNOWN":  # what follows is to be ignored
        return _UNKNOWN
    if len(parts) != 6 or parts[1] not in ("TCP4", "TCP6"):
        raise ProxyHeaderError(f"expected 'PROXY TCP4 source destination port port' or TCP6 or UNKNOWN, got {line!r}")
    is_old = parts[1] == "TCP4"
    ports = [_parse_port(text) for text in parts[4:]]
    try:
        # `str` of it has one form only, whatever form was sent.
        hosts = [str(IPv4Address(text) if is_old else _without_zone(text)) for text in parts[2:4]]
    except ValueError as error:
        raise ProxyHeaderError(f"an address in the PROXY line: {error}") from None
    return ProxyHeader(_address(hosts[0], ports[0], is_old), _address(hosts[1], ports[1], is_old))


def _without_zone(text: str) -> IPv6Address:
    if "%" in text:
        raise ValueError(f"{text!r} has a zone")
    return IPv6Address(text)


def _parse_port(text: str) -> int:
    if not (text.isdigit() and len(text) <= 5 and str(int(text)) == text and int(text) <= 65535):
        raise ProxyHeaderError(f"expected a port from 0 to 65535 in the PROXY line, got {text!r}")
    return int(text)


def _address(host: str, port: int, is_old: bool) -> tuple[str, int] | tuple[str, int, int, int]:
    return (host, port) if is_old else (host, port, 0, 0)


def _parse_binary(head: bytes) -> ProxyHeader:
    """Parse version 2 (section 2.2)."""
    version, command = head[12] >> 4, head[12] & 15
    family, transport = head[13] >> 4, head[13] & 15
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"expected version 2 with LOCAL or PROXY, got {head[12]:#04x}")
    if command == _LOCAL:  # whatever follows is to be ignored
        return _UNKNOWN
    length = _ADDRESSES.get(family)
    if length is None or transport not in (_UNSPECIFIED, _STREAM):
        raise ProxyHeaderError(f"expected addresses of TCP or unix sockets, got the family {head[13]:#04x}")
    if len(head) < _FIXED + length:
        raise ProxyHeaderError(f"expected {length} bytes of addresses in the PROXY header, got {len(head) - _FIXED}")
    if family == 0 or transport == _UNSPECIFIED:  # the receiver should ignore the addresses
        return _UNKNOWN
    checksum = _find_checksum(head, _FIXED + length)
    if checksum is not None:
        _check_checksum(head, checksum)
    header = _parse_addresses(head, family)
    tlvs = split_tlvs(head[_FIXED + length :])
    return _ExtendedHeader(header, ProxyTLVs(tlvs)) if tlvs else header


def _parse_addresses(head: bytes, family: int) -> ProxyHeader:
    if family == 1:
        source, destination, *ports = struct.unpack_from("!4s4sHH", head, _FIXED)
        return ProxyHeader((str(IPv4Address(source)), ports[0]), (str(IPv4Address(destination)), ports[1]))
    if family == 2:
        source, destination, *ports = struct.unpack_from("!16s16sHH", head, _FIXED)
        return ProxyHeader((str(IPv6Address(source)), ports[0], 0, 0), (str(IPv6Address(destination)), ports[1], 0, 0))
    return _UNKNOWN


def _find_checksum(head: bytes, place: int) -> int | None:
    """Check that the additions (section 2.2.1: type, length, value) end where the header does.

    Returns:
        Where the checksum is, if there is one among them (section 2.2.3).
    """
    found: int | None = None
    while place + 3 <= len(head):
        kind, length = head[place], int.from_bytes(head[place + 1 : place + 3], "big")
        place += 3
        if kind == _CHECKSUM:
            if length != 4 or found is not None:
                raise ProxyHeaderError(f"expected one checksum of 4 bytes, got another one, or one of {length}")
            found = place
        place += length
    if place != len(head):
        raise ProxyHeaderError("the additions of the PROXY header do not end where it does")
    return found


def _check_checksum(head: bytes, place: int) -> None:
    """Check the header against its checksum, which was made with zeros in its place (section 2.2.3)."""
    said = int.from_bytes(head[place : place + 4], "big")
    right = _crc32c(head[:place] + bytes(4) + head[place + 4 :])
    if said != right:
        raise ProxyHeaderError(f"the checksum of the PROXY header is {said:#010x}, but its bytes make {right:#010x}")


def _crc32c(data: bytes) -> int:
    """Compute the CRC32c of some bytes (RFC 9260 appendix A)."""
    table, register = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        register = table[(register ^ byte) & 0xFF] ^ register >> 8
    return register ^ 0xFFFFFFFF


@cache
def _crc32c_table() -> tuple[int, ...]:
    """Make the remainders of all bytes, lowest bit first."""
    table = []
    for remainder in range(256):
        for _ in range(8):
            remainder = remainder >> 1 ^ (_CASTAGNOLI if remainder & 1 else 0)
        table.append(remainder)
    return tuple(table)
