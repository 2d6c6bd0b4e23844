"""The PROXY protocol, versions 1 and 2: the examples of its specification, every split, and whatever else may come."""

from __future__ import annotations

import ipaddress
import itertools
import struct
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lapwing.protocol import ProxyTLS, ProxyTLVs
from lapwing.protocol.limits import MAX_PROXY_HEADER
from lapwing.protocol.proxy_header import ProxyHeader, ProxyHeaderError, ProxyHeaderReader

SIGNATURE = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a"
NOBODY = ProxyHeader(None, None)


def binary(first: int, second: int, rest: bytes) -> bytes:
    """A header of version 2 (section 2.2)."""
    return SIGNATURE + struct.pack("!BBH", first, second, len(rest)) + rest


IPV4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!HH", 56324, 443)
IPV6 = ipaddress.IPv6Address("2001:db8::1").packed + ipaddress.IPv6Address("::2").packed + struct.pack("!HH", 1, 65535)
ADDITION = b"\x02\x00\x03abc"

#: A header with a checksum, as HAProxy 2.6 sent it with `send-proxy-v2 proxy-v2-options crc32c`.
CHECKED = bytes.fromhex("0d0a0d0a000d0a515549540a211100137f0000017f000001e16280570300047a14c889")


def checked(head: bytes, place: int) -> bytes:
    """Put the checksum into a header that has zeros in its place: bit by bit, unlike the reader (section 2.2.3)."""
    register = 0xFFFFFFFF
    for byte in head:
        for bit in range(8):
            carry = (register ^ byte >> bit) & 1
            register = register >> 1 ^ (0x82F63B78 if carry else 0)
    return head[:place] + struct.pack("!I", register ^ 0xFFFFFFFF) + head[place + 4 :]


CHECKSUM = b"\x03\x00\x04" + bytes(4)

GOOD = [
    (CHECKED, ProxyHeader(("127.0.0.1", 57698), ("127.0.0.1", 32855))),
    (
        checked(binary(0x21, 0x11, IPV4 + CHECKSUM), 16 + 12 + 3),
        ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443)),
    ),
    (
        checked(binary(0x21, 0x11, IPV4 + ADDITION + CHECKSUM + ADDITION), 16 + 12 + 6 + 3),
        ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443)),
    ),
    (
        checked(binary(0x21, 0x21, IPV6 + CHECKSUM), 16 + 36 + 3),
        ProxyHeader(("2001:db8::1", 1, 0, 0), ("::2", 65535, 0, 0)),
    ),
    (checked(binary(0x21, 0x31, bytes(216) + CHECKSUM), 16 + 216 + 3), NOBODY),
    # Of LOCAL, and of what names no family, everything is to be ignored.
    (binary(0x20, 0x11, IPV4 + CHECKSUM), NOBODY),
    (
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ProxyHeader(("255.255.255.255", 65535), ("255.255.255.255", 65535)),
    ),
    (b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n", ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443))),
    (b"PROXY TCP6 2001:db8::1 ::2 0 65535\r\n", ProxyHeader(("2001:db8::1", 0, 0, 0), ("::2", 65535, 0, 0))),
    (
        b"PROXY TCP6 2001:0DB8:0:0:0:0:0:1 ::2 0 65535\r\n",
        ProxyHeader(("2001:db8::1", 0, 0, 0), ("::2", 65535, 0, 0)),
    ),
    (b"PROXY UNKNOWN\r\n", NOBODY),
    (
        b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n",
        NOBODY,
    ),
    (binary(0x21, 0x11, IPV4), ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443))),
    (binary(0x21, 0x11, IPV4 + ADDITION), ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443))),
    (binary(0x21, 0x11, IPV4 + ADDITION * 2), ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443))),
    (binary(0x21, 0x21, IPV6), ProxyHeader(("2001:db8::1", 1, 0, 0), ("::2", 65535, 0, 0))),
    (binary(0x21, 0x31, bytes(216)), NOBODY),
    (binary(0x21, 0x00, b""), NOBODY),
    (binary(0x21, 0x00, b"to be ignored"), NOBODY),
    (binary(0x20, 0x00, b""), NOBODY),
    (binary(0x20, 0x11, IPV4), NOBODY),
    (binary(0x20, 0xFF, b"to be ignored"), NOBODY),
    (
        binary(0x21, 0x11, IPV4 + b"\x04" + struct.pack("!H", 4000) + bytes(4000)),
        ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443)),
    ),
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"PROXY\r\n",
    b"PROXY \r\n",
    b"proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2 \r\n",
    b"PROXY TCP4  192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4\t192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 1 65536\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 01 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 -1 2\r\n",
    b"PROXY TCP4 192.0.2.1 198.51.100.2 \xb2 2\r\n",
    b"PROXY TCP4 192.0.2.01 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
    b"PROXY TCP4 ::1 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
    b"PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
    b"PROXY unknown\r\n",
    b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n",
    binary(0x11, 0x11, IPV4),
    binary(0x22, 0x11, IPV4),
    binary(0x21, 0x12, IPV4),
    binary(0x21, 0x41, IPV4),
    binary(0x21, 0x11, IPV4[:-1]),
    binary(0x21, 0x21, IPV4),
    binary(0x21, 0x31, bytes(215)),
    binary(0x21, 0x11, IPV4 + CHECKSUM),
    binary(0x21, 0x31, bytes(216) + CHECKSUM),
    checked(binary(0x21, 0x11, IPV4 + CHECKSUM * 2), 16 + 12 + 3),
    binary(0x21, 0x11, IPV4 + b"\x03\x00\x03abc"),
    binary(0x21, 0x11, IPV4 + b"\x03\x00\x00"),
    binary(0x21, 0x11, IPV4 + b"\x03\x00\x05abcde"),
    binary(0x21, 0x11, IPV4 + b"\x02"),
    binary(0x21, 0x11, IPV4 + b"\x02\x00\x04abc"),
    SIGNATURE + struct.pack("!BBH", 0x21, 0x11, MAX_PROXY_HEADER - 15),
    b"\r\n\r\n\x00\r\nQUIT\r",
    b"\x16\x03\x01\x02\x00",
]


