"""permessage-deflate through the faces: agreed on, used, chosen per message, broadcast, cancelled."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

import lapwing
from lapwing import Deflate
from tests.conftest import Runtime
from tests.faces.callers import GUARD, IN_THREAD, Face, blocking_pair, call, hosting, steps, url
from tests.faces.cancelling import cancel_everywhere
from tests.peers import wire
from tests.peers.deflated import RSV1, Context, inflate
from tests.peers.raw import RawListener, RawPeer
from tests.peers.servers import ServerThread, echo

Listen = Callable[..., Any]

HEADER = "Sec-WebSocket-Extensions"
OFFER = "permessage-deflate"
FORGETFUL = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

JSON = json.dumps([{"id": number, "name": f"item {number}"} for number in range(200)])


def agreed(ws: Any) -> str | None:
    """What the opening handshake agreed on."""
    value: str | None = ws.response.headers.get(HEADER)
    return value


async def test_it_is_agreed_on_by_default(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        first, second = f"{FORGETFUL}; client_max_window_bits", f"{OFFER}; client_max_window_bits"
        assert ws.request.headers[HEADER] == f"{first}, {second}"
        assert agreed(ws) == agreed(guest) == FORGETFUL
        for message in (JSON, JSON.encode(), "", b"", "short", os.urandom(100_000)):
            await ws.send(message)
            assert await guest.receive() == message
            await guest.send(message)
            assert await ws.receive() == message


@pytest.mark.parametrize("compression", [False, None])
@pytest.mark.parametrize("where", ["client", "server"])
async def test_either_end_can_do_without(face: Face, listen: Listen, compression: bool | None, where: str) -> None:
    server_options: dict[str, Any] = {"compression": compression} if where == "server" else {}
    client_options: dict[str, Any] = {"compression": compression} if where == "client" else {}
    async with hosting(listen, **server_options) as (server, guests):
        async with face.connected(url(server), **client_options) as ws:
            assert agreed(ws) is None
            assert (HEADER in ws.request.headers) is (where == "server")
            await ws.send(JSON, compress=True)
            assert await (await guests.next()).receive() == JSON


@pytest.mark.parametrize(
    "settings", [Deflate(context_takeover=True), Deflate(level=1), Deflate(server_max_window_bits=9)]
)
async def test_settings(face: Face, listen: Listen, settings: Deflate) -> None:
    async with hosting(listen, compression=settings) as (server, guests):
        async with face.connected(url(server), compression=settings) as ws:
            guest = await guests.next()
            for _ in range(5):
                await ws.send(JSON)
                assert await guest.receive() == JSON
                await guest.send(JSON)
                assert await ws.receive() == JSON


@pytest.mark.parametrize("wrong", ["deflate", 15, {"level": 6}, Deflate])
def test_a_wrong_option(wrong: Any) -> None:
    for kind in (lapwing.Client, lapwing.AsyncClient):
        with pytest.raises(TypeError, match=r"expected compression to be True, False, None or a lapwing\.Deflate"):
            kind(compression=wrong)
    with pytest.raises(TypeError, match="expected compression"):
        lapwing.listen(0, default=echo, compression=wrong)


async def test_the_choice_for_a_message(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        with await call(RawPeer.connect, server.port, headers=[(HEADER, OFFER)]) as peer:
            guest = await guests.next()
            for size, compress in ((511, None), (512, None), (100, True), (5000, False)):
                message = "x" * size
                await guest.send(message, compress=compress)
                frame = await call(peer.read_frame)
                assert frame.rsv == (RSV1 if size == 512 or compress else 0)
                assert (inflate(frame.payload) if frame.rsv else frame.payload) == message.encode()
            with pytest.raises(TypeError, match="expected compress to be"):
                await guest.send("x", compress=1)  # type: ignore[arg-type]


def test_the_choice_for_a_message_of_the_blocking_client() -> None:
    with RawListener() as listener:
        with blocking_pair(listener) as (client, peer):  # a server that does not know the extension
            client.send(JSON, compress=True)
            peer.expect_frame(wire.TEXT, JSON.encode())
            with pytest.raises(TypeError, match="expected compress to be"):
                client.send("x", compress="yes")  # type: ignore[arg-type]


async def test_compressed_garbage_closes_the_connection(listen: Listen) -> None:
    async with hosting(listen) as (server, guests):
        with await call(RawPeer.connect, server.port, headers=[(HEADER, OFFER)]) as peer:
            guest = await guests.next()
            await call(peer.send, wire.frame(wire.TEXT, b"garbage", rsv=RSV1, key=wire.MASK))
            assert await guest.receive() is None
            assert guest.closed is not None
            assert guest.closed.code == 1007


async def test_a_bomb_closes_the_connection(listen: Listen) -> None:
    import zlib

    compressor = zlib.compressobj(9, wbits=-15)
    payload = compressor.compress(bytes(64 * 1024 * 1024)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    async with hosting(listen) as (server, guests):
        with await call(RawPeer.connect, server.port, headers=[(HEADER, OFFER)]) as peer:
            guest = await guests.next()
            await call(peer.send, wire.frame(wire.BINARY, payload[:-4], rsv=RSV1, key=wire.MASK))
            assert await guest.receive() is None
            assert guest.closed is not None
            assert guest.closed.code == 1009


@pytest.mark.parametrize("response", ["x-unknown", f"{FORGETFUL}; client_max_window_bits=16", f"{FORGETFUL}; x"])
async def test_a_response_that_does_not_answer_the_offer(face: Face, response: str) -> None:
    with RawListener() as listener:

        def serve() -> None:
            with listener.accept(headers=[(HEADER, response)]):
                pass

        serving = asyncio.create_task(call(serve))
        with pytest.raises(lapwing.HandshakeError, match="the server"):
            await face.client().connect(listener.url)
        await serving


@pytest.mark.parametrize(
    "response", [OFFER, f"{OFFER}; client_no_context_takeover", f"{OFFER}; server_max_window_bits=15"]
)
async def test_a_server_that_does_not_forget(face: Face, response: str) -> None:
    """Tornado, Mojolicious and uWebSockets answer in these words, and refer to earlier messages."""
    context = Context()
    with RawListener() as listener:
        async with face.facing(listener, extensions=response) as (ws, peer):
            for _ in range(3):
                await call(peer.send, wire.frame(wire.TEXT, context.deflate(JSON.encode()), rsv=RSV1))
                assert await ws.receive() == JSON
                await ws.send(JSON)
                assert inflate((await call(peer.read_frame)).payload) == JSON.encode()


BOTH = f"{FORGETFUL}; client_max_window_bits=15, {OFFER}; client_max_window_bits=15"


async def test_a_server_that_agrees_to_both_offers_gets_one(face: Face) -> None:
    """Libsoup 3 agrees to each offer, and would compress what it sends once for each."""
    with RawListener() as listener:

        def serve() -> RawPeer:
            listener.accept(headers=[(HEADER, BOTH)]).close()
            peer = listener.accept(headers=[(HEADER, FORGETFUL)])
            assert peer.head.one(HEADER) == f"{FORGETFUL}; client_max_window_bits"
            return peer

        serving = asyncio.create_task(call(serve))
        ws = await face.client().connect(listener.url)
        with await serving as peer:
            await ws.send(JSON)
            assert inflate((await call(peer.read_frame)).payload) == JSON.encode()
        await ws.close()


async def test_a_server_that_always_agrees_twice_is_refused(face: Face) -> None:
    with RawListener() as listener:

        def serve() -> None:
            for _ in range(2):
                listener.accept(headers=[(HEADER, BOTH)]).close()

        serving = asyncio.create_task(call(serve))
        with pytest.raises(lapwing.HandshakeError, match="permessage-deflate' twice"):
            await face.client().connect(listener.url)
        await serving


@pytest.mark.parametrize(
    "in_thread", [pytest.param(False, id="coroutine"), pytest.param(True, id="thread", marks=IN_THREAD)]
)
@pytest.mark.parametrize("user_agent", [None, "Tornado/6.5", "Mojolicious (Perl)"])
async def test_a_client_that_does_not_forget(listen: Listen, user_agent: str | None, in_thread: bool) -> None:
    """Tornado's and Mojolicious' clients refer to earlier messages whatever the response says; Netty's asks to."""

    def in_a_thread(ws: lapwing.BlockingConnection) -> None:
        for message in ws:
            ws.send(message)

    context = Context()
    headers = [(HEADER, f"{OFFER}; client_max_window_bits")]
    if user_agent is not None:
        headers.append(("User-Agent", user_agent))
    async with listen(default=in_a_thread if in_thread else echo) as server:
        with await call(RawPeer.connect, server.port, headers=headers) as peer:
            assert peer.head.one(HEADER) == "permessage-deflate"
            for message in (JSON, "", "", JSON, "short", JSON):
                await call(peer.send, wire.frame(wire.TEXT, context.deflate(message.encode()), rsv=RSV1, key=wire.MASK))
                frame = await call(peer.read_frame)
                assert (inflate(frame.payload) if frame.rsv else frame.payload) == message.encode()


