"""What can happen on a connection, one class for each thing: what `Connection.events` gives out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .close import Closed
    from .errors import HandshakeError
    from .http import Request, Response
    from .violation import Violation

__all__ = [
    "CloseReceived",
    "Ended",
    "Event",
    "MessageReceived",
    "Opened",
    "OpeningFailed",
    "PingReceived",
    "PongReceived",
    "ViolationReceived",
]


@dataclass(frozen=True, slots=True)
class Opened:
    """The opening handshake is over, and messages go both ways (RFC 6455 section 4).

    Attributes:
        request: the client's request.
        response: the server's response. A server may still overrule it, see `Connection.refuse`.
        subprotocol: the subprotocol that the server chose; None without one.
    """

    request: Request
    response: Response
    subprotocol: str | None


@dataclass(frozen=True, slots=True)
class OpeningFailed:
    """The opening handshake failed (RFC 6455 sections 4.1 and 4.2.2); `Ended` follows.

    Attributes:
        error: why, with the response where there was one.
    """

    error: HandshakeError


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A message arrived (RFC 6455 section 6.2).

    Attributes:
        message: `str` for TEXT, `bytes` for BINARY.
    """

    message: str | bytes


@dataclass(frozen=True, slots=True)
class PingReceived:
    """A ping arrived; its pong is in the output already (RFC 6455 section 5.5.2).

    Attributes:
        payload: the payload of the ping and its pong.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class PongReceived:
    """A pong arrived, asked for or not (RFC 6455 section 5.5.3): those that answer keepalive are among them.

    Attributes:
        payload: that of the ping which it answers.
    """

    payload: bytes


@dataclass(frozen=True, slots=True)
class CloseReceived:
    """The peer's close frame arrived; this end's went before it, or is in the output already (RFC 6455 section 5.5.1).

    Attributes:
        code: its close code, 1005 when it held none.
        reason: its close reason.
    """

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class ViolationReceived:
    """The peer broke a rule, for which this end has failed the connection (RFC 6455 section 7.1.7).

    Attributes:
        violation: the rule.
    """

    violation: Violation


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection ended (RFC 6455 section 7.1.4); no event follows.

    Attributes:
        closed: how it ended.
    """

    closed: Closed


Event = (
    Opened | OpeningFailed | MessageReceived | PingReceived | PongReceived | CloseReceived | ViolationReceived | Ended
)
