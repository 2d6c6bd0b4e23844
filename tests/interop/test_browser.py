"""A browser as the client: Chromium against `lapwing.listen`."""

from __future__ import annotations

import asyncio
import json
import queue
from collections.abc import Iterator
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.peers.browser import Browser, page
from tests.peers.needed import need_library
from tests.peers.programs import free_port, starting, wait_for_port
from tests.peers.servers import TIMEOUT, ServerThread, echo

#: What the scripts below begin with: a socket whose events can be waited for.
PRELUDE = """
const open = (url, protocols) => new Promise((done, fail) => {
    const socket = new WebSocket(url, protocols || []);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => done(socket);
    socket.onclose = event => fail('closed ' + event.code);
});
const next = socket => new Promise((done, fail) => {
    socket.onmessage = event => done(event.data);
    socket.onclose = event => fail('closed ' + event.code);
});
const end = socket => new Promise(done => {
    socket.onclose = event => done([event.wasClean, event.code, event.reason]);
});
"""

SIZES = [0, 1, 125, 126, 65_535, 65_536, 900_000]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def origin(browser: Browser) -> Iterator[str]:
    """The origin of the page that the browser shows."""
    with page() as origin:
        browser.show(origin)
        yield origin


#: How the server compresses. With a context of its own for each connection both ends must keep in step.
COMPRESSIONS: dict[str, Any] = {
    "compressed": True,
    "with context takeover": lapwing.Deflate(context_takeover=True, threshold=0),
    "small windows": lapwing.Deflate(context_takeover=True, server_max_window_bits=9, client_max_window_bits=9),
    "uncompressed": False,
}


@pytest.fixture(params=COMPRESSIONS)
def served(request: pytest.FixtureRequest, origin: str) -> Iterator[tuple[str, queue.Queue[lapwing.Closed | None]]]:
    """A server of the page's origin, and how its connections ended."""
    ends: queue.Queue[lapwing.Closed | None] = queue.Queue()

    async def until_closed(ws: lapwing.Connection) -> None:
        try:
            await echo(ws)
        finally:
            ends.put(ws.closed)

    async def go_away(ws: lapwing.Connection) -> None:
        await ws.receive()
        await ws.close(4001, "as you wish")

    async def fail(ws: lapwing.Connection) -> None:
        await ws.receive()
        raise LookupError("on purpose")

    async def leave(ws: lapwing.Connection) -> None:
        await ws.receive()

    protocols: dict[str, Any] = {"echo": until_closed, "go-away": go_away, "fail": fail, "leave": leave}
    runtime = Runtime("asyncio", asyncio.new_event_loop, {})
    compression = COMPRESSIONS[request.param]
    options: dict[str, Any] = {"origins": [origin], "compression": compression}
    with ServerThread(runtime, protocols=protocols, default=until_closed, **options) as server:
        yield server.url, ends


def run(browser: Browser, script: str) -> Any:
    return browser.run("(async () => {" + PRELUDE + script + "})()")


def test_text_comes_back_as_it_was(browser: Browser, served: Any) -> None:
    url, _ = served
    sent = ["a" * size for size in SIZES] + ["grüß dich, 世界 \N{SLIGHTLY SMILING FACE}", '{"a": [1, 2]}']
    script = f"""
        const socket = await open({json.dumps(url)});
        const got = [];
        for (const text of {json.dumps(sent)}) {{
            const answer = next(socket);
            socket.send(text);
            got.push(await answer);
        }}
        socket.close();
        return got;"""
    assert run(browser, script) == sent


def test_binary_comes_back_as_it_was(browser: Browser, served: Any) -> None:
    url, _ = served
    script = f"""
        const socket = await open({json.dumps(url)});
        const wrong = [];
        for (const size of {SIZES}) {{
            const data = new Uint8Array(size).map((_, index) => index * 7 + size);
            for (const form of [data, new Blob([data])]) {{
                const answer = next(socket);
                socket.send(form);
                const got = new Uint8Array(await answer);
                if (got.length != size || !got.every((value, index) => value == data[index]))
                    wrong.push(size);
            }}
        }}
        socket.close();
        return wrong;"""
    assert run(browser, script) == []


def test_compression_is_agreed_on(browser: Browser, served: Any, request: pytest.FixtureRequest) -> None:
    url, _ = served
    script = f"""
        const socket = await open({json.dumps(url)});
        socket.close();
        return socket.extensions;"""
    agreed = run(browser, script)
    name = request.node.callspec.params["served"]
    assert agreed.partition(";")[0] == ("" if name == "uncompressed" else "permessage-deflate")
    assert ("server_no_context_takeover" in agreed) is (name == "compressed")
    assert ("server_max_window_bits=9" in agreed) is (name == "small windows")


