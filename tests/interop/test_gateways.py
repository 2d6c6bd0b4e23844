"""nginx, haproxy and Caddy in front of a lapwing server, and a lapwing client at the other side of them."""

from __future__ import annotations

import asyncio
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import lapwing
from tests.conftest import Runtime
from tests.peers import gateway
from tests.peers.certificates import Certificates
from tests.peers.gateway import Gateway
from tests.peers.needed import need
from tests.peers.servers import ServerThread

TIMEOUT = 20.0

Front = Callable[..., Gateway]


@pytest.fixture
def directory() -> Iterator[Path]:
    """For the files of a gateway: its sockets need a short path."""
    with TemporaryDirectory(prefix="lapwing") as path:
        yield Path(path)


FRONTS = [
    "nginx",
    "nginx over a unix socket",
    "nginx with TLS",
    "haproxy",
    "haproxy, PROXY v1",
    "haproxy, PROXY v2",
    "haproxy, PROXY v2 with a checksum",
    "caddy with TLS and a unix socket",
]


@pytest.fixture(params=FRONTS)
def front(request: pytest.FixtureRequest) -> str:
    """Which gateway, and how it talks to the server."""
    name: str = request.param
    need(name.split(",")[0].split()[0])
    return name


class Seen:
    """What the server has seen of its clients."""

    def __init__(self) -> None:
        self.ends: list[Any] = []
        self.peers: list[Any] = []
        self.paths: list[str | None] = []

    async def handler(self, ws: lapwing.Connection) -> None:
        """Echo; on a number, close with it."""
        self.peers.append(ws.peer_address)
        self.paths.append(ws.path)
        while (message := await ws.receive()) is not None:
            if isinstance(message, str) and message.isdigit():
                await ws.close(int(message), "as you said")
                break
            await ws.send(message)
        self.ends.append(ws.closed)


class Site:
    """A gateway, the server behind it and what that has seen."""

    def __init__(self, stack: ExitStack, front: str, directory: Path, runtime: Runtime, tls: Certificates) -> None:
        self.seen = Seen()
        self.options: dict[str, Any] = {"timeout": TIMEOUT}
        options: dict[str, Any] = {"proxy_protocol": True} if "PROXY" in front else {}
        path = directory / "upstream"
        if "unix" in front:
            options |= {"unix": path, "interface": "*", "port": 80}
        self.server = stack.enter_context(
            ServerThread(
                runtime,
                protocols={"echo": self.seen.handler},
                default=self.seen.handler,
                health="/healthz",
                inspector=True,
                on_request=lambda request: None if request.is_websocket else lapwing.Response.of(200, "a page\n"),
                **options,
            )
        )
        self.scheme = "ws"
        if front.startswith(("nginx", "caddy")):
            certificate = None
            if "TLS" in front:
                certificate = str(tls.good.certfile), str(tls.good.keyfile)
                self.scheme = "wss"
                self.options["ssl"] = tls.client_context()
            upstream = f"127.0.0.1:{self.server.port}"
            if front.startswith("nginx"):
                upstream = f"unix:{path}" if "unix" in front else upstream
                self.gateway = stack.enter_context(gateway.nginx(directory, upstream, certificate))
            else:
                upstream = f"unix/{path}" if "unix" in front else upstream
                self.gateway = stack.enter_context(gateway.caddy(directory, upstream, certificate))
        else:
            how = {
                "haproxy": "",
                "haproxy, PROXY v1": "send-proxy",
                "haproxy, PROXY v2": "send-proxy-v2",
                "haproxy, PROXY v2 with a checksum": "send-proxy-v2 proxy-v2-options crc32c",
            }[front]
            self.gateway = stack.enter_context(gateway.haproxy(directory, self.server.port, how))
        self.url = f"{self.scheme}://localhost:{self.gateway.port}"

    def begin_to_drain(self) -> None:
        """Begin to drain, with much time for gateways to see it; in the server's loop."""
        self._draining = asyncio.ensure_future(self.server.server.drain(window=0, grace=3600))

    def connect(self, path: str = "/", protocol: str | None = None) -> Any:
        """Connect a blocking client, by way of the gateway."""
        return lapwing.connect(self.url + path, protocol, **self.options)


@pytest.fixture
def site(front: str, directory: Path, runtime: Runtime, tls: Certificates) -> Iterator[Site]:
    """The gateway and the server."""
    with ExitStack() as stack:
        yield Site(stack, front, directory, runtime, tls)


def test_messages_go_both_ways(site: Site) -> None:
    with site.connect("/path?query=x", "echo") as ws:
        assert ws.subprotocol == "echo"
        for message in ("hello", b"\0\xff", "ö" * 1000, bytes(range(256)) * 256, "x" * 65536):
            ws.send(message)
            assert ws.receive() == message
        assert ws.ping() > 0
    assert site.seen.paths == ["/path"]


@pytest.mark.parametrize("code", [1000, 1001, 1012, 3000, 4999])
def test_close_codes_come_through(site: Site, code: int) -> None:
    with site.connect() as ws:
        ws.send(str(code))
        assert ws.receive() is None
        assert ws.closed == (True, code, "as you said")
    with site.connect() as ws:
        assert ws.close(code, "from the client") == (True, code, "from the client")
    deadline = time.monotonic() + TIMEOUT
    while len(site.seen.ends) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert site.seen.ends == [(True, code, "as you said"), (True, code, "from the client")]


def test_pages_and_health_come_through(site: Site) -> None:
    def ask(path: str) -> bytes:
        address = site.url.replace("ws", "http", 1) + path
        with urllib.request.urlopen(address, timeout=TIMEOUT, context=site.options.get("ssl")) as response:
            body: bytes = response.read()
            return body

    assert ask("/") == b"a page\n"
    assert ask("/healthz") == b"ok\n"


def test_the_live_page_wants_its_token(site: Site) -> None:
    """The gateway runs on the server's machine, and says nothing of itself but what its configuration has it say."""
    address = site.server.server.inspector_url
    assert address is not None
    for token, status in (("", 401), ("another-token-of-some-length", 401), (address.partition("#token=")[2], 204)):
        asked = urllib.request.Request(site.url.replace("ws", "http", 1) + "/_lapwing/session")
        asked.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(asked, timeout=TIMEOUT, context=site.options.get("ssl")) as response:
                assert response.status == status
        except urllib.error.HTTPError as error:
            with error:
                assert error.code == status


def test_the_address_is_the_client_s(site: Site, front: str) -> None:
    with site.connect() as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
        mine = ws.local_address
    if "PROXY" in front:
        assert site.seen.peers == [mine[:2]]
    else:  # the gateway's own
        assert site.seen.peers != [mine]


@pytest.mark.parametrize("front", [front for front in FRONTS if "haproxy" in front], indirect=True)
def test_haproxy_sends_nobody_to_a_server_that_drains(site: Site) -> None:
    """Its checks are HTTP/1.0 without a Host; with PROXY v2 they say LOCAL."""

    def wait_for(state: str) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not site.gateway.server_state().startswith(state):
            assert time.monotonic() < deadline, site.gateway.server_state()
            time.sleep(0.02)

    wait_for("UP")
    with site.connect() as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
        site.server.call(site.begin_to_drain)
        wait_for("DOWN")
        with pytest.raises(lapwing.HandshakeError) as refused, site.connect():
            pass
        assert refused.value.status == 503
        ws.send("still served")
        assert ws.receive() == "still served"
    with pytest.raises(urllib.error.HTTPError, match="503") as full:
        urllib.request.urlopen(site.url.replace("ws", "http", 1), timeout=TIMEOUT)
    full.value.close()
