"""The handler of a signal raises at any call of Python code inside an endpoint: its state stays whole."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from typing import Any

import pytest

from lapwing.protocol import Endpoint, Role, State
from lapwing.protocol.http_reader import ResponseReader, parse_request, parse_response
from tests.peers import wire
from tests.peers.wire import close_payload


class InterruptedForTest(BaseException):
    """Raised in the middle of a call."""


def interrupted(act: Callable[[], Any], index: int) -> bool:
    """Call a function, and raise when the Python function of this number begins; returns whether there was one."""
    left = index

    def profile(frame: object, event: str, _: object) -> None:
        nonlocal left
        if event == "call":
            left -= 1
            if left < 0:
                raise InterruptedForTest

    gc.disable()  # a collection calls functions of others, which only note what is raised in them
    sys.setprofile(profile)
    try:
        act()
    except InterruptedForTest:
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return False


def silent(endpoint: Endpoint) -> None:
    endpoint.keep_alive(1.0, 1.0, 0.0)
    endpoint.advance(1.5)
    endpoint.advance(3.0)


def not_answered(endpoint: Endpoint) -> None:
    endpoint.close(1000, "", now=1.0)
    endpoint.advance(100.0)


ENDS: dict[str, tuple[Callable[[Endpoint], Any], int]] = {
    "the end of the stream": (lambda endpoint: endpoint.receive_eof(), 1006),
    "a close frame": (
        lambda endpoint: endpoint.receive_data(wire.frame(wire.CLOSE, close_payload(3000, "why")), now=0.0),
        3000,
    ),
    "a violation": (lambda endpoint: endpoint.receive_data(b"\xff\x00", now=0.0), 1002),
    "abort": (lambda endpoint: endpoint.abort(now=0.0), 1006),
    "fail": (lambda endpoint: endpoint.fail(1011, "why", now=0.0), 1011),
    "refuse": (lambda endpoint: endpoint.refuse("why", now=0.0), 1006),
    "silence": (silent, 1006),
    "no answer to a close frame": (not_answered, 1006),
}


@pytest.mark.parametrize("name", ENDS)
def test_closed_is_set_whatever_is_interrupted(name: str) -> None:
    act, code = ENDS[name]
    index = 0
    while True:
        endpoint = Endpoint(Role.CLIENT)
        was_interrupted = interrupted(lambda: act(endpoint), index)  # noqa: B023 - called at once
        assert (endpoint.state is State.CLOSED) == (endpoint.closed is not None), f"interrupted at call {index}"
        if not was_interrupted:
            break
        index += 1
    assert index > 0, "nothing was interrupted"
    assert endpoint.closed is not None
    assert endpoint.closed.code == code
    assert type(endpoint.closed).__name__ == "Closed"
    assert isinstance(endpoint.closed.was_clean, bool)


def _read_body() -> bytes:
    reader = ResponseReader()
    response = reader.receive_data(b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nlater")
    assert response is not None
    return response.body


HEADS: dict[str, Callable[[], Any]] = {
    "a request": lambda: parse_request(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").target,
    "a response": lambda: parse_response(b"HTTP/1.1 404 Not Found\r\nServer: a\r\n\r\n").status,
    "a body": _read_body,
}


@pytest.mark.parametrize("name", HEADS)
def test_an_interrupt_is_no_fault_of_the_head_that_is_read(name: str) -> None:
    """The library httptools makes an error of its own of whatever is raised within its callbacks."""
    index, expected, outcomes = 0, HEADS[name](), list[Any]()
    while interrupted(lambda: outcomes.append(HEADS[name]()), index):
        index += 1
    assert index > 0, "nothing was interrupted"
    assert outcomes == [expected]
