"""Statistics of connections and servers, as values that do not change."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConnectionStats", "HubStats", "ServerStats", "TopicStats", "Traffic"]


@dataclass(frozen=True)
class Traffic:
    """What went over one or several connections since their opening handshakes.

    Attributes:
        messages_received: messages that came, whole.
        messages_sent: messages that were accepted for sending.
        payload_received: bytes of these messages, as the application gets them: of text, in UTF-8.
        payload_sent: the same of the messages sent.
        wire_received: bytes that came in frames of every kind, with their headers; without what TLS and the opening
            handshake add.
        wire_sent: the same of the frames sent; they may still be in the output buffer.
        controls_received: control frames: pings, pongs and close frames (RFC 6455 section 5.5).
        controls_sent: the same, sent.
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
        """Bytes sent per byte of payload; None before any payload."""
        return self.wire_sent / self.payload_sent if self.payload_sent else None


@dataclass(frozen=True)
class ConnectionStats(Traffic):
    """The statistics of one connection, and its state.

    Attributes:
        queued_messages: messages that wait to be received.
        queued_bytes: the memory that they take.
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
class TopicStats:
    """What was counted of topics in this process since their hub was started, and how they stand.

    Attributes:
        topics: topics that somebody here subscribes to, or did a moment ago.
        subscriptions: subscriptions here, of clients and of the program itself.
        behind: subscriptions that are served from history: they lag, or have just begun.
        published: messages published here.
        received: messages of topics that somebody here subscribes to.
        delivered: messages given to subscribers.
        dropped: messages that WebSockets did not get all the same, since they were too slow and the topic has
            `lagging="drop-newest"`, "drop-oldest" or "keep-latest". One that waited for several topics counts for the
            topic whose message took its place.
        duplicates: messages that came twice from the engine, and were dropped.
        repairs: reads of a log to close a gap.
        losses: how often a subscriber was told `Lost`.
        unreadable: stored messages that were damaged.
    """

    topics: int = 0
    subscriptions: int = 0
    behind: int = 0
    published: int = 0
    received: int = 0
    delivered: int = 0
    dropped: int = 0
    duplicates: int = 0
    repairs: int = 0
    losses: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class HubStats(TopicStats):
    """The same of all topics of a hub.

    Attributes:
        failed: messages that `publish_soon` could not publish, or had no room for.
        is_up: whether the engine can publish, and messages arrive.
        patterns: the counts by pattern. Of more than 100 patterns the later ones are counted together, under
            "(other patterns)".
    """

    failed: int = 0
    is_up: bool = False
    patterns: Mapping[str, TopicStats] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class ServerStats(Traffic):
    """The statistics of a server: the traffic of all its connections, open and closed.

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
        hub: the counts of the hub that the server has started; None without a hub.
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
    hub: HubStats | None = None
