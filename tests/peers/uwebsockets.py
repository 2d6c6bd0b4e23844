"""What uWebSockets (C++) says with a compressor of its own for each connection, byte for byte where it matters.

This stands for `compression: DEDICATED_COMPRESSOR`, with or without `DEDICATED_DECOMPRESSOR`, of its releases 18 to 20.
The tests of this file have what uWebSockets 20 answered, as it is within socketify 0.0.31:

- It reads the first offer of permessage-deflate in the header and no other.
- It does not act upon `server_no_context_takeover`: its answer leaves it out, and its context is taken over.
- It never repeats `client_max_window_bits` where its own decompressor has the full window, which then keeps its context
  unless the offer has `client_no_context_takeover`: so a plain offer gets a bare `permessage-deflate`.
- The shared decompressor answers `client_no_context_takeover` to every offer.
- A compressor below 256 KB answers `server_max_window_bits`, which no client has to have asked for.
- An empty message is never compressed; any other is, in one frame, however little that gains.
- After its close frame, the first or the answer, it ends its side of TCP at once, without a wait for the other end's.
  `tests/interop/with_uwebsockets.py` does that.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from tests.peers import wire
from tests.peers.deflated import RSV1

_TAIL = b"\x00\x00\xff\xff"


@dataclass(frozen=True)
class Compression:
    """The compressors of a server.

    Attributes:
        compressor_bits: the window of the dedicated compressor, as its base-2 logarithm, 9 to 15.
        shared_decompressor: whether there is one decompressor for all connections, which forgets.
    """

    compressor_bits: int = 15
    shared_decompressor: bool = False


@dataclass(frozen=True)
class Agreement:
    """What was agreed on.

    Attributes:
        header: Sec-WebSocket-Extensions of the response.
        outgoing_bits: the window of the server's compressor, whose context is always taken over.
        keeps_incoming: whether the client's context is.
    """

    header: str
    outgoing_bits: int
    keeps_incoming: bool


def negotiate(offers: str, compression: Compression) -> Agreement | None:
    """Answer the value of Sec-WebSocket-Extensions; None when there is nothing to agree on."""
    for offer in offers.split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == "permessage-deflate":
            break
    else:
        return None
    asked = {key: value.strip('"') for key, _, value in (parameter.partition("=") for parameter in parameters)}

    header = "permessage-deflate"
    incoming = 0 if compression.shared_decompressor or "client_no_context_takeover" in asked else 15
    if incoming and asked.get("client_max_window_bits"):
        incoming = int(asked["client_max_window_bits"])
    if incoming == 0:
        header += "; client_no_context_takeover"
    elif incoming < 15:
        header += f"; client_max_window_bits={incoming}"

    outgoing = compression.compressor_bits
    if "server_no_context_takeover" not in asked and asked.get("server_max_window_bits"):
        outgoing = max(9, min(outgoing, int(asked["server_max_window_bits"])))
    if outgoing < 15:
        header += f"; server_max_window_bits={outgoing}"
    return Agreement(header, outgoing, bool(incoming))


class Codec:
    """The compressor and the decompressor of one connection."""

    def __init__(self, agreement: Agreement) -> None:
        self._compressor = zlib.compressobj(zlib.Z_DEFAULT_COMPRESSION, zlib.DEFLATED, -agreement.outgoing_bits)
        self._keeps_incoming = agreement.keeps_incoming
        self._decompressor = zlib.decompressobj(-15)

    def frame(self, opcode: int, payload: bytes) -> bytes:
        """Build the frame of a message."""
        if not payload:
            return wire.frame(opcode)
        data = self._compressor.compress(payload) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        return wire.frame(opcode, data.removesuffix(_TAIL), rsv=RSV1)

    def inflate(self, payload: bytes) -> bytes:
        """Inflate what came as a compressed message."""
        if not self._keeps_incoming:
            self._decompressor = zlib.decompressobj(-15)
        return self._decompressor.decompress(payload + _TAIL)
