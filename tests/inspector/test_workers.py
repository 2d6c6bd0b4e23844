"""The live page of several workers: whichever serves it, it shows the connections of all."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import lapwing
from lapwing.inspector.others import STRIDE, merged
from lapwing.inspector.relay import write_message
from lapwing.serving.siblings import Siblings, make_directory, remove_directory
from tests.faces.callers import GUARD
from tests.faces.programs import program
from tests.inspector.test_live import PATIENCE, TOKEN, Page, _url, live_page, watching
from tests.peers.servers import echo


@asynccontextmanager
async def workers(count: int = 2) -> AsyncIterator[list[lapwing.Server]]:
    """Servers that are workers of one program, in this process."""
    directory = make_directory()
    servers: list[lapwing.Server] = []
    page = lapwing.Inspector(token=TOKEN)
    try:
        for number in range(count):
            server = await lapwing.listen(0, "127.0.0.1", default=echo, inspector=page)
            servers.append(server)
            await server._join(Siblings(directory, number, server.stats))
        yield servers
    finally:
        for server in servers:
            await server.close()
        remove_directory(directory)


def peers(page: Page) -> set[str]:
    """The peers of all connections that a page shows."""
    return {row[1] for row in page.introduced.values()}


def peer(ws: lapwing.Connection) -> str:
    assert ws.local_address is not None
    return f"127.0.0.1:{ws.local_address[1]}"


def number_of(page: Page, ws: lapwing.Connection) -> int:
    [number] = [number for number, row in page.introduced.items() if row[1] == peer(ws)]
    return number


async def test_connections_of_all_workers_on_one_page() -> None:
    async with workers(3) as servers:
        async with (
            lapwing.connect(_url(servers[0])) as own,
            lapwing.connect(_url(servers[1])) as other,
            lapwing.connect(_url(servers[2])) as third,
            watching(servers[0]) as page,
        ):
            await page.until(lambda: peers(page) == {peer(own), peer(other), peer(third)})
            assert [number_of(page, ws) % STRIDE for ws in (own, other, third)] == [0, 1, 2]
            for _ in range(3):
                await other.send("hello")
                await other.receive()
            number = number_of(page, other)
            await page.until(lambda: page.shown[number][1:3] == [3, 3])
            await page.until(lambda: page.server["messages"] == [3, 3])
            assert page.server["connections"] == page.server["opened"] == 3
            assert [each[:3] for each in page.server["workers"]] == [[n, os.getpid(), 1] for n in range(3)]
            async with watching(servers[1]) as second:
                await second.until(lambda: len(second.introduced) == 3)
                assert second.introduced == page.introduced
            await third.close(4000)
            await page.until(lambda: peers(page) == {peer(own), peer(other)})
            await page.until(lambda: page.server["closed"] == {"4000": 1})
            async with lapwing.connect(_url(servers[2])) as late:
                await page.until(lambda: peer(late) in peers(page))
        for server in servers:
            live = live_page(server)
            async with asyncio.timeout(PATIENCE):
                while live._watchers or live._relays or live._connections:
                    await asyncio.sleep(0)
            assert (live._next_look, live._next_tail, live._tails) == (None, None, {})
            assert live._others is not None
            assert live._others.everything() == {"opened": [], "changed": [], "gone": []}


async def test_frames_sending_and_closing_at_another_worker() -> None:
    async with workers() as (one, two):
        async with (
            lapwing.connect(_url(two), compression=False) as ws,
            lapwing.connect(_url(two), compression=False) as unwatched,
            watching(one) as page,
            watching(one) as beside,
        ):
            await page.until(lambda: len(page.introduced) == 2)
            await beside.until(lambda: len(beside.introduced) == 2)
            number = number_of(page, ws)
            for each in (page, beside):
                assert "error" not in await each.ask("tail", number=number)
            await unwatched.send("not watched")
            await ws.send("hello")
            for each in (page, beside):
                await each.until(lambda each=each: each.messages() == [(False, "hello"), (True, "hello")])  # type: ignore[misc]
            assert await ws.receive() == "hello"
            await page.ask("tail", number=None)
            await ws.send("for one page")
            await beside.until(lambda: len(beside.messages()) == 4)
            assert len(page.messages()) == 2
            details = (await page.ask("details", number=number))["details"]
            assert (details["number"], details["peer"], details["agent"]) == (number, peer(ws), "lapwing")
            assert (await page.ask("send", number=number, text="from the page"))["sent"] == 13
            assert [await ws.receive() for _ in range(2)] == ["for one page", "from the page"]
            assert "expected a close code" in (await page.ask("close", number=number, code="x"))["error"]
            assert (await page.ask("close", number=number, code=1008, reason="enough"))["closing"] == 1008
            assert await ws.receive() is None
            assert ws.closed == (True, 1008, "enough")
            await page.until(lambda: page.server["operator"] == {"1008": 1})
            await page.until(lambda: number not in page.introduced)
            for what in ("tail", "details", "send"):
                assert (await page.ask(what, number=number))["error"] == "this connection is closed"
                assert (await page.ask(what, number=7 * STRIDE + 9))["error"] == "this connection is closed"
                assert (await page.ask(what, number="x"))["error"] == "this connection is closed"


async def test_a_worker_that_ends_and_one_that_begins() -> None:
    async with workers() as (one, two):
        async with lapwing.connect(_url(one)) as own, watching(one) as page:
            async with lapwing.connect(_url(two)) as other:
                await page.until(lambda: peers(page) == {peer(own), peer(other)})
                number = number_of(page, other)
                await page.ask("tail", number=number)
                assert two._siblings is not None
                directory = str(two._siblings._directory)
                await two.close()
            await page.until(lambda: peers(page) == {peer(own)})
            await page.until(lambda: len(page.server["workers"]) == 1)
            assert "this connection is closed" in (await page.ask("details", number=number))["error"]
            async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as successor:
                await successor._join(Siblings(directory, 1, successor.stats))
                async with lapwing.connect(_url(successor)) as again:
                    await page.until(lambda: peer(again) in peers(page))
                    assert number_of(page, again) % STRIDE == 1


async def test_a_worker_that_does_not_answer_is_said_to_be_late() -> None:
    """Its event loop is blocked, say: the page goes on, and shows what it knows."""
    async with workers() as (one, _):
        assert one._siblings is not None
        silent: list[asyncio.StreamWriter] = []

        async def relay(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            server = live_page(one).sampler.server() | {"operator": {}}
            tick: dict[str, Any] = {"type": "tick", "late": 0.0, "interval": 0.0, "server": server}
            tick |= {"opened": [[1, "a peer", "", 0, 0, "", "/"]], "changed": [], "gone": []}
            for message in ({"type": "hello", "pid": 1}, tick):
                write_message(writer, json.dumps(message))
            silent.append(writer)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readline()
            await relay(reader, writer)

        path = one._siblings._directory / "5"
        async with await asyncio.start_unix_server(serve, path):
            async with watching(one) as page:
                await page.until(lambda: "a peer" in peers(page))
                [number] = [number for number, row in page.introduced.items() if row[1] == "a peer"]
                assert number == STRIDE + 5
                for what in ("details", "tail"):
                    answer = await page.ask(what, number=number)
                    assert answer["error"] == "worker 5 does not answer: its event loop is blocked"
                await page.until(lambda: page.server["workers"][-1][4] > 0.1)
            for writer in silent:
                writer.close()
                await writer.wait_closed()
        path.unlink(missing_ok=True)


async def test_a_worker_that_does_not_read_is_told_everything_later() -> None:
    async with workers() as (one, two):
        assert one._siblings is not None
        reader, writer = await one._siblings.open(1)
        live = live_page(two)
        async with asyncio.timeout(PATIENCE):
            while not live._relays:
                await asyncio.sleep(0)
        [relay] = live._relays
        held = 0
        while relay.tell(json.dumps({"type": "noise", "text": "x" * 500_000})):
            held += 1
        assert held < 20
        relay.is_informed = False
        async with lapwing.connect(_url(two)) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"
            async with asyncio.timeout(PATIENCE):
                while not relay.is_informed:
                    assert await reader.read(1_000_000)
        writer.close()
        await writer.wait_closed()
        async with asyncio.timeout(PATIENCE):
            while live._relays:
                await asyncio.sleep(0)
        assert live._next_look is None


def test_the_directory_is_for_its_user_alone() -> None:
    """The token is asked of browsers; what reaches these sockets runs as the user of the server."""
    directory = make_directory()
    try:
        assert stat.S_IMODE(Path(directory).stat().st_mode) == 0o700
    finally:
        remove_directory(directory)


def test_totals_are_added_up() -> None:
    one = {"connections": 1, "cpu": 0.25, "messages": [1, 2], "closed": {"1000": 1}, "operator": {}, "draining": False}
    two = {"connections": 3, "cpu": 0.5, "messages": [3, 4], "closed": {"1000": 2, "1006": 1}, "operator": {"1008": 1}}
    late, totals = merged([(1, 11, 0.5, two | {"draining": True}), (0, 10, 0.0, one)])
    assert late == 0.5
    assert totals == {
        "connections": 4,
        "cpu": 0.75,
        "messages": [4, 6],
        "closed": {"1000": 3, "1006": 1},
        "operator": {"1008": 1},
        "draining": True,
        "workers": [[0, 10, 1, 0.25, 0.0], [1, 11, 3, 0.5, 0.5]],
    }


#: A program with two workers, which print their port and say which process they are.
PROGRAM = """
    import os, sys, lapwing
    from contextlib import asynccontextmanager

    async def who(ws):
        await ws.send(str(os.getpid()))
        await ws.receive()

    @asynccontextmanager
    async def told(server):
        os.write(1, f"{server.port}\\n".encode())
        yield

    page = lapwing.Inspector(token=sys.argv[1])
    lapwing.run(0, "127.0.0.1", default=who, workers=2, inspector=page, lifespan=told)
