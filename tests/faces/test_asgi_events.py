"""`receive` and `send` of an ASGI application on an open WebSocket, which are native, in every use."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Callable, Coroutine
from types import MappingProxyType
from typing import Any
from weakref import ref

import pytest

import lapwing
import lapwing.asgi
from tests.conftest import Runtime
from tests.faces.test_asgi import ACCEPT, connect, end_of_tasks

Listen = Callable[..., Any]
Event = dict[str, Any]


def application(talk: Callable[[Any, Any, Any], Coroutine[Any, Any, None]], failures: list[BaseException]) -> Any:
    """An application that accepts, and then talks; what it raises is kept."""

    async def app(scope: Event, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "websocket.connect"}
        await send(ACCEPT)
        try:
            await talk(scope, receive, send)
        except BaseException as error:
            failures.append(error)
            raise

    return lapwing.asgi.handler(app)


async def talking(
    listen: Listen,
    runtime: Runtime,
    talk: Callable[[Any, Any, Any], Coroutine[Any, Any, None]],
    client: Callable[[lapwing.AsyncClient], Coroutine[Any, Any, None]],
    **options: Any,
) -> None:
    """Have an application talk to a client; neither may fail."""
    failures: list[BaseException] = []
    async with listen(default=application(talk, failures), **options) as server:
        async with await connect(server, runtime) as ws:
            await client(ws)
        await end_of_tasks(server)
    assert failures == []


async def test_in_a_task_and_with_a_timeout(listen: Listen, runtime: Runtime) -> None:
    """A wait that is cancelled loses nothing."""
    asked = asyncio.Event()

    async def talk(scope: Event, receive: Any, send: Any) -> None:
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(receive(), 0.001)
        asked.set()
        assert await asyncio.create_task(receive()) == {"type": "websocket.receive", "text": "one"}
        await asyncio.create_task(_awaiting(send({"type": "websocket.send", "bytes": b"two"})))
        (event,) = await asyncio.gather(receive())
        assert event == {"type": "websocket.receive", "bytes": b"three"}

    async def client(ws: lapwing.AsyncClient) -> None:
        await asked.wait()
        await ws.send("one")
        assert await ws.receive() == b"two"
        await ws.send(b"three")

    await talking(listen, runtime, talk, client)


async def _awaiting(awaitable: Any) -> None:
    await awaitable


async def test_two_waits_at_once_and_one_awaited_twice(listen: Listen, runtime: Runtime) -> None:
    ready = asyncio.Event()

    async def talk(scope: Event, receive: Any, send: Any) -> None:
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task waits"):
            await receive()
        ready.set()
        assert (await waiting)["text"] == "hello"
        spent = receive()
        assert inspect.isawaitable(spent)
        assert (await spent)["text"] == "again"
        with pytest.raises(RuntimeError, match="awaited before"):
            await spent
        closed = receive()
        closed.close()
        closed.close()
        with pytest.raises(RuntimeError, match="awaited before"):
            await closed
        thrown = receive()
        with pytest.raises(LookupError, match="why"):
            thrown.throw(LookupError("why"))

    async def client(ws: lapwing.AsyncClient) -> None:
        await ready.wait()
        await ws.send("hello")
        await ws.send("again")

    await talking(listen, runtime, talk, client)


async def test_events_of_every_shape(listen: Listen, runtime: Runtime) -> None:
    async def talk(scope: Event, receive: Any, send: Any) -> None:
        kind = {"type": "websocket.send"}
        await send({**kind, "text": "one", "bytes": None})
        await send({**kind, "bytes": b"two", "text": None})
        await send({**kind, "bytes": b"three", "text": "left out"})
        await send({**kind, "bytes": bytearray(b"four")})
        await send(MappingProxyType({**kind, "text": "five"}))
        await send({**kind, "bytes": None, "text": None})
        await send(kind)
        for wrong in ({"type": "websocket.accept"}, {"type": "websocket.http.response.start", "status": 400}):
            with pytest.raises(RuntimeError, match=r"Expected ASGI message 'websocket\.send' or 'websocket\.close'"):
                await send(wrong)
        with pytest.raises(KeyError):
            await send({})
        with pytest.raises(TypeError):
            await send({**kind, "text": 6})
        await send({"type": "websocket.close", "code": 4000, "reason": "done"})
        for late in (kind, {"type": "websocket.close"}):
            with pytest.raises(RuntimeError, match=r"after sending 'websocket\.close'"):
                await send({**late, "text": "late"})
        for _ in range(2):
            assert await receive() == {"type": "websocket.disconnect", "code": 4000, "reason": "done"}

    async def client(ws: lapwing.AsyncClient) -> None:
        assert [await ws.receive() for _ in range(5)] == ["one", b"two", b"three", b"four", "five"]
        assert await ws.receive() is None
        assert ws.closed == (True, 4000, "done")

    await talking(listen, runtime, talk, client)


async def test_a_client_that_leaves(listen: Listen, runtime: Runtime) -> None:
    """The wait ends with the event, again and again; `send` raises OSError when it is awaited, and not before."""

    async def talk(scope: Event, receive: Any, send: Any) -> None:
        for _ in range(5):
            assert await receive() == {"type": "websocket.disconnect", "code": 4001, "reason": "bye"}
        sending = send({"type": "websocket.send", "text": "nobody"})
        with pytest.raises(OSError, match=r"."):
            await sending

    async def client(ws: lapwing.AsyncClient) -> None:
        await ws.close(4001, "bye")

    await talking(listen, runtime, talk, client)


async def test_a_send_that_waits_until_the_client_is_gone(listen: Listen, runtime: Runtime) -> None:
    waits = asyncio.Event()

    async def talk(scope: Event, receive: Any, send: Any) -> None:
        async def flood() -> None:
            while True:
                sending = asyncio.ensure_future(_awaiting(send({"type": "websocket.send", "bytes": bytes(100_000)})))
                done, _ = await asyncio.wait((sending,), timeout=0.05)
                if not done:
                    waits.set()
                await sending

        with pytest.raises(OSError, match=r"."):
            await flood()
        assert (await receive())["type"] == "websocket.disconnect"

    async def client(ws: lapwing.AsyncClient) -> None:
        await waits.wait()
        ws.abort()

    await talking(listen, runtime, talk, client, compression=None)


async def test_what_the_application_closes_while_it_waits_is_told(listen: Listen, runtime: Runtime) -> None:
    async def talk(scope: Event, receive: Any, send: Any) -> None:
        waiting = asyncio.create_task(receive())
        await asyncio.sleep(0)
        await send({"type": "websocket.close", "code": 4002})
        assert await waiting == {"type": "websocket.disconnect", "code": 4002, "reason": ""}

    async def client(ws: lapwing.AsyncClient) -> None:
        assert await ws.receive() is None
        assert ws.closed == (True, 4002, "")

    await talking(listen, runtime, talk, client)


async def test_nothing_is_left_of_it(listen: Listen, runtime: Runtime) -> None:
    """The call of the application, its connection and its events go without the garbage collector, or with it."""
    kept: list[Any] = []

    async def talk(scope: Event, receive: Any, send: Any) -> None:
        kept.append(ref(scope["extensions"]["lapwing"]["connection"]))
        for _ in range(100):
            event = await receive()
            await send({"type": "websocket.send", "text": event["text"]})

    async def client(ws: lapwing.AsyncClient) -> None:
        for _ in range(100):
            await ws.send("hello")
            assert await ws.receive() == "hello"

    await talking(listen, runtime, talk, client)
    gc.collect()
    assert kept[0]() is None
