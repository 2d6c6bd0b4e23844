"""Broadcasts to readers that lag: each policy, its budget, its time limit, and what is counted."""

from __future__ import annotations

import array
import asyncio
import ctypes
import mmap
import queue
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import lapwing
from lapwing.protocol.prepared import Prepared
from lapwing.serving.broadcasting import OVERHEAD, Broadcast
from tests.faces.callers import GUARD, call, steps
from tests.peers import wire
from tests.peers.raw import RawPeer

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


KINDS = pytest.mark.parametrize("kind", ["task", "thread"])


@KINDS
async def test_drop_newest(listen: Listen, kind: str) -> None:
    async with one_reader(listen, kind, lagging="drop-newest") as (server, ws, peer):
        reached = [server.broadcast(numbered(number)) for number in range(MANY)]
        taken = reached.index(0)
        assert reached == [1] * taken + [0] * (MANY - taken)
        assert ws.stats().dropped_broadcasts == server.stats().dropped_broadcasts == MANY - taken
        assert ws.stats().unsent_bytes < BUDGET + 2 * SIZE
        assert await read_up_to(peer, numbered(taken - 1)) == [str(number) for number in range(taken)]
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
        while ws.stats().dropped_broadcasts == 0:
            server.broadcast(numbered(0))
        while ws.closed is None:
            await asyncio.sleep(0.001)
        assert ws.closed == (False, 1013, "too slow for what is sent to all")
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
        assert ws.closed == (False, 1013, "too slow for what is sent to all")


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


@pytest.mark.parametrize("kind", ["task", "thread"])
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


@pytest.mark.parametrize("kind", ["task", "thread"])
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


def test_policies_that_meet_in_one_backlog() -> None:
    """What waits under one policy counts for another's budget, and may be dropped for it."""

    def offer(text: str, lagging: Any, now: float = 0.0, seconds: float | None = None) -> bool:
        message = Prepared(text.ljust(1000 - OVERHEAD))
        return Broadcast(message, lagging, 10_000, seconds, "key").offer(backlog, 5000, now)

    backlog = Broadcast(Prepared("x"), "drop-oldest", 10_000, None).backlog(0.0)
    assert all(offer(str(number), "drop-oldest") for number in range(6))
    assert (backlog.size, backlog.dropped) == (5000, 1)
    assert not offer("new", "drop-newest")
    assert backlog.dropped == 2
    assert offer("latest", "keep-latest")
    assert offer("later", "keep-latest", 1.0, 5.0)
    assert (backlog.size, backlog.dropped) == (5000, 4)
    waiting = []
    while (prepared := backlog.take()) is not None:
        waiting.append(str(prepared.message).strip())
    assert waiting == ["2", "3", "4", "5", "later"]
    assert offer("room", "drop-newest", 4.9)
    assert not backlog.is_hopeless
    assert not offer("late", "drop-oldest", 5.0)
    assert backlog.is_hopeless


@pytest.mark.parametrize("lagging", ["drop-newest", "drop-oldest", "keep-latest"])
@pytest.mark.parametrize("payload", [b"", b"1"])
def test_messages_of_next_to_nothing_are_bounded(lagging: Any, payload: bytes) -> None:
    """What keeps a message costs memory, whatever the message has: a reader that never reads costs its budget."""
    message = Prepared(payload)
    backlog = Broadcast(message, lagging, BUDGET, None).backlog(0.0)
    for number in range(2 * BUDGET // OVERHEAD):
        Broadcast(message, lagging, BUDGET, None, number).offer(backlog, 0, 0.0)
    assert backlog.size <= BUDGET + OVERHEAD
    count = 0
    while backlog.take() is not None:
        count += 1
    assert 0 < count <= BUDGET // OVERHEAD
    assert backlog.size == 0


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
