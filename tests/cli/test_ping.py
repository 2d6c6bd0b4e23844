"""`lapwing ping`."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread

import pytest

import lapwing
from lapwing.cli import main
from lapwing.cli.outcome import Status
from lapwing.protocol import accept_key
from tests.cli.conftest import Command, interrupt
from tests.conftest import RUNTIMES
from tests.peers import wire
from tests.peers.raw import RawListener
from tests.peers.servers import ServerThread


@contextmanager
def _mute_server() -> Iterator[str]:
    """A server that opens a connection, and says nothing more until the client goes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with listening.accept()[0] as sock:
                key = sock.recv(4096).decode().partition("Sec-WebSocket-Key: ")[2].split("\r\n")[0]
                sock.sendall(
                    b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n"
                )
                while data := sock.recv(4096):
                    if data[0] & 0x0F == 8:  # a close frame
                        return

        thread = Thread(target=serve)
        thread.start()
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


def test_pings(capsys: pytest.CaptureFixture[str], server: ServerThread) -> None:
    assert main(["ping", "-c", "3", "-i", "0", server.url]) == Status.OK
    place = re.escape(f"127.0.0.1:{server.port}")
    time = r"\d+\.\d{3}"
    assert re.fullmatch(
        f"PING {place}: 8 bytes of payload\n"
        + "".join(f"pong from {place}: seq={number} time={time} ms\n" for number in (1, 2, 3))
        + f"\n--- {place} ping statistics ---\n3 pings sent, 3 pongs received, 0% loss, time \\d+ ms\n"
        + f"rtt min/avg/max/mdev = {time}/{time}/{time}/{time} ms\n",
        capsys.readouterr().out,
    )


def test_json(capsys: pytest.CaptureFixture[str], server: ServerThread) -> None:
    assert main(["ping", "-c", "2", "-i", "0", "--json", "--size", "125", server.url]) == Status.OK
    *pongs, summary = map(json.loads, capsys.readouterr().out.splitlines())
    assert [(pong["type"], pong["seq"]) for pong in pongs] == [("pong", 1), ("pong", 2)]
    assert (summary["type"], summary["sent"], summary["received"], summary["loss"]) == ("summary", 2, 2, 0.0)
    assert 0 < summary["ms"]["min"] <= summary["ms"]["avg"] <= summary["ms"]["max"]


def test_no_pong(capsys: pytest.CaptureFixture[str]) -> None:
    with _mute_server() as url:
        assert main(["ping", "-c", "2", "-i", "0", "-W", "0.05", url]) == Status.ENDED_BADLY
    told = capsys.readouterr().out
    assert "no pong within 0.05 s: seq=1\nno pong within 0.05 s: seq=2\n" in told
    assert "2 pings sent, 0 pongs received, 100% loss" in told
    assert "rtt" not in told


def test_a_server_that_returns_pings_as_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """lua-websockets gives pings to the application, which an echo server returns as text: it must be UTF-8."""
    with RawListener() as listening, ThreadPoolExecutor() as pool:

        def serve() -> int:
            with listening.accept() as peer:
                returned = 0
                while (frame := peer.read_frame()).opcode == wire.PING:
                    peer.send_frame(wire.TEXT, frame.payload)
                    peer.send_frame(wire.PONG, frame.payload)
                    returned += 1
                peer.send_close()
                return returned

        served = pool.submit(serve)
        assert main(["ping", "-q", "-c", "300", "-i", "0", "--size", "60", listening.url]) == Status.OK
        assert served.result() == 300
    assert "300 pings sent, 300 pongs received" in capsys.readouterr().out


def test_the_server_closes(capsys: pytest.CaptureFixture[str]) -> None:
    async def shut(ws: lapwing.Connection) -> None:
        await ws.close(4003, "enough")

    with ServerThread(RUNTIMES["asyncio+epoll"], default=shut) as server:
        assert main(["ping", "-i", "0", server.url]) == Status.ENDED_BADLY
    assert 'closed: 4003, a code of the application, reason "enough"' in capsys.readouterr().out


def test_a_server_that_sends_messages_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages are taken out of the way of the pongs, more of them than are buffered."""

    async def chatter(ws: lapwing.Connection) -> None:
        for _ in range(20):
            await ws.send("x" * 100_000, compress=False)
        async for _ in ws:
            pass

    with ServerThread(RUNTIMES["asyncio+epoll"], default=chatter) as server:
        assert main(["ping", "-q", "-c", "2", "-i", "0", server.url]) == Status.OK
    assert "2 pings sent, 2 pongs received" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_prints_the_statistics(number: int, command: Command, server: ServerThread) -> None:
    with command.start("ping", "-i", "1000", server.url) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("PING")
        assert process.stdout.readline().startswith("pong")
        stdout, stderr = interrupt(process, number)
    assert "1 pings sent, 1 pongs received, 0% loss" in stdout
    assert (stderr, process.returncode) == ("", 0)


@pytest.mark.parametrize("words", [["-c", "0"], ["-S", "126"], ["-S", "3"], ["-W", "0"]])
def test_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ping", *words, "ws://127.0.0.1:1"]) == Status.USAGE
    assert "expected" in capsys.readouterr().err


def test_over_tls_and_a_unix_socket(
    capsys: pytest.CaptureFixture[str], serve_talk: Callable[..., ServerThread], tmp_path: object
) -> None:
    path = f"{tmp_path}/socket"
    serve_talk(unix=path, interface="*", port=80)
    assert main(["ping", "-c", "1", f"ws+unix://{path}:/"]) == Status.OK
    assert "pong from" in capsys.readouterr().out
