"""Many threads at whatever threads may share, at once.

On every build of Python; without the GIL they run in parallel indeed, and what has no lock of its own breaks here. The
work is bounded, not the time.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

import lapwing
from lapwing import testing
from lapwing.protocol import Endpoint, MaskingKeys, Role, apply_mask
from lapwing.protocol.compression import PerMessageDeflate
from tests.conftest import RUNTIMES
from tests.faces.callers import FREE_THREADED, GUARD
from tests.faces.programs import program
from tests.peers.servers import ServerThread, echo

THREADS = 6
MESSAGES = 100
RUNTIME = next(iter(RUNTIMES.values()))

#: Compressed, for its length, and not.
LONG = "a message that is worth compressing " * 60


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Where there is a GIL, threads take turns much more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def at_once(*work: Callable[[], Any]) -> list[Any]:
    """Call each function in a thread of its own, all at the same moment; returns what they return."""
    barrier = threading.Barrier(len(work))

    def begin(task: Callable[[], Any]) -> Any:
        barrier.wait(GUARD)
        return task()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result(3 * GUARD) for future in [pool.submit(begin, task) for task in work]]


def test_masking_keys() -> None:
    """No key is given to two threads."""
    numbers = count()
    keys = MaskingKeys(lambda size: b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4)))
    taken = at_once(*[lambda: [keys.next() for _ in range(5000)]] * THREADS)
    assert len(set().union(*taken)) == THREADS * 5000


def test_masking_keys_of_many_clients() -> None:
    """Frames that are masked in many threads at once are whole, and no key comes twice."""

    def work() -> list[bytes]:
        keys = []
        for number in range(20):
            end = Endpoint(Role.CLIENT)
            for _ in range(100):
                end.send(str(number))
                frame = end.data_to_send()
                keys.append(frame[2:6])
                assert apply_mask(frame[6:], frame[2:6]) == str(number).encode()
        return keys

    every = Counter(key for keys in at_once(*[work] * THREADS) for key in keys)
    # Of 12,000 random numbers of 32 bits two are equal in one of 60 runs, and more than three pairs never.
    assert sum(times - 1 for times in every.values()) <= 3


def test_compressors() -> None:
    """Compressors that all threads borrow compress one message at a time."""
    codec = PerMessageDeflate(
        keeps_outgoing=False,
        keeps_incoming=False,
        outgoing_window_bits=12,
        incoming_window_bits=15,
        level=None,
        memory_level=5,
        threshold=0,
    )

    def work(thread: int) -> None:
        for number in range(MESSAGES):
            message = f"{thread} {number} ".encode() * (40 if number % 2 else 2000)
            deflated = codec.compressed(message)
            assert deflated is not None
            assert zlib.decompressobj(-15).decompress(deflated + b"\x00\x00\xff\xff") == message

    at_once(*[lambda thread=thread: work(thread) for thread in range(THREADS)])


def test_event_loops_in_threads() -> None:
    """Every thread has a server and clients of its own, and what they share is the module."""

    def work() -> lapwing.stats.ServerStats:
        async def talk(url: str, number: int) -> None:
            async with lapwing.connect(url, timeout=GUARD) as ws:
                for _ in range(MESSAGES):
                    message = f"{number} {LONG if number % 2 else ''}"
                    await ws.send(message)
                    assert await ws.receive() == message

        async def main() -> lapwing.stats.ServerStats:
            async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
                await asyncio.gather(*[talk(f"ws://127.0.0.1:{server.port}", number) for number in range(4)])
            return server.stats()

        return asyncio.run(main())

    for stats in at_once(*[work] * THREADS):
        assert (stats.messages_received, stats.messages_sent, stats.opened) == (4 * MESSAGES, 4 * MESSAGES, 4)


def exchange(ws: lapwing.BlockingConnection) -> None:
    """Have many threads send while one receives: every message comes back once, and those of a thread in order.

    They send whole messages and fragments; others ping, and look at what is counted.
    """
    came: list[str] = []

    def send(thread: int) -> None:
        for number in range(MESSAGES):
            text = f"{thread} {number} {LONG if number % 3 == 0 else ''}"
            ws.send([text[:2], text[2:]] if number % 10 == 0 else text)

    def receive() -> None:
        for _ in range(THREADS * MESSAGES):
            message = ws.receive(timeout=GUARD)
            assert isinstance(message, str)
            came.append(message)

    def look() -> None:
        for _ in range(MESSAGES):
            stats = ws.stats()
            assert 0 <= stats.messages_received <= THREADS * MESSAGES
            assert 0 <= stats.unsent_bytes <= stats.held_bytes < 2**32
            assert (ws.closed, ws.path) == (None, "/")
            repr(ws)

    def ping() -> None:
        for _ in range(MESSAGES // 10):
            assert ws.ping(timeout=GUARD) >= 0

    senders = [lambda thread=thread: send(thread) for thread in range(THREADS)]
    at_once(receive, look, ping, *senders)
    order: dict[str, list[int]] = {}
    for message in came:
        thread, number, rest = message.split(" ", 2)
        assert rest in ("", LONG)
        order.setdefault(thread, []).append(int(number))
    assert order == {str(thread): list(range(MESSAGES)) for thread in range(THREADS)}


#: As many bytes of messages may wait in front of a pong.
ROOM = 2**24


@pytest.mark.parametrize("options", [{}, {"compression": lapwing.Deflate(context_takeover=True)}], ids=["", "context"])
def test_one_blocking_client(options: dict[str, Any]) -> None:
    with (
        ServerThread(RUNTIME, default=echo, **options) as server,
        lapwing.connect(server.url, max_buffered=ROOM, **options) as ws,
    ):
        exchange(ws)
        assert ws.stats().messages_received == THREADS * MESSAGES


def test_one_blocking_client_over_tls(tls: Any) -> None:
    options = {"certfile": tls.good.certfile, "keyfile": tls.good.keyfile}
    with ServerThread(RUNTIME, default=echo, **options) as server:
        with lapwing.connect(server.url, ssl=tls.client_context(), max_buffered=ROOM) as ws:
            exchange(ws)


def test_a_handler_in_a_thread_and_its_event_loop() -> None:
    """The loop broadcasts, counts and closes, while handlers in threads talk, and others broadcast through it."""
    rounds = 30

    def handler(ws: lapwing.BlockingConnection) -> None:
        for message in ws:
            ws.send(message)
            ws.broadcast("to all")

    def talk(url: str) -> int:
        with lapwing.connect(url, timeout=GUARD) as ws:
            for number in range(rounds):
                ws.send(f"own {number} {LONG}")
            own = others = 0
            while own < rounds:
                message = ws.receive()
                assert isinstance(message, str)
                if message.startswith("own"):
                    assert message == f"own {own} {LONG}"
                    own += 1
                else:
                    assert message in ("to all", "from the side")
                    others += 1
            return others

    with ServerThread(RUNTIME, default=handler) as server:

        def from_the_side() -> None:
            for _ in range(rounds):
                server.server.broadcast_threadsafe("from the side").result(GUARD)
                assert server.server.stats().opened <= THREADS

        heard = at_once(from_the_side, *[lambda: talk(server.url)] * THREADS)[1:]
        assert all(heard)


def test_an_asyncio_connection_from_other_threads() -> None:
    """Threads send through a connection of a loop that talks itself, and look at what is counted."""

    def look(connection: Any, done: threading.Event) -> int:
        seen = 0
        while not done.is_set():
            stats = connection.stats()
            assert stats.held_bytes < 2**32
            assert stats.unsent_bytes < 2**32
            assert stats.messages_received >= seen
            seen = stats.messages_received
            latency = getattr(connection, "latency", None)
            assert latency is None or 0 <= latency < GUARD
        return seen

    def send(ws: lapwing.AsyncClient, thread: int) -> None:
        futures = [ws.send_threadsafe(f"{thread} {number} {LONG}") for number in range(MESSAGES)]
        for future in futures:
            future.result(GUARD)

    async def ping(ws: lapwing.AsyncClient) -> None:
        for _ in range(MESSAGES):
            assert await ws.ping() >= 0

    async def main() -> None:
        done = threading.Event()
        async with (
            lapwing.listen(0, "127.0.0.1", default=echo, **RUNTIME.options) as server,
            lapwing.connect(f"ws://127.0.0.1:{server.port}", timeout=GUARD) as ws,
        ):
            looking = [asyncio.create_task(asyncio.to_thread(look, target, done)) for target in (ws, server)]
            pinging = asyncio.create_task(ping(ws))
            sending = [asyncio.create_task(asyncio.to_thread(send, ws, thread)) for thread in range(THREADS)]
            came = Counter([await ws.receive() for _ in range(THREADS * MESSAGES)])
            await asyncio.gather(*sending, pinging)
            done.set()
            await asyncio.gather(*looking)
            assert came == {f"{thread} {number} {LONG}": 1 for thread in range(THREADS) for number in range(MESSAGES)}

    asyncio.run(main())


def test_clients_that_other_threads_let_go_of() -> None:
    """Nobody closes them, and the last reference goes while the loop is at work: they are closed and warned of.

    At once where there is a GIL; else at the next look whether anybody holds them, some seconds later.
    """

    async def main() -> None:
        async with (
            lapwing.listen(0, "127.0.0.1", default=echo, **RUNTIME.options) as server,
            lapwing.connect(f"ws://127.0.0.1:{server.port}", timeout=GUARD) as busy,
        ):
            holders = [[await lapwing.connect(f"ws://127.0.0.1:{server.port}")] for _ in range(4 * THREADS)]
            # Each has something to read when it goes.
            server.broadcast("to all")
            letting_go = asyncio.create_task(asyncio.to_thread(at_once, *[holder.clear for holder in holders]))
            assert await busy.receive() == "to all"
            for number in range(MESSAGES):
                await busy.send(f"{number}")
                assert await busy.receive() == f"{number}"
            await letting_go
            await asyncio.sleep(2 * GUARD)
            assert len(server.connections) == 1

    with pytest.warns(ResourceWarning, match="never closed") as warned:
        testing.run(main())
    assert len(warned) == 4 * THREADS


def test_a_connection_that_one_variable_holds_stays() -> None:
    """Where there is no GIL the reactor asks, after a time, whether anybody holds it: one reference is enough."""

    async def main() -> None:
        async with lapwing.listen(0, "127.0.0.1", default=echo, **RUNTIME.options) as server:
            ws = await lapwing.connect(f"ws://127.0.0.1:{server.port}")
            await asyncio.sleep(3 * GUARD)
            await ws.send("still here")
            assert await ws.receive() == "still here"
            await ws.close()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")  # an error would keep it open
        testing.run(main())
    assert [str(warning.message) for warning in caught] == []


def test_another_threads_send_is_refused() -> None:
    """In debug mode; without the GIL always, because it would do damage."""

    async def main() -> None:
        async with (
            lapwing.listen(0, "127.0.0.1", default=echo) as server,
            lapwing.connect(f"ws://127.0.0.1:{server.port}") as ws,
        ):
            with pytest.raises(RuntimeError, match="send_threadsafe"):
                await asyncio.to_thread(lambda: ws.send("from elsewhere").close())

    asyncio.run(main(), debug=not FREE_THREADED)


def test_the_gil_stays_as_it_is() -> None:
    """No module of lapwing's, nor any that it stands on, turns the GIL on again: everything is imported and used."""
    with program(KEEPS) as process:
        said, complaints = process.communicate(timeout=3 * GUARD)
    assert process.returncode == 0, complaints
    assert said.split() == [str(FREE_THREADED)]


KEEPS = """
import asyncio, importlib, pkgutil, sys, warnings
warnings.simplefilter("error")
import lapwing

def has_gil():
    return getattr(sys, "_is_gil_enabled", lambda: True)()

begun = has_gil()
for module in pkgutil.walk_packages(lapwing.__path__, "lapwing."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)

async def echo(ws):
    async for message in ws:
        await ws.send(message)

def talk(url):
    with lapwing.connect(url) as ws:
        ws.send("compressed " * 200)
        assert ws.receive() == "compressed " * 200

async def main():
    async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
        url = f"ws://127.0.0.1:{server.port}"
        await asyncio.to_thread(talk, url)
        async with lapwing.connect(url) as ws:
            await ws.send("compressed " * 200)
            assert await ws.receive() == "compressed " * 200

asyncio.run(main())
assert has_gil() == begun, "something turned the GIL on"
print(not has_gil())
"""
