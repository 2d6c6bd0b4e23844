"""A bad network between the two ends: nothing hangs past its limit, no message is lost, doubled or changed, none stays.

What comes out at one end is always a beginning of what went in at the other, in order; all of it where the network
only delays and cuts up.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import lapwing
from lapwing.testing import Fault, Proxy
from tests.faces.callers import GUARD, Caller, Face, call, url
from tests.peers.certificates import Certificates

Listen = Callable[..., Any]
Messages = list[str | bytes]

#: Seconds that an end waits for a peer that has stalled: long enough for two cores that are busy, with a lot to spare
#: for those of the tests in which nothing stalls.
PATIENCE = 0.3

#: More than a limit may be exceeded by, on whatever machine: what would be waited for without one is far longer.
SLACK = GUARD / 2

DELAYS = [
    Fault(piece=1),
    Fault(piece=97, pause=0.0001),
    Fault(piece=1460),
    Fault(delay=0.002),
    Fault(piece=1000, delay=0.001),
]


def make_messages(seed: int, count: int = 40, largest: int = 3_000) -> Messages:
    """Numbered messages of both kinds and many sizes."""
    chance = random.Random(seed)
    made: Messages = []
    for number in range(count):
        text = f"{seed}/{number} " + "é" * int(largest ** chance.random())
        made.append(text if chance.random() < 0.5 else text.encode())
    return made


class Recorder:
    """An echo handler that records what it got, each connection apart, and how the connection ended."""

    def __init__(self) -> None:
        self.received: dict[str, Messages] = {}
        self.closed: dict[str, lapwing.Closed | None] = {}

    async def __call__(self, ws: lapwing.Connection) -> None:
        received: Messages = self.received.setdefault(str(ws.path), [])
        try:
            while (message := await ws.receive()) is not None:
                received.append(message)
                await ws.send(message)
        finally:
            self.closed[str(ws.path)] = ws.closed


@asynccontextmanager
async def through(server: Any, **faults: Any) -> AsyncIterator[Proxy]:
    proxy = await call(Proxy(url(server), **faults).__enter__)
    try:
        yield proxy
    finally:
        await call(proxy.close)


async def talk(ws: Caller, sent: Sequence[str | bytes], got: Messages, *, ahead: int) -> None:
    """Send messages, at most `ahead` of them before their echo is there, until all are back or the connection ends."""
    pending = iter(sent)
    with suppress(lapwing.ConnectionClosed):
        for message in itertools.islice(pending, ahead):
            await ws.send(message)
        while len(got) < len(sent) and (answer := await ws.receive()) is not None:
            got.append(answer)
            for message in itertools.islice(pending, 1):
                await ws.send(message)


def is_beginning(got: Messages, sent: Sequence[str | bytes]) -> bool:
    return got == list(sent[: len(got)])


@pytest.mark.parametrize("fault", DELAYS, ids=str)
async def test_delays_and_cuts_change_nothing(face: Face, listen: Listen, fault: Fault) -> None:
    recorder = Recorder()
    sent = make_messages(1)
    async with listen(default=recorder) as server, through(server, to_server=fault, to_client=fault) as proxy:
        ws = await face.client().connect(f"ws://127.0.0.1:{proxy.port}/it")
        got: Messages = []
        await talk(ws, sent, got, ahead=8)
        assert got == sent
        assert await ws.close(3000, "all there") == (True, 3000, "all there")
    assert recorder.received == {"/it": sent}
    assert recorder.closed == {"/it": (True, 3000, "all there")}


async def conversation(face: Face, proxy: Proxy, sent: Messages, **options: Any) -> tuple[Messages, Any]:
    """Talk over a connection that breaks somewhere; returns the echoes and how it ended, None when it never began."""
    scheme = "wss" if "ssl" in options else "ws"
    client = face.client(open_timeout=PATIENCE, close_timeout=PATIENCE, timeout=PATIENCE, **options)
    try:
        ws = await client.connect(f"{scheme}://localhost:{proxy.port}/it")
    except (lapwing.WebSocketError, OSError):  # TimeoutError is one, and so are the errors of TLS
        assert client.closed is None or not client.closed.was_clean
        return [], None
    got: Messages = []
    with suppress(TimeoutError):
        await talk(ws, sent, got, ahead=3)
    return got, await ws.close()


async def break_at(
    face: Face, listen: Listen, fault: dict[str, Fault], certificates: Certificates | None = None
) -> lapwing.Closed | None:
    """One conversation over a connection with this fault, and what must be true of it whatever the fault."""
    recorder = Recorder()
    sent = make_messages(2, count=6, largest=60)
    options: dict[str, Any] = {"open_timeout": PATIENCE, "close_timeout": PATIENCE}
    mine: dict[str, Any] = {}
    if certificates is not None:
        options["ssl"] = certificates.good.server_context()
        mine["ssl"] = certificates.client_context()
    loop = asyncio.get_running_loop()
    async with listen(default=recorder, **options) as server, through(server, **fault) as proxy:
        began = loop.time()
        got, closed = await conversation(face, proxy, sent, **mine)
        assert loop.time() - began < SLACK
        for direction in ("to_server", "to_client"):
            proxy.resume(direction)
        while server.connections:  # each has its limits, too
            await asyncio.sleep(0)
        assert loop.time() - began < 2 * SLACK
    received = recorder.received.get("/it", [])
    assert is_beginning(received, sent)
    assert is_beginning(got, received)
    if closed is None:
        return None
    assert closed.was_clean or closed.code == 1006
    result: lapwing.Closed = closed
    return result


#: Bytes of a conversation in one direction, about: the opening handshake, the messages, the close frame.
LENGTH = 640


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("then", ["end", "reset"])
async def test_a_connection_that_breaks_at_any_byte(face: Face, listen: Listen, direction: str, then: Any) -> None:
    """At the first byte, and at every ninth from there."""
    outcomes = [
        await break_at(face, listen, {direction: Fault(after=after, then=then)}) for after in range(1, LENGTH, 9)
    ]
    assert None in outcomes  # broken within the opening handshake
    assert any(outcome is not None for outcome in outcomes)


@pytest.mark.parametrize("direction", ["to_server", "to_client"])
@pytest.mark.parametrize("after", [1, 60, 150, 260])
async def test_a_connection_that_stalls(face: Face, listen: Listen, direction: str, after: int) -> None:
    """Every wait has its limit: for the opening, for a message, for the close."""
    closed = await break_at(face, listen, {direction: Fault(after=after, then="stall")})
    assert closed is None or not closed.was_clean


@pytest.mark.parametrize("then", ["end", "reset"])
async def test_tls_that_breaks(face: Face, listen: Listen, tls: Certificates, then: Any) -> None:
    """A cut within TLS is told from an end: it is never clean."""
    for direction in ("to_server", "to_client"):
        for after in range(1, 4_000, 331):
            await break_at(face, listen, {direction: Fault(after=after, then=then)}, tls)


async def test_a_crowd_in_chaos(face: Face, listen: Listen) -> None:
    """Many clients at a time, each behind a fault of its own; the server is as healthy afterwards as before."""
    chance = random.Random(7)
    recorder = Recorder()

    async def one(server: Any, number: int) -> None:
        fault = {
            direction: Fault(
                piece=chance.choice([None, 1, 13]),
                delay=chance.choice([0.0, 0.001]),
                after=chance.choice([None, chance.randrange(1, 3_000)]),
                then=chance.choice(["end", "reset", "stall"]),
            )
            for direction in ("to_server", "to_client")
        }
        sent = make_messages(number, count=20, largest=200)
        path = f"/{number}"
        async with through(server, **fault) as proxy:
            client = face.client(open_timeout=PATIENCE, close_timeout=PATIENCE, timeout=PATIENCE)
            try:
                ws = await client.connect(f"ws://127.0.0.1:{proxy.port}{path}")
            except (lapwing.WebSocketError, OSError):
                return
            got: Messages = []
            with suppress(TimeoutError):
                await talk(ws, sent, got, ahead=4)
            await ws.close()
        received = recorder.received.get(path, [])
        assert is_beginning(got, received)
        assert is_beginning(received, sent)

    async with listen(default=recorder, open_timeout=PATIENCE, close_timeout=PATIENCE) as server:
        await asyncio.gather(*(one(server, number) for number in range(24)))
        while server.connections:
            await asyncio.sleep(0)
        ws = await face.client().connect(f"ws://127.0.0.1:{server.port}/after")
        got: Messages = []
        await talk(ws, ["still", "there"], got, ahead=1)
        assert got == ["still", "there"]
        assert (await ws.close()).was_clean
