"""Mojolicious (Perl) as a peer: see mojolicious/peer.pl."""

from __future__ import annotations

from pathlib import Path

from tests.interop.program import ProgramPeer
from tests.peers.needed import need

_PROGRAM = Path(__file__).parent / "mojolicious" / "peer.pl"


class Mojolicious(ProgramPeer):
    """Both ends, with permessage-deflate. They take no part in its parameters: their context is always taken over."""

    def __init__(self) -> None:
        super().__init__([need("mojolicious"), str(_PROGRAM)])
