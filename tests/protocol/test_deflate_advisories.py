"""What went wrong with compression in other libraries, by the number of the advisory: one test each."""

from __future__ import annotations

import os
import zlib

import pytest

from lapwing.protocol import Deflate, Endpoint, ExtensionOffer, HandshakeError, Role, Violation
from tests.peers.deflated import RSV1, Context, deflate, inflate
from tests.protocol.machine import *

KIB, MIB = 1024, 1024 * 1024


def bomb(size: int) -> bytes:
    """A message that inflates to `size` zeros, a thousand times its own size."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(compressor.compress(bytes(MIB)) for _ in range(size // MIB))
    return data + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


BOMB = bomb(256 * MIB)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("limit", [1000, MIB, 4 * MIB])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_pysec_2018_79_deflate_bomb(role: Role, limit: int, opcode: int) -> None:
    """Inflating stops at the limit, and no more than the limit and 64 KiB is ever allocated."""
    endpoint = compressing(role, max_message_size=limit)
    frame = from_peer(role, opcode, BOMB, rsv=RSV1)
    header = frame[: len(frame) - len(BOMB)]
    endpoint.receive_data(
        header + frame[len(header) : len(header) + 3], now=0.0
    )  # so that what is loaded first is not counted

    def explode() -> None:
        for start in range(len(header) + 3, len(frame), 4096):
            endpoint.receive_data(frame[start : start + 4096], now=0.0)

    peak = traced_peak(explode)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG
    assert endpoint.closed is not None
    assert endpoint.closed.code == 1009
    assert peak <= limit + 64 * KIB
    endpoint.data_to_send()
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_pysec_2018_79_deflate_bomb_behind_a_window(role: Role) -> None:
    """What is kept of earlier messages comes on top once, however many there were, and goes with the connection."""
    limit = 100_000
    endpoint = compressing(role, takeover=True, max_message_size=limit)
    context = Context()
    noise = os.urandom(limit)
    frames = [from_peer(role, BINARY, context.deflate(noise), rsv=RSV1) for _ in range(20)]

    def take(frames: list[bytes]) -> None:
        for frame in frames:
            endpoint.receive_data(frame, now=0.0)
            assert drain(endpoint) == [noise]
            assert endpoint.held == 32 * KIB

    take(frames[:1])  # so that what is loaded first is not counted
    # The frame, the message, what inflating takes, and for a moment the window before and the one behind the message.
    assert traced_peak(lambda: take(frames[1:])) <= len(frames[0]) + limit + (64 + 2 * 32) * KIB
    frame = from_peer(role, BINARY, BOMB, rsv=RSV1)
    assert traced_peak(lambda: endpoint.receive_data(frame, now=0.0)) <= limit + 64 * KIB + len(frame)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG
    endpoint.data_to_send()
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_cve_2026_1526_deflate_bomb_in_fragments(role: Role, size: int) -> None:
    """Cut into many fragments, none of which inflates to much: the limit is of the message, and holds as it comes."""
    limit = 100_000
    endpoint = compressing(role, max_message_size=limit)
    endpoint.receive_data(from_peer(role, BINARY, BOMB[:size], rsv=RSV1, fin=False), now=0.0)

    def explode() -> None:
        for start in range(size, 10_000, size):
            endpoint.receive_data(from_peer(role, CONTINUATION, BOMB[start : start + size], fin=False), now=0.0)
            assert endpoint.held <= limit

    assert traced_peak(explode) <= limit + 64 * KIB
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


@pytest.mark.parametrize("takeover", [False, True])
def test_netty_4_1_122_centrifugo_1162_the_limit_is_of_the_inflated_size(takeover: bool) -> None:
    endpoint = compressing(SERVER, takeover=takeover, max_message_size=10_000)
    for _ in range(100):
        endpoint.receive_data(from_peer(SERVER, BINARY, deflate(bytes(10_000)), rsv=RSV1), now=0.0)
    assert drain(endpoint) == [bytes(10_000)] * 100
    endpoint.receive_data(from_peer(SERVER, BINARY, deflate(bytes(10_001)), rsv=RSV1), now=0.0)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


def test_pysec_2021_12_giant_frame_and_bomb() -> None:
    """A declared length that can never be within the limit: 1009 before any payload is read."""
    endpoint = compressing(SERVER)
    endpoint.receive_data(from_peer(SERVER, BINARY, b"", rsv=RSV1, length=2 * MIB), now=0.0)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [CONTINUATION, TEXT, BINARY, 8, 9, 10])
def test_cve_2026_59881_compressed_frames_without_negotiation(role: Role, opcode: int) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, opcode, deflate(b"Hello"), rsv=RSV1), now=0.0)
    assert endpoint.violation is Violation.RESERVED_BIT
    assert endpoint.closed is not None
    assert endpoint.closed.code == 1002
    assert drain(endpoint) == []


def test_cve_2026_48779_tiny_compressed_fragments() -> None:
    """A hundred thousand fragments of one byte: memory by the bytes that were inflated."""
    message = os.urandom(90_000)
    payload = deflate(message)
    endpoint = compressing(SERVER)
    pieces = [
        from_peer(
            SERVER, CONTINUATION if index else BINARY, payload[index : index + 1], fin=False, rsv=0 if index else 4
        )
        for index in range(len(payload))
    ]
    endpoint.receive_data(pieces[0], now=0.0)  # so that what is loaded first is not counted
    rest = pieces[1:]

    def receive() -> None:
        for piece in rest:
            endpoint.receive_data(piece, now=0.0)

    assert traced_peak(receive) < len(message) + 64 * KIB
    endpoint.receive_data(from_peer(SERVER, CONTINUATION, b""), now=0.0)
    assert drain(endpoint) == [message]


def test_cve_2026_29035_out_of_bounds_in_deflate() -> None:
    """Every size around the steps in which is inflated and compressed; the sanitizer build sees what is written."""
    for size in [*range(130), *(step + near for step in (16384, 32768, 65536) for near in (-2, -1, 0, 1, 2))]:
        message = os.urandom(size)
        for takeover in (False, True):
            endpoint = compressing(SERVER, takeover=takeover)
            endpoint.receive_data(from_peer(SERVER, BINARY, deflate(message), rsv=RSV1), now=0.0)
            assert drain(endpoint) == [message]
            endpoint.send(message + message, compress=True)
            (frame,) = sent(endpoint)
            assert (inflate(frame.payload) if frame.rsv else frame.payload) == message + message


@pytest.mark.parametrize("name", ["__proto__", "constructor", "toString", "__class__", "prototype"])
def test_names_that_mean_something_to_the_implementation(name: str) -> None:
    """Ws and others: a parameter or an extension of such a name is just unknown."""
    server = Deflate().for_server
    for value in (None, "1"):
        assert server.respond(ExtensionOffer("permessage-deflate", ((name, value),))) is None


@pytest.mark.parametrize("bits", ["0", "7", "8", "16", "-9", "9999999999"])
def test_zlib_171_a_window_of_8_bits_is_compressed_wrongly(bits: str) -> None:
    """Windows that cannot be are declined, and so is one of 8 bits to compress with; to inflate it is no problem."""
    server = Deflate().for_server
    assert server.respond(ExtensionOffer("permessage-deflate", (("server_max_window_bits", bits),))) is None
    answer = server.respond(ExtensionOffer("permessage-deflate", (("client_max_window_bits", bits),)))
    assert (answer is not None) is (bits == "8")
    if answer is not None:
        endpoint = Endpoint(SERVER)
        endpoint.use([answer[1]])
        message = os.urandom(256) * 3
        endpoint.receive_data(from_peer(SERVER, BINARY, deflate(message, bits=9), rsv=RSV1), now=0.0)
        assert drain(endpoint) == [message]


@pytest.mark.parametrize("name", ["server_max_window_bits", "client_max_window_bits"])
@pytest.mark.parametrize("values", [("0",), ("7",), ("16",), ("",), ("9", "9"), ("4294967297",), ("-9",)], ids=str)
def test_cve_2026_2229_windows_out_of_range(name: str, values: tuple[str, ...]) -> None:
    """Undici: what the other end says of its window is refused in good order, whatever it is."""
    parameters = tuple((name, value) for value in values)
    assert Deflate().for_server.respond(ExtensionOffer("permessage-deflate", parameters)) is None
    with pytest.raises(HandshakeError, match="permessage-deflate"):
        Deflate().for_client.accept(parameters)
