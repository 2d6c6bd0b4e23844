"""What only the blocking client has to do: threads, signals, keepalive inside its calls, fork."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, HUGE, ROOM, blocking_pair
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer


class Started:
    """A call in a thread of its own."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._result: list[Any] = []
        self._error: list[BaseException] = []

        def run() -> None:
            try:
                self._result.append(function(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - raised in the test's thread
                self._error.append(error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def result(self) -> Any:
        self._thread.join(GUARD)
        assert not self._thread.is_alive(), "the call does not return"
        if self._error:
            raise self._error[0]
        return self._result[0]


@contextmanager
def pair(**options: Any) -> Iterator[tuple[lapwing.Client, RawPeer]]:
    with RawListener(receive_buffer=65536) as listener:
        with blocking_pair(listener, **{"timeout": GUARD, "close_timeout": 0.2, **options}) as both:
            yield both


# --- threads -----------------------------------------------------------------------------------------------------


def test_one_thread_receives_while_several_send() -> None:
    senders, each = 4, 100
    with pair(**ROOM) as (client, peer):

        def pour(name: int) -> None:
            for number in range(each):
                client.send(bytes([name]) * (number * 397 % 30_000 + 1))

        def echo() -> None:
            for _ in range(senders * each):
                opcode, payload = peer.read_message()
                peer.send_frame(opcode, payload)

        echoing = Started(echo)
        pouring = [Started(pour, name) for name in range(senders)]
        sizes: dict[int, list[int]] = {name: [] for name in range(senders)}
        for _ in range(senders * each):
            message = client.receive()
            assert isinstance(message, bytes)
            assert message == message[:1] * len(message), "two messages were mixed up"
            sizes[message[0]].append(len(message))
        for started in (echoing, *pouring):
            started.result()
        assert all(seen == [number * 397 % 30_000 + 1 for number in range(each)] for seen in sizes.values())


def test_a_second_thread_in_receive_is_refused() -> None:
    with pair() as (client, peer):
        first = Started(client.receive)
        peer.send_frame(wire.PING, b"in?")
        peer.expect_frame(wire.PONG, b"in?")
        with pytest.raises(RuntimeError, match="one at a time"):
            client.receive()
        peer.send_frame(wire.TEXT, b"for the first")
        assert first.result() == "for the first"


def test_receive_while_another_thread_sends_and_waits() -> None:
    with pair() as (client, peer):
        sending = Started(client.send, bytes(HUGE))
        peer.sock.recv(1)  # it has begun
        for number in range(5):
            peer.send_frame(wire.TEXT, str(number).encode())
            assert client.receive() == str(number)
        rest = len(wire.frame(wire.BINARY, bytes(HUGE), key=bytes(4))) - 1
        peer.read_exactly(rest)
        sending.result()


def test_send_while_another_thread_receives() -> None:
    with pair() as (client, peer):
        receiving = Started(client.receive)
        peer.send_frame(wire.PING, b"in?")
        peer.expect_frame(wire.PONG, b"in?")
        client.send("from here")
        peer.expect_frame(wire.TEXT, b"from here")
        pinging = Started(client.ping, b"and this")
        peer.expect_frame(wire.PING, b"and this")
        peer.send_frame(wire.PONG, b"and this")
        assert pinging.result() > 0
        peer.send_frame(wire.TEXT, b"done")
        assert receiving.result() == "done"


def test_receive_while_another_thread_pings() -> None:
    with pair() as (client, peer):
        pinging = Started(client.ping, b"slow")
        peer.expect_frame(wire.PING, b"slow")
        receiving = Started(client.receive)
        peer.send_frame(wire.TEXT, b"meanwhile")
        assert receiving.result() == "meanwhile"
        peer.send_frame(wire.PONG, b"slow")
        assert pinging.result() > 0


def test_receive_while_another_thread_closes() -> None:
    with pair(close_timeout=GUARD) as (client, peer):
        closing = Started(client.close, 3000)
        peer.expect_close(3000)
        receiving = Started(client.receive)
        peer.send_close(3000)
        peer.close()
        assert receiving.result() is None
        assert closing.result() == (True, 3000, "")


def test_several_pings_at_once() -> None:
    with pair() as (client, peer):
        pings = [Started(client.ping) for _ in range(4)]
        payloads = [peer.read_frame().payload for _ in pings]
        peer.send_frame(wire.PONG, payloads[-1])  # answers the earlier ones as well (RFC 6455 section 5.5.3)
        for ping in pings:
            assert ping.result() > 0


def test_pings_of_many_threads() -> None:
    """However many wait, none is forgotten: each gets its answer."""
    with pair() as (client, peer):
        pings = [Started(client.ping) for _ in range(80)]
        payloads = [peer.read_frame().payload for _ in pings]
        peer.send_frame(wire.PONG, payloads[-1])
        for ping in pings:
            assert ping.result() > 0


@pytest.mark.parametrize("how", ["reset", "half_close"])
def test_a_send_that_waits_ends_with_the_connection(how: str) -> None:
    with pair(timeout=None, open_timeout=GUARD) as (client, peer):
        sending = Started(client.send, bytes(HUGE))
        peer.sock.recv(1)
        getattr(peer, how)()
        with pytest.raises(lapwing.ConnectionClosed) as caught:
            sending.result()
        assert caught.value.args[:2] == (False, 1006)
        assert client.receive() is None


def test_a_thread_that_ends_while_it_holds_a_client() -> None:
    with pair() as (client, peer):
        Started(client.send, "from a thread").result()
        peer.expect_frame(wire.TEXT, b"from a thread")
        peer.send_frame(wire.TEXT, b"to another")
        assert Started(client.receive).result() == "to another"


# --- signals -----------------------------------------------------------------------------------------------------


class InterruptedForTest(Exception):  # noqa: N818 - not an error
    """Raised by the signal handler."""


@contextmanager
def alarm(*, raises: bool = True) -> Iterator[list[int]]:
    """Have a signal come in soon, and again and again: the first may be too early."""
    count: list[int] = []

    def handler(number: int, frame: object) -> None:
        count.append(number)
        if raises:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise InterruptedForTest

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    try:
        yield count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("timeout", [None, GUARD])
def test_a_signal_interrupts_receive(timeout: float | None) -> None:
    with pair(timeout=timeout, open_timeout=GUARD) as (client, peer):
        with alarm(), pytest.raises(InterruptedForTest):
            client.receive()
        peer.send_frame(wire.TEXT, b"not lost")
        assert client.receive() == "not lost"


def test_a_signal_interrupts_send() -> None:
    with pair() as (client, peer):
        with alarm(), pytest.raises(InterruptedForTest):
            client.send(bytes(HUGE))
        reading = Started(lambda: [peer.read_frame(), peer.read_frame()])
        client.send("the stream is whole")
        first, second = reading.result()
        assert first.payload == bytes(HUGE)
        assert second.payload == b"the stream is whole"


@pytest.mark.parametrize("wait", ["ping", "close"])
def test_a_signal_interrupts_ping_and_close(wait: str) -> None:
    with pair(close_timeout=GUARD) as (client, peer):
        with alarm(), pytest.raises(InterruptedForTest):
            getattr(client, wait)()
        peer.read_frame()
        peer.send_close()
        peer.close()
        assert client.close()[:2] == (True, 1000)


def test_a_signal_interrupts_connect() -> None:
    with RawListener() as listener:
        client = lapwing.Client()
        with alarm(), pytest.raises(InterruptedForTest):
            client.connect(listener.url)
        with listener.accept_bare() as peer:
            peer.read_head()
            peer.expect_reset_or_end()
        with pytest.raises(RuntimeError, match="not connected"):
            client.receive()


def test_a_signal_whose_handler_returns_interrupts_nothing() -> None:
    with pair() as (client, peer):
        receiving = threading.Timer(0.3, peer.send_frame, (wire.TEXT, b"in the end"))
        receiving.start()
        with alarm(raises=False) as count:
            assert client.receive() == "in the end"
            assert count
            with pytest.raises(TimeoutError):
                client.receive(timeout=0.2)
        receiving.join(GUARD)


PROGRAM = """
    import sys, lapwing
    with lapwing.connect(sys.argv[1]) as ws:
        print("connected", flush=True)
        ws.receive()
"""


def test_ctrl_c_ends_a_program_that_receives() -> None:
    with RawListener() as listener, program(PROGRAM, listener.url) as process, listener.accept() as peer:
        assert process.stdout is not None
        assert process.stdout.readline() == "connected\n"
        deadline = time.monotonic() + GUARD
        while process.poll() is None:
            assert time.monotonic() < deadline
            process.send_signal(signal.SIGINT)
            peer.sock.settimeout(0.1)
            try:
                peer.expect_close(1001)  # interrupted: going away
            except TimeoutError:
                continue
            peer.send_close(1001)
            peer.close()
            process.wait(GUARD)
        assert process.stderr is not None
        assert "KeyboardInterrupt" in process.stderr.read()


# --- keepalive ---------------------------------------------------------------------------------------------------


def test_pings_are_answered_inside_receive() -> None:
    with pair() as (client, peer):
        receiving = Started(client.receive)
        for number in range(5):
            peer.send_frame(wire.PING, str(number).encode())
            peer.expect_frame(wire.PONG, str(number).encode())
        peer.send_frame(wire.TEXT, b"done")
        assert receiving.result() == "done"


def test_pings_are_answered_inside_a_send_that_waits() -> None:
    with pair() as (client, peer):
        sending = Started(client.send, bytes(HUGE))
        peer.sock.recv(1)
        peer.send_frame(wire.PING, b"alive?")
        peer.send_frame(wire.TEXT, b"kept for later")
        peer.read_exactly(len(wire.frame(wire.BINARY, bytes(HUGE), key=bytes(4))) - 1)
        sending.result()
        sending = Started(client.send, "after")  # whatever was read in the meantime is answered by now or with this
        frames = [peer.read_frame(), peer.read_frame()]
        assert {frame.opcode for frame in frames} == {wire.PONG, wire.TEXT}
        sending.result()
        assert client.receive() == "kept for later"


def test_both_ends_send_more_than_the_network_holds() -> None:
    """Neither reads before it has sent: the client reads while it waits for room, so it does not deadlock."""
    with pair(**ROOM, max_buffered=2 * HUGE) as (client, peer):
        peer.sock.settimeout(GUARD)

        def peer_side() -> tuple[int, bytes]:
            peer.send_frame(wire.BINARY, bytes(HUGE))
            return peer.read_message()

        other = Started(peer_side)
        client.send(bytes(HUGE))
        assert other.result() == (wire.BINARY, bytes(HUGE))
        assert client.receive() == bytes(HUGE)


# --- fork --------------------------------------------------------------------------------------------------------

FORKING = """
    import os, sys, lapwing
    parent = lapwing.Client()
    parent.connect(sys.argv[1])
    parent.send("p")
    child = os.fork()
    if child == 0:
        with lapwing.connect(sys.argv[1]) as ws:
            for _ in range(5):
                ws.send("c")
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for _ in range(5):
        parent.send("p")
    assert parent.receive() == "still there"
    parent.close()
"""


def masking_key(peer: RawPeer) -> bytes:
    """The masking key of the next frame, which has one byte."""
    data = peer.read_exactly(7)
    assert data[:2] == b"\x81\x81"
    return data[2:6]


def test_a_forked_child_has_keys_of_its_own_and_leaves_the_parents_connection_alone() -> None:
    with RawListener() as listener, program(FORKING, listener.url) as process, listener.accept() as parent:
        keys = [masking_key(parent)]
        with listener.accept() as child:
            keys += [masking_key(child) for _ in range(5)]
            child.expect_close(1000)
            child.send_close(1000)
        keys += [masking_key(parent) for _ in range(5)]
        assert len(set(keys)) == len(keys)
        parent.send_frame(wire.TEXT, b"still there")
        parent.expect_close(1000)
        parent.send_close(1000)
        parent.close()
        _, errors = process.communicate(timeout=GUARD)
        assert process.returncode == 0, errors
