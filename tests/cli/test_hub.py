"""`lapwing connect --hub` and `lapwing publish` with a hub."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
from collections.abc import Iterator

import pytest

import lapwing
from lapwing.cli import main
from lapwing.cli.outcome import Status
from tests.cli.conftest import Command
from tests.conftest import RUNTIMES
from tests.hub.servers import redis_server
from tests.hub.talking import a_hub
from tests.peers.servers import ServerThread, echo


@pytest.fixture
def hub() -> lapwing.Hub:
    return a_hub()


@pytest.fixture
def served(hub: lapwing.Hub) -> Iterator[ServerThread]:
    with ServerThread(RUNTIMES["asyncio+epoll"], default=hub.serve, protocols={"echo": echo}) as server:
        yield server


def kept(served: ServerThread, hub: lapwing.Hub, topic: str = "chat:1") -> list[object]:
    return [message.data for message in served.call(hub.history, topic)]


def follow(command: Command, served: ServerThread, hub: lapwing.Hub, *arguments: str) -> subprocess.Popen[str]:
    """The command as a process, once it is subscribed to chat:1."""
    process = command.start("connect", "--hub", served.url, *arguments)

    async def subscribed() -> None:
        while not (await hub.present("chat:1")).count:
            await asyncio.sleep(0.01)

    served.call(subscribed)
    return process


def test_publish(served: ServerThread, hub: lapwing.Hub) -> None:
    words = [served.url, "chat:1"]
    assert main(["publish", *words, '{"text": "hello"}', "[1,\n2]"]) == Status.OK
    assert main(["publish", "--hub", "--text", "--protobuf", *words, 'he said "hi"']) == Status.OK
    assert kept(served, hub) == [{"text": "hello"}, [1, 2], 'he said "hi"']


def test_lines_are_published(served: ServerThread, hub: lapwing.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"n": 1}\n\n{"n": 2}\n'))
    assert main(["publish", served.url, "chat:1"]) == Status.OK
    assert kept(served, hub) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["quiet:1", "1"], Status.REFUSED, "clients do not publish on this topic"),
        (["unlisted", "1"], Status.REFUSED, "unknown channel"),
        (["chat:1", "{"], Status.USAGE, "expected a JSON value"),
        (["chat:1", "1", "--token", "banned"], Status.REFUSED, "the hub closed the connection"),
        (["chat:1", "1", "--token", "expired"], Status.REFUSED, "the token has expired"),
        (["chat:1", "1", "--token", "@/nowhere"], Status.USAGE, "cannot read '/nowhere'"),
        (["chat:1", "1", "--subprotocol", "x"], Status.USAGE, "does not apply to a hub"),
    ],
)
def test_what_cannot_be_published(
    served: ServerThread, capsys: pytest.CaptureFixture[str], words: list[str], status: Status, said: str
) -> None:
    assert main(["publish", served.url, *words]) == status
    error = capsys.readouterr().err
    assert error.startswith("lapwing publish: ")
    assert said in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://localhost", "chat:1", "1"], "begins with ws://"),
        (["localhost:8080", "chat:1", "1"], "got 'localhost:8080'"),
        (["chat:1", "ws://localhost", "1", "--token", "ann"], "the URL comes first: lapwing publish URL TOPIC DATA"),
        (["redis://localhost/x", "chat:1", "1"], "expected db to be a number"),
        (["redis://localhost", "chat:1", "1", "--token", "ann"], "--token is for servers"),
        (["redis://localhost", "chat:1", "1", "--insecure"], "--insecure is for servers"),
        (["ws://localhost", "chat:1", "1", "--namespace", "x"], "--namespace is for a broker"),
    ],
)
def test_what_does_not_fit_the_url(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["publish", *words]) == Status.USAGE
    assert said in capsys.readouterr().err


def test_publish_by_way_of_the_broker(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with redis_server() as server:
        at_broker = a_hub(url=server.url, namespace="app")
        with ServerThread(RUNTIMES["asyncio+epoll"], default=at_broker.serve) as served:
            words = ["publish", server.url, "--namespace", "app"]
            assert main([*words, "quiet:1", '{"a": 1}', "2"]) == Status.OK
            monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
            assert main([*words, "--hub", "--text", "quiet:1"]) == Status.OK
            found = served.call(at_broker.history, "quiet:1", 3)
            assert [message.data for message in found] == [2, "one", "two"]
            assert main([*words, "unlisted", "1"]) == Status.REFUSED
            assert "no hub on" in capsys.readouterr().err
            assert main([*words, "quiet:1", json.dumps("x" * 70_000)]) == Status.USAGE
            assert "at most 65536 bytes" in capsys.readouterr().err
            server.ask("CONFIG", "SET", "maxmemory", "1")
            assert main([*words, "quiet:1", "1"]) in (Status.ENDED_BADLY, Status.NOT_CONNECTED)
            assert "OOM" in capsys.readouterr().err
            server.ask("CONFIG", "SET", "maxmemory", "0")
        url = server.url
    assert main(["publish", url, "quiet:1", "1", "--connect-timeout", "0.2"]) == Status.NOT_CONNECTED
    assert "cannot be used" in capsys.readouterr().err


def test_no_server(served: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo) as gone:
        url = gone.url
    for words in (["publish", url, "chat:1", "1"], ["connect", "--hub", url, "chat:1"]):
        assert main([*words, "--connect-timeout", "0.3"]) == Status.NOT_CONNECTED
        assert "nothing listens there" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["publish"], ["connect", "--hub"]], ids=lambda words: words[0])
def test_ctrl_c_ends_the_attempts_to_connect(command: Command, words: list[str]) -> None:
    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo) as gone:
        url = gone.url
    process = command.start(*words, url, "chat:1", "--connect-timeout", "60")
    assert process.stderr is not None
    assert "connecting again" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, error = process.communicate(timeout=30)
    assert (process.returncode, output, error) == (Status.INTERRUPTED, "", "")


def test_another_kind_of_server(capsys: pytest.CaptureFixture[str]) -> None:
    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo) as other:
        assert main(["publish", other.url, "chat:1", "1"]) == Status.NOT_CONNECTED
    assert "its handler must be hub.serve" in capsys.readouterr().err


def test_follow(command: Command, served: ServerThread, hub: lapwing.Hub) -> None:
    process = follow(command, served, hub, "chat:1", "-n", "2")
    served.call(hub.publish, "chat:1", {"text": "grüß dich"})
    served.call(hub.publish, "chat:1", 2)
    output, error = process.communicate(timeout=30)
    assert (output, error) == ('{"text":"grüß dich"}\n2\n', "")
    assert process.returncode == Status.OK


def test_follow_several_as_json(command: Command, served: ServerThread, hub: lapwing.Hub) -> None:
    process = follow(command, served, hub, "live:1", "chat:1", "--json", "-n", "1", "--token", "ann")
    assert main(["publish", served.url, "chat:1", '{"a": 1}', "--token", "bob"]) == Status.OK
    output, _ = process.communicate(timeout=30)
    event = json.loads(output)
    assert event.pop("position") > 2**50
    assert event == {"type": "message", "topic": "chat:1", "user": "bob", "data": {"a": 1}}


def test_follow_from_a_place(served: ServerThread, hub: lapwing.Hub, capsys: pytest.CaptureFixture[str]) -> None:
    position = served.call(hub.publish, "chat:1", 1)
    served.call(hub.publish, "chat:1", 2)
    assert main(["connect", "--hub", "--since", str(position), "-n", "1", served.url, "chat:1"]) == Status.OK
    assert capsys.readouterr().out == "2\n"


def test_a_loss_is_said(command: Command, served: ServerThread, hub: lapwing.Hub) -> None:
    process = follow(command, served, hub, "chat:1", "--since", "7", "-n", "1")
    served.call(hub.publish, "chat:1", "on")
    output, error = process.communicate(timeout=30)
    assert output == '"on"\n'
    assert error.startswith("messages of 'chat:1' after 7 may be lost (unknown)")


def test_following_ends_by_ctrl_c(command: Command, served: ServerThread, hub: lapwing.Hub) -> None:
    process = follow(command, served, hub, "chat:1")
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (Status.INTERRUPTED, "")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--hub", "URL"], "expected a topic to follow"),
        (["--hub", "URL", "a", "b", "--since", "7"], "expected one topic"),
        (["--hub", "URL", "a", "--since", "x"], "expected a position"),
        (["--hub", "URL", "a", "--message", "x"], "--message is not for --hub"),
        (["URL", "a"], "topics are for --hub"),
        (["URL", "--token", "x"], "--token is for --hub"),
        (["URL", "--since", "7"], "--since is for --hub"),
    ],
)
def test_arguments(served: ServerThread, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["connect", *[served.url if word == "URL" else word for word in words]]) == Status.USAGE
    assert said in capsys.readouterr().err


def test_who_may_not_is_told(served: ServerThread, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["connect", "--hub", "--token", "nobody", served.url, "chat:1"]) == Status.REFUSED
    assert "sign in first" in capsys.readouterr().err
