"""The live page without a browser: its files, its WebSocket, and what a server knows of it: nothing."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.auth import Answer
from lapwing.inspector.live import LivePage
from tests.hub.rooms import anybody
from tests.peers.servers import echo

LIVE = "lapwing.inspector.2"
TOKEN = "a-token-of-some-length"
#: Seconds for anything to come.
PATIENCE = 20.0


def live_page(server: lapwing.Server) -> LivePage:
    """The live page that is attached to a server."""
    page = server._page
    assert isinstance(page, LivePage)
    return page


class Page:
    """What the page in a browser does, by hand.

    Attributes:
        ws: its WebSocket.
        shown: what it knows of each connection: the last row of counters.
        introduced: what was told of each.
        server: the totals.
    """

    def __init__(self, ws: lapwing.Connection) -> None:
        self.ws = ws
        self.shown: dict[int, list[int]] = {}
        self.introduced: dict[int, list[Any]] = {}
        self.server: dict[str, Any] = {}
        self.frames: list[list[Any]] = []
        self.missed = 0
        self._requests = 0

    async def take(self) -> dict[str, Any]:
        """Take the next message."""
        text = await self.ws.receive(timeout=PATIENCE)
        assert isinstance(text, str), f"the page was closed: {self.ws.closed}"
        message: dict[str, Any] = json.loads(text)
        if message["type"] == "tick":
            if message.get("all"):
                self.shown.clear()
                self.introduced.clear()
            self.server = message["server"]
            self.introduced |= {row[0]: row for row in message["opened"]}
            self.shown |= {row[0]: row for row in message["changed"]}
            for number in message["gone"]:
                del self.shown[number], self.introduced[number]
        elif message["type"] == "frames":
            self.frames += message["frames"]
            self.missed += message["missed"]
        return message

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await self.take()

    async def ask(self, what: str, **parameters: Any) -> dict[str, Any]:
        self._requests += 1
        await self.ws.send(json.dumps({"do": what, "request": self._requests, **parameters}))
        while True:
            message = await self.take()
            if message["type"] == "answer" and message["request"] == self._requests:
                return message

    def messages(self) -> list[tuple[bool, Any]]:
        """The data frames that were seen: whether sent, and the text."""
        return [(frame[1], frame[8]) for frame in self.frames if frame[2] < 8]


def _url(server: lapwing.Server, path: str = "") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


def _token(server: lapwing.Server) -> dict[str, str]:
    """The header that opens the page."""
    assert server.inspector_url is not None
    return {"Authorization": f"Bearer {server.inspector_url.partition('#token=')[2]}"}


@asynccontextmanager
async def watching(server: lapwing.Server, path: str = "/_lapwing/live", **options: Any) -> AsyncIterator[Page]:
    async with lapwing.connect(_url(server, path), LIVE, headers=_token(server), **options) as ws:
        page = Page(ws)
        hello = await page.take()
        assert hello["type"] == "hello"
        yield page


async def _get(
    server: lapwing.Server, path: str, *lines: str, method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    """A plain HTTP request: status, headers and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        head = "".join(f"{line}\r\n" for line in (f"Host: 127.0.0.1:{server.port}", *lines))
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
        await writer.wait_closed()
    top, _, body = answer.partition(b"\r\n\r\n")
    first, *rest = top.decode().split("\r\n")
    return (
        int(first.split()[1]),
        {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)},
        body,
    )


async def test_the_files_of_the_page() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        status, headers, body = await _get(server, "/_lapwing/")
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert b"<script type" in body
        for name in ("main.js", "style.css", "panel.css", "icon.svg", "table.js", "topics.js"):
            status, headers, body = await _get(server, f"/_lapwing/{name}")
            assert (status, headers["x-content-type-options"]) == (200, "nosniff")
            assert body
            assert b"http://" not in body.replace(b"http://www.w3.org/2000/svg", b"")
            assert b"https://" not in body
        status, headers, _ = await _get(server, "/_lapwing")
        assert (status, headers["location"]) == (308, "/_lapwing/")
        for missing in ("/_lapwing/nothing.js", "/_lapwing/../server.py", "/_lapwing/%2e%2e/server.py"):
            assert (await _get(server, missing))[0] == 404
        assert (await _get(server, "/_lapwing/", method="POST"))[0] == 405
        token = "Authorization: {Authorization}".format(**_token(server))
        assert (await _get(server, "/_lapwing/live", token))[0] == 426
        assert (await _get(server, "/_lapwingish"))[0] == 426  # nobody else's path
        assert (await _get(server, "/_lapwing/session", token))[0] == 204


