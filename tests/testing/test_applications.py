"""`testing.asgi`: ASGI applications without a port, on both faces and in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import lapwing
import lapwing.asgi
from lapwing import testing

Event = dict[str, Any]


class WebSocketDisconnect(Exception):  # noqa: N818 - its name there
    """Like that of Starlette and Litestar."""


class App:
    """An echo with a greeting, and paths at which it does something else."""

    def __init__(self) -> None:
        self.order: list[str] = []

    async def __call__(self, scope: Event, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for stage in ("startup", "shutdown"):
                await receive()
                self.order.append(stage)
                await send({"type": f"lifespan.{stage}.complete"})
            return
        await receive()
        if scope["path"] == "/denied":
            await send({"type": "websocket.http.response.start", "status": 402})
            await send({"type": "websocket.http.response.body", "body": b"pay first"})
            return
        if scope["path"] == "/broken":
            raise LookupError("no room")
        await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
        await send({"type": "websocket.send", "text": scope["root_path"] + "?" + scope["query_string"].decode()})
        while (event := await receive())["type"] == "websocket.receive":
            if event["text"] == "break":
                raise LookupError("broken")
            await send({"type": "websocket.send", "text": event["text"]})
        self.order.append("end")
        raise WebSocketDisconnect(event["code"])


async def test_a_conversation() -> None:
    app = App()
    path = "/room?name=ada"
    async with testing.asgi(
        app, path, ["one", "two"], root_path="/mounted", headers={"Origin": "http://a.example"}
    ) as ws:
        assert ws.subprotocol == "one"
        assert await ws.receive() == "/mounted?name=ada"
        await ws.send("hello")
        assert await ws.receive() == "hello"
    assert app.order == ["startup", "end", "shutdown"]


def test_a_blocking_conversation() -> None:
    app = App()
    with testing.asgi(app, "/?a", lifespan="off") as ws:
        assert ws.receive() == "?a"
        ws.send("hello")
        assert ws.receive() == "hello"
    assert app.order == ["end"]


async def test_a_denial() -> None:
    client = testing.asgi(App(), "/denied")
    with pytest.raises(lapwing.HandshakeError) as caught:
        await client.__aenter__()
    assert (caught.value.status, caught.value.body) == (402, b"pay first")


def test_a_blocking_denial() -> None:
    with pytest.raises(lapwing.HandshakeError) as caught:
        testing.asgi(App(), "/denied").__enter__()
    assert caught.value.status == 402


async def test_what_the_application_raises_is_raised_in_the_test() -> None:
    with pytest.raises(LookupError, match="broken"):
        async with testing.asgi(App()) as ws:
            await ws.send("break")
            await ws.receive()
            assert await ws.receive() is None
    client = testing.asgi(App(), "/broken")
    with pytest.raises(lapwing.HandshakeError) as caught:
        await client.__aenter__()
    assert caught.value.__notes__ == ["a handler under test has failed, too: LookupError('no room')"]
    expecting: testing.AsgiClient = testing.asgi(App(), expect=LookupError)
    async with expecting as ws:
        await ws.send("break")
        await ws.receive()
        assert await ws.receive() is None
    assert str(expecting.served.errors) == "[LookupError('broken')]"


async def test_several_clients_of_one_application() -> None:
    async with testing.serve(lapwing.asgi.handler(App())) as served:
        async with served.connect(path="/?1") as one, served.connect(path="/?2") as two:
            assert [await one.receive(), await two.receive()] == ["?1", "?2"]
        with pytest.raises(ValueError, match="expected path to begin with '/'"):
            served.connect(path="room")


async def test_options_of_the_server() -> None:
    headers = {"Origin": "http://a.example"}
    client = testing.asgi(App(), server={"origins": ["http://b.example"]}, headers=headers)
    with pytest.raises(lapwing.HandshakeError) as caught:
        await client.__aenter__()
    assert caught.value.status == 403


@testing.virtual_time
async def test_an_application_that_does_not_decide_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """The client gets a 503 after `open_timeout`, and the application learns that it is gone."""
    events: list[Event] = []

    async def app(scope: Event, receive: Any, send: Any) -> None:
        events.append(await receive())
        events.append(await receive())
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept"})

    before = asyncio.get_running_loop().time()
    client = testing.asgi(app, lifespan="off", open_timeout=60, server={"open_timeout": 5})
    with pytest.raises(lapwing.HandshakeError) as caught:
        await client.__aenter__()
    assert caught.value.status == 503
    assert caught.value.headers is not None
    assert caught.value.headers.get("Retry-After") == "5"
    assert asyncio.get_running_loop().time() - before == 5
    assert events == [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]
    assert "took too long" in caplog.text
