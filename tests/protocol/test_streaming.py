"""Messages given out in pieces while they come, at every cut of the input."""

from __future__ import annotations

import random
import zlib

import pytest

from lapwing.protocol import Closed, Endpoint, Role, Violation
from tests.peers.deflated import RSV1
from tests.peers.deflated import deflate as raw_deflate
from tests.protocol.machine import *

WHOLE_TEXT = "aß€\U0001f426" * 2


def read(endpoint: Endpoint, into: list[str | bytes]) -> None:
    """Take every piece that is at hand."""
    while (piece := endpoint.next_piece()) is not None:
        assert piece, "no piece is empty"
        into.append(piece)


def is_streaming(endpoint: Endpoint) -> bool:
    return endpoint.is_streaming


def wants_input(endpoint: Endpoint) -> bool:
    return endpoint.wants_input


def streamed(role: Role, data: list[bytes], **options: object) -> tuple[Endpoint, list[str | bytes]]:
    """Stream the first message of some input, asking for it before anything came."""
    endpoint = Endpoint(role, **options)  # type: ignore[arg-type]
    assert endpoint.begin_stream() is None
    pieces: list[str | bytes] = []
    opcode = None
    for part in data:
        endpoint.receive_data(part, now=0.0)
        if opcode is None:
            opcode = endpoint.begin_stream()
        read(endpoint, pieces)
    assert opcode in (TEXT, BINARY)
    return endpoint, pieces


@pytest.mark.parametrize("role", ROLES)
def test_every_cut_of_a_text_makes_whole_characters(role: Role) -> None:
    payload = WHOLE_TEXT.encode()
    data = (
        from_peer(role, TEXT, payload[:5], fin=False)
        + from_peer(role, CONTINUATION, b"", fin=False)
        + from_peer(role, PING, b"!")
        + from_peer(role, CONTINUATION, payload[5:])
    )
    for parts in [*cuts(data), *([data[:i], data[i:]] for i in range(1, len(data)))]:
        endpoint, pieces = streamed(role, parts)
        assert all(isinstance(piece, str) for piece in pieces)
        assert "".join(map(str, pieces)) == WHOLE_TEXT, parts
        assert not is_streaming(endpoint)
        assert [frame.opcode for frame in sent(endpoint)] == [PONG]
        assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
def test_what_follows_is_whole_again(role: Role) -> None:
    data = from_peer(role, BINARY, b"123456") + from_peer(role, TEXT, b"next")
    for parts in cuts(data):
        endpoint, pieces = streamed(role, parts)
        assert b"".join(map(bytes, pieces)) == b"123456"  # type: ignore[arg-type]
        assert drain(endpoint) == ["next"]


@pytest.mark.parametrize("role", ROLES)
def test_a_stream_can_begin_in_the_middle(role: Role) -> None:
    data = from_peer(role, TEXT, WHOLE_TEXT.encode()[:7], fin=False) + from_peer(
        role, CONTINUATION, WHOLE_TEXT.encode()[7:]
    )
    for first in range(1, len(data)):
        endpoint = Endpoint(role)
        endpoint.receive_data(data[:first], now=0.0)
        opcode = endpoint.begin_stream()
        pieces: list[str | bytes] = []
        read(endpoint, pieces)
        endpoint.receive_data(data[first:], now=0.0)
        opcode = opcode or endpoint.begin_stream()
        read(endpoint, pieces)
        assert opcode == TEXT
        assert "".join(map(str, pieces)) == WHOLE_TEXT
        assert not is_streaming(endpoint)


def test_a_message_that_is_complete_is_one_piece() -> None:
    endpoint = Endpoint(CLIENT)
    endpoint.receive_data(from_peer(CLIENT, TEXT, b"one") + from_peer(CLIENT, TEXT, b"two"), now=0.0)
    assert endpoint.begin_stream() == TEXT
    assert is_streaming(endpoint)
    assert endpoint.next_piece() == "one"
    assert not is_streaming(endpoint)
    assert endpoint.next_piece() is None
    assert endpoint.next_message() == "two"


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("waits", [False, True])
def test_an_empty_message_has_no_pieces(opcode: int, waits: bool) -> None:
    endpoint = Endpoint(SERVER)
    if waits:
        assert endpoint.begin_stream() is None
    endpoint.receive_data(from_peer(SERVER, opcode, b""), now=0.0)
    assert endpoint.begin_stream() == opcode
    assert not is_streaming(endpoint)
    assert endpoint.next_message() is None