async def test_without_the_option_there_is_no_page() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
        assert (await _get(server, "/_lapwing/"))[0] == 426


async def test_who_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """What comes from this machine may come through a gateway, or from a page that was made to lead here."""
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        address = f"http://127.0.0.1:{server.port}/_lapwing/#token="
        assert server.inspector_url is not None
        assert server.inspector_url.startswith(address)
        assert capsys.readouterr().err == f"live page: {server.inspector_url}\n"
        for headers in ({}, {"Authorization": "Bearer another-token-of-some-length"}):
            lines = [f"{name}: {value}" for name, value in headers.items()]
            for path in ("session", "live"):
                status, sent, _ = await _get(server, f"/_lapwing/{path}", *lines)
                assert (status, sent["www-authenticate"]) == (401, "Bearer")
            with pytest.raises(lapwing.HandshakeError, match="401"):
                await lapwing.connect(_url(server, "/_lapwing/live"), LIVE, headers=headers)
        for origin in ("http://evil.example", f"http://127.0.0.1:{server.port + 1}"):
            with pytest.raises(lapwing.HandshakeError, match="403"):
                await lapwing.connect(_url(server, "/_lapwing/live"), LIVE, origin=origin, headers=_token(server))
        rebound = {"Host": f"evil.example:{server.port}", **_token(server)}
        with pytest.raises(lapwing.HandshakeError, match="403"):
            await lapwing.connect(
                _url(server, "/_lapwing/live"), LIVE, origin=f"http://{rebound['Host']}", headers=rebound
            )
        with pytest.raises(lapwing.HandshakeError, match="400"):
            await lapwing.connect(_url(server, "/_lapwing/live"), headers=_token(server))
        async with watching(server, origin=f"http://127.0.0.1:{server.port}"):
            pass


async def test_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    inspector = lapwing.Inspector(path="/look", token=TOKEN)
    origins = ["https://example.com"]
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=inspector, origins=origins) as server:
        assert server.inspector_url == f"http://127.0.0.1:{server.port}/look/#token={TOKEN}"
        assert capsys.readouterr().err == "", "the program knows it"
        assert (await _get(server, "/look/", "X-Forwarded-For: 203.0.113.9"))[0] == 200  # it asks for the token
        status, headers, _ = await _get(server, "/look/session")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        assert (await _get(server, "/look/session", f"Authorization: Bearer {TOKEN}"))[0] == 204
        for protocol in ([LIVE], [LIVE, "lapwing.token.AAAA"]):
            with pytest.raises(lapwing.HandshakeError) as caught:
                await lapwing.connect(_url(server, "/look/live"), protocol)
            assert caught.value.status == 401
        encoded = base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
        headers = {"X-Forwarded-For": "203.0.113.9", "Host": "example.com"}
        async with lapwing.connect(
            _url(server, "/look/live"),
            [LIVE, f"lapwing.token.{encoded}"],
            headers=headers,
            origin="https://example.com",
        ) as ws:
            assert ws.subprotocol == LIVE
        async with watching(server, "/look/live") as page:
            await page.take()


async def test_the_address_of_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
        assert server.inspector_url is None
    async with lapwing.listen(0, default=echo, inspector=lapwing.Inspector(token="with # and % in it")) as server:
        assert (
            server.inspector_url == f"http://localhost:{server.port}/_lapwing/#token=with%20%23%20and%20%25%20in%20it"
        )
    assert capsys.readouterr().err == ""
    async with lapwing.listen(unix=tmp_path / "socket", default=echo, inspector=True) as server:
        assert server.inspector_url is not None
        assert server.inspector_url.startswith("/_lapwing/#token=")
    assert capsys.readouterr().err == f"live page: {server.inspector_url}\n"


