"""permessage-deflate at work (RFC 7692 sections 6 and 7.2): messages compressed and inflated, without a socket."""

from __future__ import annotations

import array
import ctypes
import json
import mmap
import os
import pickle
import threading
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate as Theirs
from websockets.frames import Frame as TheirFrame
from websockets.frames import Opcode as TheirOpcode

from lapwing.protocol import ConnectionClosed, Deflate, Endpoint, Prepared, Role, State, Violation
from tests.peers import deflated, wire
from tests.peers.deflated import RSV1, Context, deflate, inflate
from tests.protocol.machine import *

#: RFC 7692 section 7.2.3: "Hello" in several forms.
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_AGAIN = bytes.fromhex("f200110000")
HELLO_STORED = bytes.fromhex("000500faff48656c6c6f00")
HELLO_FINAL = bytes.fromhex("f348cdc9c9070000")
HELLO_TWO_BLOCKS = bytes.fromhex("f248050000 00ffffcac9c90700")

JSON = json.dumps([{"id": number, "name": f"item {number}", "on": number % 2 == 0} for number in range(100)])


def run_compressed(role: Role, data: bytes, *, takeover: bool = False, **options: Any) -> Outcome:
    """Give `data` to endpoints in every cut: the same must come of each way."""
    found = None
    for pieces in cuts(data):
        endpoint = compressing(role, takeover=takeover, **options)
        feed(endpoint, pieces)
        came = outcome(endpoint)
        assert found in (None, came), pieces
        assert came.state is not State.CLOSED or endpoint.held == 0
        found = came
    assert found is not None
    return found


def failed_with(role: Role, data: bytes, violation: Violation, **options: Any) -> None:
    """Check that `data` fails the connection, in every cut, with the close frame that goes with it."""
    came = run_compressed(role, data, **options)
    assert came.violation is violation
    assert came.sent[-1:] == [Frame(CLOSE, wire.close_payload(violation.code, violation.text))]
    assert came.closed == (False, violation.code, violation.text)


# --- section 7.2.3: the examples, byte for byte ------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "payload", [HELLO, HELLO_STORED, HELLO_FINAL, HELLO_TWO_BLOCKS], ids=["fixed", "stored", "final", "two blocks"]
)
def test_section_7_2_3_messages_of_one_frame(role: Role, payload: bytes) -> None:
    assert run_compressed(role, from_peer(role, TEXT, payload, rsv=RSV1)).messages == ["Hello"]


@pytest.mark.parametrize("role", ROLES)
def test_section_7_2_3_1_a_message_in_two_frames(role: Role) -> None:
    data = from_peer(role, TEXT, HELLO[:3], rsv=RSV1, fin=False) + from_peer(role, CONTINUATION, HELLO[3:])
    assert run_compressed(role, data).messages == ["Hello"]


@pytest.mark.parametrize("role", ROLES)
def test_section_7_2_3_2_the_window_is_shared_with_context_takeover(role: Role) -> None:
    data = from_peer(role, TEXT, HELLO, rsv=RSV1) + from_peer(role, TEXT, HELLO_AGAIN, rsv=RSV1)
    assert run_compressed(role, data, takeover=True).messages == ["Hello", "Hello"]


@pytest.mark.parametrize("role", ROLES)
def test_section_7_2_3_2_nothing_is_shared_without_context_takeover(role: Role) -> None:
    data = from_peer(role, TEXT, HELLO, rsv=RSV1) + from_peer(role, TEXT, HELLO_AGAIN, rsv=RSV1)
    failed_with(role, data, Violation.NOT_DEFLATED)


@pytest.mark.parametrize("role", ROLES)
def test_section_7_2_3_6_an_empty_message(role: Role) -> None:
    assert run_compressed(role, from_peer(role, BINARY, b"\x00", rsv=RSV1)).messages == [b""]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("fragments", [1, 2, 3])