def read(pieces: Iterator[bytes]) -> tuple[ProxyHeader | None, bytes]:
    """The header and what followed it, of what comes in pieces."""
    reader = ProxyHeaderReader()
    for piece in pieces:
        header = reader.receive_data(piece)
        if header is not None:
            return header, reader.rest
    return None, b""


@pytest.mark.parametrize(("data", "expected"), GOOD)
def test_whole_split_and_with_trailing_bytes(data: bytes, expected: ProxyHeader) -> None:
    assert read(iter([data])) == (expected, b"")
    assert read(iter([data + b"GET /"])) == (expected, b"GET /")
    assert read(bytes([byte]) for byte in data) == (expected, b"")
    for place in range(1, len(data)):
        reader = ProxyHeaderReader()
        assert reader.receive_data(data[:place]) is None
        assert not reader.empty
        assert reader.receive_data(data[place:] + b"x") == expected
        assert reader.rest == b"x"


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read(iter([data]))
    with pytest.raises(ProxyHeaderError):
        read(bytes([byte]) for byte in data)


def test_no_bit_of_a_header_with_a_checksum_may_change() -> None:
    kind = len(CHECKED) - 7  # of the addition: with another one there is no checksum
    for place in [place for place in range(len(CHECKED)) if place != kind]:
        for bit in range(8):
            changed = bytearray(CHECKED)
            changed[place] ^= 1 << bit
            outcome: object = None
            try:
                outcome = read(iter([bytes(changed)]))[0]
            except ProxyHeaderError:
                continue
            # What says that there is nothing in it, or that more is to come, is not looked at.
            assert outcome in (None, NOBODY)


def test_what_is_no_header_is_refused_at_its_first_byte() -> None:
    for byte in range(256):
        if byte not in b"P\r":
            with pytest.raises(ProxyHeaderError):
                ProxyHeaderReader().receive_data(bytes([byte]))


def test_nothing_is_held_without_a_bound() -> None:
    reader = ProxyHeaderReader()
    assert reader.empty
    assert reader.receive_data(b"") is None
    with pytest.raises(ProxyHeaderError, match="longer"):
        reader.receive_data(b"PROXY UNKNOWN " + b"x" * 93)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
@example(b"", [])
def test_whatever_comes_it_is_a_header_or_an_error(data: bytes, cuts: list[int]) -> None:
    _agree(data, cuts)


@given(
    st.sampled_from([data for data, _ in GOOD if len(data) < 300]),
    st.integers(0, 300),
    st.binary(max_size=3),
    st.lists(st.integers(0, 300), max_size=4),
)
def test_a_header_that_was_tampered_with(data: bytes, place: int, other: bytes, cuts: list[int]) -> None:
    place %= len(data)
    _agree(data[:place] + other + data[place + len(other) :], cuts)


def _agree(data: bytes, cuts: list[int]) -> None:
    """In pieces the outcome is the same as in one, but for the bytes that had not come when it was known."""
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    outcomes: list[ProxyHeader | str | None] = []
    for pieces in ([data], [data[start:end] for start, end in itertools.pairwise(places)]):
        try:
            outcomes.append(read(iter(pieces))[0])
        except ProxyHeaderError:
            outcomes.append("refused")
    assert outcomes[0] == outcomes[1]
    if isinstance(outcomes[0], ProxyHeader) and outcomes[0].source is not None:
        ipaddress.ip_address(outcomes[0].source[0])


