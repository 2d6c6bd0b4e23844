"""Broadcasts to readers that lag: each policy, its budget, its time limit, and what is counted."""

from __future__ import annotations

import array
import asyncio
import ctypes
import mmap
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import pytest

import lapwing
from lapwing.broadcast.backlog import OVERHEAD
from tests.faces.callers import GUARD, IN_THREAD, call, steps, url
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import ServerThread, echo

Listen = Callable[..., Any]

#: One message: more of them than the kernel holds for a reader that does not read make it lag.
SIZE = 64 * 1024
BUDGET = 4 * SIZE
MANY = 200


def numbered(number: int, name: str = "") -> bytes:
    return f"{name}{number:>8}".encode().ljust(SIZE, b".")


def number_of(message: bytes) -> str:
    return message[:40].rstrip(b".").decode().replace(" ", "")


@asynccontextmanager
async def one_reader(listen: Listen, kind: str, **options: Any) -> AsyncIterator[tuple[Any, Any, RawPeer]]:
    """A server, its end of a connection whose handler waits, as a task or in a thread, and the peer's socket."""
    arrived: queue.SimpleQueue[Any] = queue.SimpleQueue()
    thread_may_end = threading.Event()
    task_may_end = asyncio.Event()

    async def task(ws: lapwing.Connection) -> None:
        arrived.put(ws)
        await task_may_end.wait()

    def thread(ws: lapwing.BlockingConnection) -> None:
        arrived.put(ws)
        thread_may_end.wait(GUARD)

    handler = task if kind == "task" else thread
    options = {"close_timeout": 0.2, "lag_budget": BUDGET, **options}
    async with listen(default=handler, **options) as server:
        try:
            with await call(RawPeer.connect, server.port, receive_buffer=65536) as peer:
                yield server, await call(arrived.get, timeout=GUARD), peer
        finally:
            thread_may_end.set()
            task_may_end.set()


async def read_up_to(peer: RawPeer, last: bytes) -> list[str]:
    """What comes up to a message, by number."""

    def read() -> list[str]:
        got: list[str] = []
        while not got or got[-1] != number_of(last):
            opcode, message = peer.read_message()
            assert opcode == wire.BINARY
            got.append(number_of(message))
        return got

    return await call(read)


KINDS = pytest.mark.parametrize("kind", ["task", pytest.param("thread", marks=IN_THREAD)])


@KINDS
async def test_drop_newest(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind, lagging="drop-newest") as (server, ws, peer):
        reached = [server.broadcast(numbered(number)) for number in range(MANY)]
        taken = [
            number for number, count in enumerate(reached) if count
        ]  # the kernel may take more after a dropped one
        assert taken[0] == 0
        assert ws.stats().dropped_broadcasts == server.stats().dropped_broadcasts == MANY - len(taken) > 0
        assert ws.stats().unsent_bytes < BUDGET + 2 * SIZE
        assert await read_up_to(peer, numbered(taken[-1])) == [str(number) for number in taken]
        while server.broadcast(b"caught up") == 0:
            await asyncio.sleep(0)
        assert await call(peer.read_message) == (wire.BINARY, b"caught up")


@KINDS
@pytest.mark.parametrize("context_takeover", [None, True], ids=["uncompressed", "takeover"])
async def test_drop_oldest(listen: Listen, kind: str, context_takeover: bool | None) -> None:
    options: dict[str, Any] = {"compression": False}
    if context_takeover:  # the peer asks for none: the messages are prepared for it as for the others
        options["compression"] = lapwing.Deflate(context_takeover=True)
    async with one_reader(listen, kind, lagging="drop-oldest", **options) as (server, ws, peer):
        assert [server.broadcast(numbered(number)) for number in range(MANY)] == [1] * MANY
        dropped = ws.stats().dropped_broadcasts
        assert dropped > 0
        assert ws.stats().unsent_bytes < BUDGET
        got = await read_up_to(peer, numbered(MANY - 1))
        assert len(got) == MANY - dropped
        numbers = [int(number) for number in got]
        assert numbers == sorted(set(numbers))  # in order, none twice
        assert server.stats().dropped_broadcasts == dropped
        assert server.broadcast(b"caught up") == 1
        assert await call(peer.read_message) == (wire.BINARY, b"caught up")