@pytest.mark.parametrize("user_agent", ["Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", None])
@pytest.mark.parametrize("choice", [None, True, False])
async def test_what_is_kept_of_a_client(listen: Listen, user_agent: str | None, choice: bool | None) -> None:
    """Nothing of a browser that was told to forget; of others what came compressed, as far as a window reaches."""
    headers = [(HEADER, f"{OFFER}; client_max_window_bits")]
    if user_agent is not None:
        headers.append(("User-Agent", user_agent))
    async with hosting(listen, compression=Deflate(peer_context_takeover=choice)) as (server, guests):
        with await call(RawPeer.connect, server.port, headers=headers) as peer:
            guest = await guests.next()
            forgets = "client_no_context_takeover" in peer.head.one(HEADER)
            assert forgets is (user_agent is not None if choice is None else not choice)
            context, held = Context(), []
            for size in (100, 1000, 40_000):
                message = context.deflate(os.urandom(size)) if not forgets else Context().deflate(os.urandom(size))
                await call(peer.send, wire.frame(wire.BINARY, message, rsv=RSV1, key=wire.MASK))
                assert len(await guest.receive() or b"") == size
                held.append(guest.stats().held_bytes)
            assert held == ([0, 0, 0] if forgets else [100, 1100, 32768])
        assert await guest.receive() is None
        assert guest.stats().held_bytes == 0


