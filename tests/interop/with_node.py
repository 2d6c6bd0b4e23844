"""`ws` on Node.js as a peer: see node/peer.js."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.interop.program import ProgramPeer

_NODE = Path(__file__).parent / "node"


class Node(ProgramPeer):
    """Both ends. The client offers permessage-deflate, and the server would accept it."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not (_NODE / "node_modules" / "ws").is_dir():
            pytest.skip("Node.js or its package ws is not installed: run tests/install-peers node")
        super().__init__([node, str(_NODE / "peer.js")])
