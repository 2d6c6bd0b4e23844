"""Messages of any size: sent in fragments, received in pieces, on both faces and at both ends."""

from __future__ import annotations

import asyncio
import itertools
import resource
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import lapwing
from tests.faces.callers import HUGE, IN_THREAD, Caller, Face, call, facing_server, hosting, steps, url
from tests.faces.cancelling import cancel_everywhere
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawListener, RawPeer

Listen = Callable[..., Any]

PLAIN: dict[str, Any] = {"compression": False}


def client_of(ws: Any) -> Any:
    """The client of a `Caller`, of whichever face."""
    return ws.client if isinstance(ws, Caller) else ws


async def read_all(ws: Any, **options: Any) -> list[str | bytes] | None:
    """The pieces of the next message, of a `Caller` or a connection; None at the end."""
    if isinstance(ws, Caller) and ws.blocking:

        def read() -> list[str | bytes] | None:
            stream = client_of(ws).receive_stream(**options)
            return None if stream is None else list(stream)

        return await call(read)
    client = client_of(ws)
    stream = await client.receive_stream(**options)
    return None if stream is None else [piece async for piece in stream]


def joined(pieces: list[str | bytes] | None) -> str | bytes:
    assert pieces
    assert all(pieces), "no piece is empty"
    if isinstance(pieces[0], str):
        return "".join(str(piece) for piece in pieces)
    return b"".join(bytes(piece) for piece in pieces)  # type: ignore[arg-type]


async def in_turn(*items: Any) -> AsyncIterator[Any]:
    """Items that have to be waited for."""
    for item in items:
        await asyncio.sleep(0)
        yield item


# --- sending -----------------------------------------------------------------------------------------------------

SENT = [
    (["a", "ß", "c"], None, [(wire.TEXT, b"a", False), (0, "ß".encode(), False), (0, b"c", True)]),
    ((b"a", bytearray(b"b"), memoryview(b"c")), None, [(wire.BINARY, b"a", False), (0, b"b", False), (0, b"c", True)]),
    ([b"a"], None, [(wire.BINARY, b"a", True)]),
    ([], None, [(wire.BINARY, b"", True)]),
    ([], lapwing.TEXT, [(wire.TEXT, b"", True)]),
    (["a", "b"], lapwing.BINARY, [(wire.BINARY, b"a", False), (0, b"b", True)]),
    (["a", b"\xc3", b"\x9f"], lapwing.TEXT, [(wire.TEXT, b"a", False), (0, b"\xc3", False), (0, b"\x9f", True)]),
]


@pytest.mark.parametrize("form", ["sequence", "iterator", "async"])
@pytest.mark.parametrize("case", range(len(SENT)))
async def test_each_item_is_a_fragment(face: Face, form: str, case: int) -> None:
    items, opcode, expected = SENT[case]
    if form == "async" and face.blocking:
        form = "iterator"
    if form != "sequence":  # that it was the last one is known afterwards only
        expected = [(code, data, False) for code, data, _ in expected] + [(0, b"", True)] if items else expected
    forms: dict[str, Callable[[], Any]] = {
        "sequence": lambda: items,
        "iterator": lambda: iter(items),
        "async": lambda: in_turn(*items),
    }
    message = forms[form]()
    with RawListener() as listener:
        async with face.facing(listener, **PLAIN) as (ws, peer):
            await ws.send(message, opcode)
            found = [await call(peer.read_frame) for _ in expected]
            assert [(frame.opcode, frame.payload, frame.fin) for frame in found] == expected
            await ws.send("next")
            assert (await call(peer.read_frame)).payload == b"next"


async def test_a_fragment_leaves_before_the_next_one_is_there(listen: Listen) -> None:
    async with facing_server(listen, **PLAIN) as (ws, peer):
        seen = asyncio.Event()

        async def fragments() -> AsyncIterator[str]:
            yield "one"
            await seen.wait()
            yield "two"

        sending = asyncio.create_task(_sent(ws, fragments()))
        assert (await call(peer.read_frame)).payload == b"one"
        seen.set()
        assert (await call(peer.read_frame)).payload == b"two"
        await sending


async def _sent(ws: Any, message: Any, **options: Any) -> None:
    await ws.send(message, **options)


