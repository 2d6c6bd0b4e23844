"""The tutorial "From one room to three machines": its commands are typed, and print what the page shows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.docs.pages import ROOT, block
from tests.hub.servers import redis_server
from tests.peers.programs import TIMEOUT, Program, Start, free_port, starting, wait_for_port

Shell = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def start() -> Iterator[Start]:
    with starting() as start:
        yield start


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Run a command of a shell, where `lapwing` is this one; returns the JSON objects that it prints."""
    (tmp_path / "lapwing").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lapwing "$@"\n', encoding="utf-8")
    (tmp_path / "lapwing").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def run(command: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            ["/bin/sh", "-c", command], env=environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return run


def steps(name: str, ports: dict[int, int]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The commands of a block, at the ports of the test, each with the output that the page shows."""
    for part in re.split(r"^\$ ", block(name), flags=re.MULTILINE)[1:]:
        command, *printed = part.splitlines()
        for on_page, here in ports.items():
            command = command.replace(f"localhost:{on_page}", f"localhost:{here}")
        yield command, [json.loads(line) for line in printed]


def compare(shell: Shell, name: str, ports: dict[int, int], known: dict[int, int]) -> None:
    """Type the commands of a block; positions may differ, but the same one is the same one wherever it stands."""
    for command, expected in steps(name, ports):
        for on_page, here in known.items():
            command = command.replace(str(on_page), str(here))
        for want, got in zip(expected, shell(command), strict=True):
            assert got["text"] == want["text"]
            assert known.setdefault(want["position"], got["position"]) == got["position"]


def program(name: str) -> list[str]:
    """The arguments of the one Python program of a block, without its port."""
    words = block(name).splitlines()[0].removeprefix("$ ").split()
    assert (words[0], words[-1]) == ("python", "8080")
    return words[1:-1]


def test_one_process_and_workers(start: Start, shell: Shell) -> None:
    port = free_port()
    server = Program([sys.executable, *program("machines-one"), str(port)], ROOT)
    try:
        wait_for_port(port, server)
        known: dict[int, int] = {}
        compare(shell, "machines-hello", {8080: port}, known)
        compare(shell, "machines-since", {8080: port}, known)
        assert sorted(known.values()) == [known[place] for place in sorted(known)]
        server.process.send_signal(signal.SIGINT)
        assert server.end() == []
    finally:
        server.close()
    wait_for_port(port, start(program("machines-workers")[0].removeprefix("examples/"), port))
    compare(shell, "machines-hello", {8080: port}, {})


def test_three_machines(start: Start, shell: Shell) -> None:
    with redis_server() as redis:
        ports = {8081: free_port(), 8082: free_port(), 8083: free_port()}
        for line in block("machines-three").splitlines():
            path, url, port = line.removeprefix("$ python examples/").removesuffix(" &").split()
            assert (path, url) == ("rooms/machines.py", "redis://localhost")
            wait_for_port(ports[int(port)], start(path, redis.url, ports[int(port)]))
        with lapwing.connect(f"ws://localhost:{ports[8082]}", timeout=TIMEOUT) as ada:
            ada.send_json({"room": "lobby"})
            ada.send("ada is here")
            before = ada.receive_json()
            assert before["text"] == "ada is here"
            compare(shell, "machines-across", ports, {3678296389144602: before["position"]})
            assert ada.receive_json()["text"] == "hello"
            ((command, _),) = steps("machines-publish", {})
            shell(command.replace("redis://localhost", redis.url))
            assert ada.receive_json()["text"] == "back in five minutes"
