"""The decisions of reconnecting, by a clock and a source of chance that the test sets."""

from __future__ import annotations

import socket
import ssl
import time
from typing import Any

import pytest

import lapwing
from lapwing.connecting.reconnect import Backoff, Reconnect, Reconnection, is_transient, retry_after
from lapwing.protocol import Closed, Headers

LOST = Closed(False, 1006, "the connection was lost")
REFUSED = ConnectionRefusedError(111, "nothing listens there")


class Times:
    """A clock that stands still, and dice that always show the same."""

    def __init__(self, chance: float = 1.0) -> None:
        self.now = 100.0
        self.chance = chance

    def settings(self, **options: Any) -> Reconnect:
        return Reconnect(clock=lambda: self.now, random=lambda: self.chance, **options)

    def backoff(self, **options: Any) -> Backoff:
        return Backoff(self.settings(**options))


def with_status(status: int, **headers: str) -> lapwing.HandshakeError:
    pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return lapwing.HandshakeError("no", status=status, headers=Headers(pairs))


def test_the_delays_grow_up_to_the_maximum() -> None:
    backoff = Times().backoff(initial=1, multiplier=2, maximum=6)
    assert [backoff.failed(REFUSED, 0).delay for _ in range(5)] == [1, 2, 4, 6, 6]


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.999])
def test_a_delay_is_drawn_from_all_of_its_range(chance: float) -> None:
    backoff = Times(chance).backoff(initial=8)
    attempt = backoff.failed(REFUSED, 0)
    assert attempt == Reconnection(1, 8 * chance, REFUSED)
    assert backoff.failed(REFUSED, 0) == (2, 16 * chance, REFUSED)


def test_the_default_is_drawn_by_chance() -> None:
    delays = {Backoff(Reconnect()).failed(REFUSED, 0).delay for _ in range(50)}
    assert len(delays) > 40
    assert all(0 <= delay < 1 for delay in delays)


def test_only_a_connection_that_was_stable_begins_anew() -> None:
    times = Times()
    backoff = times.backoff(initial=1, stable_after=10)
    for up, number, delay in [(9.9, 1, 1), (0, 2, 2), (9.9, 3, 4), (10, 1, 1), (1, 2, 2)]:
        backoff.connected()
        times.now += up
        attempt = backoff.ended(LOST, times.now)
        assert attempt[:2] == (number, delay)
        assert isinstance(attempt.cause, lapwing.ConnectionClosed)
        assert (attempt.cause.was_clean, attempt.cause.code, attempt.cause.reason) == LOST


@pytest.mark.parametrize(("lasted", "number"), [(0.002, 2), (9.9, 2), (10, 1), (None, 1)])
def test_a_connection_that_ended_earlier_than_the_body(lasted: float | None, number: int) -> None:
    times = Times()
    backoff = times.backoff(initial=1, stable_after=10)
    assert backoff.failed(REFUSED, 0).number == 1
    backoff.connected()
    times.now += 60
    assert backoff.ended(LOST, times.now, lasted).number == number


def test_a_failure_is_news_when_it_is_the_first_or_another() -> None:
    times = Times()
    backoff = times.backoff()
    refused_elsewhere = ConnectionRefusedError(111, "nothing listens on the other address")
    assert [backoff.is_news(cause) for cause in (REFUSED, refused_elsewhere, REFUSED)] == [True, False, False]
    assert [backoff.is_news(with_status(status)) for status in (503, 503, 429)] == [True, False, True]
    lost, restarting = lapwing.ConnectionClosed(*LOST), lapwing.ConnectionClosed(True, 1012, "")
    assert [backoff.is_news(cause) for cause in (lost, lost, restarting, lost)] == [True, False, True, True]
    backoff.connected()
    backoff.ended(LOST, times.now + 1)
    assert not backoff.is_news(lost)
    backoff.connected()
    backoff.ended(LOST, times.now + 10)
    assert backoff.is_news(lost)  # after a stable connection


@pytest.mark.parametrize("code", [1000, 1001, 1005])
def test_an_ordinary_end_is_no_news(code: int) -> None:
    backoff = Times().backoff()
    assert not backoff.is_news(lapwing.ConnectionClosed(True, code, ""))
    assert backoff.is_news(lapwing.ConnectionClosed(False, code, ""))


def test_a_failure_after_a_stable_connection_counts_on() -> None:
    times = Times()
    backoff = times.backoff(initial=1, stable_after=10)
    backoff.connected()
    times.now += 60
    assert backoff.ended(LOST, times.now).number == 1
    assert backoff.failed(REFUSED, 0).number == 2


def test_the_last_attempt_raises_what_it_failed_with() -> None:
    backoff = Times().backoff(attempts=2)
    for number in (1, 2):
        assert backoff.failed(REFUSED, 0).number == number
    with pytest.raises(ConnectionRefusedError) as caught:
        backoff.failed(REFUSED, 0)
    assert caught.value is REFUSED


