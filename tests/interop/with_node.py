"""`ws` and undici on Node.js as peers: see node/peer.js and node/undici.js."""

from __future__ import annotations

from tests.interop.program import ProgramPeer
from tests.peers.needed import NODE, need


def _command(program: str) -> list[str]:
    return [need("node"), str(NODE / program)]


class Node(ProgramPeer):
    """Both ends. The client offers permessage-deflate, and the server would accept it."""

    def __init__(self) -> None:
        super().__init__(_command("peer.js"))


class Undici(ProgramPeer):
    """The client, which offers permessage-deflate and then inflates, but does not compress."""

    fragments = False
    pings = False
    compresses = False

    def __init__(self) -> None:
        super().__init__(_command("undici.js"), repeats_close_code=False)
