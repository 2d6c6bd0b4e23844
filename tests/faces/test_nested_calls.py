"""Calls that are made within another call of the same blocking connection, by the same thread.

A signal handler, a finalizer or a logging handler does that. Such a call must not wait: its own thread is the one that
would have to go on. It queues, begins the closing handshake, or raises.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import lapwing
from lapwing.protocol import Endpoint, Role
from lapwing.protocol.compression import PerMessageDeflate
from tests.faces.callers import GUARD, HUGE, blocking_pair
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.raw import RawListener, RawPeer

Call = Callable[[lapwing.Client], Any]
Act = Callable[[RawPeer], Any]


@contextmanager
def pair(**options: Any) -> Iterator[tuple[lapwing.Client, RawPeer]]:
    with RawListener(receive_buffer=65536) as listener:
        with blocking_pair(listener, **{"timeout": GUARD, "close_timeout": GUARD, **options}) as both:
            both[1].sock.settimeout(GUARD)
            yield both


class Interrupted:
    """A call that a signal handler interrupts, once it waits; the peer acts in a thread meanwhile.

    Args:
        outer: the call.
        inner: what the handler does; `result` is what it returned, or the exception that it raised.
        before: what the peer does until the call waits for it.
        after: what it does when the handler has returned.
    """

    def __init__(
        self, client: lapwing.Client, peer: RawPeer, *, outer: Call, inner: Call, before: Act, after: Act
    ) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self.outcome: Any = None
        handled = threading.Event()

        def handler(number: int, frame: object) -> None:
            try:
                self.result = inner(client)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.error = error
            handled.set()

        def peer_side() -> None:
            before(peer)
            os.kill(os.getpid(), signal.SIGUSR1)
            assert handled.wait(GUARD), "the handler does not return"
            after(peer)

        peering = threading.Thread(target=peer_side, daemon=True)
        earlier = signal.signal(signal.SIGUSR1, handler)
        try:
            peering.start()
            try:
                self.outcome = outer(client)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.outcome = error
            peering.join(GUARD)
            assert not peering.is_alive()
        finally:
            signal.signal(signal.SIGUSR1, earlier)


def is_reading(peer: RawPeer) -> None:
    """Wait until the client reads."""
    peer.send_frame(wire.PING, b"in?")
    peer.expect_frame(wire.PONG, b"in?")


def is_sending(peer: RawPeer) -> None:
    """Wait until the client has begun to send what the network does not hold."""
    peer.sock.recv(1)


def read_huge(peer: RawPeer) -> None:
    peer.read_exactly(len(wire.frame(wire.BINARY, bytes(HUGE), key=bytes(4))) - 1)


def answer_close(peer: RawPeer) -> None:
    peer.expect_close(1000)
    peer.send_close(1000)
    peer.close()


def stream(client: lapwing.Client) -> list[str | bytes]:
    message = client.receive_stream()
    return [] if message is None else list(message)


RECEIVING: dict[str, tuple[Call, Any]] = {
    "receive": (lambda client: client.receive(), None),
    "receive_many": (lambda client: client.receive_many(), []),
    "receive_into": (lambda client: client.receive_into(bytearray(10)), None),
    "receive_stream": (stream, []),
    "iteration": (list, []),
}


# --- closing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECEIVING)
def test_close_within_what_receives(name: str) -> None:
    outer, end = RECEIVING[name]
    with pair() as (client, peer):
        done = Interrupted(
            client, peer, outer=outer, inner=lambda ws: ws.close(), before=is_reading, after=answer_close
        )
        assert done.error is None
        assert done.result[:2] == (False, 1006)
        assert "has begun" in done.result.reason
        assert done.outcome == end
        assert client.closed == client.close() == (True, 1000, "")


def test_close_within_receive_of_a_peer_that_does_not_answer() -> None:
    with pair(timeout=None, open_timeout=GUARD) as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.receive(),
            inner=lambda ws: ws.close(timeout=0.2),
            before=is_reading,
            after=lambda peer: peer.expect_close(1000),
        )
        assert done.outcome is None
        assert client.closed == (False, 1006, "no close frame came within 0.2 s")


def test_close_within_a_send_that_waits_for_room() -> None:
    def read_all(peer: RawPeer) -> None:
        read_huge(peer)
        answer_close(peer)

    with pair() as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.send(bytes(HUGE)),
            inner=lambda ws: ws.close(),
            before=is_sending,
            after=read_all,
        )
        assert done.error is None
        assert done.outcome is None, "the message goes out, and the close frame behind it"
        assert client.close() == (True, 1000, "")


def test_close_within_a_send_to_a_peer_that_reads_nothing() -> None:
    with pair(timeout=None, open_timeout=GUARD) as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.send(bytes(HUGE)),
            inner=lambda ws: ws.close(timeout=0.2),
            before=is_sending,
            after=lambda peer: None,
        )
        assert isinstance(done.outcome, lapwing.ConnectionClosed)
        assert client.close() == (False, 1006, "no close frame came within 0.2 s")


def test_close_within_ping() -> None:
    with pair() as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.ping(b"slow"),
            inner=lambda ws: ws.close(),
            before=lambda peer: peer.expect_frame(wire.PING, b"slow"),
            after=answer_close,
        )
        assert done.error is None
        assert isinstance(done.outcome, lapwing.ConnectionClosed)
        assert client.close() == (True, 1000, "")


def test_close_within_close() -> None:
    with pair() as (client, peer):

        def answer(peer: RawPeer) -> None:
            peer.send_close(3000)
            peer.close()

        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.close(3000),
            inner=lambda ws: ws.close(),
            before=lambda peer: peer.expect_close(3000),
            after=answer,
        )
        assert done.error is None
        assert done.outcome == (True, 3000, "")


def test_close_within_a_message_read_in_pieces() -> None:
    def begin(peer: RawPeer) -> None:
        peer.send_frame(wire.TEXT, b"begun", fin=False)
        is_reading(peer)

    with pair() as (client, peer):
        done = Interrupted(client, peer, outer=stream, inner=lambda ws: ws.close(), before=begin, after=answer_close)
        assert done.error is None
        assert isinstance(done.outcome, lapwing.ConnectionClosed)
        assert client.close() == (True, 1000, "")


@pytest.mark.parametrize("before", [is_reading, is_sending])
def test_abort_within_another_call(before: Act) -> None:
    outer: Call = (lambda ws: ws.receive()) if before is is_reading else (lambda ws: ws.send(bytes(HUGE)))
    with pair(timeout=None, open_timeout=GUARD) as (client, peer):
        done = Interrupted(
            client, peer, outer=outer, inner=lambda ws: ws.abort(), before=before, after=lambda peer: None
        )
        assert done.error is None
        assert done.outcome is None or isinstance(done.outcome, lapwing.ConnectionClosed)
        assert client.closed == (False, 1006, "this end aborted the connection")


# --- sending -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("message", ["nested", ["nes", "ted"]])
def test_send_within_receive(message: Any) -> None:
    def answer(peer: RawPeer) -> None:
        assert peer.read_message() == (wire.TEXT, b"nested")
        peer.send_frame(wire.TEXT, b"answer")

    with pair() as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.receive(),
            inner=lambda ws: ws.send(message),
            before=is_reading,
            after=answer,
        )
        assert done.error is None
        assert done.outcome == "answer"


def test_what_the_kernel_does_not_take_of_a_send_within_receive_goes_out_while_it_waits() -> None:
    def answer(peer: RawPeer) -> None:
        assert peer.read_message() == (wire.BINARY, bytes(HUGE))
        peer.send_frame(wire.TEXT, b"answer")

    with pair(timeout=None, open_timeout=GUARD) as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.receive(),
            inner=lambda ws: ws.send(bytes(HUGE)),
            before=is_reading,
            after=answer,
        )
        assert done.error is None
        assert done.outcome == "answer"


@pytest.mark.parametrize("message", ["nested", ["nes", "ted"]])
def test_send_within_a_send_that_waits_for_room(message: Any) -> None:
    def read_both(peer: RawPeer) -> None:
        read_huge(peer)
        assert peer.read_message() == (wire.TEXT, b"nested")

    with pair() as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.send(bytes(HUGE)),
            inner=lambda ws: ws.send(message),
            before=is_sending,
            after=read_both,
        )
        assert done.error is None
        assert done.outcome is None


def test_send_within_a_message_of_fragments_raises() -> None:
    with pair() as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.send([bytes(HUGE)]),
            inner=lambda ws: ws.send("nested"),
            before=is_sending,
            after=lambda peer: peer.read_exactly(HUGE),
        )
        assert isinstance(done.error, RuntimeError)
        assert done.outcome is None


def test_a_message_that_waits_for_one_of_fragments_lets_a_handler_send_nothing() -> None:
    """Its thread stands in line: behind itself, the nested message would wait for ever."""
    going_on = threading.Event()
    with pair() as (client, peer):

        def fragments() -> Iterator[str]:
            yield "first, "
            assert going_on.wait(GUARD)
            yield "last"

        sending = threading.Thread(target=client.send, args=(fragments(),))
        sending.start()
        assert peer.read_frame().payload == b"first, "
        errors: list[Exception] = []

        def handler(number: int, frame: object) -> None:
            try:
                client.send("nested", timeout=0.05)
            except Exception as error:  # noqa: BLE001 - the test looks at it
                errors.append(error)
            if isinstance(errors[-1], RuntimeError):
                going_on.set()
            else:  # `send` had not begun: its message stands in line like any other
                signal.setitimer(signal.ITIMER_REAL, 0.05)

        earlier = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            client.send("outer")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, earlier)
        sending.join(GUARD)
        assert isinstance(errors[-1], RuntimeError)
        assert [peer.read_frame().payload for _ in range(3)] == [b"last", b"", b"outer"]


# --- what has to wait ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["ping", "receive", "receive_many", "receive_json", "receive_stream"])
@pytest.mark.parametrize("within", ["receive", "send", "close"])
def test_what_has_to_wait_raises(within: str, inner: str) -> None:
    outers: dict[str, tuple[Call, Act, Act]] = {
        "receive": (lambda ws: ws.receive(), is_reading, lambda peer: peer.send_frame(wire.TEXT, b"end")),
        "send": (lambda ws: ws.send(bytes(HUGE)), is_sending, read_huge),
        "close": (lambda ws: ws.close(), lambda peer: peer.expect_close(1000), lambda peer: peer.send_close(1000)),
    }
    outer, before, after = outers[within]
    with pair(close_timeout=1) as (client, peer):
        done = Interrupted(client, peer, outer=outer, inner=lambda ws: getattr(ws, inner)(), before=before, after=after)
        assert isinstance(done.error, RuntimeError | lapwing.ConnectionClosed)
        assert not isinstance(done.outcome, Exception)


def test_a_message_that_is_there_is_received_within_another_call() -> None:
    def before(peer: RawPeer) -> None:
        peer.expect_frame(wire.PING, b"slow")
        peer.send_frame(wire.TEXT, b"there")
        is_reading(peer)

    with pair() as (client, peer):
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.ping(b"slow"),
            inner=lambda ws: ws.receive(),
            before=before,
            after=lambda peer: peer.send_frame(wire.PONG, b"slow"),
        )
        assert done.result == "there"
        assert done.outcome > 0


def test_connect_within_another_call_raises() -> None:
    def reconnect(ws: lapwing.Client) -> None:
        ws.abort()
        ws.connect(other.url)

    with pair() as (client, peer), RawListener() as other:
        done = Interrupted(
            client,
            peer,
            outer=lambda ws: ws.receive(),
            inner=reconnect,
            before=is_reading,
            after=lambda peer: None,
        )
        assert isinstance(done.error, RuntimeError)
        assert done.outcome is None


def test_a_logging_handler_sends() -> None:
    """It runs in the middle of `receive` and `send`, in their thread."""
    logger = logging.getLogger("lapwing.frames")
    sent: list[str] = []

    class Sending(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if len(sent) < 3:
                sent.append("logged")
                client.send("logged")

    handler = Sending()
    logger.setLevel(logging.DEBUG)
    try:
        with pair() as (client, peer):
            logger.addHandler(handler)
            peer.send_frame(wire.TEXT, b"to be logged")
            assert client.receive() == "to be logged"
            client.send("last")
            texts = [peer.read_frame().payload for _ in range(4)]
            assert sorted(texts) == [b"last", b"logged", b"logged", b"logged"]
            logger.removeHandler(handler)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


def test_a_call_is_over_when_it_raises() -> None:
    """The next one of the same thread is no nested one."""
    with pair() as (client, peer):
        with pytest.raises(TimeoutError):
            client.receive(timeout=0.01)
        with pytest.raises(TypeError):
            client.send(1)  # type: ignore[arg-type]
        with pytest.raises(TimeoutError):
            client.ping(timeout=0.01)
        peer.send_frame(wire.TEXT, b"waited for")
        assert client.receive() == "waited for"


# --- compressing ---------------------------------------------------------------------------------------------------


def codec() -> PerMessageDeflate:
    return PerMessageDeflate(
        keeps_outgoing=True,
        keeps_incoming=True,
        outgoing_window_bits=15,
        incoming_window_bits=15,
        level=None,
        memory_level=8,
        threshold=0,
    )


def received(data: bytes) -> list[str | bytes]:
    server = Endpoint(Role.SERVER)
    server.use([codec()])
    server.receive_data(data, now=0.0)
    return [server.next_message() for _ in range(server.pending_messages)]  # type: ignore[misc]


@pytest.mark.parametrize("outer", ["whole", "fragments"])
def test_a_finalizer_sends_while_the_compressor_of_the_connection_is_in_use(outer: str) -> None:
    client = Endpoint(Role.CLIENT)
    client.use([codec()])
    left = list(range(20))
    sent: list[str] = []

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            if left:
                Garbage()  # each allocation from here on finds some, the ones while something is compressed included
                left.pop()
                with contextlib.suppress(RuntimeError):  # within a message of fragments
                    client.send("nested" * 10)
                    sent.append("nested" * 10)

    before = gc.get_threshold()
    gc.collect()
    Garbage()
    gc.set_threshold(1)
    try:
        for number in range(10):
            if outer == "whole":
                client.send(f"outer {number}" * 10)
            else:
                client.send_fragment(f"outer {number}" * 10, fin=True)
    finally:
        gc.set_threshold(*before)
    messages = received(client.data_to_send())
    assert [message for message in messages if message not in sent] == [f"outer {n}" * 10 for n in range(10)]
    assert len(messages) == 10 + len(sent)


IMPORTING = """
    import sys
    from lapwing.protocol import Endpoint, Role
    from tests.faces.test_nested_calls import codec, received

    assert "zlib_ng" not in sys.modules
    pending = ["once"]

    class Finder:
        # Python code of a program that runs while a module is imported: a handler of a signal may be just that.
        def find_spec(self, name, path, target=None):
            if name.startswith("zlib_ng") and pending:
                pending.pop()
                client.send("nested" * 10)

    sys.meta_path.insert(0, Finder())
    client = Endpoint(Role.CLIENT)
    client.use([codec()])
    client.send("outer" * 10)
    print(*sorted(received(client.data_to_send())))
"""


def test_a_send_while_the_compressor_is_imported_under_the_lock() -> None:
    with program(IMPORTING) as process:
        said, complaints = process.communicate(timeout=GUARD)
        assert process.returncode == 0, complaints
        assert said.split()[-1] == "outer" * 10