def test_one_stream_at_a_time_and_no_message_beside_it() -> None:
    endpoint = Endpoint(CLIENT)
    endpoint.receive_data(from_peer(CLIENT, TEXT, b"x", fin=False), now=0.0)
    assert endpoint.begin_stream() == TEXT
    with pytest.raises(RuntimeError, match="already"):
        endpoint.begin_stream()
    with pytest.raises(RuntimeError, match="end_stream"):
        endpoint.next_message()
    with pytest.raises(ValueError, match="limit"):
        Endpoint(CLIENT).begin_stream(0)


# --- limits ------------------------------------------------------------------------------------------------------


def test_the_size_of_messages_is_not_that_of_streams() -> None:
    endpoint = Endpoint(SERVER, max_message_size=10)
    assert endpoint.begin_stream() is None
    endpoint.receive_data(from_peer(SERVER, BINARY, bytes(1000)), now=0.0)
    assert endpoint.begin_stream() == BINARY
    assert endpoint.next_piece() == bytes(1000)
    endpoint.receive_data(from_peer(SERVER, BINARY, bytes(11)), now=0.0)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


@pytest.mark.parametrize("cut", [3, 8, 400])
def test_what_is_too_large_is_held_back_until_it_is_wanted(cut: int) -> None:
    data = from_peer(SERVER, BINARY, bytes(1000)) + from_peer(SERVER, TEXT, b"later")
    for wanted in ("stream", "message", "nothing"):
        endpoint = Endpoint(SERVER, max_message_size=10, holds_large=True)
        endpoint.receive_data(from_peer(SERVER, TEXT, b"first"), now=0.0)
        endpoint.receive_data(data[:cut], now=0.0)
        assert endpoint.next_message() == "first"
        assert endpoint.closed is None
        assert wants_input(endpoint) is (cut < 8)
        endpoint.receive_data(data[cut:], now=0.0)
        assert not wants_input(endpoint)
        if wanted == "stream":
            assert endpoint.begin_stream() == BINARY
            pieces: list[str | bytes] = []
            read(endpoint, pieces)
            assert pieces == [bytes(1000)]
            assert wants_input(endpoint)
            assert endpoint.next_message() == "later"
        elif wanted == "message":
            assert endpoint.next_message() is None
            assert endpoint.violation is Violation.MESSAGE_TOO_BIG
        else:
            endpoint.close(now=0.0)
            assert wants_input(endpoint)
            endpoint.receive_data(from_peer(SERVER, CLOSE, b"\x03\xe8"), now=0.0)
            assert endpoint.closed == Closed(True, 1000, "")


@pytest.mark.parametrize("sizes", [[101], [60, 41], [100, 1], [1] * 101])
@pytest.mark.parametrize("waits", [False, True])
def test_a_limit_of_its_own(sizes: list[int], waits: bool) -> None:
    data = b"".join(
        from_peer(CLIENT, CONTINUATION if i else BINARY, bytes(size), fin=i == len(sizes) - 1)
        for i, size in enumerate(sizes)
    )
    for size in (1, 7, len(data)):
        endpoint = Endpoint(CLIENT)
        begun = None
        if waits:
            assert endpoint.begin_stream(100) is None
        for part in pieces_of(data, size):
            endpoint.receive_data(part, now=0.0)
            if begun is None:
                begun = endpoint.begin_stream(100)
        assert endpoint.violation is Violation.MESSAGE_TOO_BIG
        pieces: list[str | bytes] = []
        read(endpoint, pieces)
        assert sum(map(len, pieces)) <= 100
        assert not is_streaming(endpoint)


