"""Rooms in FastAPI, Starlette, Litestar, Quart and Django with Channels: under uvicorn, and without it."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import sys
import tomllib
import urllib.request
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import lapwing
import lapwing.asgi
from lapwing import testing
from tests.peers.browser import Browser
from tests.peers.needed import NODE, need, need_library
from tests.peers.programs import EXAMPLES, TIMEOUT, free_port, starting, wait_for_port
from tests.peers.uvicorns import serving

ROOMS = ["fastapi_room.py", "starlette_room.py", "litestar_room.py", "quart_room.py", "django_room.py"]


def load(name: str) -> ModuleType:
    """Import an example, as `uvicorn fastapi_room:app` does: once, as Django wants to be configured."""
    stem = name.removesuffix(".py")
    library = {"django": "channels"}.get(stem.partition("_")[0], stem.partition("_")[0])
    need_library(library)
    if stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(stem, EXAMPLES / "frameworks" / name)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[stem]


async def post(port: int, target: str) -> bytes:
    def ask() -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            body: bytes = answer.read()
            return body

    return await asyncio.to_thread(ask)


async def meet(ada: lapwing.AsyncClient, ben: lapwing.AsyncClient) -> None:
    """Both are welcomed, and hear what one says."""
    assert await ada.receive() == await ben.receive() == "welcome"
    await ada.send("hello")
    assert await ada.receive() == await ben.receive() == "ada: hello"


async def check_the_locked_room(url: str) -> None:
    with pytest.raises(lapwing.HandshakeError) as caught:
        await lapwing.connect(f"{url}/rooms/locked?name=eve")
    assert caught.value.status == 403


@pytest.mark.parametrize("name", ROOMS)
async def test_a_room_under_uvicorn(name: str) -> None:
    async with serving(load(name).app) as (port, _):
        url = f"ws://127.0.0.1:{port}"
        async with (
            lapwing.connect(f"{url}/rooms/kitchen?name=ada") as ada,
            lapwing.connect(f"{url}/rooms/kitchen?name=ben") as ben,
        ):
            await meet(ada, ben)
            await post(port, "/rooms/kitchen?text=dinner")
            assert await ada.receive() == await ben.receive() == "dinner"
        await check_the_locked_room(url)


@pytest.mark.parametrize("name", ROOMS)
async def test_a_room_on_a_server_of_its_own(name: str) -> None:
    async with lapwing.listen(0, "127.0.0.1", default=lapwing.asgi.handler(load(name).app)) as server:
        url = f"ws://127.0.0.1:{server.port}"
        async with (
            lapwing.connect(f"{url}/rooms/kitchen?name=ada") as ada,
            lapwing.connect(f"{url}/rooms/kitchen?name=ben") as ben,
        ):
            await meet(ada, ben)
        await check_the_locked_room(url)


@pytest.mark.parametrize("name", ROOMS)
async def test_a_room_without_a_port(name: str) -> None:
    async with testing.asgi(load(name).app, "/rooms/kitchen?name=ada") as ws:
        assert await ws.receive() == "welcome"
        await ws.send("hello")
        assert await ws.receive() == "ada: hello"


def test_the_versions_of_the_page_are_those_of_the_project() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs/how-to/frameworks.rst").read_text(encoding="utf-8")
    named = dict(re.findall(r"([\w-]+) from (\d[\d.]*\d)", page))
    groups = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["dependency-groups"]
    bounds = dict(
        each.split(">=") for each in groups["test"] if isinstance(each, str) and re.fullmatch(r"\S+>=[\d.]+", each)
    )
    assert len(named) == 8
    assert {name.lower(): version for name, version in named.items()}.items() <= bounds.items()


async def test_a_server_beside_fastapi(monkeypatch: pytest.MonkeyPatch) -> None:
    live = free_port()
    monkeypatch.setenv("LIVE_PORT", str(live))
    app: Any = load("fastapi_beside.py").app
    async with serving(app, lifespan="on") as (port, _):
        async with lapwing.connect(f"ws://localhost:{live}") as one, lapwing.connect(f"ws://localhost:{live}") as two:
            assert await one.receive() == await two.receive() == "welcome"
            assert await post(port, "/announce?text=dinner") == b'{"reached":2}'
            assert await one.receive() == await two.receive() == "dinner"


# --- Socket.IO ---------------------------------------------------------------------------------------------------


async def talk_by_socket_io(port: int, *transports: str) -> None:
    """The client of npm talks in a room: text, bytes, an acknowledgement."""
    command = [need("node"), str(NODE / "socketio.js"), f"http://127.0.0.1:{port}", *transports]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TIMEOUT)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert [json.loads(line) for line in output.splitlines()] == [
        ["acknowledged", "welcome, ada"],
        ["said", "ada", "hello"],
        ["said", "ada", [0, 1, 255]],
        ["carried by", "websocket"],
    ]
    assert process.returncode == 0


@pytest.mark.parametrize("transports", ["websocket", "polling websocket"])
async def test_socket_io_under_uvicorn(transports: str) -> None:
    """Alone over a WebSocket, and beginning with polling, which is upgraded."""
    async with serving(load("socketio_room.py").app) as (port, _):
        await talk_by_socket_io(port, *transports.split())


async def test_socket_io_on_a_server_of_its_own() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=lapwing.asgi.handler(load("socketio_room.py").app)) as server:
        await talk_by_socket_io(server.port, "websocket")


def test_a_page_of_nicegui_in_a_browser() -> None:
    """Its own transport is Socket.IO, over a WebSocket that lapwing carries."""
    need_library("nicegui")
    need("chromium")
    port = free_port()
    with starting() as start, Browser() as page:
        wait_for_port(port, start("frameworks/nicegui_page.py", port))
        page.show(f"http://127.0.0.1:{port}/")
        page.wait_for("window.socket?.connected && window.socket.io.engine.transport.name == 'websocket'")
        for clicks in (1, 2):
            page.run("document.querySelector('button').click()")
            page.wait_for(f"document.body.innerText.includes('{clicks} clicks')")
