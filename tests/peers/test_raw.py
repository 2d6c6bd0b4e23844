"""The raw peer against itself: what one end sends is what the other expects, and nothing else passes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.raw import CUT_OFF, RawListener, RawPeer

Pair = tuple[RawPeer, RawPeer]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A client and a server that have shaken hands."""
    with RawListener() as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(listener.accept, subprotocol="b")
        with RawPeer.connect(listener.port, "/x", subprotocols=["a", "b"]) as client, accepted.result() as server:
            yield client, server


def test_the_opening_handshake(pair: Pair) -> None:
    client, server = pair
    assert server.head.start_line == "GET /x HTTP/1.1"
    assert server.head.one("sec-websocket-protocol") == "a, b"
    assert client.head.one("sec-websocket-protocol") == "b"


def test_frames_both_ways(pair: Pair) -> None:
    client, server = pair
    client.send_frame(wire.TEXT, b"hello")
    server.expect_frame(wire.TEXT, b"hello")
    server.send_frame(wire.BINARY, bytes(70000))
    client.expect_frame(wire.BINARY, bytes(70000))
    server.send_frame(wire.PING, fin=False, rsv=5)
    client.expect_frame(wire.PING, fin=False, rsv=5)


def test_exact_bytes_whole_and_bytewise(pair: Pair) -> None:
    client, server = pair
    server.send(wire.frame(wire.TEXT, b"ab"))
    client.expect(b"\x81\x02ab")
    client.send_bytewise(wire.frame(wire.TEXT, b"ab", key=b"\0\0\0\0"))
    server.expect(b"\x81\x82\0\0\0\0ab")


def test_a_message_in_fragments(pair: Pair) -> None:
    client, server = pair
    client.send_frame(wire.TEXT, b"he", fin=False)
    client.send_frame(wire.CONTINUATION, b"l", fin=False)
    client.send_frame(wire.CONTINUATION, b"lo")
    assert server.read_message() == (wire.TEXT, b"hello")


def test_what_follows_the_head_at_once_is_not_lost() -> None:
    with RawListener() as listener, RawPeer.open(listener.port) as client:
        client.send(wire.request("h") + wire.frame(wire.TEXT, b"early", key=wire.MASK))
        with listener.accept() as server:
            server.expect_frame(wire.TEXT, b"early")


@pytest.mark.parametrize(("masked", "from_client"), [(False, True), (True, False)])
def test_wrong_masking_is_noticed(pair: Pair, masked: bool, from_client: bool) -> None:
    sender, receiver = pair if from_client else pair[::-1]
    sender.send_frame(wire.TEXT, b"x", masked=masked)
    with pytest.raises(AssertionError, match="masked must be"):
        receiver.read_frame()


def test_the_closing_handshake(pair: Pair) -> None:
    client, server = pair
    server.send_close(1001, "bye")
    client.expect_close(1001, "bye")
    client.send_close(None)
    server.expect_close(None)
    server.close()
    client.expect_end()


def test_finish(pair: Pair) -> None:
    client, server = pair

    def answer() -> None:
        server.expect_close(1000, "done")
        server.send_close(1000)
        server.close()

    thread = threading.Thread(target=answer)
    thread.start()
    client.finish(1000, "done")
    thread.join()


@pytest.mark.parametrize(
    "expect",
    [
        lambda peer: peer.expect_frame(wire.TEXT, b"x"),
        lambda peer: peer.expect(b"\x81\x01x"),
        lambda peer: peer.expect_close(),
        lambda peer: peer.expect_end(),
        lambda peer: peer.expect_reset_or_end(),
    ],
)
def test_anything_else_is_an_error(pair: Pair, expect: Callable[[RawPeer], None]) -> None:
    client, server = pair
    server.send_frame(wire.TEXT, b"y")
    with pytest.raises(AssertionError):
        expect(client)


def test_the_end_of_the_stream_within_a_frame_is_an_error(pair: Pair) -> None:
    client, server = pair
    server.send(b"\x81\x05he")
    server.close()
    with pytest.raises(AssertionError, match="the stream ended 3 bytes before 5 had come"):
        client.read_frame()


def test_half_close(pair: Pair) -> None:
    client, server = pair
    client.half_close()
    server.expect_end()
    server.send(b"still")
    client.expect(b"still")


def test_reset(pair: Pair) -> None:
    client, server = pair
    client.reset()
    with pytest.raises(ConnectionResetError):
        server.read()


def test_reset_or_end_takes_both(pair: Pair) -> None:
    client, server = pair
    client.half_close()
    server.expect_reset_or_end()
    server.reset()
    client.expect_reset_or_end()


def test_over_tls(tls: Certificates) -> None:
    with RawListener(context=tls.good.server_context()) as listener, ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(listener.accept)
        with (
            RawPeer.connect(listener.port, context=tls.client_context()) as client,
            accepted.result() as server,
        ):
            assert listener.url == f"wss://localhost:{listener.port}"
            client.send_frame(wire.TEXT, b"secret")
            server.expect_frame(wire.TEXT, b"secret")
            server.end_tls()
            client.expect_end()


def test_an_end_of_tls_without_close_notify_is_told_apart(tls: Certificates) -> None:
    with RawListener(context=tls.good.server_context()) as listener, ThreadPoolExecutor(1) as pool:
        for expect in (RawPeer.expect_end, RawPeer.expect_reset_or_end):
            accepted = pool.submit(listener.accept)
            with RawPeer.connect(listener.port, context=tls.client_context()) as client, accepted.result() as server:
                server.close()
                if expect is RawPeer.expect_end:
                    with pytest.raises(CUT_OFF):
                        expect(client)
                else:
                    expect(client)
