"""nginx, haproxy and Caddy in front of a lapwing server: each a process with its configuration in a directory."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.peers.needed import need
from tests.peers.programs import EXAMPLES, free_port

#: Seconds after which a gateway that does not begin to listen fails the test.
TIMEOUT = 20.0

_NGINX = """
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
    server {{
        listen 127.0.0.1:{port}{tls};
        location / {{
            proxy_pass http://{upstream};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_read_timeout 60s;
        }}
    }}
    map $http_upgrade $connection_upgrade {{
        default upgrade;
        '' close;
    }}
}}
"""

_HAPROXY = """
global
    stats socket {directory}/stats level admin
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    timeout check 5s
frontend in
    bind 127.0.0.1:{port}
    default_backend servers
backend servers
    option httpchk GET /healthz HTTP/1.0
    server lapwing 127.0.0.1:{upstream} check inter 100ms fall 1 rise 1 {options}
"""

#: What comes before the file of the documentation.
_CADDY = """
{{
    admin off
    auto_https off
}}
"""


_FLAGS = {
    "nginx": "-c {file} -e {directory}/error.log",
    "haproxy": "-db -f {file}",
    "caddy": "run --adapter caddyfile --config {file}",
}


class Gateway:
    """A gateway, started by `with`.

    Attributes:
        port: where it listens.
        directory: its files.
    """

    def __init__(self, name: str, directory: Path, configuration: str, **values: object) -> None:
        self.port = free_port()
        self.directory = directory
        program = need(name)
        file = directory / f"{name}.conf"
        file.write_text(configuration.format(port=self.port, directory=directory, **values), encoding="utf-8")
        self._command = [program, *_FLAGS[name].format(file=file, directory=directory).split()]
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        with (self.directory / "output").open("wb") as output:
            places = {name: str(self.directory) for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME")}  # of Caddy's files
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, env=os.environ | places)
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except ConnectionRefusedError:
                assert self._process.poll() is None, (self.directory / "output").read_text(encoding="utf-8")
                assert time.monotonic() < deadline, "it does not listen"
                time.sleep(0.02)
            else:
                return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(TIMEOUT)

    def server_state(self) -> str:
        """What haproxy thinks of its server: "UP" or "DOWN", perhaps with what it is waiting for.

        It is "" as long as haproxy cannot be asked: it serves before it listens for questions, and the file of that
        socket is there before haproxy listens on it.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            try:
                sock.connect(str(self.directory / "stats"))
            except (FileNotFoundError, ConnectionRefusedError):
                return ""
            sock.sendall(b"show stat\n")
            data = b""
            while part := sock.recv(65536):
                data += part
        lines = data.decode().splitlines()
        names = lines[0].removeprefix("# ").split(",")
        for line in lines[1:]:
            row = dict(zip(names, line.split(","), strict=False))
            if row.get("svname") == "lapwing":
                return row["status"]
        raise AssertionError(f"haproxy knows no such server: {data!r}")


@contextmanager
def nginx(directory: Path, upstream: str, certificate: tuple[str, str] | None = None) -> Iterator[Gateway]:
    """Nginx, which ends TLS where it has a certificate (and its key)."""
    tls = ""
    if certificate is not None:
        tls = f" ssl;\n        ssl_certificate {certificate[0]};\n        ssl_certificate_key {certificate[1]}"
    with Gateway("nginx", directory, _NGINX, upstream=upstream, tls=tls) as gateway:
        yield gateway


@contextmanager
def haproxy(directory: Path, upstream: int, options: str = "") -> Iterator[Gateway]:
    """Haproxy, which asks its server for its health ten times a second.

    Args:
        directory: for its files.
        upstream: the server's port.
        options: of the server's line, such as "send-proxy".
    """
    with Gateway("haproxy", directory, _HAPROXY, upstream=upstream, options=options) as gateway:
        yield gateway


@contextmanager
def caddy(directory: Path, upstream: str, certificate: tuple[str, str] | None = None) -> Iterator[Gateway]:
    """Caddy with the file of the documentation, which ends TLS where it has a certificate (and its key)."""
    site = (EXAMPLES / "deploy/Caddyfile").read_text(encoding="utf-8").replace("{", "{{").replace("}", "}}")
    address = "http://localhost:{port} {{" if certificate is None else "https://localhost:{port} {{\n\ttls {tls}"
    site = site.replace("chat.example.com {{", address + "\n\tbind 127.0.0.1")
    site = site.replace("unix//run/chat/chat.sock", "{upstream}")
    with Gateway("caddy", directory, _CADDY + site, upstream=upstream, tls=" ".join(certificate or ())) as gateway:
        yield gateway
