"""The meanings of close codes: those of RFC 6455 section 7.4.1, and of the IANA registry that it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .escapes import neutralise
from .outcome import Status

if TYPE_CHECKING:
    from lapwing import Closed

__all__ = ["is_good", "meaning", "status_of", "words"]

_MEANINGS = {
    1000: "normal closure: the purpose of the connection is fulfilled",
    1001: "going away: the server is shutting down, or the page was left",
    1002: "protocol error: the other end broke a rule of the protocol",
    1003: "unsupported data: the other end does not accept this type of message, perhaps binary",
    1004: "reserved",
    1005: "no code: the close frame had none",
    1006: "abnormal closure: the connection was lost without a close frame",
    1007: "invalid payload: a text message was not UTF-8, or a message does not match its type",
    1008: "policy violation: the other end does not accept this message, or this client",
    1009: "message too big: if this end closed the connection, --max-message-size allows larger ones",
    1010: "mandatory extension: the client needs an extension that the server did not agree to",
    1011: "internal error: the server failed unexpectedly",
    1012: "service restart: connect again after some seconds",
    1013: "try again later: the server is overloaded",
    1014: "bad gateway: the server behind the server gave an invalid response",
    1015: "TLS handshake: it failed",
    3000: "unauthorized: credentials are missing or wrong",
    3003: "forbidden: these credentials do not allow it",
    3008: "timeout: an expected message did not arrive in time",
}
_GOOD = frozenset({1000, 1001, 1005})


def meaning(code: int) -> str:
    """Return the meaning of a close code."""
    if code in _MEANINGS:
        return _MEANINGS[code]
    if 1000 <= code <= 2999:
        return "not assigned: reserved for the protocol itself"
    if 3000 <= code <= 3999:
        return "a code of a library or framework"
    if 4000 <= code <= 4999:
        return "a code of the application"
    return "not a close code"


def words(closed: Closed) -> str:
    """Say how a connection ended, in one line that is safe to print."""
    manner = "closed" if closed.was_clean else "lost"
    reason = f', reason "{neutralise(closed.reason, one_line=True)}"' if closed.reason else ""
    return f"{manner}: {closed.code}, {meaning(closed.code)}{reason}"


def is_good(closed: Closed) -> bool:
    """Tell whether the connection ended as it should: both close frames came, without a complaint in them."""
    return closed.was_clean and closed.code in _GOOD


def status_of(closed: Closed) -> Status:
    """Return the exit status for the end of a connection."""
    return Status.OK if is_good(closed) else Status.ENDED_BADLY