async def test_numbers_of_connections() -> None:
    def on_request(request: lapwing.IncomingRequest) -> Answer:
        request.user = "<b>ada</b>"
        return None

    async with lapwing.listen(0, "127.0.0.1", {"chat": echo}, echo, inspector=True, on_request=on_request) as server:
        async with watching(server) as page:
            await page.until(lambda: page.server)
            assert page.introduced == {}
            async with lapwing.connect(_url(server, "/?token=secret"), "chat") as ws:
                await page.until(lambda: page.introduced)
                [(number, introduction)] = page.introduced.items()
                _, peer, subprotocol, _, is_thread, user, path = introduction
                assert path == "/?***"
                assert peer == "127.0.0.1:{}".format(*ws.local_address[1:])  # type: ignore[index]
                assert (subprotocol, is_thread, user) == ("chat", 0, "<b>ada</b>")
                for _ in range(3):
                    await ws.send("a" * 100)
                    await ws.receive()
                await page.until(lambda: page.shown[number][1:3] == [3, 3])
                await page.until(lambda: page.shown[number][12] > 0)  # it was pinged
                row = page.shown[number]
                assert row[5:7] == [300, 300]
                assert page.server["messages"] == [3, 3]
                assert page.server["connections"] == 1
                details = (await page.ask("details", number=number))["details"]
                assert (details["path"], details["agent"], details["handler"]) == ("/?***", "lapwing", "task")
            await page.until(lambda: not page.introduced)
            await page.until(lambda: page.server["closed"] == {"1000": 1})


async def test_a_connection_keeps_its_number() -> None:
    """For each page, and when the only page has been loaded anew."""
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        live = live_page(server)
        async with lapwing.connect(_url(server)), lapwing.connect(_url(server)) as ws:
            found = []
            for _ in range(2):
                async with watching(server) as page:
                    await page.until(lambda page=page: len(page.introduced) == 2)  # type: ignore[misc]
                    found.append({number: row[1] for number, row in page.introduced.items()})
                    async with watching(server) as other:
                        await other.until(lambda other=other: len(other.introduced) == 2)  # type: ignore[misc]
                        found.append({number: row[1] for number, row in other.introduced.items()})
                async with asyncio.timeout(PATIENCE):
                    while live._watchers or live._connections:
                        await asyncio.sleep(0)
            assert all(each == found[0] for each in found)
            await ws.close()
            async with lapwing.connect(_url(server)), watching(server) as page:
                await page.until(lambda: len(page.introduced) == 2)
                assert len(set(page.introduced) - set(found[0])) == 1, "a number is not given twice"


async def test_what_an_operator_closed_is_told() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server, watching(server) as page:
        async with lapwing.connect(_url(server)) as ws:
            await page.until(lambda: page.introduced)
            assert page.server["operator"] == {}
            await page.ask("close", number=next(iter(page.introduced)), code=1008, reason="enough")
            assert await ws.receive() is None
        await page.until(lambda: page.server["closed"] == {"1008": 1})
        assert page.server["operator"] == {"1008": 1}


async def test_the_server_knows_nothing_of_the_page() -> None:
    asked = []

    def on_request(request: lapwing.IncomingRequest) -> Answer:
        asked.append(request.path)
        return None

    async with lapwing.listen(
        0, "127.0.0.1", default=echo, inspector=True, on_request=on_request, max_connections=1
    ) as server:
        async with watching(server) as page, watching(server):
            await page.until(lambda: page.server)
            assert server.connections == frozenset()
            assert server.broadcast("nobody hears this") == 0
            async with lapwing.connect(_url(server)) as ws:
                assert len(server.connections) == 1
                await _get(server, "/_lapwing/")  # in spite of the limit
                async with watching(server):
                    pass
                await ws.send("hello")
                assert await ws.receive() == "hello"
            assert asked == ["/"]
            stats = server.stats()
        assert (stats.opened, stats.answered, stats.refused, stats.failed, stats.surplus) == (1, 0, 0, 0, 0)


async def test_frames_of_one_connection() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        async with (
            lapwing.connect(_url(server)) as ws,
            lapwing.connect(_url(server), compression=False) as other,
            watching(server) as page,
        ):
            await page.until(lambda: len(page.introduced) == 2)
            [number] = [row[0] for row in page.introduced.values() if row[1].endswith(f":{ws.local_address[1]}")]  # type: ignore[index]
            assert "error" not in await page.ask("tail", number=number)
            await ws.send("hello")
            await other.send("not watched")
            long = "a long one, which is compressed, " * 100
            await ws.send(long)
            await ws.send(b"\x00\xff")
            await page.until(lambda: len(page.messages()) == 6)
            texts = [frame[8] for frame in page.frames if not frame[1] and frame[2] < 8]
            assert texts == ["hello", long[:1024], base64.b64encode(b"\x00\xff").decode()]
            [compressed] = [frame for frame in page.frames if frame[4] and not frame[1]]
            assert compressed[6] == len(long) > compressed[5]
            await page.ask("tail", number=None)
            page.frames.clear()
            await ws.send("nobody looks")
            assert [await ws.receive() for _ in range(4)][-1] == "nobody looks"
            await page.ask("tail", number=number)  # what came in between is not told
            await ws.close(4000, "bye")
            await page.until(lambda: any(frame[2] == 8 for frame in page.frames))
            assert page.messages() == []
            [close, *_] = [frame for frame in page.frames if frame[2] == 8]
            assert close[8:] == ["bye", 4000]


