"""`ws` and undici on Node.js as peers: see node/peer.js and node/undici.js."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.interop.program import ProgramPeer

_NODE = Path(__file__).parent / "node"


def _command(program: str, package: str) -> list[str]:
    node = shutil.which("node")
    if node is None or not (_NODE / "node_modules" / package).is_dir():
        pytest.skip(f"Node.js or its package {package} is not installed: run tests/install-peers node")
    return [node, str(_NODE / program)]


class Node(ProgramPeer):
    """Both ends. The client offers permessage-deflate, and the server would accept it."""

    def __init__(self) -> None:
        super().__init__(_command("peer.js", "ws"))


class Undici(ProgramPeer):
    """The client, which offers permessage-deflate and then inflates, but does not compress."""

    fragments = False
    pings = False
    compresses = False

    def __init__(self) -> None:
        super().__init__(_command("undici.js", "undici"), repeats_close_code=False)