def test_a_reader_that_lags_is_waited_for() -> None:
    endpoint = Endpoint(SERVER, max_buffered=1000)
    assert endpoint.begin_stream() is None
    endpoint.receive_data(from_peer(SERVER, BINARY, bytes(100_000))[:200], now=0.0)
    assert endpoint.begin_stream() == BINARY
    endpoint.receive_data(bytes(500), now=0.0)
    assert wants_input(endpoint)
    endpoint.receive_data(bytes(500), now=0.0)
    assert not wants_input(endpoint)
    assert endpoint.next_piece() is not None
    assert endpoint.next_piece() is not None
    assert wants_input(endpoint)


def test_many_tiny_fragments_take_bounded_memory() -> None:
    endpoint = Endpoint(CLIENT, max_buffered=10_000)
    endpoint.receive_data(from_peer(CLIENT, BINARY, b"x", fin=False), now=0.0)
    assert endpoint.begin_stream() == BINARY
    more = from_peer(CLIENT, CONTINUATION, b"x", fin=False) * 1000
    total = most = 0
    for _ in range(200):
        while endpoint.wants_input:
            endpoint.receive_data(more, now=0.0)
        most = max(most, endpoint.held)
        while (piece := endpoint.next_piece()) is not None:
            total += len(piece)
    assert most < 10_000 + len(more) + 1000
    assert total > 20_000


# --- leaving early -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_rest_is_skipped(role: Role) -> None:
    data = (
        from_peer(role, TEXT, b"abc", fin=False)
        + from_peer(role, CONTINUATION, b"def", fin=False)
        + from_peer(role, PING, b"")
        + from_peer(role, CONTINUATION, b"ghi")
        + from_peer(role, TEXT, b"next")
    )
    header = len(from_peer(role, TEXT, b""))
    for first in range(1, len(data)):
        endpoint = Endpoint(role)
        endpoint.receive_data(data[:first], now=0.0)
        begun = endpoint.begin_stream()
        if begun is None:
            assert first < header
            endpoint.receive_data(data[first:], now=0.0)
            assert endpoint.begin_stream() == TEXT
            first = len(data)
        endpoint.end_stream()
        assert not is_streaming(endpoint)
        endpoint.receive_data(data[first:], now=0.0)
        assert drain(endpoint) == ["next"], first
        assert endpoint.held == len(endpoint.data_to_send())


def test_a_claim_that_is_given_up_loses_nothing() -> None:
    data = from_peer(SERVER, TEXT, b"abc", fin=False) + from_peer(SERVER, CONTINUATION, b"def")
    for first in range(len(data) + 1):
        endpoint = Endpoint(SERVER)
        assert endpoint.begin_stream() is None
        endpoint.receive_data(data[:first], now=0.0)
        endpoint.end_stream()
        endpoint.receive_data(data[first:], now=0.0)
        assert drain(endpoint) == ["abcdef"]
    endpoint = Endpoint(SERVER, max_message_size=2)
    assert endpoint.begin_stream() is None
    endpoint.receive_data(data, now=0.0)
    assert endpoint.closed is None
    endpoint.end_stream()
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


def test_an_empty_message_that_was_held_back_is_given_out_whole() -> None:
    endpoint = Endpoint(SERVER)
    assert endpoint.begin_stream() is None
    endpoint.receive_data(from_peer(SERVER, TEXT, b""), now=0.0)
    endpoint.end_stream()
    assert drain(endpoint) == [""]


# --- errors and the end ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [b"abc\xff", b"abc\xed\xa0", b"abc\xf0\x9f\x90"])
def test_text_is_checked_as_it_comes(bad: bytes) -> None:
    data = from_peer(CLIENT, TEXT, bad)
    for parts in cuts(data):
        endpoint, pieces = streamed(CLIENT, parts)
        assert "abc".startswith("".join(map(str, pieces)))
        assert endpoint.violation is Violation.TEXT_NOT_UTF8
        assert not is_streaming(endpoint)