@KINDS
async def test_what_waits_for_a_reader_is_held(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind, lagging="drop-oldest", compression=False) as (server, ws, peer):
        for number in range(MANY):
            server.broadcast(numbered(number))
        held = ws.stats().held_bytes
        assert held == server.stats().held_bytes == ws._sample()[9]
        assert BUDGET - 2 * SIZE <= held <= BUDGET + SIZE
        await read_up_to(peer, numbered(MANY - 1))
        while ws.stats().held_bytes or server.stats().held_bytes:
            await asyncio.sleep(0)


@KINDS
async def test_keep_latest(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind, lagging="keep-latest") as (server, ws, peer):
        for number in range(MANY):
            for name in ("a", "b"):
                assert server.broadcast(numbered(number, name), key=name) == 1
        dropped = ws.stats().dropped_broadcasts
        got = await read_up_to(peer, numbered(MANY - 1, "b"))
        assert got[-2:] == [f"a{MANY - 1}", f"b{MANY - 1}"]
        assert len(got) == 2 * MANY - dropped


@KINDS
async def test_a_reader_that_lags_for_too_long(listen: Listen, kind: str) -> None:
    """It is closed though nothing more is sent to it."""
    async with one_reader(listen, kind, lagging="drop-oldest", lag_timeout=0.05) as (server, ws, _):
        held = -1
        while ws.closed is None:
            if ws.stats().held_bytes != held:  # the kernel has taken more: perhaps the reader lags no longer
                dropped = ws.stats().dropped_broadcasts
                while ws.stats().dropped_broadcasts == dropped and ws.closed is None:
                    server.broadcast(numbered(0))
                held = ws.stats().held_bytes
            await asyncio.sleep(0.001)
        assert ws.closed == (False, 1013, "slow consumer: broadcasts arrive faster than they are read")
        assert server.broadcast(b"nobody is left") == 0


@KINDS
async def test_a_reader_that_catches_up_in_time_stays(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind, lagging="drop-newest", lag_timeout=GUARD) as (server, ws, peer):
        for _ in range(2):
            sent = 0
            while server.broadcast(numbered(sent)):
                sent += 1
            await read_up_to(peer, numbered(sent - 1))
            while server.broadcast(b"again") == 0:
                await asyncio.sleep(0)
            assert await call(peer.read_message) == (wire.BINARY, b"again")
        assert ws.closed is None


@KINDS
async def test_a_policy_for_one_call(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind) as (server, ws, _):
        while ws.stats().dropped_broadcasts == 0:
            server.broadcast(numbered(0), lagging="drop-oldest")
        dropped = ws.stats().dropped_broadcasts
        while server.broadcast(numbered(1), lagging="drop-newest"):  # there may be room for one more
            pass
        assert ws.stats().dropped_broadcasts == dropped + 1
        if kind == "thread":
            while await call(ws.broadcast, numbered(1), lagging="drop-newest"):  # the kernel may take more meanwhile
                pass
        else:
            assert ws.broadcast(numbered(1), lagging="drop-newest") == 0
        while server.broadcast(numbered(2)):  # the server's own: disconnect
            pass
        assert ws.closed == (False, 1013, "slow consumer: broadcasts arrive faster than they are read")


async def test_one_slow_reader_stops_nobody(listen: Listen) -> None:
    async with one_reader(listen, "task", lagging="drop-newest") as (server, _, _slow):
        with await call(RawPeer.connect, server.port) as eager:
            while len(server.connections) < 2:
                await steps()
            for number in range(MANY):
                server.broadcast(numbered(number))
                assert await call(eager.read_message) == (wire.BINARY, numbered(number))
        assert server.stats().dropped_broadcasts > 0


Form = Callable[..., Awaitable[int]]


def forms_of_broadcast(server: Any, ws: Any) -> dict[str, Form]:
    """Every way to broadcast, awaited."""

    async def at_once(*args: Any, **how: Any) -> int:
        return int(server.broadcast(*args, **how))

    async def of_connection(*args: Any, **how: Any) -> int:
        return int(await call(ws.broadcast, *args, **how) if in_thread else ws.broadcast(*args, **how))

    async def threadsafe(*args: Any, **how: Any) -> int:
        return int(await asyncio.wrap_future(server.broadcast_threadsafe(*args, **how)))

    in_thread = isinstance(ws, lapwing.BlockingConnection)
    return {"server": at_once, "connection": of_connection, "threadsafe": threadsafe}