@given(st.ip_addresses(), st.integers(0, 65535))
def test_both_versions_say_the_same(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int) -> None:
    line = f"PROXY TCP{address.version} {address} {address} {port} {port}\r\n".encode()
    family = 0x11 if address.version == 4 else 0x21
    packed = binary(0x21, family, address.packed * 2 + struct.pack("!HH", port, port))
    assert read(iter([line])) == read(iter([packed]))


# --- what is added to the addresses ------------------------------------------------------------------------------


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def tlvs_of(rest: bytes, *, piecewise: bool = False) -> ProxyTLVs | None:
    reader = ProxyHeaderReader()
    data = binary(0x21, 0x11, IPV4 + rest)
    for piece in [bytes([byte]) for byte in data] if piecewise else [data]:
        header = reader.receive_data(piece)
    assert header is not None
    assert header == ProxyHeader(("192.0.2.1", 56324), ("198.51.100.2", 443))
    return header.tlvs


@pytest.mark.parametrize("piecewise", [False, True])
def test_the_tlvs_of_a_header(piecewise: bool) -> None:
    found = tlvs_of(
        tlv(1, b"h2") + tlv(2, b"chat.example") + tlv(5, b"\x00id") + tlv(0x30, b"blue") + tlv(0xEA, b"\x01vpce-1"),
        piecewise=piecewise,
    )
    assert found is not None
    assert (found.alpn, found.authority, found.unique_id, found.netns) == (b"h2", "chat.example", b"\x00id", "blue")
    assert found.get(0xEA) == b"\x01vpce-1"
    assert found.get(0xEB) is None
    assert next(iter(found)) == (1, b"h2")
    assert len(found) == 5
    assert found.tls is None


def test_no_tlvs() -> None:
    assert tlvs_of(b"") is None
    for head in (b"PROXY UNKNOWN\r\n", binary(0x20, 0x11, IPV4 + tlv(1, b"h2")), binary(0x21, 0x00, tlv(1, b"h2"))):
        reader = ProxyHeaderReader()
        header = reader.receive_data(head)
        assert header == NOBODY
        assert header.tlvs is None


def test_the_first_of_one_type_counts() -> None:
    found = tlvs_of(tlv(2, b"first") + tlv(2, b"second"))
    assert found is not None
    assert found.authority == "first"


PARTS = (
    tlv(0x21, b"TLSv1.3") + tlv(0x23, b"AES") + tlv(0x22, "Zoë".encode()) + tlv(0x24, b"SHA256") + tlv(0x25, b"RSA2048")
)


@pytest.mark.parametrize(
    ("client", "verify", "facts"),
    [
        (0x01 | 0x02 | 0x04, 0, (True, True, "Zoë")),
        (0x01 | 0x04, 0, (True, True, "Zoë")),
        (0x01 | 0x02, 1, (True, False, None)),  # a certificate that was not verified says nothing
        (0x01, 0, (False, False, None)),
    ],
)
def test_the_certificate_of_a_client(client: int, verify: int, facts: tuple[bool, bool, str | None]) -> None:
    found = tlvs_of(tlv(0x20, struct.pack("!BI", client, verify) + PARTS))
    assert found is not None
    assert found.tls is not None
    assert found.tls[:3] == facts
    assert found.tls[3:] == ("TLSv1.3", "AES", "SHA256", "RSA2048")


@pytest.mark.parametrize(
    "value", [b"", b"\x01\x00\x00\x00", struct.pack("!BI", 0, 0) + PARTS], ids=["empty", "short", "plain"]
)
def test_no_tls_at_the_proxy(value: bytes) -> None:
    found = tlvs_of(tlv(0x20, value))
    assert found is not None
    assert found.tls is None


def test_tls_whose_parts_do_not_end() -> None:
    found = tlvs_of(tlv(0x20, struct.pack("!BI", 7, 0) + PARTS[:-1]))
    assert found is not None
    assert found.tls == ProxyTLS(True, True, None, None, None, None, None)


def test_tlvs_are_values() -> None:
    assert ProxyTLVs([(1, b"a")]) == ProxyTLVs([(1, b"a")]) != ProxyTLVs([(1, b"b")])
    assert hash(ProxyTLVs([(1, b"a")])) == hash(ProxyTLVs([(1, b"a")]))
    assert ProxyTLVs([]) != []
    assert repr(ProxyTLVs([(1, b"a")])) == "ProxyTLVs([(1, b'a')])"