@pytest.mark.parametrize("how", ["eof", "close", "violation", "own close"])
def test_the_connection_ends_within_the_message(how: str) -> None:
    endpoint = Endpoint(SERVER)
    endpoint.receive_data(from_peer(SERVER, TEXT, b"ab", fin=False), now=0.0)
    assert endpoint.begin_stream() == TEXT
    endpoint.receive_data(from_peer(SERVER, CONTINUATION, b"cd", fin=False), now=0.0)
    if how == "eof":
        endpoint.receive_eof()
    elif how == "close":
        endpoint.receive_data(from_peer(SERVER, CLOSE, b"\x03\xe8"), now=0.0)
    elif how == "violation":
        endpoint.receive_data(from_peer(SERVER, TEXT, b"ab"), now=0.0)
    else:
        endpoint.close(now=0.0)
        endpoint.receive_data(from_peer(SERVER, CONTINUATION, b"ef") + from_peer(SERVER, CLOSE, b"\x03\xe8"), now=0.0)
    pieces: list[str | bytes] = []
    assert is_streaming(endpoint)
    read(endpoint, pieces)
    assert pieces == ["ab", "cd"]
    assert not is_streaming(endpoint)
    assert endpoint.closed is not None
    assert endpoint.next_message() is None


# --- compressed --------------------------------------------------------------------------------------------------


def deflated_frames(role: Role, payload: bytes, fragment: int) -> bytes:
    """A compressed message in fragments of so many bytes."""
    parts = pieces_of(payload, fragment) or [b""]
    return b"".join(
        from_peer(role, 0 if i else BINARY, part, fin=i == len(parts) - 1, **({} if i else {"rsv": RSV1}))
        for i, part in enumerate(parts)
    )


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fragment", [1, 100, 1 << 20])
def test_a_compressed_message_is_inflated_piece_by_piece(role: Role, fragment: int) -> None:
    content = random.Random(6).randbytes(3000) + bytes(300_000)
    data = deflated_frames(role, raw_deflate(content), fragment)
    for size in (1, 13, 4096, len(data)):
        endpoint = compressing(role, max_message_size=10, max_buffered=50_000)
        assert endpoint.begin_stream() is None
        begun = None
        found: list[str | bytes] = []
        most = 0
        for part in pieces_of(data, size):
            endpoint.receive_data(part, now=0.0)
            begun = begun or endpoint.begin_stream()
            most = max(most, endpoint.held)
            read(endpoint, found)
        assert b"".join(map(bytes, found)) == content  # type: ignore[arg-type]
        assert not is_streaming(endpoint)
        assert most < 50_000 + 64 * 1024 + len(data) + 1000


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fragments", [1, 2])
def test_an_empty_message_without_even_its_block(role: Role, fragments: int) -> None:
    """It may come behind another one where the peer keeps its context."""
    data = from_peer(role, TEXT, b"", rsv=RSV1, fin=fragments == 1)
    if fragments == 2:
        data += from_peer(role, CONTINUATION, b"")
    for size in (1, len(data)):
        endpoint = compressing(role, takeover=True)
        assert endpoint.begin_stream() is None
        begun = None
        for part in pieces_of(data, size):
            endpoint.receive_data(part, now=0.0)
            begun = begun or endpoint.begin_stream()
        assert begun == TEXT
        assert endpoint.next_piece() is None
        assert not is_streaming(endpoint)
        assert endpoint.violation is None


def test_a_small_message_that_inflates_enormously_is_bounded() -> None:
    content = bytes(100_000_000)
    data = deflated_frames(SERVER, raw_deflate(content), 1 << 20)
    endpoint = compressing(SERVER)
    assert endpoint.begin_stream() is None
    endpoint.receive_data(data, now=0.0)
    assert endpoint.begin_stream() == BINARY
    total = most = 0
    while endpoint.is_streaming:
        piece = endpoint.next_piece()
        assert isinstance(piece, bytes)
        total += len(piece)
        most = max(most, endpoint.held)
    assert total == len(content)
    assert most < 256 * 1024 + 2 * 64 * 1024 + len(data)