@KINDS
async def test_every_buffer_that_send_takes(listen: Listen, kind: str) -> None:
    mapped = mmap.mmap(-1, mmap.PAGESIZE)
    messages: list[Any] = [
        array.array("d", [0.5, 2]),
        mapped,
        (ctypes.c_ushort * 2)(1, 2),
        memoryview(b"0123").cast("B", (2, 2)),
    ]
    async with one_reader(listen, kind) as (server, ws, peer):
        for form in forms_of_broadcast(server, ws).values():
            for message in messages:
                assert await form(message) == 1
                assert await call(peer.read_message) == (wire.BINARY, memoryview(message).tobytes())
            with pytest.raises(BufferError, match="contiguous"):
                await form(memoryview(b"a-b-c")[::2])


@KINDS
@pytest.mark.parametrize("lagging", [None, "keep-latest"])
async def test_a_key_that_is_not_hashable(listen: Listen, kind: str, lagging: Any) -> None:
    """It is refused before any connection gets the message, whether or not a reader lags."""
    async with one_reader(listen, kind) as (server, ws, peer):
        for form in forms_of_broadcast(server, ws).values():
            with pytest.raises(TypeError, match=r"expected key to be hashable.*got list: \['EURUSD'\]"):
                await form("x", lagging=lagging, key=["EURUSD"])
            assert await form("y", lagging=lagging, key=("EURUSD", 1)) == 1
            assert await call(peer.read_message) == (wire.TEXT, b"y")


async def test_wrong_policies(listen: Listen) -> None:
    async with listen(default=steps) as server:
        with pytest.raises(ValueError, match="'disconnect', 'drop-newest', 'drop-oldest', 'keep-latest', got 'drop'"):
            server.broadcast("x", lagging="drop")
    for options, said in (
        ({"lagging": "never"}, "expected lagging to be one of"),
        ({"lag_budget": 0}, "expected lag_budget to be 1 or more"),
        ({"lag_timeout": 0}, "expected lag_timeout to be more than 0 seconds"),
    ):
        with pytest.raises(ValueError, match=said):
            await listen(default=steps, **options)


