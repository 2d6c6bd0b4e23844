"""Close codes and close results (RFC 6455 section 7.4): a leaf that knows no frame and no connection."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

__all__ = ["CloseCode", "CloseFrame", "Closed", "describe", "ended_well", "may_be_sent", "read_close"]


class CloseCode(IntEnum):
    """The registered close codes (RFC 6455 section 7.4.1 and the IANA registry that it opens)."""

    NORMAL_CLOSURE = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS_RECEIVED = 1005
    ABNORMAL_CLOSURE = 1006
    INVALID_PAYLOAD_DATA = 1007
    POLICY_VIOLATION = 1008
    MESSAGE_TOO_BIG = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014
    TLS_HANDSHAKE = 1015


class Closed(NamedTuple):
    """How a connection ended.

    Attributes:
        was_clean: whether both close frames were exchanged (RFC 6455 section 7.1.4).
        code: the close code. The peer's when its close frame came (1005 when that frame held none); the code with which
            this end failed the connection when it did; 1006 when the connection was lost without a close frame.
        reason: the close reason that belongs to `code`: the peer's words, or this end's when `was_clean` is false.
    """

    was_clean: bool
    code: int
    reason: str


class CloseFrame(NamedTuple):
    """What one close frame said (RFC 6455 section 5.5.1).

    Attributes:
        code: the close code; 1005 where the frame held none.
        reason: the close reason.
    """

    code: int
    reason: str


def read_close(payload: bytes | None) -> CloseFrame | None:
    """Read the payload of a close frame that is known to be valid; None for None."""
    if payload is None:
        return None
    return CloseFrame(int.from_bytes(payload[:2]), payload[2:].decode()) if payload else CloseFrame(1005, "")


#: Codes below 3000 that an endpoint may put into a close frame, and so may receive in one (RFC 6455 section 7.4.1: 1004
#: is reserved; 1005, 1006 and 1015 must never appear in a frame; 1012 to 1014 come from the IANA registry).
SENDABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


def may_be_sent(code: int) -> bool:
    """Tell whether `code` may stand in a close frame (RFC 6455 sections 7.4.1 and 7.4.2).

    The codes that may be sent are the codes that may be received: the registered ones but 1004, 1005, 1006 and 1015,
    and 3000 to 4999 (libraries and applications).
    """
    return code in SENDABLE or 3000 <= code <= 4999


#: Codes that make no complaint: normal closure, going away, and a close frame without a code.
_GOOD = frozenset({1000, 1001, 1005})


def ended_well(closed: Closed) -> bool:
    """Tell whether the end of the connection is the end of the data: a clean close with 1000, 1001 or no code."""
    return closed.was_clean and closed.code in _GOOD


#: What may be done about a message that was too large: by whether the peer said so, or this end.
_TOO_BIG = {
    True: "the peer accepts no larger messages: send smaller ones",
    False: "max_message_size= allows larger ones, and receive_stream() reads them in pieces",
}


def describe(closed: Closed) -> str:
    """Put a close result into words, for messages and logs."""
    try:
        name = CloseCode(closed.code).name.lower().replace("_", " ")
    except ValueError:
        name = "application code" if 4000 <= closed.code <= 4999 else "unregistered code"
    manner = "cleanly" if closed.was_clean else "uncleanly"
    reason = f": {closed.reason}" if closed.reason else ""
    way_out = f": {_TOO_BIG[closed.was_clean]}" if closed.code == CloseCode.MESSAGE_TOO_BIG else ""
    return f"connection closed {manner} with {closed.code} ({name}){reason}{way_out}"
