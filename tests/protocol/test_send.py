"""Sending messages (RFC 6455 sections 5.4, 5.6 and 6.1): every type and length comes out as it went in."""

from __future__ import annotations

import array
import mmap
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import BINARY as BINARY_OPCODE
from lapwing.protocol import TEXT as TEXT_OPCODE
from lapwing.protocol import ConnectionClosed, Endpoint, Role, State
from tests.peers import wire
from tests.protocol.machine import *

#: From this size on a server sends a payload from where it is: LARGE_PAYLOAD of limits.pxd.
LARGE = 16 * 1024

SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33, 125, 126, 127, 128, 1000, 4096, LARGE - 1, LARGE, LARGE + 1]
SIZES += [65535, 65536, 65537, 100_000, 1 << 20]


def pattern(size: int) -> bytes:
    """Bytes that show every shift: no two places near each other look alike."""
    return (bytes(i % 251 for i in range(251)) * (size // 251 + 1))[:size]


def text_pattern(size: int) -> bytes:
    return ("aßé€\U0001f600z".encode() * (size // 10 + 1))[: size // 16 * 16].ljust(size, b".")


# --- what goes in comes out --------------------------------------------------------------------------------------


def mapped(data: bytes) -> memoryview:
    file = mmap.mmap(-1, max(len(data), 1))
    file[: len(data)] = data
    return memoryview(file)[: len(data)]


BYTES_LIKE: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "part of a memoryview": lambda data: memoryview(b"before" + data + b"behind")[6 : 6 + len(data)],
    "writable memoryview": lambda data: memoryview(bytearray(data)),
    "array": lambda data: array.array("B", data),
    "mmap": mapped,
    "bytes subclass": type("Sub", (bytes,), {}),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("like", BYTES_LIKE.values(), ids=BYTES_LIKE)
@pytest.mark.parametrize("size", SIZES)
def test_bytes_of_every_type_and_length(role: Role, like: Callable[[bytes], Any], size: int) -> None:
    endpoint = Endpoint(role)
    message = like(pattern(size))
    endpoint.send(message)
    assert sent(endpoint) == [Frame(BINARY, pattern(size))]
    assert endpoint.held == 0


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("character", ["a", "é", "€", "\U0001f600"])
def test_text_of_every_kind_and_length(role: Role, size: int, character: str) -> None:
    text = character * (size // len(character.encode()))
    endpoint = Endpoint(role)
    endpoint.send(text)
    assert sent(endpoint) == [Frame(TEXT, text.encode())]


@pytest.mark.parametrize("role", ROLES)
def test_opcodes(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.send("text", TEXT_OPCODE)
    endpoint.send("text", BINARY_OPCODE)
    endpoint.send(b"bytes", opcode=TEXT_OPCODE)
    endpoint.send(bytearray(b"bytes"), opcode=1)
    endpoint.send(b"bytes", opcode=2)
    assert [(frame.opcode, frame.payload) for frame in sent(endpoint)] == [
        (TEXT, b"text"),
        (BINARY, b"text"),
        (TEXT, b"bytes"),
        (TEXT, b"bytes"),
        (BINARY, b"bytes"),
    ]
    for opcode in (-1, 0, 3, 8, 9, 10, 15, 16, 255, -(2**31)):
        for message in ("text", b"bytes", bytearray()):
            with pytest.raises(ValueError, match=r"expected the opcode TEXT \(1\) or BINARY \(2\)"):
                endpoint.send(message, opcode)
            with pytest.raises(ValueError, match="expected the opcode"):
                endpoint.send_fragment(message, fin=True, opcode=opcode)
    assert endpoint.data_to_send() == b""


@pytest.mark.parametrize("message", [5, 0, None, {}, [1], (1,), 1.5, True, object(), iter(b"x")], ids=repr)
def test_message_of_the_wrong_type(message: Any) -> None:
    """Above all, no number is taken for a length."""
    endpoint = Endpoint(SERVER)
    with pytest.raises(TypeError, match=f"expected a message of str or bytes-like, got {type(message).__name__}"):
        endpoint.send(message)
    with pytest.raises(TypeError, match="expected a message"):
        endpoint.send_fragment(message, fin=False)
    with pytest.raises(TypeError, match="expected a message"):
        endpoint.send(message, TEXT_OPCODE)
    assert endpoint.data_to_send() == b""
    endpoint.send("no fragments are under way")


@pytest.mark.parametrize("role", ROLES)
def test_memoryview_with_steps(role: Role) -> None:
    endpoint = Endpoint(role)
    for message in (memoryview(b"a-b-c")[::2], memoryview(b"abc")[::-1]):
        with pytest.raises(BufferError, match="contiguous"):
            endpoint.send(message)
        with pytest.raises(BufferError, match="contiguous"):
            endpoint.send_fragment(message, fin=False)
    assert endpoint.data_to_send() == b""
    endpoint.send(memoryview(array.array("H", [0x4141, 0x4242])))  # wider items in one piece are their bytes
    assert sent(endpoint) == [Frame(BINARY, b"AABB")]


@pytest.mark.parametrize("text", ["\ud800", "ok\udfff", "x" * 20000 + "\udc80"])
@pytest.mark.parametrize("role", ROLES)
def test_lone_surrogates(role: Role, text: str) -> None:
    endpoint = Endpoint(role)
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        endpoint.send(text)
    with pytest.raises(UnicodeEncodeError):
        endpoint.send_fragment(text, fin=True)
    assert endpoint.data_to_send() == b""


@pytest.mark.parametrize("like", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("data", [b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"x" * 40000 + b"\xe2\x82"])
@pytest.mark.parametrize("role", ROLES)
def test_bytes_that_are_no_text(role: Role, data: bytes, like: Callable[[bytes], Any]) -> None:
    """RFC 6455 section 5.6: a TEXT message is UTF-8, also one of this end."""
    endpoint = Endpoint(role)
    with pytest.raises(ValueError, match="expected valid UTF-8"):
        endpoint.send(like(data), TEXT_OPCODE)
    assert endpoint.data_to_send() == b""


@given(st.text() | st.binary(), st.sampled_from(ROLES))
def test_any_message(message: str | bytes, role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.send(message)
    payload = message.encode() if isinstance(message, str) else message
    assert sent(endpoint) == [Frame(TEXT if isinstance(message, str) else BINARY, payload)]


def test_message_may_change_once_it_is_sent() -> None:
    """Of what can change, a copy is queued at once, however large it is, and no reference is kept."""
    for role in ROLES:
        for size in (10, LARGE, 100_000):
            endpoint = Endpoint(role)
            message = bytearray(pattern(size))
            endpoint.send(message)
            endpoint.send(memoryview(message))
            message[:] = bytes(size)
            message.extend(b"not locked")
            assert sent(endpoint) == [Frame(BINARY, pattern(size))] * 2


# --- large payloads, which a server does not copy ----------------------------------------------------------------


@pytest.mark.parametrize("size", [LARGE, LARGE + 1, 1 << 20])
@pytest.mark.parametrize("kind", [bytes, str])
def test_large_payload_stays_where_it_is(size: int, kind: type) -> None:
    message: Any = pattern(size) if kind is bytes else "x" * size
    payload = message if isinstance(message, bytes) else message.encode()
    opcode = BINARY if kind is bytes else TEXT
    endpoint = Endpoint(SERVER)
    before = sys.getrefcount(message)
    endpoint.send(message)
    assert sys.getrefcount(message) == before + 1
    assert endpoint.held == len(wire.frame(opcode, payload))
    assert sent(endpoint) == [Frame(opcode, payload)]
    assert sys.getrefcount(message) == before
    assert endpoint.held == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 1), (1, 0, 1), (0, 0, 1, 1, 0), (1, 1, 1)])
@pytest.mark.parametrize("role", ROLES)
def test_large_and_small_frames_in_every_order(role: Role, order: tuple[int, ...]) -> None:
    endpoint = Endpoint(role)
    messages = [pattern(LARGE + i if large else i) for i, large in enumerate(order)]
    for message in messages:
        endpoint.send(message)
    endpoint.ping(b"p", now=0.0)
    assert sent(endpoint) == [*(Frame(BINARY, message) for message in messages), Frame(PING, b"p")]
    assert endpoint.held == 0


@given(st.lists(st.sampled_from(["small", "text", "large", "large text", "view", "ping", "fragments", "sent"])))
def test_output_in_any_order(actions: list[str]) -> None:
    """Whatever is queued, and whenever it is taken: the output is the frames in their order."""
    endpoint = Endpoint(SERVER)
    expected = b""
    output = b""
    for i, action in enumerate(actions):
        large = pattern(LARGE + i)
        if action == "small":
            endpoint.send(b"%d" % i)
            expected += wire.frame(BINARY, b"%d" % i)
        elif action == "text":
            endpoint.send("é" * i)
            expected += wire.frame(TEXT, "é".encode() * i)
        elif action == "large":
            endpoint.send(large)
            expected += wire.frame(BINARY, large)
        elif action == "large text":
            endpoint.send("é" * LARGE)
            expected += wire.frame(TEXT, "é".encode() * LARGE)
        elif action == "view":
            endpoint.send(memoryview(large))
            expected += wire.frame(BINARY, large)
        elif action == "ping":
            endpoint.ping(b"%d" % i, now=0.0)
            expected += wire.frame(PING, b"%d" % i)
        elif action == "fragments":
            endpoint.send_fragment(large, fin=False)
            endpoint.send_fragment(b"", fin=True)
            expected += wire.frame(BINARY, large, fin=False) + wire.frame(CONTINUATION, b"")
        else:
            output += endpoint.data_to_send()
        assert endpoint.held == len(expected) - len(output)
    assert output + endpoint.data_to_send() == expected


def test_endpoint_that_is_dropped_lets_go_of_its_output() -> None:
    message = pattern(LARGE)
    before = sys.getrefcount(message)
    for _ in range(10):
        endpoint = Endpoint(SERVER)
        endpoint.send(message)
        del endpoint
    assert sys.getrefcount(message) == before


# --- fragments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_fragments(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.send_fragment("Hel", fin=False)
    endpoint.send_fragment("lo", fin=True)
    endpoint.send_fragment(b"bi", fin=False)
    endpoint.send_fragment(bytearray(b""), fin=False)
    endpoint.send_fragment(memoryview(b"nary"), fin=True)
    endpoint.send_fragment("single", fin=True)
    endpoint.send("whole")
    assert sent(endpoint) == [
        Frame(TEXT, b"Hel", fin=False),
        Frame(CONTINUATION, b"lo"),
        Frame(BINARY, b"bi", fin=False),
        Frame(CONTINUATION, b"", fin=False),
        Frame(CONTINUATION, b"nary"),
        Frame(TEXT, b"single"),
        Frame(TEXT, b"whole"),
    ]


@pytest.mark.parametrize("role", ROLES)
def test_no_other_message_between_fragments(role: Role) -> None:
    """RFC 6455 section 5.4: the fragments of one message must not be interleaved with those of another."""
    endpoint = Endpoint(role)
    endpoint.send_fragment("begin", fin=False)
    with pytest.raises(RuntimeError, match="a message of fragments is under way"):
        endpoint.send("other")
    endpoint.ping(b"control frames may", now=0.0)
    endpoint.receive_data(from_peer(role, PING, b"too"), now=0.0)
    endpoint.send_fragment("end", fin=True)
    endpoint.send("other")
    assert [frame.opcode for frame in sent(endpoint)] == [TEXT, PING, PONG, CONTINUATION, TEXT]


@pytest.mark.parametrize("role", ROLES)
def test_opcode_of_fragments(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.send_fragment(b"text", fin=False, opcode=TEXT_OPCODE)
    endpoint.send_fragment(b"", fin=True)
    endpoint.send_fragment("binary", fin=True, opcode=BINARY_OPCODE)
    assert [frame.opcode for frame in sent(endpoint)] == [TEXT, CONTINUATION, BINARY]


@pytest.mark.parametrize("role", ROLES)
def test_text_may_be_cut_anywhere(role: Role) -> None:
    text = "aßé€\U0001f600z"
    for size in range(1, 14):
        endpoint, peer = Endpoint(role), Endpoint(SERVER if role is CLIENT else CLIENT)
        parts = pieces_of(text.encode(), size)
        for i, part in enumerate(parts):
            endpoint.send_fragment(part, fin=i == len(parts) - 1, opcode=TEXT_OPCODE if i == 0 else None)
        peer.receive_data(endpoint.data_to_send(), now=0.0)
        assert drain(peer) == [text]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "parts",
    [[b"\xff"], [b"ok", b"\xff"], [b"\xe2", b"\x82"], [b"\xe2\x82", b""], [b"\xed", b"\xa0\x80"], [b"\xc3", "é"]],
    ids=repr,
)
def test_fragments_that_are_no_text(role: Role, parts: list[Any]) -> None:
    """RFC 6455 section 5.6: "the whole message MUST contain valid UTF-8". What is refused changes nothing."""
    endpoint = Endpoint(role)
    *good, bad = parts
    for part in good:
        endpoint.send_fragment(part, fin=False, opcode=TEXT_OPCODE)
    expected = endpoint.data_to_send()
    with pytest.raises(ValueError, match="valid UTF-8 together"):
        endpoint.send_fragment(bad, fin=True, opcode=TEXT_OPCODE)
    assert endpoint.data_to_send() == b""
    assert len(expected) == sum(len(part) + (2 if role is SERVER else 6) for part in good)
    if good == [b"ok"]:
        endpoint.send_fragment("still under way", fin=True)
        assert sent(endpoint) == [Frame(CONTINUATION, b"still under way")]


@pytest.mark.parametrize("role", ROLES)
def test_nothing_is_sent_once_closing(role: Role) -> None:
    """RFC 6455 section 5.5.1: no more data frames after a close frame."""
    endpoint = Endpoint(role)
    endpoint.send_fragment("begin", fin=False)
    endpoint.close(now=0.0)
    assert endpoint.data_to_send()
    for state in (State.CLOSING, State.CLOSED):
        assert endpoint.state is state
        with pytest.raises(ConnectionClosed):
            endpoint.send("x")
        with pytest.raises(ConnectionClosed):
            endpoint.send_fragment("end", fin=True)
        assert endpoint.data_to_send() == b""
        endpoint.receive_eof()