@KINDS
async def test_broadcasts_of_nothing_behind_a_message_of_fragments(listen: Listen, kind: str) -> None:
    """They wait until it has ended, within the budget."""
    async with one_reader(listen, kind, lagging="drop-newest") as (server, ws, peer):
        may_end = threading.Event()

        async def fragments() -> AsyncIterator[bytes]:
            yield b"a"
            await call(may_end.wait, GUARD)
            yield b"b"

        def plain_fragments() -> Iterator[bytes]:
            yield b"a"
            may_end.wait(GUARD)
            yield b"b"

        sending = asyncio.create_task(
            ws.send(fragments()) if kind == "task" else call(ws.send, plain_fragments()),
        )
        frame = await call(peer.read_frame)
        assert (frame.fin, frame.payload) == (False, b"a")
        reached = sum(server.broadcast(b"") for _ in range(2 * BUDGET // OVERHEAD))
        assert 0 < reached <= BUDGET // OVERHEAD
        assert ws.stats().held_bytes <= BUDGET + SIZE
        may_end.set()
        await sending
        rest = [(await call(peer.read_frame)).payload for _ in range(2)]
        assert rest == [b"b", b""]
        for _ in range(reached):
            assert await call(peer.read_message) == (wire.BINARY, b"")


# --- to a set of connections -------------------------------------------------------------------------------------


@asynccontextmanager
async def several_readers(listen: Listen, kind: str, count: int) -> AsyncIterator[tuple[Any, list[Any], list[RawPeer]]]:
    """A server, its ends of some connections, and their peers in the same order."""
    async with one_reader(listen, kind) as (server, ws, peer):
        ends, peers = [ws], [peer]
        with ExitStack() as stack:
            while len(ends) < count:
                peers.append(stack.enter_context(await call(RawPeer.connect, server.port)))
                while len(server.connections) < len(peers):
                    await steps()
                ends += server.connections - set(ends)
            yield server, ends, peers


@KINDS
async def test_to_a_set_of_connections(listen: Listen, kind: str) -> None:
    async with several_readers(listen, kind, 3) as (server, ends, peers):
        first, second, third = ends
        assert server.broadcast("two", to={first, third}) == 2
        assert server.broadcast("list", to=[second, second]) == 1  # each once
        assert server.broadcast("generator", to=(ws for ws in (second,))) == 1
        assert server.broadcast("none", to=()) == server.broadcast("none", to=set()) == 0
        assert await asyncio.wrap_future(server.broadcast_threadsafe("threadsafe", to=iter([second]))) == 1
        assert server.broadcast("all") == 3
        got: list[list[str]] = []
        for peer in peers:
            got.append([])
            while not got[-1] or got[-1][-1] != "all":
                got[-1].append((await call(peer.read_message))[1].decode())
    assert got == [["two", "all"], ["list", "generator", "threadsafe", "all"], ["two", "all"]]


@KINDS
async def test_a_closed_connection_in_the_set_is_left_out(listen: Listen, kind: str) -> None:
    async with several_readers(listen, kind, 2) as (server, ends, peers):
        ends[1].abort()
        assert server.broadcast("x", to=ends) == 1
        assert await call(peers[0].read_message) == (wire.TEXT, b"x")


async def test_a_set_and_a_subprotocol(listen: Listen) -> None:
    arrived: asyncio.Queue[lapwing.Connection] = asyncio.Queue()

    async def handler(ws: lapwing.Connection) -> None:
        arrived.put_nowait(ws)
        await ws.receive()

    async with listen(protocols={"a": handler, "b": handler}) as server:
        async with lapwing.connect(url(server), "a") as a, lapwing.connect(url(server), "b"):
            ends = [await arrived.get(), await arrived.get()]
            assert server.broadcast("x", to=ends, protocol="a") == 1
            assert await a.receive() == "x"


async def test_a_set_across_servers_of_one_event_loop(listen: Listen) -> None:
    """Such as one with TLS and one without, or one on a unix socket."""
    async with (
        one_reader(listen, "task") as (server, ws, peer),
        one_reader(listen, "task") as (_, other_ws, other_peer),
    ):
        assert server.broadcast("x", to={ws, other_ws}) == 2
        for each in (peer, other_peer):
            assert await call(each.read_message) == (wire.TEXT, b"x")


async def test_what_is_no_set_of_connections(listen: Listen) -> None:
    """It is refused before any connection gets the message."""
    async with one_reader(listen, "task") as (server, ws, peer):
        async with lapwing.connect(url(server)) as client:
            for to, kind, said in (
                (ws, TypeError, r"write to=\[connection\]"),
                (7, TypeError, "not iterable"),
                ([ws, "other"], TypeError, "expected connections to broadcast to, got str: 'other'"),
                ([ws, client], ValueError, "expected connections of servers in this event loop"),
            ):
                with pytest.raises(kind, match=said):
                    server.broadcast("x", to=to)
                with pytest.raises(kind, match=said):
                    server.broadcast_threadsafe("x", to=to)
        assert server.broadcast("y", to=[ws]) == 1
        assert await call(peer.read_message) == (wire.TEXT, b"y")


def test_a_set_with_a_connection_of_another_event_loop(runtime: Any) -> None:
    with ServerThread(runtime, default=echo) as elsewhere, RawPeer.connect(elsewhere.port) as peer:
        peer.send_frame(wire.TEXT, b"echo")
        assert peer.read_message() == (wire.TEXT, b"echo")
        [there] = elsewhere.server.connections

        async def here() -> None:
            async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
                with pytest.raises(ValueError, match="expected connections of servers in this event loop"):
                    server.broadcast("x", to=[there])

        asyncio.run(here())


@KINDS
async def test_a_policy_for_a_set(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind) as (server, ws, _):
        while server.broadcast(numbered(0), to=[ws], lagging="drop-newest"):
            pass
        assert ws.stats().dropped_broadcasts == 1
        assert ws.closed is None


@IN_THREAD
async def test_a_room_of_handlers_in_tasks_and_threads(listen: Listen) -> None:
    """Handlers keep a set of connections, and reach the server by them."""
    room: set[Any] = set()

    async def task(ws: lapwing.Connection) -> None:
        room.add(ws)
        async for message in ws:
            ws.server.broadcast(f"task: {message!s}", to=room)

    def thread(ws: lapwing.BlockingConnection) -> None:
        room.add(ws)
        for message in ws:
            ws.server.broadcast_threadsafe(f"thread: {message!s}", to=room).result(GUARD)

    async with listen(protocols={"task": task, "thread": thread}) as server:
        async with (
            lapwing.connect(url(server), "task") as first,
            lapwing.connect(url(server), "thread") as second,
            lapwing.connect(url(server), "task"),
        ):
            while len(room) < 3:
                await asyncio.sleep(0)
            for sender, said in ((first, "task: hello"), (second, "thread: hello")):
                await sender.send("hello")
                assert await first.receive() == await second.receive() == said