@pytest.mark.parametrize("bad", [5, None, ["x"], {"a": 1}])
async def test_what_is_no_fragment_is_refused(face: Face, listen: Listen, bad: Any) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        with pytest.raises(TypeError, match="expected fragments of str or bytes-like"):
            await ws.send([b"1", bad])
        with pytest.raises(TypeError, match="of one kind"):
            await ws.send(["1", b"2"])
        with pytest.raises(TypeError, match="expected fragments"):
            await ws.send(iter([bad]))  # the first one: nothing was sent
        with pytest.raises(TypeError, match=r"json\.dumps"):
            await ws.send({"a": 1})
        with pytest.raises(ValueError, match="opcode"):
            await ws.send(["a"], 9)
        await ws.send("good")
        assert await guest.receive() == "good"


async def test_an_asynchronous_iterable_is_not_for_a_blocking_client() -> None:
    with RawListener() as listener:
        async with Face("blocking", {}).facing(listener) as (ws, _):
            with pytest.raises(TypeError, match="asynchronous"):
                await ws.send(in_turn("a"))


@pytest.mark.parametrize("fault", ["raises", "mixed", "not utf-8"])
async def test_a_message_that_cannot_be_completed_fails_the_connection(face: Face, listen: Listen, fault: str) -> None:
    def fragments() -> Iterator[Any]:
        yield "one"
        if fault == "raises":
            raise LookupError("no more")
        yield b"\xff"

    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        error, opcode = {
            "raises": (LookupError, None),
            "mixed": (TypeError, None),
            "not utf-8": (ValueError, lapwing.TEXT),
        }[fault]
        with pytest.raises(error):
            await ws.send(fragments(), opcode)
        assert ws.closed == (False, 1011, "a message of fragments was broken off")
        assert await guest.receive() is None
        assert guest.closed is not None
        assert guest.closed.code == 1011
        with pytest.raises(lapwing.ConnectionClosed):
            await ws.send("more")


async def test_other_messages_wait_in_order_and_pings_do_not(listen: Listen) -> None:
    async with facing_server(listen, **PLAIN) as (ws, peer):
        go_on = asyncio.Event()

        async def fragments() -> AsyncIterator[str]:
            yield "one"
            await go_on.wait()
            yield "two"

        sending = [asyncio.create_task(_sent(ws, fragments()))]
        assert (await call(peer.read_frame)).payload == b"one"
        for message in ("a", ["b", "b"], "c"):
            sending.append(asyncio.create_task(_sent(ws, message)))
            await steps()
        pinging = asyncio.create_task(_pinged(ws))
        frame = await call(peer.read_frame)
        assert frame.opcode == wire.PING
        peer.send_frame(wire.PONG, frame.payload)
        await pinging
        with pytest.raises(TimeoutError):
            await ws.send("late", timeout=0.01)
        go_on.set()
        found = [await call(peer.read_frame) for _ in range(6)]
        assert [(frame.payload, frame.fin) for frame in found] == [
            (b"two", False),
            (b"", True),
            (b"a", True),
            (b"b", False),
            (b"b", True),
            (b"c", True),
        ]
        await asyncio.gather(*sending)


async def _pinged(ws: Any) -> None:
    await ws.ping()


async def test_a_broadcast_waits_for_the_end_of_the_message(listen: Listen) -> None:
    async with facing_server(listen, max_buffered=1000, **PLAIN) as (ws, peer):
        go_on = asyncio.Event()

        async def fragments() -> AsyncIterator[str]:
            yield "one"
            await go_on.wait()
            yield "two"

        sending = asyncio.create_task(_sent(ws, fragments()))
        assert (await call(peer.read_frame)).payload == b"one"
        assert ws.broadcast("to all") == 1
        assert ws.broadcast(b"x" * 500) == 1
        go_on.set()
        found = [await call(peer.read_frame) for _ in range(4)]
        assert [frame.payload for frame in found] == [b"two", b"", b"to all", b"x" * 500]
        await sending


async def test_broadcasts_that_wait_are_bounded(listen: Listen) -> None:
    async with facing_server(listen, max_buffered=1000, **PLAIN) as (ws, peer):
        never = asyncio.Event()

        async def fragments() -> AsyncIterator[str]:
            yield "one"
            await never.wait()

        sending = asyncio.create_task(_sent(ws, fragments()))
        assert (await call(peer.read_frame)).payload == b"one"
        assert ws.broadcast(b"x" * 600) == 1
        assert ws.broadcast(b"x" * 600) == 1
        assert ws.broadcast(b"x" * 600) == 0
        await call(peer.expect_close, 1013)
        never.set()
        with pytest.raises(lapwing.ConnectionClosed):
            await sending


