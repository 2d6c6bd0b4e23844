"""When to connect again after a connection was lost or did not come about, and when not: decisions without I/O.

The delays grow exponentially and are drawn from all of zero up to the current limit ("full jitter"): clients that lost
one server at the same moment do not come back at the same moment. `client` waits and connects; time and
random numbers are passed in.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ..io.clock import now
from ..protocol.close import Closed, ended_well
from ..protocol.errors import ConnectionClosed, HandshakeError, ProxyError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff", "Reconnect", "Reconnection", "is_transient", "retry_after"]

#: Statuses below 500 that are worth another attempt (RFC 9110 section 15.5.9, RFC 6585 section 4).
_TRANSIENT_STATUSES = frozenset({408, 425, 429})
#: Close codes that another connection would not change: the peer, or this end, objects to its messages (RFC 6455
#: section 7.4.1), or to its user (the registry's 3000 Unauthorized and 3003 Forbidden).
FINAL_CODES = frozenset({1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003})
#: SOCKS replies that may be different next time: see `socks`.
_TRANSIENT_REPLIES = frozenset({1, 3, 4, 5, 6, 91})
#: The word by which OpenSSL says that the stream ended.
_CUT_OFF = "UNEXPECTED_EOF_WHILE_READING"


class Reconnection(NamedTuple):
    """An attempt to connect again, as `Reconnect.on_attempt` is told of it before the delay.

    Attributes:
        number: 1 for the first attempt after a connection that was stable, and so on.
        delay: seconds until it is made.
        cause: the error of the last attempt, or a `ConnectionClosed` that tells how the connection ended.
    """

    number: int
    delay: float
    cause: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """How to connect again: for `lapwing.connect(url, reconnect=...)`.

    Args:
        initial: the limit of the first delay, in seconds.
        maximum: the limit that no delay exceeds, in seconds, but for `Retry-After`.
        multiplier: by how much the limit grows from one attempt to the next, at least 1. Each delay is drawn from
            all of 0 up to its limit.
        stable_after: seconds that a connection has to be up for the delays to begin again. The time that the body of
            the loop takes after the end of its connection does not count.
        attempts: how many attempts in a row, without a stable connection between them, may be made before the last
            error is raised; None for no end.
        retry_after_limit: seconds that a server may ask to wait for with `Retry-After` (RFC 9110 section 10.2.3);
            more is cut to this.
        final_codes: close codes after which there is no other attempt, but `ConnectionClosed` is raised.
        on_attempt: called with a `Reconnection` before each delay; by default one line is logged to the logger
            `lapwing.client`, at level WARNING for the first failure and whenever the cause changes, else at INFO. It
            must not wait.
        random: gives numbers from 0 up to 1, to draw delays with.
        clock: gives seconds that only increase, to tell for how long the body of the loop had an open connection.

    Raises:
        TypeError, ValueError: a setting has the wrong type or is out of its range.
    """

    initial: float = 1.0
    maximum: float = 60.0
    multiplier: float = 2.0
    stable_after: float = 10.0
    attempts: int | None = None
    retry_after_limit: float = 300.0
    final_codes: frozenset[int] = FINAL_CODES
    on_attempt: Callable[[Reconnection], object] | None = None
    random: Callable[[], float] = random.random
    clock: Callable[[], float] = now

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "multiplier", "stable_after", "retry_after_limit"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"expected {name} to be a number, got {value!r}")
            if not 0 <= value < float("inf"):
                raise ValueError(f"expected {name} to be 0 or more and finite, got {value!r}")
        if self.multiplier < 1:
            raise ValueError(f"expected multiplier to be 1 or more, got {self.multiplier!r}")
        if self.maximum < self.initial:
            raise ValueError(f"expected maximum to be no less than initial, got {self.maximum!r} and {self.initial!r}")
        if self.attempts is not None:
            if isinstance(self.attempts, bool) or not isinstance(self.attempts, int):
                raise TypeError(f"expected attempts to be a whole number or None, got {self.attempts!r}")
            if self.attempts < 1:
                raise ValueError(f"expected attempts to be 1 or more, or None, got {self.attempts!r}")
        for name in ("on_attempt", "random", "clock"):
            value = getattr(self, name)
            if not callable(value) and not (name == "on_attempt" and value is None):
                raise TypeError(f"expected {name} to be callable, got {value!r}")
        object.__setattr__(self, "final_codes", _codes(self.final_codes))


def _codes(given: Any) -> frozenset[int]:
    """The close codes of any collection, for frequent look-ups."""
    codes = frozenset(given) if isinstance(given, Iterable) else None
    if codes is None or not all(isinstance(code, int) for code in codes):
        raise TypeError(f"expected final_codes to be a set of close codes, such as {{4401}}, got {given!r}")
    return codes


class Backoff:
    """The attempts of one loop that connects again and again.

    Args:
        settings: how.

    Attributes:
        settings: how.
    """

    __slots__ = ("_last_failure", "_limit", "_number", "_up_since", "settings")

    def __init__(self, settings: Reconnect) -> None:
        self.settings = settings
        self._number = 0
        self._limit = settings.initial
        self._up_since: float | None = None
        self._last_failure: tuple[object, ...] | None = None

    def connected(self) -> None:
        """Take note that a connection is open."""
        self._up_since = self.settings.clock()

    def ended(self, closed: Closed, left_at: float, lasted: float | None = None) -> Reconnection:
        """Decide after the end of a connection.

        Args:
            closed: how it ended.
            left_at: when the program was done with it, by the clock of the settings.
            lasted: seconds that it was up, where it had ended before; None where it was still open then.

        Raises:
            ConnectionClosed: there is no other attempt.
        """
        error = ConnectionClosed(*closed)
        up = 0.0 if self._up_since is None else left_at - self._up_since
        if lasted is not None:
            up = min(up, lasted)
        if up >= self.settings.stable_after:
            self._number = 0
            self._limit = self.settings.initial
            self._last_failure = None
        self._up_since = None
        if closed.code in self.settings.final_codes:
            raise error
        return self._next(error, 0.0)

    def failed(self, error: Exception, wall_clock: float) -> Reconnection:
        """Decide after an attempt that failed.

        Args:
            error: with what.
            wall_clock: the time in seconds since 1970, for a `Retry-After` that is a date.

        Raises:
            Exception: `error`, when there is no other attempt.
        """
        if not is_transient(error):
            raise error
        wait = retry_after(error, wall_clock) if isinstance(error, HandshakeError) else 0.0
        return self._next(error, min(wait, self.settings.retry_after_limit))

    def is_news(self, cause: Exception) -> bool:
        """Tell whether this is the first failure, or has another cause than the last one; it is the last one now.

        A connection that was closed without a complaint is no failure.
        """
        if isinstance(cause, ConnectionClosed) and ended_well(Closed(cause.was_clean, cause.code, cause.reason)):
            return False
        # The words of the same failure may differ: they name addresses and times.
        details = (getattr(cause, name, None) for name in ("status", "code", "errno"))
        failure = (type(cause), *details)
        before, self._last_failure = self._last_failure, failure
        return failure != before

    def _next(self, cause: Exception, least: float) -> Reconnection:
        settings = self.settings
        if settings.attempts is not None and self._number >= settings.attempts:
            raise cause
        self._number += 1
        # The delay that the server asks for is a minimum, and the jitter is added: all of its clients got the same
        # number.
        delay = least + self._limit * settings.random()
        self._limit = min(self._limit * settings.multiplier, settings.maximum)
        return Reconnection(self._number, delay, cause)


def is_transient(error: Exception) -> bool:
    """Tell whether the next attempt may succeed after this error.

    It may after errors of the operating system (a refused connection, an unknown name, a time-out), after a connection
    was cut off, and after the statuses 408, 425, 429 and from 500 up. It cannot after other statuses, a certificate
    that does not verify or another end that speaks no TLS, a response that is none, and wrong arguments.
    """
    if isinstance(error, ssl.SSLError):
        return isinstance(error, (ssl.SSLEOFError, ssl.SSLSyscallError)) or getattr(error, "reason", "") == _CUT_OFF
    if isinstance(error, HandshakeError):
        if error.status is not None:
            return error.status >= 500 or error.status in _TRANSIENT_STATUSES
        if isinstance(error, ProxyError) and error.code is not None:
            return error.code in _TRANSIENT_REPLIES
        return isinstance(error.__cause__, EOFError)
    return isinstance(error, OSError)


def retry_after(error: HandshakeError, wall_clock: float) -> float:
    """Return for how many seconds a response asks to wait (RFC 9110 section 10.2.3), 0 when it does not.

    Args:
        error: the error of the last attempt.
        wall_clock: the time in seconds since 1970.
    """
    value = None if error.headers is None else error.headers.get("Retry-After")
    if value is None:
        return 0.0
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:10])
    from datetime import UTC
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # the form of asctime names no zone, and means UTC (RFC 9110 section 5.6.7)
            date = date.replace(tzinfo=UTC)
        return max(date.timestamp() - wall_clock, 0.0)
    except (ValueError, OverflowError):
        return 0.0
