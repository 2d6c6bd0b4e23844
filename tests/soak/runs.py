"""The endurance runs, of any size. Each fails with an AssertionError, or returns a line that says what was measured."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import lapwing
from tests.peers.raw import RawListener
from tests.soak.aborts import CLIENTS, SERVERS, connect_and_abort
from tests.soak.child import Answer, Child
from tests.soak.memory import Held, check_flat, check_idle

MIB = 1024 * 1024


def aborting_clients(cycles: int, *options: str) -> str:
    """Clients that break off in every way, by hand, against a lapwing server: it ends up as it began.

    Args:
        cycles: how many.
        options: of the server: "portable", "transport", "adopting".
    """
    warm_up = max(len(CLIENTS) * 40, cycles // 10)
    with Child("server", *(f"--{option}" for option in options)) as server:
        port = server.ask("start")["port"]
        connect_and_abort(port, warm_up)
        before = _idle(server.ask("settle"))
        began = time.monotonic()
        connect_and_abort(port, cycles)
        took = time.monotonic() - began
        after = _idle(server.ask("settle"))
        _greet(port)
    check_flat(before, after)
    kind = " ".join([*options, "server"])
    return f"{kind}, {cycles} clients that break off, {took:.1f} s: {_change(before, after)}"


def aborting_server(cycles: int, *, asyncio: bool) -> str:
    """A server that breaks off in every way, by hand, against lapwing clients: their process ends up as it began."""
    warm_up = max(len(SERVERS) * 20, cycles // 10)
    what = "come and go, asyncio" if asyncio else "come and go"
    with RawListener() as listener, Child("clients") as clients, ThreadPoolExecutor(1) as pool:

        def serve(count: int) -> None:
            for number in range(count):
                with listener.accept_bare() as peer:
                    SERVERS[number % len(SERVERS)](peer)

        def run(count: int) -> Held:
            served = pool.submit(serve, count)
            clients.begin(what, url=listener.url, cycles=count)
            served.result()
            answer = clients.answer()
            talking = sum(way.__name__.startswith("serves") for way in SERVERS)
            assert answer["answered"] >= count // len(SERVERS) * talking, answer
            assert not answer.get("complaints"), answer["complaints"]
            return Held(*answer["held"])

        before = run(warm_up)
        began = time.monotonic()
        after = run(cycles)
        took = time.monotonic() - began
    check_flat(before, after)
    kind = "asyncio" if asyncio else "blocking"
    return f"{kind} client, {cycles} servers that break off, {took:.1f} s: {_change(before, after)}"


def crowds(size: int, *, processes: int = 2, rounds: int = 3) -> list[str]:
    """Clients in several processes, all connected at a time and echoed, then killed at once, so many times.

    What is in use returns each time, and does not grow from one time to the next. What the system counts as resident
    returns in part only: a few objects that stay keep whole arenas of Python's allocator. It must not grow beyond what
    the first crowd took.
    """
    report = []
    with Child("server") as server:
        started = server.ask("start")
        assert started["allowed"] > size + 100, f"{size} clients need more descriptors than {started['allowed']}"
        port = started["port"]
        _greet(port)
        idle = [_idle(server.ask("settle"))]
        first = idle[0]
        peaks = []
        for number in range(1, rounds + 1):
            began = time.monotonic()
            with ExitStack() as stack:
                loads = [stack.enter_context(Child("clients")) for _ in range(processes)]
                for load in loads:
                    load.begin("crowd", port=port, size=size // processes)
                assert [load.answer()["echoed"] for load in loads] == [size // processes] * processes
                took = time.monotonic() - began
                crowded = server.ask("count")
                assert crowded["connections"] == size // processes * processes
                for load in loads:
                    load.kill()
            _greet(port)
            after = _idle(server.ask("settle"))
            peaks.append(Held(*crowded["held"]))
            each = (peaks[-1].resident - first.resident) / size
            report.append(
                f"round {number}: {crowded['connections']} clients connected and echoed in {took:.1f} s, "
                f"{each / 1024:.2f} KiB of the server's memory each; after they were killed: {_change(first, after)}"
            )
            _check_returned(first, after, size)
            assert after.resident < peaks[0].resident + MIB, (peaks[0], after)
            if number > 2:  # the second crowd still meets tables that are about to grow
                _check_no_growth(idle[-1], after, size)
            idle.append(after)
    return report


def idle_with_and_without_compression(size: int, *, browsers: bool = False) -> str:
    """Connections that have compressed and are idle now cost hardly more than ones that did not agree to compress.

    Args:
        size: connections.
        browsers: whether the clients offer what browsers offer.
    """
    crowd = {"size": size, "length": 2000, "browsers": browsers}
    each = {}
    for argument in ("--uncompressed", "--compressed"):
        with Child("server", argument) as server, Child("clients") as clients, Child("clients") as first:
            port = server.ask("start")["port"]
            # What all connections share is there before the first is counted.
            assert first.ask("crowd", port=port, **crowd)["echoed"] == size
            before = Held(*server.ask("count")["held"])
            assert clients.ask("crowd", port=port, **crowd)["echoed"] == size
            after = Held(*server.ask("count")["held"])
            each[argument] = [
                (after.allocated - before.allocated) / size,
                (after.blocks - before.blocks) / size,
                (after.resident - before.resident) / size,
            ]
    without, compressed = each["--uncompressed"], each["--compressed"]
    # What was allocated is exact; what is resident comes in pages and arenas.
    assert compressed[0] <= 1.1 * without[0] + 64, each
    assert compressed[1] <= 1.1 * without[1] + 0.5, each
    assert compressed[2] <= 1.1 * without[2] + 1024, each
    return (
        f"{size} idle {'browsers' if browsers else 'clients'}: {without[2] / 1024:.2f} KiB each without compression, "
        f"{compressed[2] / 1024:.2f} with; blocks {without[1]:.1f} and {compressed[1]:.1f}"
    )


def _check_returned(before: Held, after: Held, size: int) -> None:
    """What a crowd took is given back; what is left are tables that do not shrink, and free lists of a fixed length."""
    check_idle(before, after)
    assert after.blocks - before.blocks < 1_500 + size // 10, (before, after)
    assert after.allocated - before.allocated < 256 * 1024 + 512 * size, (before, after)


def _check_no_growth(before: Held, after: Held, size: int) -> None:
    """Another crowd left nothing more behind: not one object for every tenth client."""
    assert after.blocks - before.blocks < 100 + size // 10, (before, after)
    assert after.allocated - before.allocated < 256 * 1024, (before, after)


def _idle(answer: Answer) -> Held:
    assert answer["connections"] == 0, answer
    assert answer["complaints"] == [], answer
    return Held(*answer["held"])


def _greet(port: int) -> None:
    """A new client is served."""
    with lapwing.connect(f"ws://127.0.0.1:{port}", timeout=30) as ws:
        ws.send("hello")
        assert ws.receive() == "hello"


def _change(before: Held, after: Held) -> str:
    return (
        f"memory {before.resident / MIB:.2f} -> {after.resident / MIB:.2f} MiB, "
        f"allocated {(after.allocated - before.allocated) / 1024:+.1f} KiB, "
        f"blocks {after.blocks - before.blocks:+d}, "
        f"descriptors {before.descriptors} -> {after.descriptors}, watched {before.watched} -> {after.watched}, "
        f"tasks {before.tasks} -> {after.tasks}"
    )