"""


async def test_the_workers_of_a_program() -> None:
    with program(PROGRAM, TOKEN) as process:
        assert process.stdout is not None
        lines = [await asyncio.to_thread(process.stdout.readline) for _ in range(2)]
        port = int(lines[0])
        connections: dict[str, lapwing.Connection] = {}
        opened: list[lapwing.Connection] = []
        while len(connections) < 2:
            opened.append(await lapwing.connect(f"ws://127.0.0.1:{port}"))
            connections[str(await opened[-1].receive(timeout=GUARD))] = opened[-1]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with lapwing.connect(
            f"ws://127.0.0.1:{port}/_lapwing/live", "lapwing.inspector.2", headers=headers
        ) as ws:
            page = Page(ws)
            await page.take()
            await page.until(lambda: peers(page) == set(map(peer, opened)))
            assert {str(each[1]) for each in page.server["workers"]} == set(connections)
        for each in opened:
            await each.close()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, GUARD) == 0


def test_the_topics_of_all_workers_are_added_up() -> None:
    one = {"up": True, "patterns": [["a*", 1, 2, 0, 3, 0, 1]], "topics": [["a1", 2, 0, 3]]}
    two = {
        "up": False,
        "patterns": [["a*", 1, 5, 1, 4, 1, 0], ["b", 1, 1, 0, 0, 0, 0]],
        "topics": [["b", 1, 0, 0], ["a1", 5, 1, 4]],
    }
    server = {"connections": 0, "cpu": 0.0, "closed": {}, "messages": [0, 0], "draining": False}
    _, totals = merged([(0, 1, 0.0, server | {"hub": one}), (1, 2, 0.0, server | {"hub": two})])
    assert totals["hub"] == {
        "up": False,
        "patterns": [["a*", 2, 7, 1, 7, 1, 1], ["b", 1, 1, 0, 0, 0, 0]],
        "topics": [["a1", 7, 1, 7], ["b", 1, 0, 0]],
    }
    for hubs in ((None, one), (one, None)):
        _, totals = merged([(n, n, 0.0, server | {"hub": hub}) for n, hub in enumerate(hubs)])
        assert totals["hub"] == one
    _, totals = merged([(n, n, 0.0, server | {"hub": None}) for n in range(2)])
    assert totals["hub"] is None