async def test_what_is_counted_is_the_message_and_what_went_over_the_wire(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        await ws.send(JSON)
        await guest.receive()
        for message in (JSON, "short"):
            await guest.send(message)
            await ws.receive()
        server.broadcast(JSON)
        await ws.receive()
        sent, received = guest.stats(), ws.stats()
        assert sent.payload_sent == received.payload_received == 2 * len(JSON) + 5
        assert sent.messages_sent == received.messages_received == 3
        assert sent.wire_sent == received.wire_received < len(JSON)
        assert sent.payload_received == received.payload_sent == len(JSON)
        assert sent.wire_received == received.wire_sent < len(JSON) / 2


async def test_calls_from_other_threads(face: Face, listen: Listen) -> None:
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        await call(lambda: guest.send_threadsafe("x" * 100, compress=True).result(GUARD))
        await call(lambda: server.broadcast_threadsafe("y" * 1000, compress=False).result(GUARD))
        assert [await ws.receive(), await ws.receive()] == ["x" * 100, "y" * 1000]
        assert 1000 < guest.stats().wire_sent < 1050


# --- broadcast ---------------------------------------------------------------------------------------------------


async def test_broadcast_to_every_kind_of_connection(listen: Listen) -> None:
    offers = [None, OFFER, OFFER, f"{OFFER}; server_max_window_bits=9", f"{OFFER}; server_no_context_takeover"]
    for settings in (Deflate(), Deflate(context_takeover=True)):
        async with hosting(listen, compression=settings) as (server, guests):
            peers = []
            try:
                for offer in offers:
                    headers = [] if offer is None else [(HEADER, offer)]
                    peers.append(await call(RawPeer.connect, server.port, headers=headers))
                    await guests.next()
                before = [b""] * len(peers)
                for message, compress in (
                    (JSON, None),
                    ("short", None),
                    (JSON, False),
                    ("short " * 20, True),
                    (JSON, None),
                ):
                    assert server.broadcast(message, compress=compress) == len(peers)
                    for number, (offer, peer) in enumerate(zip(offers, peers, strict=True)):
                        frame = await call(peer.read_frame)
                        wanted = len(message) >= 512 if compress is None else compress
                        assert frame.rsv == (RSV1 if wanted and offer else 0), (offer, message[:10])
                        payload = inflate(frame.payload, before=before[number]) if frame.rsv else frame.payload
                        assert payload == message.encode()
                        if frame.rsv and settings.context_takeover and "server_no" not in str(offer):
                            before[number] += payload
            finally:
                for peer in peers:
                    peer.close()


async def test_broadcast_of_a_connection(face: Face, listen: Listen) -> None:
    async def shout(ws: lapwing.Connection) -> None:
        async for message in ws:
            ws.broadcast(message, compress=True)

    async with listen(default=shout) as server:
        async with face.connected(url(server)) as first, face.connected(url(server)) as second:
            await first.send("to all " * 100)
            assert await first.receive() == await second.receive() == "to all " * 100


@IN_THREAD
@pytest.mark.parametrize("takeover", [False, True])
async def test_handlers_in_threads(face: Face, listen: Listen, takeover: bool) -> None:
    """What was agreed on goes over to the thread, and broadcasts reach it as they reach the others."""

    def handler(ws: lapwing.BlockingConnection) -> None:
        for message in ws:
            ws.send(message, compress=True)
            ws.broadcast(message, compress=len(message) > 50)

    settings = Deflate(context_takeover=takeover)
    async with listen(default=handler, compression=settings) as server:
        async with face.connected(url(server), compression=settings) as ws:
            for message in (JSON, "short", JSON, "again and again " * 10):
                await ws.send(message)
                assert [await ws.receive(), await ws.receive()] == [message, message]
                assert server.broadcast(message) == 1
                assert await ws.receive() == message
            assert ws.stats().wire_received < len(JSON) * 3


# --- cancelling, and threads: the context stays what the peer takes it for ---------------------------------------


@pytest.mark.parametrize("at_once", [False, True], ids=["while it waits", "before it waits"])
async def test_compressed_sends_cancelled_at_every_point(listen: Listen, at_once: bool) -> None:
    """With context takeover: what was compressed is sent, and what was not sent was not compressed."""
    noise = [os.urandom(50_000).hex() for _ in range(4)]
    settings = Deflate(context_takeover=True)
    async with facing_server_that_offers(listen, settings) as (ws, peer):
        expected: list[str] = []
        got: list[str] = []
        before = b""

        def read(count: int) -> None:
            nonlocal before
            for _ in range(count):
                frame = peer.read_frame()
                assert frame.rsv == RSV1
                payload = inflate(frame.payload, before=before)
                before = (before + payload)[-32768:]
                got.append(payload.decode())

        loop = asyncio.get_running_loop()
        waits = 0
        reading: list[asyncio.Future[None]] = []

        def begin_to_read(count: int) -> None:
            reading.append(loop.run_in_executor(None, read, count))

        async def send_until_it_waits() -> None:
            """Send until one has waited at several points and gone out, if it is not cancelled before."""
            nonlocal waits
            for number, part in enumerate(noise * 40):
                message = f"{len(expected)} {number} {part}"
                beginning = loop.call_soon(begin_to_read, len(expected) - len(got))  # as soon as the send waits
                try:
                    await ws.send(message)
                    expected.append(message)
                finally:
                    beginning.cancel()
                    waits += len(reading)
                    while reading and not reading[0].done():  # what its thread reads is not for the next one
                        with suppress(asyncio.CancelledError):
                            await asyncio.wait(reading)
                if reading:
                    reading.pop().result()
                    return
            pytest.fail("no send had to wait")

        async def check(cancelled: bool) -> None:
            reading.clear()
            expected.append(f"after {cancelled}" * 100)
            sending = asyncio.create_task(send(ws, expected[-1]))
            await call(read, len(expected) - len(got))
            await sending
            assert got == expected

        # The peer reads in between only, so that the sends wait for room.
        cancelled = 0
        for _ in range(3):
            cancelled += await cancel_everywhere(send_until_it_waits, check, at_once=at_once)
        assert cancelled
        assert waits == cancelled + 3


def facing_server_that_offers(listen: Listen, settings: Deflate) -> Any:
    return _Facing(listen, settings)


class _Facing:
    """The server's end of a connection with context takeover, and a socket that reads slowly at the other."""

    def __init__(self, listen: Listen, settings: Deflate) -> None:
        self._hosting = hosting(listen, compression=settings, ping_interval=None)

    async def __aenter__(self) -> tuple[lapwing.Connection, RawPeer]:
        server, guests = await self._hosting.__aenter__()
        self._peer = await call(RawPeer.connect, server.port, headers=[(HEADER, OFFER)], receive_buffer=4096)
        return await guests.next(), self._peer

    async def __aexit__(self, *error: Any) -> None:
        self._peer.close()
        await self._hosting.__aexit__(*error)


async def test_a_send_that_times_out_is_not_compressed(listen: Listen) -> None:
    settings = Deflate(context_takeover=True)
    async with facing_server_that_offers(listen, settings) as (ws, peer):
        sent = []
        with pytest.raises(TimeoutError):
            for number in range(1000):
                sent.append(f"{number} {os.urandom(100_000).hex()}")
                await ws.send(sent[-1], timeout=0.05)
        sent.pop()
        last = asyncio.create_task(send(ws, "the last one " * 10))
        sent.append("the last one " * 10)
        before = b""
        for message in sent:
            frame = await call(peer.read_frame)
            payload = inflate(frame.payload, before=before[-32768:])
            before = (before + payload)[-32768:]
            assert payload.decode() == message
        await last


async def send(ws: lapwing.Connection, message: str) -> None:
    await ws.send(message)


async def test_cancelled_sends_that_wait_for_room(listen: Listen) -> None:
    """The queue of those who wait: every other one is cancelled, at each of its steps."""
    settings = Deflate(context_takeover=True)
    async with facing_server_that_offers(listen, settings) as (ws, peer):
        expected: list[str] = []
        while True:  # until a send has to wait
            message = f"{len(expected)} {os.urandom(100_000).hex()}"
            filling = asyncio.create_task(send(ws, message))
            await steps()
            expected.append(message)
            if not filling.done():
                break
        tasks = [asyncio.create_task(send(ws, f"{number} waits " * 1000)) for number in range(40)]
        for number, task in enumerate(tasks):
            await steps(number % 3)
            if number % 2:
                task.cancel()
        expected += [f"{number} waits " * 1000 for number in range(0, 40, 2)]
        before = b""
        for message in expected:
            frame = await call(peer.read_frame)
            payload = inflate(frame.payload, before=before)
            before = (before + payload)[-32768:]
            assert payload.decode() == message
        await asyncio.gather(filling, *tasks, return_exceptions=True)


def test_threads_that_send_with_one_context(serve: Callable[..., ServerThread]) -> None:
    """Compressing lets other threads run: messages must not get into each other's way all the same."""
    settings = Deflate(context_takeover=True)
    server = serve(default=echo, compression=settings, timeout=GUARD)
    with lapwing.connect(server.url, timeout=GUARD, compression=settings) as ws:
        messages = [[f"{thread} {number} " * 500 for number in range(30)] for thread in range(4)]

        def send_all(mine: list[str]) -> None:
            for message in mine:
                ws.send(message)

        threads = [threading.Thread(target=send_all, args=(mine,)) for mine in messages]
        for thread in threads:
            thread.start()
        got = [ws.receive() for _ in range(120)]
        for thread in threads:
            thread.join()
        for mine in messages:
            assert [message for message in got if message in mine] == mine


def test_closing_while_another_thread_inflates(serve: Callable[..., ServerThread]) -> None:
    """Inflating lets other threads run: one that closes drops the message, and nothing else happens."""

    async def flood(ws: lapwing.Connection) -> None:
        message = "flood " * 100_000
        while ws.closed is None:
            try:
                await ws.send(message)
            except lapwing.ConnectionClosed:
                return
            await asyncio.sleep(0)  # so small that it never has to wait

    server = serve(default=flood, timeout=GUARD)
    for count in range(1, 20):
        ws = lapwing.Client(timeout=GUARD).connect(server.url)
        seen = threading.Event()

        def receive(ws: lapwing.Client = ws, count: int = count, seen: threading.Event = seen) -> None:
            got = 0
            while ws.receive() is not None:
                got += 1
                if got == count:
                    seen.set()

        receiving = threading.Thread(target=receive)
        receiving.start()
        assert seen.wait(GUARD)
        closed = ws.close()
        receiving.join(GUARD)
        assert not receiving.is_alive()
        assert closed == ws.closed


async def test_pings_and_receives_of_two_threads(runtime: Runtime, serve: Callable[..., ServerThread]) -> None:
    """One thread decodes what waited while another reads: nothing is lost or out of order."""

    async def count(ws: lapwing.Connection) -> None:
        for number in range(400):
            await ws.send(f"{number} " + "x" * 20_000)
        await ws.receive()

    server = serve(default=count, timeout=GUARD)

    def talk() -> list[str | bytes | None]:
        with lapwing.connect(server.url, timeout=GUARD, max_buffered=50_000) as ws:

            def ping() -> None:
                for _ in range(50):
                    try:
                        ws.ping()
                    except RuntimeError:  # more waits in front of the pong than may be buffered
                        continue

            pinging = threading.Thread(target=ping)
            pinging.start()
            got = [ws.receive() for _ in range(400)]
            pinging.join()
            return got

    got = await call(talk)
    assert [str(message).split()[0] for message in got] == [str(number) for number in range(400)]
