"""libsoup 3 (GNOME, WebKitGTK) as a peer: see libsoup/peer.py."""

from __future__ import annotations

from pathlib import Path

from tests.interop.program import ProgramPeer
from tests.peers.needed import need

_PROGRAM = Path(__file__).parent / "libsoup" / "peer.py"


class Libsoup(ProgramPeer):
    """Both ends, with permessage-deflate. The server answers every offer in the header, all in one response."""

    fragments = False
    pings = False

    def __init__(self) -> None:
        super().__init__([need("libsoup"), str(_PROGRAM)])