async def test_sending_within_the_iterable_is_an_error_and_no_deadlock(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, _), face.connected(url(server)) as ws:

        def fragments() -> Iterator[str]:
            yield "one"
            client_of(ws).send("two")
            yield "three"

        async def awaited() -> AsyncIterator[str]:
            yield "one"
            await client_of(ws).send("two")

        with pytest.raises(RuntimeError, match="must not send another one"):
            await ws.send(fragments() if face.blocking else awaited())


async def test_threads_wait_for_the_end_of_a_message() -> None:
    with RawListener() as listener:
        async with Face("blocking", {}).facing(listener, **PLAIN) as (ws, peer):
            go_on = threading.Event()

            def fragments() -> Iterator[str]:
                yield "one"
                assert go_on.wait(20)
                yield "two"

            first = asyncio.create_task(ws.send(fragments()))
            assert (await call(peer.read_frame)).payload == b"one"
            with pytest.raises(TimeoutError, match="not sent"):
                await ws.send("late", timeout=0.01)
            others = [asyncio.create_task(ws.send(message)) for message in ("a", ["b", "b"])]
            with pytest.raises(TimeoutError):
                await ws.receive(timeout=0.01)
            go_on.set()
            found = [await call(peer.read_frame) for _ in range(5)]
            assert [frame.payload for frame in found[:2]] == [b"two", b""]
            assert sorted(frame.payload for frame in found[2:]) == [b"a", b"b", b"b"]
            assert [frame.payload for frame in found[2:]] != [b"b", b"a", b"b"]
            await asyncio.gather(first, *others)


async def test_a_sender_is_held_up_by_a_peer_that_does_not_read(face: Face, listen: Listen) -> None:
    sent = 0

    def fragments() -> Iterator[bytes]:
        nonlocal sent
        while sent < 4 * HUGE:
            sent += 1 << 16
            yield bytes(1 << 16)

    async with hosting(listen, **PLAIN) as (server, guests), face.connected(url(server), **PLAIN) as ws:
        guest = await guests.next()
        with pytest.raises(TimeoutError):
            await ws.send(fragments(), timeout=0.2)
        assert sent < 4 * HUGE
        assert ws.closed is not None
        assert ws.closed.code == 1011
        closing = asyncio.create_task(ws.close())
        pieces = []
        with pytest.raises(lapwing.ConnectionClosed):
            async for piece in guest.receive_stream():
                pieces.append(piece)
        assert len(joined(pieces)) <= sent
        await closing


# --- receiving ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("compression", [False, True])
async def test_large_messages_both_ways(
    face: Face, listen: Listen, tls: Certificates, secure: bool, compression: bool
) -> None:
    text = "0123456789 ß€\U0001f426" * 100_000
    secrets: dict[str, Any] = {"ssl": tls.good.server_context()} if secure else {}
    async with hosting(listen, compression=compression, **secrets) as (server, guests):
        where = f"wss://localhost:{server.port}" if secure else url(server)
        options: dict[str, Any] = {"ssl": tls.client_context()} if secure else {}
        async with face.connected(where, compression=compression, **options) as ws:
            guest = await guests.next()
            for message in (text, text.encode()):
                cut = [message[i : i + 30_011] for i in range(0, len(message), 30_011)]
                sending = asyncio.create_task(_sent(ws, iter(cut)))
                assert joined(await read_all(guest)) == message
                await sending
                sending = asyncio.create_task(_sent(guest, in_turn(*cut)))
                assert joined(await read_all(ws)) == message
                await sending
                sending = asyncio.create_task(_sent(guest, message))
                assert joined(await read_all(ws)) == message
                await sending
            await ws.send("whole")
            assert await guest.receive() == "whole"


