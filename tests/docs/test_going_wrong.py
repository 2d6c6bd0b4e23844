"""The page "When something goes wrong" shows the messages as they are: each is provoked here, and compared."""

from __future__ import annotations

import asyncio
import gc
import re
import ssl
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.auth import bearer_auth
from tests.docs.pages import DOCS, block, blocks_of
from tests.peers.certificates import Certificate, Certificates
from tests.peers.raw import RawListener
from tests.peers.servers import echo

PAGE = DOCS / "how-to" / "when-something-goes-wrong.rst"


async def words_of(attempt: Callable[[], Awaitable[object]]) -> str:
    """What an attempt that fails says, as Python prints it."""
    with pytest.raises(Exception) as caught:
        await attempt()
    return f"{type(caught.value).__name__}: {caught.value}"


async def connect(port: int, scheme: str = "ws", protocol: str | None = None, **options: Any) -> None:
    async with lapwing.connect(f"{scheme}://localhost:{port}", protocol, timeout=20, **options):
        pass


def same(name: str, said: str, port: int = 8080) -> None:
    """Compare what was said with the block of the page: white space and ports may differ."""
    expected = " ".join(block(name).split())
    got = " ".join(said.replace(f":{port}", ":8080").split())
    if expected.endswith("..."):
        got = got[: len(expected) - 3] + "..."
    assert got == expected


async def refusal(name: str, *, client: dict[str, Any] | None = None, **server: Any) -> None:
    """Have a client refused by a server with these options."""
    async with lapwing.listen(0, **server) as listening:
        said = await words_of(lambda: connect(listening.port, **(client or {})))
        same(name, re.sub(r" \(\[SSL.*", "", said), listening.port)


def test_each_message_of_the_page_is_provoked_here() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    for each in blocks_of(PAGE):
        assert f'"{each.name}"' in tests, f"nothing provokes {each.name}"


async def test_nobody_there() -> None:
    with RawListener() as listener:
        port = listener.port
    same("wrong-refused", await words_of(lambda: connect(port)), port)
    same("wrong-host", await words_of(lambda: lapwing.connect("ws://nowhere.invalid").__aenter__()))
    same("wrong-password", await words_of(lambda: lapwing.connect("ws://ada:se#cret@localhost:8080/").__aenter__()))
    same("wrong-scheme", await words_of(lambda: lapwing.connect("http://localhost:8080").__aenter__()))


async def test_another_server() -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(words_of(lambda: connect(listener.port)))
        with await asyncio.to_thread(listener.accept_bare) as peer:
            await asyncio.to_thread(peer.read_head)
            peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
            same("wrong-ssh", await connecting, listener.port)
        same("wrong-silence", await words_of(lambda: connect(listener.port, open_timeout=0.2)), listener.port)


@pytest.mark.parametrize(
    ("name", "certificate", "trusts"),
    [("wrong-authority", "good", False), ("wrong-name", "wrong_host", True), ("wrong-expired", "expired", True)],
)
async def test_certificates(name: str, certificate: str, trusts: bool, tls: Certificates) -> None:
    its: Certificate = getattr(tls, certificate)
    client: dict[str, Any] = {"scheme": "wss", **({"ssl": tls.client_context()} if trusts else {})}
    await refusal(name, default=echo, ssl=its.server_context(), client=client)


async def test_a_client_certificate(tls: Certificates) -> None:
    context = tls.good.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    client: dict[str, Any] = {"scheme": "wss", "ssl": tls.client_context()}
    await refusal("wrong-client-certificate", default=echo, ssl=context, client=client)


async def test_tls_with_one_end_only(tls: Certificates) -> None:
    await refusal("wrong-ws-to-tls", default=echo, ssl=tls.good.server_context())
    await refusal("wrong-wss-to-plain", default=echo, client={"scheme": "wss"})


async def test_refusals() -> None:
    await refusal("wrong-401", default=echo, on_request=bearer_auth({"token": "ada"}))
    await refusal("wrong-403", default=echo, client={"origin": "https://example.com"})
    await refusal("wrong-rebinding", interface="127.0.0.1", default=echo, client={"origin": "https://example.com"})
    await refusal("wrong-431", default=echo, client={"cookies": {"session": "c" * 9000}})
    await refusal("wrong-404", default=echo, on_request=lambda request: lapwing.Response.of(404))
    await refusal("wrong-400", protocols={"chat": echo}, client={"protocol": "echo"})
    async with lapwing.listen(0, default=echo, max_connections=1) as server:
        async with lapwing.connect(f"ws://localhost:{server.port}"):
            same("wrong-503", await words_of(lambda: connect(server.port)), server.port)


