"""A client that connects again, while other threads, or other tasks, use it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import lapwing
from tests.conftest import RUNTIMES
from tests.faces.callers import GUARD, HUGE, steps, url
from tests.faces.test_blocking import Started, pair
from tests.peers import wire
from tests.peers.raw import RawListener
from tests.peers.servers import ServerThread, echo


@pytest.fixture
def server() -> Iterator[ServerThread]:
    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo) as running:
        yield running


def others(client: lapwing.Client) -> list[Callable[[], Any]]:
    """What another thread may call."""
    return [
        client.receive,
        client.receive_many,
        client.receive_stream,
        client.ping,
        client.close,
        client.abort,
        lambda: client.send("text"),
        lambda: client.send(["fragments"]),
        lambda: next(client),
    ]


def test_what_other_threads_call_during_connect() -> None:
    with RawListener() as listener:
        client = lapwing.Client(open_timeout=GUARD)
        connecting = Started(client.connect, listener.url)
        with listener.accept_bare() as peer:
            peer.read_head()
            with pytest.raises(RuntimeError, match="in connect"):
                client.connect(listener.url)
            for function in others(client):
                with pytest.raises(RuntimeError, match="in connect"):
                    function()
        with pytest.raises(lapwing.HandshakeError):
            connecting.result()
        with pytest.raises(RuntimeError, match="not connected"):
            client.receive()


def test_connect_while_another_thread_receives() -> None:
    with pair() as (client, peer):
        receiving = Started(client.receive)
        peer.send_frame(wire.PING, b"in?")
        peer.expect_frame(wire.PONG, b"in?")
        with pytest.raises(RuntimeError, match="connected already"):
            client.connect("ws://127.0.0.1:1/")
        peer.send_frame(wire.TEXT, b"undisturbed")
        assert receiving.result() == "undisturbed"


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize("way", ["receive", "receive_many", "iteration", "receive_stream"])
def test_a_supervisor_connects_again(server: ServerThread, way: str, how: str) -> None:
    """The thread that used the connection learns of its end, whether or not it is out of its call by then."""
    for _ in range(10):
        with pair() as (client, peer):
            user = Started(list, client) if way == "iteration" else Started(getattr(client, way))
            peer.send_frame(wire.PING, b"in?")
            peer.expect_frame(wire.PONG, b"in?")
            if how == "close":
                peer.send_close(1000)
            getattr(client, how)()
            client.connect(server.url)
            client.send("again")
            assert client.receive() == "again"
            client.close()
            if how == "abort" and way == "iteration":
                with pytest.raises(lapwing.ConnectionClosed):
                    user.result()
            else:
                assert not user.result()


def test_connect_waits_for_a_thread_that_is_still_in_a_call() -> None:
    going_on = threading.Event()

    def fragments() -> Iterator[str]:
        yield "first"
        assert going_on.wait(GUARD)
        yield "last"

    with pair() as (client, peer), RawListener() as other:
        sending = Started(client.send, fragments())
        peer.expect_frame(wire.TEXT, b"first", fin=False)
        client.abort()
        with pytest.raises(RuntimeError, match="another thread is still in a method"):
            client.connect(other.url, timeout=0.05)
        connecting = Started(client.connect, other.url)
        going_on.set()
        with pytest.raises(lapwing.ConnectionClosed):
            sending.result()
        with other.accept() as second:
            connecting.result()
            client.send("to the second")
            second.expect_frame(wire.TEXT, b"to the second")
            second.close()


def test_the_fragments_of_a_message_do_not_connect_their_client() -> None:
    with pair() as (client, _):

        def fragments() -> Iterator[str]:
            yield "first"
            client.abort()
            client.connect("ws://127.0.0.1:1/")

        with pytest.raises(RuntimeError, match="within another call"):
            client.send(fragments())


def test_a_stream_of_the_connection_before(server: ServerThread) -> None:
    """It ends, and takes nothing from the next connection."""
    with pair() as (client, peer):
        peer.send_frame(wire.TEXT, b"begun", fin=False)
        stream = client.receive_stream()
        assert stream is not None
        assert next(stream) == "begun"
        client.abort()
        client.connect(server.url)
        client.send("kept")
        with pytest.raises(lapwing.ConnectionClosed):
            next(stream)
        stream.close()
        assert client.receive() == "kept"
        client.close()


def test_threads_that_use_a_client_whatever_happens_to_it(server: ServerThread) -> None:
    """One connects and closes, two others only send or receive: each call does its work or raises what it may."""
    client = lapwing.Client(timeout=GUARD)
    done = threading.Event()

    def use(call: Callable[[], Any]) -> None:
        while not done.is_set():
            with contextlib.suppress(RuntimeError, lapwing.ConnectionClosed):
                call()

    using = [
        Started(use, call)
        for call in (lambda: client.send("x" * 3000), client.receive, lambda: client.send(["a", "b"]))
    ]
    try:
        for _ in range(50):
            client.connect(server.url)
            with contextlib.suppress(lapwing.ConnectionClosed):
                client.send("here")
            client.close()
            with pytest.raises((RuntimeError, lapwing.ConnectionClosed)):
                client.ping()
    finally:
        done.set()
        for started in using:
            started.result()


async def _fragments(going_on: asyncio.Event) -> AsyncIterator[str]:
    yield "first"
    await going_on.wait()
    yield "last"


#: What another task may wait in when the connection ends, and whether it learns of that by an exception.
WAITING: dict[str, tuple[Callable[[lapwing.AsyncClient], Any], bool]] = {
    "receive": (lambda client: client.receive(), False),
    "receive_many": (lambda client: client.receive_many(), False),
    "receive_into": (lambda client: client.receive_into(bytearray(8)), False),
    "receive_json": (lambda client: client.receive_json(), True),
    "receive_stream": (lambda client: client.receive_stream(), False),
    "iteration": (anext, True),
    "send": (lambda client: client.send(b"late"), True),
    "fragments": (lambda client: client.send([b"late", b"later"]), True),
    "ping": (lambda client: client.ping(), True),
    "close": (lambda client: client.close(), False),
}


@pytest.mark.parametrize("is_there", [True, False], ids=["connects", "fails"])
@pytest.mark.parametrize("way", list(WAITING))
async def test_a_task_that_waits_learns_of_the_end(
    listen: Callable[..., Any], runtime: Any, way: str, is_there: bool
) -> None:
    """It has no part in the next connection, even if that begins before the task runs, and fails at once."""
    wait, raises = WAITING[way]
    client = lapwing.AsyncClient(timeout=GUARD, compression=None, **runtime.options)
    async with listen(default=echo) as other:
        with RawListener(receive_buffer=65536) as listener:
            accepting = asyncio.create_task(asyncio.to_thread(listener.accept))
            await client.connect(listener.url)
            with await accepting:
                await client.send(bytes(HUGE))
                task = asyncio.create_task(_await(wait(client)))
                await steps()
                client.abort()
                if is_there:
                    await client.connect(url(other))
                else:
                    with pytest.raises(OSError, match="no such socket"):
                        await client.connect("ws+unix:///nowhere:/")
                if raises:
                    with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
                        await task
                else:
                    assert not await task or way == "close"
        if is_there:
            await client.send("undisturbed")
            assert await client.receive() == "undisturbed"
            await client.close()


async def _await(call: Any) -> Any:
    return await call


async def test_a_message_of_fragments_stays_behind(listen: Callable[..., Any], runtime: Any) -> None:
    """The iterable of one is still awaited when the client has connected again: nothing waits for it there."""
    going_on = asyncio.Event()
    client = lapwing.AsyncClient(timeout=GUARD, **runtime.options)
    async with listen(default=echo) as server:
        await client.connect(url(server))
        task = asyncio.create_task(_await(client.send(_fragments(going_on))))
        await steps()
        client.abort()
        await client.connect(url(server))
        await client.send(["one", " message"])
        assert await client.receive() == "one message"
        going_on.set()
        with pytest.raises(lapwing.ConnectionClosed, match="aborted"):
            await task
        await client.send("undisturbed")
        assert await client.receive() == "undisturbed"
        await client.close()