async def test_pieces_come_before_the_message_ends(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            if face.blocking:
                beginning = asyncio.create_task(call(client_of(ws).receive_stream))
            else:
                beginning = asyncio.create_task(_begun(ws.client))
            peer.send_frame(wire.TEXT, "aß".encode()[:2], fin=False)
            stream = await beginning
            assert isinstance(stream, lapwing.BlockingMessageStream if face.blocking else lapwing.MessageStream)
            assert stream.opcode == lapwing.TEXT
            assert await next_of(stream) == "a"
            with pytest.raises(RuntimeError, match="receive_stream"):
                await ws.receive()
            with pytest.raises(RuntimeError, match="already"):
                await read_all(ws)
            peer.send_frame(wire.PING, b"?")
            peer.send_frame(wire.CONTINUATION, "aß".encode()[2:])
            assert await next_of(stream) == "ß"
            assert await next_of(stream) is None
            assert (await call(peer.read_frame)).opcode == wire.PONG
            peer.send_frame(wire.TEXT, b"whole")
            assert await ws.receive() == "whole"


async def _begun(ws: Any) -> Any:
    return await ws.receive_stream()


async def next_of(stream: Any) -> Any:
    if hasattr(stream, "__anext__"):
        return await anext(stream, None)
    return await call(next, stream, None)


async def test_max_message_size_is_for_whole_messages(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener, max_message_size=10) as (ws, peer):
            peer.send_frame(wire.BINARY, bytes(10))
            peer.send_frame(wire.BINARY, bytes(5000))
            peer.send_frame(wire.TEXT, b"after")
            assert await ws.receive() == bytes(10)
            assert joined(await read_all(ws)) == bytes(5000)
            assert await ws.receive() == "after"
            peer.send_frame(wire.BINARY, bytes(11))
            assert await ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == 1009


async def test_a_limit_of_its_own(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(ValueError, match="limit"):
                await read_all(ws, limit=0)
            peer.send_frame(wire.BINARY, bytes(100))
            assert await read_all(ws, limit=100) == [bytes(100)]
            peer.send_frame(wire.BINARY, bytes(101))
            with pytest.raises(lapwing.ConnectionClosed):
                await read_all(ws, limit=100)
            await call(peer.expect_close, 1009)


async def test_leaving_early_skips_the_rest(face: Face, listen: Listen) -> None:
    for compression in (False, True):
        async with (
            hosting(listen, compression=compression) as (server, guests),
            face.connected(url(server), compression=compression) as ws,
        ):
            guest = await guests.next()
            for way in ("break", "close", "with"):
                sending = asyncio.create_task(_sent(guest, itertools.repeat(b"x" * 1000, 5000)))
                if face.blocking:
                    await call(_leave, ws.client, way)
                else:
                    await _leave_async(ws.client, way)
                following = asyncio.create_task(_sent(guest, way))
                assert await ws.receive() == way
                await asyncio.gather(sending, following)


def _leave(ws: Any, way: str) -> None:
    if way == "break":
        for _ in ws.receive_stream():
            break
    elif way == "close":
        stream = ws.receive_stream()
        next(stream)
        stream.close()
        assert list(stream) == []
    else:
        with ws.receive_stream() as stream:
            next(stream)


async def _leave_async(ws: Any, way: str) -> None:
    if way == "break":
        async for _ in ws.receive_stream():
            break
    elif way == "close":
        stream = ws.receive_stream()
        await anext(stream)
        stream.close()
        assert [piece async for piece in stream] == []
    else:
        async with ws.receive_stream() as stream:
            await anext(stream)


async def test_the_end_of_the_connection_is_no_message(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            peer.send_frame(wire.TEXT, b"last")
            peer.send_close(1000)
            assert await read_all(ws) == ["last"]
            assert await read_all(ws) is None
            assert await read_all(ws) is None
            if not face.blocking:
                assert [piece async for piece in client_of(ws).receive_stream()] == []
                async with client_of(ws).receive_stream() as stream:
                    assert stream is None


async def test_a_connection_that_ends_within_the_message(face: Face) -> None:
    for how in ("vanish", "close"):
        with RawListener() as listener:
            async with face.facing(listener) as (ws, peer):
                peer.send_frame(wire.TEXT, b"begun", fin=False)
                if how == "close":
                    peer.send_close(1001)
                else:
                    peer.close()
                pieces: list[Any] = []
                with pytest.raises(lapwing.ConnectionClosed) as caught:
                    await _read_into(ws, pieces)
                assert pieces == ["begun"]
                assert caught.value.code == (1001 if how == "close" else 1006)
                assert await ws.receive() is None


async def _read_into(ws: Caller, pieces: list[Any]) -> None:
    if ws.blocking:
        await call(lambda: pieces.extend(client_of(ws).receive_stream()))
        return
    async for piece in client_of(ws).receive_stream():
        pieces.append(piece)


async def test_a_time_out_takes_nothing_with_it(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(TimeoutError):
                await read_all(ws, timeout=0.01)
            peer.send_frame(wire.TEXT, b"one", fin=False)
            stream = await call(client_of(ws).receive_stream) if face.blocking else await client_of(ws).receive_stream()
            stream.close()
            peer.send_frame(wire.CONTINUATION, b"two")
            peer.send_frame(wire.TEXT, b"three", fin=False)
            if face.blocking:
                stream = await call(lambda: client_of(ws).receive_stream(timeout=0.01))
            else:
                stream = await client_of(ws).receive_stream(timeout=0.01)
            assert await next_of(stream) == "three"
            with pytest.raises(TimeoutError):
                await next_of(stream)
            peer.send_frame(wire.CONTINUATION, b"four")
            while (piece := await _patient(stream)) != "four":
                assert piece is TimeoutError
            assert await next_of(stream) is None


async def _patient(stream: Any) -> Any:
    try:
        return await next_of(stream)
    except TimeoutError:
        return TimeoutError


@pytest.mark.parametrize("at_once", [False, True])
async def test_cancelling_while_a_message_is_read_in_pieces(listen: Listen, at_once: bool) -> None:
    async with facing_server(listen, max_buffered=100) as (ws, peer):
        message = b"0123456789" * 100
        seen: list[bytes] = []
        stream: Any = None

        async def read() -> None:
            nonlocal stream
            if stream is None:
                peer.send_frame(wire.BINARY, message[:500], fin=False)
                peer.send_frame(wire.CONTINUATION, message[500:])
                stream = await ws.receive_stream()
            while (piece := await anext(stream, None)) is not None:
                seen.append(piece)

        async def check(cancelled: bool) -> None:
            nonlocal stream
            if cancelled and stream is None:
                assert await ws.receive() == message
            elif cancelled:
                await read()
            assert cancelled or b"".join(seen) == message
            seen.clear()
            stream = None

        assert await cancel_everywhere(read, check, at_once=at_once) >= 1


@pytest.mark.parametrize("at_once", [False, True])
async def test_cancelling_while_a_message_is_sent_in_fragments(listen: Listen, at_once: bool) -> None:
    async with hosting(listen) as (server, guests):
        clients: list[lapwing.AsyncClient] = []
        begun: list[str] = []

        async def fragments() -> AsyncIterator[str]:
            await asyncio.sleep(0)
            begun.append("one")
            yield "one"
            await asyncio.sleep(0)
            yield "two"
            await asyncio.sleep(0)

        async def send() -> None:
            await clients[-1].send(fragments())

        async def check(cancelled: bool) -> None:
            guest = await guests.next()
            if not cancelled:
                assert await guest.receive() == "onetwo"
            elif begun:
                assert await guest.receive() is None
                assert guest.closed is not None
                assert guest.closed.code == 1011
            else:
                await clients[-1].send("whole")
                assert await guest.receive() == "whole"
            begun.clear()
            await clients[-1].close()
            if cancelled:
                clients.append(await lapwing.AsyncClient().connect(url(server)))

        clients.append(await lapwing.AsyncClient().connect(url(server)))
        assert await cancel_everywhere(send, check, at_once=at_once) >= 3


async def test_one_reader_at_a_time(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        receiving = asyncio.create_task(_received(ws))
        await steps()
        with pytest.raises(RuntimeError, match="another task"):
            await ws.receive_stream()
        with pytest.raises(RuntimeError, match="another task"):
            await ws.receive_many()
        peer.send_frame(wire.TEXT, b"x")
        assert await receiving == "x"


async def _received(ws: Any) -> Any:
    return await ws.receive()


async def test_closing_a_stream_that_is_waited_for(listen: Listen) -> None:
    async with facing_server(listen) as (ws, peer):
        peer.send_frame(wire.TEXT, b"x", fin=False)
        stream = await ws.receive_stream()
        assert stream is not None
        assert await anext(stream) == "x"
        waiting = asyncio.create_task(next_of(stream))
        await steps()
        stream.close()
        assert await waiting is None
        peer.send_frame(wire.CONTINUATION, b"y")
        peer.send_frame(wire.TEXT, b"z")
        assert await ws.receive() == "z"


@IN_THREAD
async def test_a_plain_handler_reads_and_sends_in_pieces(face: Face, listen: Listen) -> None:
    def echo(ws: lapwing.BlockingConnection) -> None:
        while (stream := ws.receive_stream()) is not None:
            ws.send(stream, stream.opcode)

    async with listen(default=echo) as server, face.connected(url(server)) as ws:
        for message in ("ß" * 200_000, b"\x00\xff" * 200_000, "", b""):
            sending = asyncio.create_task(_sent(ws, message))
            assert await ws.receive() == message
            await sending


# --- memory ------------------------------------------------------------------------------------------------------

PROGRAM = """
import resource, sys, {module}
import lapwing
PIECE, COUNT = bytes({size}), {count}

def grown():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

{body}
"""

BLOCKING = """
with lapwing.connect(sys.argv[1], compression=False) as ws:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ws.send(PIECE for _ in range(COUNT))
    total = sum(len(piece) for piece in ws.receive_stream())
    print(total, grown())
"""

ASYNC = """
async def main():
    global before
    async with lapwing.connect(sys.argv[1], compression=False) as ws:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await ws.send(PIECE for _ in range(COUNT))
        total = 0
        async for piece in ws.receive_stream():
            total += len(piece)
        print(total, grown())

asyncio.run(main())
"""


@pytest.mark.parametrize("sizes", [(65536, 1024), (1, 100_000)])
async def test_memory_does_not_grow_with_the_message(face: Face, listen: Listen, sizes: tuple[int, int]) -> None:
    size, count = sizes

    async def handler(ws: lapwing.Connection) -> None:
        total = 0
        async for piece in ws.receive_stream():
            total += len(piece)
        assert total == size * count
        await ws.send(bytes(size) for _ in range(count))

    program = PROGRAM.format(
        module="time" if face.blocking else "asyncio", size=size, count=count, body=BLOCKING if face.blocking else ASYNC
    )
    async with listen(default=handler, compression=False) as server:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        done = await call(
            subprocess.run, [sys.executable, "-c", program, url(server)], capture_output=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        total, grown = map(int, done.stdout.split())
        assert total == size * count
        assert grown < 8 * 1024  # KiB
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 * 1024


async def test_a_reader_that_lags_stops_the_peer(listen: Listen) -> None:
    async with facing_server(listen, receive_buffer=4096, max_buffered=1000) as (ws, peer):
        size = 4 * HUGE

        def send() -> None:
            peer.send(wire.frame(wire.BINARY, bytes(size), key=bytes(4)))

        sending = asyncio.create_task(call(send))
        stream = await ws.receive_stream()
        assert stream is not None
        first = await anext(stream)
        assert isinstance(first, bytes)
        await steps(10)
        assert not sending.done()
        rest = sum([len(piece) async for piece in stream])
        await sending
        assert len(first) + rest == size


@IN_THREAD
@pytest.mark.parametrize("lagging", ["disconnect", "drop-oldest"])
async def test_broadcasts_to_a_thread_wait_for_the_end_of_its_message(listen: Listen, lagging: Any) -> None:
    go_on = threading.Event()

    def fragments() -> Iterator[str]:
        yield "one"
        assert go_on.wait(20)
        yield "two"

    def handler(ws: lapwing.BlockingConnection) -> None:
        ws.send(fragments())
        ws.receive()

    async with listen(default=handler, max_buffered=1000, lagging=lagging, **PLAIN) as server:
        with await call(RawPeer.connect, server.port) as peer:
            assert (await call(peer.read_frame)).payload == b"one"
            for number in range(3):
                server.broadcast(f"{number}" * 600)
            if lagging == "disconnect":
                await call(peer.expect_close, 1013)
                go_on.set()
                return
            go_on.set()
            found = [(await call(peer.read_frame)).payload for _ in range(5)]
            assert found == [b"two", b"", b"0" * 600, b"1" * 600, b"2" * 600]
            peer.send_close(1000)
            await call(peer.expect_close, 1000)