def test_an_empty_message_without_even_its_block(role: Role, fragments: int) -> None:
    """Cowboy, Haskell's websockets and Mojolicious send c1 00 for an empty message behind another one."""
    nothing = from_peer(role, TEXT, b"", rsv=RSV1, fin=fragments == 1)
    for number in range(2, fragments + 1):
        nothing += from_peer(role, CONTINUATION, b"", fin=number == fragments)
    if role is CLIENT and fragments == 1:
        assert nothing == b"\xc1\x00"
    data = from_peer(role, TEXT, HELLO, rsv=RSV1) + from_peer(role, TEXT, b"\x00", rsv=RSV1) + nothing
    again = from_peer(role, TEXT, HELLO_AGAIN, rsv=RSV1)
    assert run_compressed(role, data + again, takeover=True).messages == ["Hello", "", "", "Hello"]
    # A peer that begins each message with a new compressor has the block.
    failed_with(role, nothing, Violation.NOT_DEFLATED)


@pytest.mark.parametrize("role", ROLES)
def test_the_window_is_what_came_compressed_and_no_more(role: Role) -> None:
    """A peer that sends little costs little; `held` counts it until the connection ends."""
    endpoint = compressing(role, takeover=True)
    context = Context()
    expected = 0
    for size in (10, 500, 30_000, 10_000, 100_000):
        message = os.urandom(size)
        for payload, rsv in ((context.deflate(message), RSV1), (message, 0)):
            endpoint.receive_data(from_peer(role, BINARY, payload, rsv=rsv), now=0.0)
            assert drain(endpoint) == [message]
        expected = min(expected + size, 32768)
        assert endpoint.held == expected
    endpoint.receive_data(from_peer(role, CLOSE, b""), now=0.0)
    endpoint.data_to_send()
    endpoint.receive_eof()
    assert endpoint.state is State.CLOSED
    assert endpoint.held == 0


@pytest.mark.parametrize("bits", range(9, 16))
def test_the_window_is_as_large_as_agreed(bits: int) -> None:
    endpoint = compressing(SERVER, use=codec(takeover=True, incoming_window_bits=bits))
    context = Context(bits=bits)
    for message in [os.urandom(5000)] * 3 + [os.urandom(70_000)]:
        endpoint.receive_data(from_peer(SERVER, BINARY, context.deflate(message), rsv=RSV1), now=0.0)
        assert drain(endpoint) == [message]
    assert endpoint.held == 1 << bits


def test_what_is_sent_is_what_section_7_2_3_shows() -> None:
    endpoint = compressing(SERVER, takeover=True)
    for _ in range(2):
        endpoint.send("Hello", compress=True)
    endpoint.send("", compress=True)
    assert sent(endpoint) == [
        Frame(TEXT, HELLO, rsv=RSV1),
        Frame(TEXT, HELLO_AGAIN, rsv=RSV1),
        Frame(TEXT, b"\x00", rsv=RSV1),
    ]


# --- section 6: the bit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG])
def test_rsv1_without_the_extension(role: Role, opcode: int) -> None:
    endpoint = Endpoint(role)
    endpoint.receive_data(from_peer(role, opcode, HELLO, rsv=RSV1), now=0.0)
    assert endpoint.violation is Violation.RESERVED_BIT


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
def test_the_other_reserved_bits_have_no_meaning(role: Role, rsv: int) -> None:
    failed_with(role, from_peer(role, TEXT, HELLO, rsv=rsv), Violation.RESERVED_BIT)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
def test_rsv1_on_a_control_frame(role: Role, opcode: int) -> None:
    payload = deflate(wire.close_payload(1000, "bye")) if opcode == CLOSE else HELLO
    failed_with(role, from_peer(role, opcode, payload, rsv=RSV1), Violation.COMPRESSED_CONTROL)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("first", [0, RSV1])
def test_rsv1_on_a_continuation_frame(role: Role, first: int) -> None:
    data = from_peer(role, BINARY, HELLO[:3], rsv=first, fin=False)
    failed_with(role, data + from_peer(role, CONTINUATION, HELLO[3:], rsv=RSV1), Violation.COMPRESSED_CONTINUATION)


@pytest.mark.parametrize("role", ROLES)
def test_messages_with_and_without_compression_take_turns(role: Role) -> None:
    data = (
        from_peer(role, TEXT, b"plain") + from_peer(role, TEXT, HELLO, rsv=RSV1) + from_peer(role, BINARY, b"\x00\xff")
    )
    assert run_compressed(role, data).messages == ["plain", "Hello", b"\x00\xff"]


