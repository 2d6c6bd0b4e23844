"""The programs in other libraries and in lapwing say the same."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import RUNTIMES
from tests.peers.needed import need, need_library
from tests.peers.programs import EXAMPLES, TIMEOUT
from tests.peers.servers import ServerThread, echo


def run(name: str, *arguments: str) -> list[str]:
    """What a program prints; it must end well. The other libraries' warnings are theirs."""
    command = [sys.executable, str(EXAMPLES / "coming_from" / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("library", "lines"),
    [
        ("websockets", ["HELLO", "closed with 1000"]),
        ("aiohttp", ["HELLO", '{"A": 1}', "closed with 1000"]),
        ("picows", ["HELLO", "closed with 1000"]),
    ],
)
def test_servers_and_clients(library: str, lines: list[str]) -> None:
    need_library(library)
    assert run(f"{library}_theirs") == run(f"{library}_ours") == lines


def test_clients() -> None:
    with ServerThread(next(iter(RUNTIMES.values())), default=echo) as server:
        url = f"ws://localhost:{server.port}"
        theirs, ours = run("websocket_client_theirs", url), run("websocket_client_ours", url)
    assert theirs == ours == ["hello", "b'bytes'", "in callbacks", "closed"]


def test_lua_websockets() -> None:
    """It is in no registry: what its names are here is run alone, and the program in Lua is only parsed."""
    theirs = EXAMPLES / "coming_from" / "lua_websockets_theirs.lua"
    subprocess.run([need("lua"), "-p", str(theirs)], check=True, timeout=TIMEOUT)
    assert run("lua_websockets_ours") == [
        "sync: hello",
        "sync: True 4001 lost interest",
        "aio: goodbye strange client",
        "aio: None Closed(was_clean=True, code=1000, reason='')",
    ]