async def test_a_gateway_that_drops_the_upgrade() -> None:
    async with lapwing.listen(0, default=echo) as server:
        reader, writer = await asyncio.open_connection("localhost", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    with RawListener() as listener:
        connecting = asyncio.create_task(words_of(lambda: connect(listener.port)))
        with await asyncio.to_thread(listener.accept_bare) as peer:
            await asyncio.to_thread(peer.read_head)
            peer.send(answer)
            same("wrong-426", await connecting, listener.port)


async def test_servers_that_do_not_start() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
        again = lapwing.listen(server.port, "127.0.0.1", default=echo)
        same("wrong-port", await words_of(lambda: again.__aenter__()), server.port)

    async def run() -> None:
        lapwing.run(default=echo)

    async def handler(ws: lapwing.Connection, path: str) -> None: ...

    handler.__qualname__, handler.__annotations__ = "handler", {}  # as a newcomer would write it

    async def listen() -> None:
        lapwing.listen(0, protocols={"chat": handler})  # type: ignore[dict-item]

    same("wrong-run", await words_of(run))
    same("wrong-handler", await words_of(listen))


async def send_too_late(
    handler: Callable[[lapwing.Connection], Coroutine[Any, Any, None]], first: str = "hello", **how: Any
) -> str:
    """Say something to a handler, receive until the connection is closed, and then send."""
    async with (
        lapwing.listen(0, default=handler, **how) as server,
        lapwing.connect(f"ws://localhost:{server.port}", timeout=20, **how) as ws,
    ):
        await ws.send(first)
        while await ws.receive() is not None:
            pass
        return await words_of(lambda: ws.send("too late"))


async def test_connections_that_end(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(ws: lapwing.Connection) -> None:
        raise KeyError("something")

    async def leave(ws: lapwing.Connection) -> None:
        await ws.receive()

    async def large(ws: lapwing.Connection) -> None:
        await ws.send("x" * 5000)
        await ws.receive()

    same("wrong-1011", await send_too_late(fail))
    assert [record.getMessage().rpartition("): ")[2] for record in caplog.records if record.levelname == "ERROR"] == [
        "the handler fail (default) failed"
    ]
    same("wrong-closed", await send_too_late(leave))
    same("wrong-1009-here", await send_too_late(large, max_message_size=4096))
    same("wrong-1009-there", await send_too_late(echo, "x" * 5000, max_message_size=4096))


async def test_a_peer_that_went_silent() -> None:
    with RawListener() as listener:
        client = lapwing.AsyncClient(ping_interval=0.1, ping_timeout=0.1)
        connecting = asyncio.create_task(client.connect(listener.url))
        with await asyncio.to_thread(listener.accept):
            await connecting
            assert await client.receive() is None
            said = await words_of(lambda: client.send("too late"))
    same("wrong-silent-peer", re.sub(r"for 0\.\d+ s", "for 0.2 s", said))


async def test_calls_that_are_refused() -> None:
    async def without_with() -> None:
        lapwing.connect("ws://localhost:8080").send("hello")

    async def unknown_option() -> None:
        lapwing.Client(time_out=1)  # type: ignore[call-arg]

    same("wrong-with", await words_of(without_with))
    same("wrong-option", await words_of(unknown_option))
    async with lapwing.listen(0, default=echo) as server, lapwing.connect(f"ws://localhost:{server.port}") as ws:
        same("wrong-type", await words_of(lambda: ws.send({"a": 1})))
        waiting = asyncio.create_task(ws.receive())
        await asyncio.sleep(0)
        same("wrong-two", await words_of(ws.receive))
        waiting.cancel()
        assert asyncio.get_running_loop().get_debug()
        said: list[str] = []
        thread = threading.Thread(target=lambda: said.append(_words_of_call(lambda: ws.send("hello"))))
        thread.start()
        await asyncio.to_thread(thread.join)
        same("wrong-thread", said[0])
        with pytest.warns(RuntimeWarning) as warned:
            ws.receive()  # type: ignore[unused-coroutine]
            gc.collect()
        same("wrong-await", f"RuntimeWarning: {warned[0].message}")


def _words_of_call(attempt: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:
        attempt()
    return f"{type(caught.value).__name__}: {caught.value}"


async def test_a_blocking_client_in_a_loop() -> None:
    with RawListener() as listener, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(TimeoutError):
            lapwing.Client(timeout=0.01).connect(listener.url)
    same("wrong-blocking", f"RuntimeWarning: {warned[0].message}")
