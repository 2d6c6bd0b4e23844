"""What was counted on connections and servers, as values that do not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConnectionStats", "ServerStats", "Traffic"]


@dataclass(frozen=True)
class Traffic:
    """What went over one or several connections since their opening handshakes.

    Attributes:
        messages_received: messages that came, whole.
        messages_sent: messages that were accepted for sending.
        payload_received: bytes of these messages, as the application gets them: of text, in UTF-8.
        payload_sent: likewise.
        wire_received: bytes that came in frames of every kind, with their headers; without what TLS and the opening
            handshake add.
        wire_sent: likewise; they may still wait to be sent.
        controls_received: control frames: pings, pongs and close frames (RFC 6455 section 5.5).
        controls_sent: likewise.
    """

    messages_received: int = 0
    messages_sent: int = 0
    payload_received: int = 0
    payload_sent: int = 0
    wire_received: int = 0
    wire_sent: int = 0
    controls_received: int = 0
    controls_sent: int = 0

    @property
    def received_ratio(self) -> float | None:
        """Bytes received per byte of payload: below 1 when compression pays off; None before there was any payload."""
        return self.wire_received / self.payload_received if self.payload_received else None

    @property
    def sent_ratio(self) -> float | None:
        """Bytes sent per byte of payload, likewise."""
        return self.wire_sent / self.payload_sent if self.payload_sent else None


@dataclass(frozen=True)
class ConnectionStats(Traffic):
    """What was counted on one connection, and how it stands.

    Attributes:
        queued_messages: messages that wait to be received.
        queued_bytes: what they take in memory.
        unsent_bytes: bytes of frames that the kernel has not taken yet.
        held_bytes: bytes held for the connection in all: undecoded input, the message being put together, earlier
            messages that compressed ones of the peer may refer to, messages that wait, broadcasts that wait because the
            peer lags, output, and ciphertext of TLS.
        dropped_broadcasts: broadcasts that the peer did not get because it read too slowly.
        latency: the last round trip of a ping in seconds; None before the first.
        age: seconds since the opening handshake; of a closed connection, until something last came from the peer.
    """

    queued_messages: int = 0
    queued_bytes: int = 0
    unsent_bytes: int = 0
    held_bytes: int = 0
    dropped_broadcasts: int = 0
    latency: float | None = None
    age: float = 0.0


@dataclass(frozen=True)
class ServerStats(Traffic):
    """What was counted on a server: the traffic is that of all its connections, open and closed.

    Attributes:
        connections: connections that are open now.
        opened: connections whose opening handshake was done, and that got a handler.
        answered: connections that got an ordinary HTTP response below 400, from `health` or `on_request`.
        refused: connections that got an HTTP error.
        failed: connections that ended before that: port scans, garbage, failed TLS handshakes, time-outs.
        surplus: connections that were over a limit; those of them that were told so by HTTP are among `refused`, too.
        closed: how many connections ended with each close code; 1006 where there was no close frame.
        dropped_broadcasts: broadcasts that did not reach readers because these were too slow, each counted for each
            reader.
        queued_bytes: what messages take that wait to be received, over the open connections.
        unsent_bytes: bytes of frames that the kernel has not taken yet, over the open connections.
        held_bytes: bytes held for the open connections in all.
    """

    connections: int = 0
    opened: int = 0
    answered: int = 0
    refused: int = 0
    failed: int = 0
    surplus: int = 0
    closed: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    dropped_broadcasts: int = 0
    queued_bytes: int = 0
    unsent_bytes: int = 0
    held_bytes: int = 0