@pytest.mark.parametrize("role", ROLES)
def test_control_frames_between_compressed_fragments(role: Role) -> None:
    data = b"".join(
        [
            from_peer(role, TEXT, HELLO[:1], rsv=RSV1, fin=False),
            from_peer(role, PING, b"1"),
            from_peer(role, CONTINUATION, b"", fin=False),
            from_peer(role, CONTINUATION, HELLO[1:], fin=False),
            from_peer(role, PING, b"2"),
            from_peer(role, CONTINUATION, b""),
            from_peer(role, TEXT, b"next"),
        ]
    )
    came = run_compressed(role, data)
    assert came.messages == ["Hello", "next"]
    assert came.sent == [Frame(PONG, b"1"), Frame(PONG, b"2")]


# --- section 7.2.2: what can be wrong with the data --------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "payload",
    [
        HELLO[:3],  # truncated
        HELLO[:-1],
        HELLO_STORED[:-4],
        b"\x07" + HELLO,  # a block of the reserved type
        b"\x00\x05\x00\x00\x00Hello\x00",  # the lengths of a stored block do not agree
        HELLO_FINAL + b"garbage",
        HELLO + b"\xff",
        deflate(b"Hello" * 100)[5:],
        bytes.fromhex("4b0400"),  # final, and truncated
    ],
    ids=repr,
)
@pytest.mark.parametrize("takeover", [False, True])
def test_data_that_is_not_deflate(role: Role, payload: bytes, takeover: bool) -> None:
    with_last_cut = from_peer(role, BINARY, payload, rsv=RSV1)
    if payload == bytes.fromhex("4b0400"):  # a whole final block, without what stands behind it: taken all the same
        assert run_compressed(role, with_last_cut, takeover=takeover).messages == [b"a"]
    else:
        failed_with(role, with_last_cut, Violation.NOT_DEFLATED, takeover=takeover)


@pytest.mark.parametrize("takeover", [False, True])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_blocks_with_bfinal_set(takeover: bool, count: int) -> None:
    """Section 7.2.3.4: they may stand anywhere, and what follows may refer to what went before."""
    part = HELLO_FINAL[:-1]
    payload = part * count + b"\x00"
    assert run_compressed(SERVER, from_peer(SERVER, TEXT, payload, rsv=RSV1), takeover=takeover).messages == [
        "Hello" * count
    ]


def test_a_final_block_may_be_referred_to() -> None:
    endpoint = compressing(SERVER, takeover=True)
    endpoint.receive_data(from_peer(SERVER, TEXT, HELLO_FINAL, rsv=RSV1), now=0.0)
    endpoint.receive_data(from_peer(SERVER, TEXT, HELLO_AGAIN, rsv=RSV1), now=0.0)
    endpoint.receive_data(from_peer(SERVER, TEXT, HELLO_FINAL[:-1] + HELLO_AGAIN, rsv=RSV1), now=0.0)
    assert drain(endpoint) == ["Hello", "Hello", "HelloHello"]


def test_final_blocks_are_limited() -> None:
    """Each costs a decompressor: two bytes must not cost that much, again and again."""
    failed_with(CLIENT, from_peer(CLIENT, BINARY, b"\x03\x00" * 1000 + b"\x00", rsv=RSV1), Violation.NOT_DEFLATED)


@pytest.mark.parametrize("role", ROLES)
def test_text_is_checked_when_it_is_inflated(role: Role) -> None:
    for text in (b"caf\xc3", b"\xff", b"x" * 3000 + b"\xed\xa0\x80"):
        failed_with(role, from_peer(role, TEXT, deflate(text), rsv=RSV1), Violation.TEXT_NOT_UTF8)


def test_bad_text_fails_before_the_message_ends() -> None:
    endpoint = compressing(CLIENT)
    compressor = zlib.compressobj(wbits=-15)
    part = compressor.compress(b"\xff") + compressor.flush(zlib.Z_SYNC_FLUSH)
    endpoint.receive_data(from_peer(CLIENT, TEXT, part, rsv=RSV1, fin=False), now=0.0)
    assert endpoint.violation is Violation.TEXT_NOT_UTF8


