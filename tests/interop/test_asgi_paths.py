"""nginx as the page on ASGI has it: the paths of WebSockets go to lapwing, the others to the server of the pages."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import lapwing
import lapwing.asgi
from tests.conftest import RUNTIMES
from tests.peers.gateway import Gateway
from tests.peers.needed import need
from tests.peers.programs import EXAMPLES
from tests.peers.servers import ServerThread

TIMEOUT = 20.0

MAIN = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/paths.conf;
}}
"""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    await receive()
    await send({"type": "websocket.accept"})
    text = f"{scope['root_path']} {scope['path']} {scope['client'][0]}"
    await send({"type": "websocket.send", "text": text})
    await receive()


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the page at " + self.path.encode())

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def pages() -> Iterator[int]:
    """An HTTP server; gives its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(TIMEOUT)


def test_paths_of_websockets_and_of_pages() -> None:
    need("nginx")
    text = (EXAMPLES / "deploy/nginx_paths.conf").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if "ssl_certificate" not in line]
    application = lapwing.asgi.handler(app, root_path="/live")
    options: dict[str, Any] = {"forwarded": "127.0.0.1", "origins": ["https://shop.example.com"]}
    with (
        TemporaryDirectory(prefix="lapwing-") as name,
        ServerThread(RUNTIMES["asyncio+epoll"], default=application, **options) as server,
        pages() as port,
    ):
        directory = Path(name)
        gateway = Gateway("nginx", directory, MAIN)
        paths = "\n".join(lines).replace("127.0.0.1:8001", f"127.0.0.1:{server.port}")
        paths = paths.replace("127.0.0.1:8000", f"127.0.0.1:{port}").replace("443 ssl", f"127.0.0.1:{gateway.port}")
        (directory / "paths.conf").write_text(paths, encoding="utf-8")
        with gateway:
            place = f"127.0.0.1:{gateway.port}"
            headers = {"Origin": "https://shop.example.com", "Host": "shop.example.com"}
            with lapwing.connect(f"ws://{place}/live/rooms/7", headers=headers, timeout=TIMEOUT) as ws:
                assert ws.receive() == "/live /live/rooms/7 127.0.0.1"
            with urllib.request.urlopen(f"http://{place}/basket", timeout=TIMEOUT) as page:
                assert page.read() == b"the page at /basket"
            with pytest.raises(lapwing.HandshakeError) as caught:
                lapwing.Client(timeout=TIMEOUT, headers={"Origin": "https://elsewhere.example"}).connect(
                    f"ws://{place}/live/rooms/7"
                )
            assert caught.value.status == 403
