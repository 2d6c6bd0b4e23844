"""Netty (Java) as a peer: see netty/Peer.java."""

from __future__ import annotations

from pathlib import Path

from tests.interop.program import ProgramPeer
from tests.peers.needed import PEERS, need

_PROGRAM = Path(__file__).parent / "netty" / "Peer.java"


class Netty(ProgramPeer):
    """Both ends, with their handlers for permessage-deflate, which drop frames without payload."""

    empty_fragments = False

    def __init__(self) -> None:
        classes = ":".join(PEERS["netty"].files)
        # It lives for a minute: to compile it well takes longer than that gains.
        quick = "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"
        super().__init__([need("netty"), *quick, "-cp", classes, str(_PROGRAM)])