@pytest.mark.parametrize("size", [0, 1, 5])
def test_text_cut_within_a_character(size: int) -> None:
    payload = deflate("größer, 日本語".encode())
    data = from_peer(SERVER, TEXT, payload[:size], rsv=RSV1, fin=False) + from_peer(
        SERVER, CONTINUATION, payload[size:]
    )
    assert run_compressed(SERVER, data).messages == ["größer, 日本語"]


# --- limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("limit", [1, 100, 32768, 65536, 100_000])
def test_the_limit_is_of_what_was_inflated(role: Role, limit: int) -> None:
    exact, more = bytes(limit), bytes(limit + 1)
    assert run_once(role, exact, limit) == [exact]
    endpoint = compressing(role, max_message_size=limit)
    endpoint.receive_data(from_peer(role, BINARY, deflate(more), rsv=RSV1), now=0.0)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


def run_once(role: Role, message: bytes, limit: int) -> list[str | bytes]:
    endpoint = compressing(role, max_message_size=limit)
    endpoint.receive_data(from_peer(role, BINARY, deflate(message), rsv=RSV1), now=0.0)
    return drain(endpoint)


@pytest.mark.parametrize("limit", [1, 10, 1000, 65536, 1024 * 1024])
@pytest.mark.parametrize("level", [0, 1, 6])
def test_a_message_at_the_limit_that_does_not_compress(limit: int, level: int) -> None:
    message = os.urandom(limit)
    payload = deflate(message, level=level)
    assert len(payload) > limit
    endpoint = compressing(SERVER, max_message_size=limit)
    endpoint.receive_data(from_peer(SERVER, BINARY, payload, rsv=RSV1), now=0.0)
    assert drain(endpoint) == [message]


def test_what_can_never_fit_is_refused_on_its_declared_length() -> None:
    endpoint = compressing(SERVER, max_message_size=1000)
    endpoint.receive_data(wire.frame(BINARY, b"", rsv=RSV1, key=wire.MASK, length=1 << 20), now=0.0)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


def test_a_message_that_inflates_to_nothing_has_an_end() -> None:
    endpoint = compressing(SERVER, max_message_size=1000)
    endpoint.receive_data(from_peer(SERVER, BINARY, b"", rsv=RSV1, fin=False), now=0.0)
    for _ in range(1000):
        endpoint.receive_data(from_peer(SERVER, CONTINUATION, b"\x00\x00\x00\xff\xff" * 20, fin=False), now=0.0)
    assert endpoint.violation is Violation.MESSAGE_TOO_BIG