async def test_two_watchers_of_one_connection_and_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Each gets the frames, and the log of frames, which was there before, goes on."""
    caplog.set_level(logging.DEBUG, "lapwing.frames")
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        async with lapwing.connect(_url(server)) as ws, watching(server) as one:
            await one.until(lambda: one.introduced)
            [number] = one.introduced
            async with watching(server) as two:
                await two.until(lambda: two.introduced)
                await one.ask("tail", number=number)
                await two.ask("tail", number=number)
                await ws.send("hello")
                for page in (one, two):
                    await page.until(lambda page=page: page.messages() == [(False, "hello"), (True, "hello")])  # type: ignore[misc]
            await ws.send("again")
            await one.until(lambda: len(one.messages()) == 4)
            await one.ask("tail", number=None)
            await ws.send("logged all the same")
            assert [await ws.receive() for _ in range(3)][-1] == "logged all the same"
    logged = [record.getMessage() for record in caplog.records if "'logged all the same'" in record.getMessage()]
    assert [line.split()[0] for line in logged].count("server-1") in (0, 2)
    assert len(logged) == 4  # both ends, both directions


async def test_many_frames_are_told_in_part() -> None:
    async def burst(ws: lapwing.Connection) -> None:
        async for message in ws:
            for number in range(int(message)):
                await ws.send(str(number))

    async with lapwing.listen(0, "127.0.0.1", default=burst, inspector=True) as server:
        async with lapwing.connect(_url(server)) as ws, watching(server) as page:
            await page.until(lambda: page.introduced)
            await page.ask("tail", number=next(iter(page.introduced)))
            await ws.send("5000")
            while await ws.receive() != "4999":
                pass
            await page.until(lambda: page.messages()[-1:] == [(True, "4999")])
            assert page.missed > 0
            [connection] = server.connections
            stats = connection.stats()
            assert 5001 <= page.missed + len(page.frames) <= 5001 + stats.controls_sent + stats.controls_received


async def test_sending_and_closing() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        async with lapwing.connect(_url(server)) as ws, watching(server) as page:
            await page.until(lambda: page.introduced)
            [number] = page.introduced
            assert (await page.ask("send", number=number, text="grüße"))["sent"] == 7
            assert await ws.receive() == "grüße"
            await page.ask("send", number=number, text=base64.b64encode(b"\x00\x01").decode(), binary=True)
            assert await ws.receive() == b"\x00\x01"
            assert (await page.ask("close", number=number, code=4001, reason="from the page"))["closing"] == 4001
            assert await ws.receive() is None
            assert ws.closed == (True, 4001, "from the page")
            assert (await page.ask("send", number=number, text="too late"))["error"] == "this connection is closed"


async def test_a_connection_in_a_thread() -> None:
    done = threading.Event()

    def handler(ws: lapwing.BlockingConnection) -> None:
        try:
            for message in ws:
                ws.send(message)
        finally:
            done.set()

    async with lapwing.listen(0, "127.0.0.1", default=handler, inspector=True) as server:
        async with lapwing.connect(_url(server)) as ws, watching(server) as page:
            await page.until(lambda: page.introduced)
            [number] = page.introduced
            assert page.introduced[number][4] == 1
            await page.ask("tail", number=number)
            await ws.send("hello")
            await page.until(lambda: page.messages() == [(False, "hello"), (True, "hello")])
            assert await ws.receive() == "hello"
            await page.until(lambda: page.shown[number][12] > 0)
            await page.ask("send", number=number, text="from the page")
            assert await ws.receive() == "from the page"
            await page.ask("close", number=number, code=4001, reason="")
            assert await ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == 4001
        assert await asyncio.to_thread(done.wait, PATIENCE)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("no JSON", "Expecting value"),
        ("[]", "an object"),
        ('{"do": "dance", "number": 1}', "expected tail, details, send or close, got 'dance'"),
        ('{"do": "tail", "number": 99}', "this connection is closed"),
        ('{"do": "details", "number": "1"}', "this connection is closed"),
        ('{"do": "send", "number": 1, "text": 5}', "text to be a string"),
        ('{"do": "send", "number": 1, "text": "?", "binary": true}', "base64"),
        ('{"do": "send", "number": 1, "text": "\\ud800"}', "surrogates"),
        (json.dumps({"do": "send", "number": 1, "text": "a" * 65537}), "at most 65536 bytes"),
        ('{"do": "close", "number": 1, "code": 1006}', "1006"),
        ('{"do": "close", "number": 1, "code": "1000"}', "a close code"),
        (json.dumps({"do": "close", "number": 1, "reason": "a" * 124}), "reason"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
async def test_what_makes_no_sense_is_answered(request_: str, words: str) -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        async with lapwing.connect(_url(server)) as ws, watching(server) as page:
            await page.until(lambda: page.introduced)
            await page.ws.send(request_)
            while (message := await page.take())["type"] != "answer":
                pass
            assert words in message["error"]
            await ws.send("still there")
            assert await ws.receive() == "still there"
            assert ws.closed is None


async def test_watchers_are_few() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        where, token = _url(server, "/_lapwing/live"), _token(server)
        pages = [await lapwing.connect(where, LIVE, headers=token) for _ in range(16)]
        with pytest.raises(lapwing.HandshakeError) as caught:
            await lapwing.connect(where, LIVE, headers=token)
        assert caught.value.status == 503
        for page in pages:
            await page.close()
        async with asyncio.timeout(PATIENCE):
            while live_page(server)._watchers:
                await asyncio.sleep(0)
        async with watching(server):
            pass


async def test_nothing_is_done_while_nobody_watches() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        live = live_page(server)
        async with lapwing.connect(_url(server)):
            async with watching(server) as page:
                await page.until(lambda: page.introduced)
                await page.ask("tail", number=next(iter(page.introduced)))
            async with asyncio.timeout(PATIENCE):
                while live._watchers or live._connections:
                    await asyncio.sleep(0)
            assert (live._next_look, live._next_tail, live._tails) == (None, None, {})
            assert live.sampler.everything() == {"opened": [], "changed": [], "gone": []}


async def test_a_page_that_does_not_read_holds_up_nobody() -> None:
    """It is told less, and everything once it reads again."""
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        live = live_page(server)
        async with watching(server) as page:
            await page.until(lambda: page.server)
            [(watcher, _)] = live._watchers.values()
            while watcher.tell(json.dumps({"type": "noise", "text": "x" * 500_000})):
                pass
            watcher.is_informed = False
            async with lapwing.connect(_url(server)) as ws:
                await ws.send("hello")
                assert await ws.receive() == "hello"
                await page.until(lambda: page.introduced)
                assert watcher.is_informed


@pytest.mark.parametrize("way", ["close", "drain"])
async def test_the_end_of_the_server_ends_it(way: str) -> None:
    """With 1012, upon which the page comes back."""
    async with lapwing.listen(0, "127.0.0.1", default=echo, inspector=True) as server:
        async with watching(server) as page:
            await page.until(lambda: page.server)
            if way == "close":
                await server.close()
            else:
                await server.drain(0)
            while await page.ws.receive(timeout=PATIENCE) is not None:
                pass
            assert page.ws.closed is not None
            assert page.ws.closed.code == 1012
    assert not live_page(server)._connections


async def test_the_topics_of_the_hub() -> None:
    hub = lapwing.Hub()
    options: dict[str, Any] = {"default": echo, "inspector": True}
    hub.topic("chat:*", history=10)(anybody)
    hub.topic("live:*")(anybody)
    async with (
        lapwing.listen(0, "127.0.0.1", hub=hub, **options) as server,
        watching(server) as page,
    ):
        async with hub.subscribe("chat:1", "live:" + "x" * 200) as messages:
            await hub.publish("chat:1", 1)
            await anext(messages)
            await page.until(lambda: page.server.get("hub") and page.server["hub"]["topics"])
            await page.until(lambda: page.server["hub"]["topics"][0][3] == 1)
            shown = page.server["hub"]
            assert shown["up"] is True
            assert shown["patterns"] == [["chat:*", 1, 1, 0, 1, 0, 0], ["live:*", 1, 1, 0, 0, 0, 0]]
            assert shown["topics"] == [["chat:1", 1, 0, 1], [("live:" + "x" * 200)[:120], 1, 0, 0]]
    async with lapwing.listen(0, "127.0.0.1", **options) as server, watching(server) as page:
        await page.until(lambda: "hub" in page.server)
        assert page.server["hub"] is None