def test_a_server_that_drains(browser: Browser, origin: str) -> None:
    runtime = Runtime("asyncio", asyncio.new_event_loop, {})
    with ServerThread(runtime, default=echo, origins=[origin]) as server:
        script = f"""
            const socket = await open({json.dumps(server.url)});
            window.ended = end(socket);"""
        run(browser, script)
        server.call(server.server.drain, 0.01)
        closed = run(browser, "return await window.ended;")
    assert closed == [True, 1012, "the server is restarting: connect again"]


def test_many_messages_in_one_go(browser: Browser, served: Any) -> None:
    url, _ = served
    script = f"""
        const socket = await open({json.dumps(url)});
        const got = [];
        const all = new Promise(done => {{
            socket.onmessage = event => {{ got.push(event.data); if (got.length == 2000) done(); }};
        }});
        for (let number = 0; number < 2000; number++)
            socket.send('message ' + number);
        await all;
        socket.close();
        return got;"""
    assert run(browser, script) == [f"message {number}" for number in range(2000)]


def test_subprotocols(browser: Browser, served: Any) -> None:
    url, _ = served
    script = f"""
        const chosen = [];
        for (const asked of [[], ['echo'], ['unknown', 'echo']]) {{
            const socket = await open({json.dumps(url)}, asked);
            chosen.push(socket.protocol);
            socket.close();
        }}
        return chosen;"""
    assert run(browser, script) == ["", "echo", "echo"]


@pytest.mark.parametrize(
    ("arguments", "closed"),
    [("", (True, 1005, "")), ("1000", (True, 1000, "")), ("3001, 'adiós'", (True, 3001, "adiós"))],
)
def test_the_browser_closes(browser: Browser, served: Any, arguments: str, closed: tuple[bool, int, str]) -> None:
    url, ends = served
    script = f"""
        const socket = await open({json.dumps(url)});
        const ended = end(socket);
        socket.close({arguments});
        return await ended;"""
    assert run(browser, script) == list(closed)
    assert ends.get(timeout=TIMEOUT) == closed


@pytest.mark.parametrize(
    ("subprotocol", "closed"),
    [
        ("go-away", [True, 4001, "as you wish"]),
        ("fail", [True, 1011, "the handler failed"]),
        ("leave", [True, 1000, ""]),
    ],
)
def test_the_server_closes(browser: Browser, served: Any, subprotocol: str, closed: list[object]) -> None:
    url, _ = served
    script = f"""
        const socket = await open({json.dumps(url)}, {json.dumps(subprotocol)});
        const ended = end(socket);
        socket.send('now');
        return await ended;"""
    assert run(browser, script) == closed


def test_the_page_goes(browser: Browser, served: Any, origin: str) -> None:
    """A browser says 1001 when the user leaves the page."""
    url, ends = served
    run(browser, f"window.kept = await open({json.dumps(url)});")
    browser.show(origin + "/another")
    closed = ends.get(timeout=TIMEOUT)
    assert closed.code == 1001


def test_a_page_of_a_foreign_origin_is_refused(browser: Browser, origin: str) -> None:
    """Cross-site WebSocket hijacking (PYSEC-2019-170): by default only pages of the server's own host may connect."""
    runtime = Runtime("asyncio", asyncio.new_event_loop, {})
    with ServerThread(runtime, default=echo) as server:
        script = f"return await open({json.dumps(server.url)}).then(() => 'open', reason => reason);"
        assert run(browser, script) == "closed 1006"


@pytest.mark.parametrize(
    ("program", "path", "greeting", "answer"),
    [
        (("aiohttp_app.py",), "/chat?name=ann", None, "ann: dinner"),
        (("flask_app.py",), "/rooms/a?name=ann", None, "ann: dinner"),
        (("django_app.py", "runserver", "--noreload"), "/rooms/a?name=ann", "ann in a", "dinner"),
    ],
    ids=["aiohttp", "flask", "django"],
)
def test_a_page_of_another_server(
    browser: Browser, origin: str, program: tuple[str, ...], path: str, greeting: str | None, answer: str
) -> None:
    """The page and the WebSocket come from one application, inside which lapwing is."""
    need_library(program[0].partition("_")[0])
    port = free_port()
    with starting() as start:
        wait_for_port(port, start(*program, port))
        browser.show(f"http://127.0.0.1:{port}/")
        first = "await next(socket)" if greeting else "null"
        script = f"""
            const socket = await open('ws://127.0.0.1:{port}{path}');
            const got = [{first}];
            const answer = next(socket);
            socket.send('dinner');
            got.push(await answer);
            const ended = end(socket);
            socket.close(1000);
            return [...got, ...await ended];"""
        assert run(browser, script) == [greeting, answer, True, 1000, ""]
    browser.show(origin)