def test_what_is_inflated_is_counted() -> None:
    endpoint = compressing(SERVER)
    compressor = zlib.compressobj(wbits=-15)
    part = compressor.compress(bytes(50_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    endpoint.receive_data(from_peer(SERVER, BINARY, part, rsv=RSV1, fin=False), now=0.0)
    assert endpoint.held == 50_000
    endpoint.receive_data(from_peer(SERVER, CONTINUATION, b"\x00"), now=0.0)
    assert 50_000 < endpoint.held < 50_200
    assert drain(endpoint) == [bytes(50_000)]
    assert endpoint.held == 0


def test_inflated_messages_stop_the_reading() -> None:
    endpoint = compressing(SERVER, max_buffered=100_000)
    frame = from_peer(SERVER, BINARY, deflate(bytes(60_000)), rsv=RSV1)
    endpoint.receive_data(frame * 10, now=0.0)
    assert not endpoint.wants_input
    assert endpoint.pending_messages == 2
    assert drain(endpoint) == [bytes(60_000)] * 10
    assert endpoint.wants_input


@pytest.mark.parametrize("max_buffered", [1, 10_000, 100_000])
def test_the_window_is_a_part_of_what_may_be_buffered(max_buffered: int) -> None:
    endpoint = compressing(SERVER, takeover=True, max_buffered=max_buffered)
    context = Context()
    noise = os.urandom(40_000)
    endpoint.receive_data(from_peer(SERVER, BINARY, context.deflate(noise), rsv=RSV1), now=0.0)
    assert drain(endpoint) == [noise]
    messages = [os.urandom(1000) for _ in range(200)]
    endpoint.receive_data(
        b"".join(from_peer(SERVER, BINARY, context.deflate(part), rsv=RSV1) for part in messages), now=0.0
    )
    assert not endpoint.wants_input
    waiting = endpoint.pending_messages * 1000
    assert waiting <= max(1000, max_buffered - 32768)  # the rest of the input waits as it came
    assert drain(endpoint) == messages
    assert endpoint.wants_input


@pytest.mark.parametrize("size", [32767, 32768, 32769, 65536, 100_000, 1_000_000])
def test_messages_of_several_pieces(size: int) -> None:
    message = os.urandom(size // 2) * 2
    endpoint = compressing(SERVER)
    endpoint.receive_data(from_peer(SERVER, BINARY, deflate(message), rsv=RSV1), now=0.0)
    assert drain(endpoint) == [message[:size]]


def test_a_closed_end_lets_go_of_a_message_under_way() -> None:
    endpoint = compressing(SERVER)
    endpoint.receive_data(from_peer(SERVER, BINARY, deflate(bytes(1000))[:5], rsv=RSV1, fin=False), now=0.0)
    endpoint.close(now=0.0)
    endpoint.receive_data(from_peer(SERVER, CONTINUATION, b"no matter what"), now=0.0)
    endpoint.receive_data(from_peer(SERVER, CLOSE, wire.close_payload(1000, "")), now=0.0)
    assert drain(endpoint) == []
    assert endpoint.closed == (True, 1000, "")


# --- sending -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("takeover", [False, True])
def test_the_threshold_decides_unless_send_does(role: Role, takeover: bool) -> None:
    endpoint = compressing(role, use=codec(takeover=takeover, threshold=100))
    for size, compress in ((99, None), (100, None), (99, True), (100, False)):
        endpoint.send("x" * size, compress=compress)
        endpoint.send(bytearray(b"x" * size), compress=compress)
    assert [frame.rsv for frame in sent(endpoint)] == [0, 0, RSV1, RSV1, RSV1, RSV1, 0, 0]


def test_context_takeover_reaches_back_as_far_as_others_do() -> None:
    """Repeats of 28 KiB, and data of a short period: not larger than what zlib makes with the same window."""
    report = "".join(f'{{"id": {number * 7919 % 10007}, "name": "item {number}"}}' for number in range(800)).encode()
    noise = os.urandom(256)
    for messages in ([report] * 5, [noise * 256] * 2):
        client, _ = pair(Deflate(context_takeover=True))
        for message in messages:
            client.send(message)
        theirs = Context()
        assert sum(len(frame.payload) for frame in sent(client)) <= 1.1 * sum(len(theirs.deflate(m)) for m in messages)


def test_what_does_not_get_smaller_goes_out_as_it_is() -> None:
    message = os.urandom(1000)
    endpoint = compressing(SERVER)
    endpoint.send(message, compress=True)
    assert sent(endpoint) == [Frame(BINARY, message)]


def test_with_context_takeover_all_goes_into_the_window() -> None:
    message = os.urandom(1000)
    endpoint = compressing(SERVER, takeover=True)
    endpoint.send(message)
    endpoint.send(message)
    first, second = sent(endpoint)
    assert (first.rsv, second.rsv) == (RSV1, RSV1)
    assert inflate(first.payload) == message
    assert len(second.payload) < 30
    assert inflate(second.payload, before=message) == message


@pytest.mark.parametrize("compress", [1, 0, "yes", b""])
def test_compress_is_true_false_or_none(compress: Any) -> None:
    endpoint = Endpoint(CLIENT)
    with pytest.raises(TypeError, match="expected compress to be True, False, or None"):
        endpoint.send("x", compress=compress)
    with pytest.raises(TypeError, match="expected compress to be True, False, or None"):
        endpoint.send_fragment("x", fin=True, compress=compress)
    assert endpoint.data_to_send() == b""


def test_compress_without_an_agreement_has_no_effect() -> None:
    endpoint = Endpoint(SERVER)
    endpoint.send("x" * 1000, compress=True)
    assert [frame.rsv for frame in sent(endpoint)] == [0]


@pytest.mark.parametrize("takeover", [False, True])
def test_fragments(takeover: bool) -> None:
    client, server = pair(Deflate(context_takeover=takeover))
    for end, other in ((client, server), (server, client)):
        for parts in (["one"], ["one ", "two"], ["", "", ""], ["x" * 5000, "", "y" * 100_000], ["", "last"]):
            for number, part in enumerate(parts):
                end.send_fragment(part, fin=number == len(parts) - 1, compress=True)
            found = sent(end)
            assert [frame.rsv for frame in found] == [RSV1] + [0] * (len(parts) - 1)
            end.send("between", compress=False)
            other.receive_data(b"".join(raw(end, frame) for frame in found) + end.data_to_send(), now=0.0)
            assert drain(other) == ["".join(parts), "between"]


def raw(endpoint: Endpoint, frame: Frame) -> bytes:
    key = wire.MASK if endpoint.role is CLIENT else None
    return wire.frame(frame.opcode, frame.payload, fin=frame.fin, rsv=frame.rsv, key=key)


def test_each_fragment_can_be_inflated_when_it_comes() -> None:
    endpoint = compressing(SERVER)
    decompressor = zlib.decompressobj(-15)
    for part in (b"first", b"second" * 100, b"third"):
        endpoint.send_fragment(part, fin=False, compress=True)
        assert decompressor.decompress(sent(endpoint)[0].payload) == part


def test_a_refused_fragment_leaves_the_message_as_it_was() -> None:
    endpoint = compressing(SERVER)
    endpoint.send_fragment("gr", fin=False, compress=True)
    for wrong in (b"\xff", 5):
        with pytest.raises((ValueError, TypeError)):
            endpoint.send_fragment(wrong, fin=False)  # type: ignore[arg-type]
    endpoint.send_fragment("ün", fin=True)
    first, second = sent(endpoint)
    assert inflate(first.payload + second.payload) == "grün".encode()


def test_the_first_fragment_decides() -> None:
    endpoint = compressing(SERVER, use=codec(threshold=10))
    endpoint.send_fragment("short", fin=False)
    endpoint.send_fragment("x" * 100, fin=True)
    endpoint.send_fragment("x" * 100, fin=False)
    endpoint.send_fragment("short", fin=True)
    assert [frame.rsv for frame in sent(endpoint)] == [0, 0, RSV1, 0]


def test_a_closed_end_compresses_nothing() -> None:
    client, server = pair(Deflate(context_takeover=True))
    client.close(now=0.0)
    with pytest.raises(ConnectionClosed):
        client.send(JSON)


def test_a_refused_message_does_not_disturb_the_context() -> None:
    client, server = pair(Deflate(context_takeover=True))
    client.send(JSON)
    for wrong in (5, memoryview(b"abcdef")[::2]):
        with pytest.raises((TypeError, BufferError)):
            client.send(wrong, compress=True)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="UTF-8"):
        client.send(b"\xff" * 1000, TEXT)
    client.send(JSON)
    server.receive_data(client.data_to_send(), now=0.0)
    assert drain(server) == [JSON, JSON]


def test_a_window_of_256_bytes_is_never_compressed_with() -> None:
    endpoint = compressing(SERVER, use=codec(outgoing_window_bits=8))
    endpoint.send(JSON, compress=True)
    endpoint.send_fragment(JSON, fin=True, compress=True)
    assert [frame.rsv for frame in sent(endpoint)] == [0, 0]


def test_only_permessage_deflate_can_be_used() -> None:
    with pytest.raises(TypeError, match="expected permessage-deflate"):
        Endpoint(CLIENT).use([object()])


# --- one compressor for all --------------------------------------------------------------------------------------


def test_nothing_of_one_message_is_referred_to_by_the_next() -> None:
    """Without context takeover each message can be inflated by itself, whichever connection came before."""
    shared = codec()
    secret = os.urandom(500).hex()
    for _ in range(3):
        first, second = (compressing(SERVER, use=shared) for _ in range(2))
        for endpoint in (first, second):
            endpoint.send(secret)
            endpoint.send_fragment(secret, fin=False)
            endpoint.send_fragment(secret, fin=True)
            message, begin, end = sent(endpoint)
            assert inflate(message.payload) == secret.encode()
            assert inflate(begin.payload + end.payload) == secret.encode() * 2
            assert len(message.payload) > 450


def test_threads_do_not_share_a_compressor_at_the_same_moment() -> None:
    shared = codec()
    wrong: list[object] = []

    def work(number: int) -> None:
        message = f"{number} " * 20_000
        for _ in range(20):
            endpoint = compressing(SERVER, use=shared)
            endpoint.send(message)
            if inflate(sent(endpoint)[0].payload) != message.encode():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(9, 15), st.sampled_from([None, *range(1, 10)]))
def test_what_is_sent_is_what_zlib_inflates(messages: list[bytes], bits: int, level: int | None) -> None:
    """In a window of the agreed size, which zlib checks, with and without context takeover."""
    for takeover in (False, True):
        endpoint = compressing(SERVER, use=codec(takeover=takeover, outgoing_window_bits=bits, level=level))
        decompressor = zlib.decompressobj(-bits)
        for message in messages:
            repeated = message * 3
            endpoint.send(repeated)
            (frame,) = sent(endpoint)
            if not takeover:
                decompressor = zlib.decompressobj(-bits)
            if frame.rsv:
                assert decompressor.decompress(frame.payload + b"\x00\x00\xff\xff") == repeated
            else:
                assert frame.payload == repeated


@given(st.lists(st.binary(max_size=3000), max_size=6), st.integers(9, 15), st.integers(0, 9), st.integers(1, 4000))
def test_what_zlib_sends_is_inflated(messages: list[bytes], bits: int, level: int, size: int) -> None:
    for takeover in (False, True):
        endpoint = compressing(SERVER, use=codec(takeover=takeover, incoming_window_bits=bits))
        compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
        data = b""
        for message in messages:
            if not takeover:
                compressor = zlib.compressobj(level, zlib.DEFLATED, -bits)
            payload = compressor.compress(message * 3) + compressor.flush(zlib.Z_SYNC_FLUSH)
            payload = payload[:-4] or b"\x00"  # nothing was flushed again
            data += deflated.frame(BINARY, payload, key=wire.MASK)
        feed(endpoint, [data[i : i + size] for i in range(0, len(data), size)])
        assert endpoint.violation is None
        assert drain(endpoint) == [message * 3 for message in messages]


@given(st.lists(st.text(max_size=500), max_size=6), st.integers(9, 15), st.booleans(), st.booleans())
def test_agreement_with_websockets(messages: list[str], bits: int, takeover: bool, fragments: bool) -> None:
    """Both ways, with one message after another, whole or in fragments."""
    ours = compressing(
        SERVER, use=codec(takeover=takeover, outgoing_window_bits=bits, incoming_window_bits=bits, threshold=1)
    )
    theirs = Theirs(not takeover, not takeover, bits, bits)
    for message in messages:
        data = message.encode() * 2
        parts = [data[: len(data) // 3], data[len(data) // 3 :]] if fragments else [data]
        for number, part in enumerate(parts):
            opcode = TheirOpcode.CONT if number else TheirOpcode.TEXT
            encoded = theirs.encode(TheirFrame(opcode, part, fin=number == len(parts) - 1))
            rsv = RSV1 if encoded.rsv1 else 0
            ours.receive_data(wire.frame(opcode, bytes(encoded.data), fin=encoded.fin, rsv=rsv, key=wire.MASK), now=0.0)
        assert drain(ours) == [message * 2], ours.closed
        if fragments:
            ours.send_fragment(message, fin=False)
            ours.send_fragment(message, fin=True)
        else:
            ours.send(message * 2)
        got = b""
        for frame in sent(ours):
            decoded = theirs.decode(
                TheirFrame(TheirOpcode(frame.opcode), frame.payload, fin=frame.fin, rsv1=frame.rsv == RSV1)
            )
            got += bytes(decoded.data)
        assert got == data


# --- one frame for many ------------------------------------------------------------------------------------------


def test_prepared_messages_are_compressed_once_for_each_window() -> None:
    prepared = Prepared(JSON)
    plain, narrow, wide, own = None, codec(outgoing_window_bits=9), codec(), codec(takeover=True)
    frames = [prepared.frame_for(each) for each in (plain, narrow, wide)]
    assert frames[0] == wire.frame(TEXT, JSON.encode())
    for frame, bits in zip(frames[1:], (9, 15), strict=True):
        assert frame is not None
        client = compressing(CLIENT, use=codec(incoming_window_bits=bits))
        client.receive_data(frame, now=0.0)
        assert drain(client) == [JSON]
        assert len(frame) < len(JSON) / 4
    assert prepared.frame_for(codec()) is frames[2]
    assert prepared.frame_for(own) is None


def test_prepared_messages_obey_threshold_and_choice() -> None:
    each = codec(threshold=10)
    assert Prepared(b"short").frame_for(each) == wire.frame(BINARY, b"short")
    assert Prepared("x" * 99, compress=False).frame_for(each) == wire.frame(TEXT, b"x" * 99)
    frame = Prepared("x" * 9, compress=True).frame_for(each)
    assert frame is not None
    assert frame[0] == 0xC1
    noise = os.urandom(100)
    assert Prepared(noise, compress=True).frame_for(each) == wire.frame(BINARY, noise)
    assert Prepared(b"").frame_for(codec()) == wire.frame(BINARY, b"")
    assert Prepared("short").frame_for(codec(takeover=True, threshold=10)) == wire.frame(TEXT, b"short")


def test_prepared_messages_are_checked() -> None:
    with pytest.raises(TypeError):
        Prepared(5)
    with pytest.raises(TypeError):
        Prepared("x", None, "yes")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Prepared("x", 8)
    with pytest.raises(ValueError):
        Prepared(b"\xff", TEXT)


def buffers() -> dict[str, Any]:
    """Objects that are bytes-like, each with the bytes of `text` at least."""
    text = b"0123456789abcdef"
    mapped = mmap.mmap(-1, mmap.PAGESIZE)
    mapped.write(text)
    return {
        "bytearray": bytearray(text),
        "memoryview": memoryview(text)[2:6],
        "wide items": memoryview(array.array("I", [1, 2**31])),
        "array": array.array("d", [1.5, -2]),
        "mmap": mapped,
        "ctypes": (ctypes.c_uint16 * 3)(1, 2, 65535),
        "structure": ctypes.c_longlong(-2),
        "rows": memoryview(text).cast("B", (4, 4)),
        "pickle": pickle.PickleBuffer(text),
    }


@pytest.mark.parametrize("kind", buffers())
def test_prepared_messages_are_of_every_buffer_that_is_sent(kind: str) -> None:
    message = buffers()[kind]
    endpoint = Endpoint(SERVER)
    endpoint.send(message)
    assert Prepared(message).frame_for(None) == endpoint.data_to_send()
    assert Prepared(message).message == memoryview(message).tobytes()


@pytest.mark.parametrize(
    "message",
    [memoryview(b"a-b-c")[::2], memoryview(b"abc")[::-1], [b"x"], (b"x",), None, 5, object(), {}],
    ids=lambda message: type(message).__name__,
)
def test_prepared_messages_are_of_no_other_than_is_sent(message: Any) -> None:
    endpoint = Endpoint(SERVER)
    with pytest.raises((TypeError, BufferError)) as of_send:
        endpoint.send(message)
    with pytest.raises(of_send.type, match=r"contiguous|expected a message of str or bytes-like"):
        Prepared(message)


def test_a_prepared_message_keeps_the_bytes_that_it_had() -> None:
    message = array.array("B", b"before")
    prepared = Prepared(message)
    message[0] = 0
    assert prepared.message == b"before"
    with pytest.raises(ValueError, match="UTF-8"):
        Prepared(array.array("B", b"\xff"), TEXT)


def test_only_what_is_shared_is_compressed_for_others() -> None:
    with pytest.raises(ValueError, match="for each connection"):
        codec(takeover=True).compressed(b"x")
    assert "context takeover" in repr(codec(takeover=True))
    assert codec().name == "permessage-deflate"
