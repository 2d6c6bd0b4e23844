"""Python code that runs while a TLS record is made or read, through the `ssl` module, and uses that same connection.

Signal handlers, tracers, finalizers and the program's own `sslobject_class` all run in the middle of `SSLObject.write`
and `SSLObject.read`. What they send follows what was being sent, whole and once.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import lapwing
from lapwing.io import tls as records
from tests.faces.callers import GUARD, ROOM, blocking_pair, call, hosting, steps
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import RawListener, RawPeer
from tests.peers.tunnels import TunnelProxy

Listen = Callable[..., Any]
Send = Callable[[bytes], Any]

#: What is sent first, and in the middle of that: small enough to be queued at once, large enough to move the output.
FIRST = b"first" * 1000
NESTED = [bytes([number]) * 9000 for number in range(5)]


@pytest.fixture(autouse=True)
def _through_ssl() -> Iterator[None]:
    """Records go through the `ssl` module: on the direct way no Python code runs."""
    before = records.is_direct()
    records.set_direct(False)
    yield
    records.set_direct(before)


class Meddler:
    """Calls a function once, in the middle of the next call of a method of an SSL object.

    Args:
        method: "write" or "read".
        when: before or behind what the method does, or both.
    """

    def __init__(self, method: str = "write", when: tuple[str, ...] = ("before",)) -> None:
        self.act: Callable[[], Any] | None = None
        self.method = method
        self.when = when
        self.calls = 0
        meddler = self

        class Meddled(ssl.SSLObject):
            def write(self, data: Any) -> int:
                return int(meddler.within("write", lambda: super(Meddled, self).write(data)))

            def read(self, *args: Any) -> Any:
                return meddler.within("read", lambda: super(Meddled, self).read(*args))

        self.kind = Meddled

    def within(self, method: str, go_on: Callable[[], Any]) -> Any:
        act = self.act
        if act is None or method != self.method:
            return go_on()
        self.act = None
        if "before" in self.when:
            self.calls += 1
            act()
        result = go_on()
        if "behind" in self.when:
            self.calls += 1
            act()
        return result

    def in_context(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.sslobject_class = self.kind
        return context


@contextmanager
def tracing(act: Callable[[], Any]) -> Iterator[None]:
    """Call `act` once, by a tracer, when `SSLObject.write` is entered."""
    pending = [act]

    def trace(frame: Any, event: str, _: Any) -> None:
        if pending and frame.f_code is ssl.SSLObject.write.__code__:
            pending.pop()()

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
    assert not pending, "no record was made through the ssl module"


@contextmanager
def collecting(act: Callable[[], Any]) -> Iterator[None]:
    """Call `act` by a finalizer, when `SSLObject.write` is entered."""

    class Garbage:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            act()

    Garbage()
    with tracing(gc.collect):
        yield


@contextmanager
def signalled(act: Callable[[], Any]) -> Iterator[None]:
    """Call `act` in a signal handler, when `SSLObject.write` is entered."""
    before = signal.signal(signal.SIGUSR1, lambda *_: act())
    try:
        with tracing(lambda: signal.raise_signal(signal.SIGUSR1)):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


BY = pytest.mark.parametrize("by", [tracing, collecting, signalled])


def send_now(ws: lapwing.Connection, messages: list[bytes]) -> None:
    """Send from code that cannot await: there is room, so nothing waits."""
    for message in messages:
        assert not list(ws.send(message).__await__())


def expect_all(peer: RawPeer) -> None:
    """Everything comes whole, in order, and once."""
    for message in (FIRST, *NESTED, b"last"):
        assert peer.read_message() == (wire.BINARY, message)


# --- sending ---------------------------------------------------------------------------------------------------------


@BY
async def test_a_message_from_within_a_record_of_an_asyncio_client(by: Any, tls: Certificates, runtime: Any) -> None:
    with RawListener(context=tls.good.server_context()) as listener:
        accepting = asyncio.create_task(call(listener.accept))
        async with lapwing.connect(listener.url, ssl=tls.client_context(), **runtime.options) as ws:
            with await accepting as peer:
                with by(lambda: send_now(ws, NESTED)):
                    await ws.send(FIRST)
                await ws.send(b"last")
                await call(expect_all, peer)
                peer.close()


@BY
async def test_a_message_from_within_a_record_of_a_server(by: Any, listen: Listen, tls: Certificates) -> None:
    async with hosting(listen, ssl=tls.good.server_context()) as (server, guests):
        with await call(lambda: RawPeer.connect(server.port, context=tls.client_context())) as peer:
            ws = await guests.next()
            with by(lambda: send_now(ws, NESTED)):
                await ws.send(FIRST)
            await ws.send(b"last")
            await call(expect_all, peer)
            await call(peer.finish)


async def test_a_large_message_with_others_within_each_of_its_records(tls: Certificates, runtime: Any) -> None:
    """Of what does not fit into one go the rest is queued behind what comes from within."""
    meddler = Meddler(when=("before", "behind"))
    large = bytes(range(256)) * 6000
    with RawListener(context=tls.good.server_context()) as listener:
        accepting = asyncio.create_task(call(listener.accept))
        options: dict[str, Any] = {"ssl": meddler.in_context(tls.client_context()), "compression": False}
        async with lapwing.connect(listener.url, **options, **runtime.options) as ws:
            with await accepting as peer:
                meddler.act = lambda: asyncio.ensure_future(ws.ping("within"))
                reading = asyncio.create_task(call(peer.read_message))
                await ws.send(large)
                assert await reading == (wire.BINARY, large)
                for _ in range(meddler.calls):
                    await call(peer.expect_frame, wire.PING, b"within")
                    peer.send_frame(wire.PONG, b"within")
                await ws.send(b"last")
                assert await call(peer.read_message) == (wire.BINARY, b"last")
                await call(peer.close)
    assert meddler.calls == 2


async def test_a_close_from_within_a_record(tls: Certificates, runtime: Any) -> None:
    meddler = Meddler(when=("before", "behind"))
    with RawListener(context=tls.good.server_context()) as listener:
        accepting = asyncio.create_task(call(listener.accept))
        ws = await lapwing.connect(listener.url, ssl=meddler.in_context(tls.client_context()), **runtime.options)
        with await accepting as peer:
            closing: list[asyncio.Task[Any]] = []

            def close() -> None:
                ws._begin_close(3000, "from within")
                closing.append(asyncio.ensure_future(ws.close()))

            meddler.act = close
            await ws.send(b"first")
            assert await call(peer.read_message) == (wire.BINARY, b"first")
            await call(peer.expect_close, 3000)
            peer.send_close(3000)
            await call(peer.expect_end)
            peer.close()
            assert [await task for task in closing] == [(True, 3000, "")] * 2


@pytest.mark.parametrize("method", ["write", "read"])
@pytest.mark.parametrize("when", ["before", "behind"])
async def test_an_end_from_within_a_record(tls: Certificates, runtime: Any, method: str, when: str) -> None:
    meddler = Meddler(method, (when,))
    with RawListener(context=tls.good.server_context()) as listener:
        accepting = asyncio.create_task(call(listener.accept))
        ws = await lapwing.connect(listener.url, ssl=meddler.in_context(tls.client_context()), **runtime.options)
        with await accepting as peer:
            meddler.act = ws.abort
            if method == "read":
                peer.send_frame(wire.TEXT, b"x" * 100_000)
                assert await ws.receive() is None
            else:
                await ws.send(b"first")
            assert meddler.calls == 1
            assert ws.closed is not None
            assert ws.closed.code == 1006


@pytest.mark.parametrize("direct", [False, True])
async def test_a_record_within_a_record(tls: Certificates, runtime: Any, direct: bool) -> None:
    """TLS to a server through TLS to a proxy: what runs within either sends behind what was being sent."""
    records.set_direct(direct)
    inner, outer = Meddler(), Meddler()
    with (
        TunnelProxy(context=tls.good.server_context()) as proxy,
        RawListener(context=tls.good.server_context()) as listener,
    ):
        accepting = asyncio.create_task(call(listener.accept))
        options: dict[str, Any] = {
            "ssl": inner.in_context(tls.client_context()),
            "proxy_ssl": outer.in_context(tls.client_context()),
            "proxy": proxy.url("https"),
        }
        async with lapwing.connect(listener.url, **options, **runtime.options) as ws:
            with await accepting as peer:
                inner.act = lambda: send_now(ws, NESTED[:2])
                outer.act = lambda: send_now(ws, NESTED[2:])
                await steps()  # out of the burst in which the task was woken: there output waits for the end
                await ws.send(FIRST)
                if not direct or not records.is_direct():
                    while not outer.calls:  # the record is made at the latest when the turn of the event loop ends
                        await asyncio.sleep(0)
                    assert inner.calls == outer.calls == 1
                    await ws.send(b"last")
                    await call(expect_all, peer)
                peer.close()


# --- the blocking face -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "behind"])
def test_messages_from_within_a_read_of_a_blocking_client(tls: Certificates, when: str) -> None:
    meddler = Meddler("read", (when,))
    with RawListener(context=tls.good.server_context()) as listener:
        with blocking_pair(listener, ssl=meddler.in_context(tls.client_context()), timeout=GUARD) as (ws, peer):
            meddler.act = lambda: [ws.send(message) for message in (FIRST, *NESTED)]  # type: ignore[func-returns-value]
            peer.send_frame(wire.TEXT, b"x" * 100)
            assert ws.receive() == "x" * 100
            assert meddler.calls == 1
            ws.send(b"last")
            expect_all(peer)


def test_a_signal_handler_that_raises_within_a_read_loses_nothing(tls: Certificates) -> None:
    """Several records came in one read: the ones that were decrypted before it raised are not lost either."""
    messages = [str(number) * 5000 for number in range(20)]
    meddler = Meddler("read")

    def again() -> None:
        meddler.act = again
        raise KeyboardInterrupt

    with RawListener(context=tls.good.server_context()) as listener:
        with blocking_pair(listener, ssl=meddler.in_context(tls.client_context()), timeout=GUARD, **ROOM) as (ws, peer):
            for message in messages:
                peer.send_frame(wire.TEXT, message.encode())
            seen: list[Any] = []
            while len(seen) < len(messages):
                meddler.act = None if meddler.act else again
                try:
                    seen.append(ws.receive())
                except KeyboardInterrupt:
                    continue
            assert seen == messages
            assert meddler.calls


def test_a_signal_handler_that_raises_within_a_write_sends_nothing_twice(tls: Certificates) -> None:
    meddler = Meddler(when=("before", "behind"))
    raised: list[int] = []

    def stop() -> None:
        meddler.act = stop if not raised else None
        raised.append(1)
        raise KeyboardInterrupt

    with RawListener(context=tls.good.server_context()) as listener:
        with blocking_pair(listener, ssl=meddler.in_context(tls.client_context()), timeout=GUARD) as (ws, peer):
            for number, when in enumerate([("before",), ("behind",)]):
                raised[:] = [1]
                meddler.when = when
                meddler.act = stop
                with pytest.raises(KeyboardInterrupt):
                    ws.send(f"interrupted {number}")
                ws.send(f"later {number}")
                for word in ("interrupted", "later"):
                    assert peer.read_message() == (wire.TEXT, f"{word} {number}".encode())
