"""Tests of an ASGI application with lapwing.testing.asgi: no port and no server. Run them with pytest."""

from asgi_server import app

from lapwing import testing


@testing.virtual_time
async def test_a_client_is_greeted_and_hears_itself() -> None:
    async with testing.asgi(app, "/room?name=ada") as ws:
        assert await ws.receive() == "welcome"
        await ws.send("hello")
        assert await ws.receive() == "hello"


def test_the_same_without_await() -> None:
    with testing.asgi(app, "/room") as ws:
        assert ws.receive() == "welcome"
