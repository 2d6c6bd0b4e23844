"""The command with servers by other authors: `websockets`, `aiohttp`, and `ws` on Node.js."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Thread

import pytest

from lapwing.cli import main, recording
from tests.cli.conftest import TIMEOUT, Command
from tests.interop.ends import Awaited, Listening, LoopThread, Peer
from tests.interop.with_aiohttp import Aiohttp
from tests.interop.with_node import Node
from tests.interop.with_websockets import Websockets

#: How each is made; the loop is for those that need one.
SERVERS: dict[str, Callable[[ExitStack], Peer]] = {
    "websockets": lambda stack: _in_a_loop(stack, Websockets("deflate")),
    "aiohttp": lambda stack: _in_a_loop(stack, Aiohttp()),
    "ws": lambda stack: _node(stack),
}

#: One of each kind, and the lengths of headers.
LINES = ["hello", "größer 日本語 🐦", "x" * 126, "y" * 70_000]


def _in_a_loop(stack: ExitStack, peer: Websockets | Aiohttp) -> Peer:
    loop = LoopThread("others")
    stack.callback(loop.close)
    return Awaited(loop, peer)


def _node(stack: ExitStack) -> Peer:
    node = Node()
    stack.callback(node.stop)
    return node


@pytest.fixture(scope="module", params=SERVERS)
def listening(request: pytest.FixtureRequest) -> Iterator[Listening]:
    """A server by another author."""
    with ExitStack() as stack:
        yield stack.enter_context(SERVERS[request.param](stack).listen(None))


@pytest.fixture
def echo(listening: Listening) -> Iterator[Callable[[], None]]:
    """Have the server echo to the next client, until it goes."""
    threads = []

    def serve() -> None:
        end = listening.accept()
        while (message := end.receive()) is not None:
            end.send(message)
        end.release()

    def begin() -> None:
        threads.append(Thread(target=serve))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "the client did not close"


def test_connect(listening: Listening, echo: Callable[[], None], command: Command) -> None:
    echo()
    events = [
        *({"type": "text", "data": line} for line in LINES),
        {"type": "binary", "data": "AP8="},
    ]
    done = command.run(
        "connect", listening.url, "--json", "-s", "chat", "-n", "5", stdin="\n".join(map(json.dumps, events)) + "\n"
    )
    assert (done.stderr, done.returncode) == ("", 0)
    opened, *got, closed = map(json.loads, done.stdout.splitlines())
    assert opened["subprotocol"] == "chat"
    assert got == events
    assert (closed["code"], closed["clean"]) == (1000, True)


def test_record_and_replay(listening: Listening, echo: Callable[[], None], command: Command) -> None:
    echo()
    done = command.run("record", listening.url, "file", "-n", "4", stdin="\n".join(LINES))
    assert done.returncode == 0, done.stderr
    assert recording.Reader(str(command.directory / "file")).check() == 8
    echo()
    done = command.run("replay", "file", listening.url, "--check", "--no-timing")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == LINES


def test_ping(listening: Listening, echo: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    echo()
    assert main(["ping", "-q", "-c", "3", "-i", "0", listening.url]) == 0
    assert "3 pings sent, 3 pongs received" in capsys.readouterr().out
