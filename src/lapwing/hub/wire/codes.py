"""The codes of the protocol, as the SDKs understand them: errors of commands, ends of subscriptions and connections."""

from __future__ import annotations

from enum import IntEnum

from .messages import Error

__all__ = ["DisconnectCode", "ErrorCode", "UnsubscribeCode", "error", "is_final"]


class ErrorCode(IntEnum):
    """Why a command was refused."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    UNKNOWN_CHANNEL = 102
    PERMISSION_DENIED = 103
    METHOD_NOT_FOUND = 104
    ALREADY_SUBSCRIBED = 105
    LIMIT_EXCEEDED = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    EXPIRED = 110
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE_POSITION = 112


#: The errors after which a client tries again by itself.
_TEMPORARY = frozenset((ErrorCode.INTERNAL, ErrorCode.TOO_MANY_REQUESTS))


class UnsubscribeCode(IntEnum):
    """Why the server ended a subscription: from 2500 on clients subscribe again."""

    SERVER = 2000
    INSUFFICIENT_STATE = 2500
    EXPIRED = 2501
    STATE_INVALIDATED = 2502


class DisconnectCode(IntEnum):
    """Why the server closed the connection, as its close code (RFC 6455 section 7.4.2)."""

    SHUTDOWN = 3001
    SERVER_ERROR = 3004
    EXPIRED = 3005
    SLOW = 3008
    NO_PONG = 3012
    TOO_MANY_REQUESTS = 3013
    STATE_INVALIDATED = 3014
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    PERMISSION_DENIED = 3507


def error(code: ErrorCode, message: str = "") -> Error:
    """Make an error, whose message is the code's name where it has none of its own."""
    return Error(code, message or code.name.lower().replace("_", " "), code in _TEMPORARY)


def is_final(code: int) -> bool:
    """Whether a client does not connect again after this close code."""
    return 3500 <= code < 4000 or 4500 <= code < 5000
