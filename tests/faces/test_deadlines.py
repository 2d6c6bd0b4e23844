"""Waits of the blocking face end on time: the kernel lets the time-outs of descriptors expire up to an eighth late.

How late they are is measured against a wait in `poll`, which the kernel times exactly, at the same time.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, HUGE
from tests.faces.test_blocking import Started, pair
from tests.peers import wire

#: Of what the kernel is asked to wait in a read, this much may be added by its timer wheel, and some ticks of 10 ms.
ROUNDING, TICKS = 1 / 8, 0.02


def read_limit(client: lapwing.Client) -> float:
    """How many seconds the client's descriptor waits in a read."""
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_socket():
            with socket.socket(fileno=os.dup(int(entry.name))) as sock:
                if sock.getsockname() == client.local_address:
                    limit = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.calcsize("ll"))
                    seconds, microseconds = struct.unpack("ll", limit)
                    return float(seconds + microseconds / 1e6)
    raise AssertionError("the client has no descriptor")


@pytest.mark.parametrize("seconds", [1, 20, 60])
@pytest.mark.parametrize("what", ["timeout", "ping_interval"])
def test_the_descriptor_is_given_less_than_there_is(what: str, seconds: float) -> None:
    options: dict[str, Any] = {"timeout": None, "ping_interval": None, "open_timeout": GUARD, what: seconds}
    with pair(**options) as (client, peer):
        receiving = Started(client.receive)
        peer.send_frame(wire.PING, b"in?")
        peer.expect_frame(wire.PONG, b"in?")
        limit = read_limit(client)
        peer.send_frame(wire.TEXT, b"done")
        assert receiving.result() == "done"
        assert 0 < limit * (1 + ROUNDING) + (TICKS if seconds > 1 else 0) <= seconds


def exact_wait(seconds: float) -> Started:
    """A wait that begins now and ends as precisely as this machine can; its result is when it ended."""

    def poll() -> float:
        select.poll().poll(seconds * 1000)
        return time.monotonic()

    return Started(poll)


def assert_some_are_on_time(attempt: Callable[[], float]) -> None:
    """The best of ten: a busy machine is late now and then, the timer wheel by 0.2 s on average."""
    late = []
    for _attempt in range(10):
        late.append(attempt())
        if late[-1] <= 0.01:
            return
    raise AssertionError(f"late by {late} seconds")


@pytest.mark.parametrize("wait", ["receive", "ping", "send"])
def test_a_wait_ends_within_ten_milliseconds(wait: str) -> None:
    seconds = 2.2
    with pair(timeout=seconds, open_timeout=GUARD, ping_interval=None) as (client, _):

        def attempt() -> float:
            began = time.monotonic()
            exact = exact_wait(seconds)
            with pytest.raises(TimeoutError):
                if wait == "send":
                    client.send(bytes(HUGE))
                else:
                    getattr(client, wait)()
            ended = time.monotonic()
            assert ended - began >= seconds
            return float(ended - exact.result())

        assert_some_are_on_time(attempt)


def test_keepalive_is_due_on_time() -> None:
    def attempt() -> float:
        with pair(timeout=None, open_timeout=GUARD, ping_interval=2.2) as (client, peer):
            receiving = Started(client.receive)
            peer.send_frame(wire.PING, b"in?")
            peer.expect_frame(wire.PONG, b"in?")
            exact = exact_wait(2.2)
            assert peer.read_frame().opcode == wire.PING
            ended = time.monotonic()
            peer.send_frame(wire.TEXT, b"done")
            assert receiving.result() == "done"
            return float(ended - exact.result())

    assert_some_are_on_time(attempt)