@pytest.mark.parametrize("limit", [999, 1000])
def test_a_limit_counts_what_was_inflated(limit: int) -> None:
    data = deflated_frames(SERVER, raw_deflate(bytes(1000)), 3)
    endpoint = compressing(SERVER)
    assert endpoint.begin_stream(limit) is None
    endpoint.receive_data(data, now=0.0)
    assert endpoint.begin_stream(limit) == BINARY
    read(endpoint, [])
    assert endpoint.violation is (Violation.MESSAGE_TOO_BIG if limit == 999 else None)


@pytest.mark.parametrize("size", [1001, 100_000])
def test_a_compressed_message_that_is_too_large_is_held_back(size: int) -> None:
    content = random.Random(1).randbytes(500) + bytes(size - 500)
    data = deflated_frames(SERVER, raw_deflate(content), 700)
    for part in (1, 50, len(data)):
        endpoint = compressing(SERVER, max_message_size=1000, holds_large=True)
        for some in pieces_of(data, part):
            endpoint.receive_data(some, now=0.0)
        assert not wants_input(endpoint)
        assert endpoint.violation is None
        assert endpoint.begin_stream() == BINARY
        found: list[str | bytes] = []
        read(endpoint, found)
        assert b"".join(map(bytes, found)) == content  # type: ignore[arg-type]


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("when", ["begun", "some pieces"])
def test_what_is_given_up_leaves_the_next_message_right(takeover: bool, when: str) -> None:
    compressor = zlib.compressobj(wbits=-15)

    def deflate(content: bytes) -> bytes:
        made = zlib.compressobj(wbits=-15) if not takeover else compressor
        return (made.compress(content) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]

    first = random.Random(2).randbytes(200_000)
    second = first[-20_000:]
    data = deflated_frames(CLIENT, deflate(first), 50_000) + deflated_frames(CLIENT, deflate(second), 1 << 20)
    endpoint = compressing(CLIENT, takeover=takeover, max_buffered=30_000)
    parts = pieces_of(data, 10_000)
    endpoint.receive_data(parts[0], now=0.0)
    assert endpoint.begin_stream() == BINARY
    if when == "some pieces":
        for part in parts[1:8]:
            endpoint.receive_data(part, now=0.0)
            read(endpoint, [])
        parts = parts[7:]
    endpoint.end_stream()
    for part in parts[1:]:
        endpoint.receive_data(part, now=0.0)
        assert endpoint.held < 256 * 1024
    assert drain(endpoint) == [second]


def test_a_stream_keeps_the_window_for_the_next_message() -> None:
    compressor = zlib.compressobj(wbits=-15)
    contents = [random.Random(3).randbytes(100_000), b""]
    contents[1] = contents[0][-30_000:]
    data = b"".join(
        deflated_frames(SERVER, (compressor.compress(content) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4], 9999)
        for content in contents
    )
    endpoint = compressing(SERVER, takeover=True, max_buffered=20_000)
    assert endpoint.begin_stream() is None
    begun = None
    found: list[str | bytes] = []
    for part in pieces_of(data, 5000):
        endpoint.receive_data(part, now=0.0)
        begun = begun or endpoint.begin_stream()
        read(endpoint, found)
    assert b"".join(map(bytes, found)) == contents[0]  # type: ignore[arg-type]
    assert drain(endpoint) == [contents[1]]


@pytest.mark.parametrize("role", ROLES)
def test_an_empty_compressed_message_that_was_awaited(role: Role) -> None:
    """It is held back when it begins, with no byte behind its header: what is inflated then has no place in memory."""
    endpoint = compressing(role, takeover=True)
    for _ in range(2):
        assert endpoint.begin_stream() is None
        endpoint.receive_data(from_peer(role, BINARY, b"", rsv=RSV1), now=0.0)
        assert endpoint.begin_stream() == BINARY
        assert (endpoint.next_piece(), endpoint.is_streaming, endpoint.violation) == (None, False, None)