@pytest.mark.parametrize("code", [1000, 1001, 1005, 1006, 1011, 1012, 1013, 1014, 4000])
def test_close_codes_after_which_it_connects_again(code: int) -> None:
    backoff = Times().backoff()
    backoff.connected()
    assert backoff.ended(Closed(True, code, ""), 100).number == 1


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003])
def test_close_codes_that_are_final(code: int) -> None:
    backoff = Times().backoff()
    backoff.connected()
    with pytest.raises(lapwing.ConnectionClosed) as caught:
        backoff.ended(Closed(True, code, "go away"), 100)
    assert (caught.value.code, caught.value.reason) == (code, "go away")


def test_the_final_codes_can_be_chosen() -> None:
    backoff = Times().backoff(final_codes=[4004])
    assert backoff.ended(Closed(True, 1008, ""), 100).number == 1
    with pytest.raises(lapwing.ConnectionClosed):
        backoff.ended(Closed(True, 4004, ""), 100)


def _certificate_error() -> Exception:
    return ssl.SSLCertVerificationError(1, "certificate verify failed")


def _tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "wrong")
    error.reason = reason
    return error


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


TRANSIENT = [
    REFUSED,
    ConnectionResetError(),
    TimeoutError(),
    socket.gaierror(-3, "try again"),
    FileNotFoundError(2, "no socket"),
    ssl.SSLEOFError(8, "cut off"),
    _tls_error("UNEXPECTED_EOF_WHILE_READING"),
    *(with_status(status) for status in (408, 429, 500, 502, 503, 504, 520)),
    _caused(lapwing.HandshakeError("closed before it answered"), EOFError()),
    _caused(lapwing.ProxyError("closed before it answered"), EOFError()),
    lapwing.ProxyError("no", status=502),
    lapwing.ProxyError("refused", code=5),
    lapwing.ProxyError("rejected or failed", code=91),
]
FINAL = [
    *(with_status(status) for status in (101, 200, 301, 400, 401, 403, 404, 410, 426)),
    lapwing.HandshakeError("not HTTP"),
    lapwing.InvalidURL("no"),
    lapwing.ProxyError("who?", status=407),
    lapwing.ProxyError("not allowed", code=2),
    lapwing.ProxyError("wrong password"),
    _certificate_error(),
    _tls_error("WRONG_VERSION_NUMBER"),
    ValueError("no"),
    TypeError("no"),
    RuntimeError("no"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_may_pass(error: Exception) -> None:
    assert is_transient(error)
    assert Times().backoff().failed(error, 0).cause is error


@pytest.mark.parametrize("error", FINAL, ids=repr)
def test_what_is_final(error: Exception) -> None:
    assert not is_transient(error)
    with pytest.raises(type(error)) as caught:
        Times().backoff().failed(error, 0)
    assert caught.value is error


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("99999999999999999999", 9999999999),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 60),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("", 0),
        ("Sun, 99 Nov 9999999 08:49:37 GMT", 0),
        ("\u0663", 0),
    ],
)
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after(with_status(503, Retry_After=value), 784111717) == seconds


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set here")
@pytest.mark.parametrize("value", ["Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 -0000"])
def test_a_date_without_a_zone_is_in_utc(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 section 5.6.7: all three forms of a date must be taken, and all are in UTC, wherever the client is."""
    monkeypatch.setenv("TZ", "UTC-9")
    time.tzset()
    try:
        assert retry_after(with_status(503, Retry_After=value), 784111717) == 60
    finally:
        monkeypatch.undo()
        time.tzset()


def test_retry_after_is_kept_and_bounded() -> None:
    backoff = Times(0.5).backoff(initial=2, retry_after_limit=60)
    assert backoff.failed(with_status(503, Retry_After="30"), 0).delay == 30 + 1
    assert backoff.failed(with_status(429, Retry_After="86400"), 0).delay == 60 + 2
    assert retry_after(lapwing.HandshakeError("no"), 0) == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"initial": -1}, ValueError),
        ({"initial": "1"}, TypeError),
        ({"initial": True}, TypeError),
        ({"maximum": float("inf")}, ValueError),
        ({"maximum": float("nan")}, ValueError),
        ({"initial": 5, "maximum": 4}, ValueError),
        ({"multiplier": 0.5}, ValueError),
        ({"stable_after": -1}, ValueError),
        ({"attempts": 0}, ValueError),
        ({"attempts": 1.0}, TypeError),
        ({"attempts": True}, TypeError),
        ({"on_attempt": "print"}, TypeError),
        ({"random": None}, TypeError),
        ({"clock": 1}, TypeError),
        ({"retry_after_limit": -1}, ValueError),
        ({"final_codes": 4401}, TypeError),
        ({"final_codes": ["4401"]}, TypeError),
        ({"delay": 1}, TypeError),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        Reconnect(**options)
