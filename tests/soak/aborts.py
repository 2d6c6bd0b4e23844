"""Ways in which the other end of a connection breaks off: by hand, on a plain socket, as a client and as a server.

Each way is a generator that pauses where the other end has something to do, so that many go on at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tests.peers import wire
from tests.peers.raw import RawPeer

Way = Callable[[RawPeer], Iterator[None]]

_TALK = b"how do you do?"


# --- clients -------------------------------------------------------------------------------------------------------


def _open(peer: RawPeer) -> Iterator[None]:
    peer.send(wire.request("soak"))
    yield
    assert peer.read_head().start_line.startswith("HTTP/1.1 101")


def _talk(peer: RawPeer) -> Iterator[None]:
    yield from _open(peer)
    peer.send_frame(wire.TEXT, _TALK)
    yield
    peer.expect_frame(wire.TEXT, _TALK)


def says_nothing(peer: RawPeer) -> Iterator[None]:
    yield
    peer.close()


def leaves_within_the_handshake(peer: RawPeer) -> Iterator[None]:
    peer.send(wire.request("soak")[:40])
    yield
    peer.close()


def resets_within_the_handshake(peer: RawPeer) -> Iterator[None]:
    peer.send(wire.request("soak")[:40])
    yield
    peer.reset()


def resets_before_the_response(peer: RawPeer) -> Iterator[None]:
    peer.send(wire.request("soak"))
    peer.reset()
    yield


def resets(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.reset()


def vanishes(peer: RawPeer) -> Iterator[None]:
    """No close frame, only the end of the stream, as when a process is killed."""
    yield from _talk(peer)
    peer.close()


def half_closes(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.half_close()
    yield
    peer.expect_reset_or_end()
    peer.close()


def resets_within_a_frame(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.send(wire.frame(wire.BINARY, bytes(100_000), key=wire.MASK)[:50_000])
    yield
    peer.reset()


def vanishes_within_a_fragmented_message(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.send_frame(wire.TEXT, _TALK * 100, fin=False)
    yield
    peer.close()


def does_not_read(peer: RawPeer) -> Iterator[None]:
    """What it leaves unread makes its kernel answer with a reset."""
    yield from _talk(peer)
    for _ in range(20):
        peer.send_frame(wire.BINARY, bytes(5_000))
    yield
    peer.close()


def says_goodbye_and_leaves(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.send_close(1001)
    peer.close()


def breaks_the_rules(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.send_frame(wire.TEXT, b"\xff")
    yield
    peer.expect_close(1007)
    peer.close()


def closes_properly(peer: RawPeer) -> Iterator[None]:
    yield from _talk(peer)
    peer.send_close(1000)
    yield
    peer.expect_close(1000)
    peer.expect_end()
    peer.close()


CLIENTS: tuple[Way, ...] = (
    resets,
    vanishes,
    closes_properly,
    says_nothing,
    leaves_within_the_handshake,
    resets_within_the_handshake,
    resets_before_the_response,
    half_closes,
    resets_within_a_frame,
    vanishes_within_a_fragmented_message,
    does_not_read,
    says_goodbye_and_leaves,
    breaks_the_rules,
)


def connect_and_abort(port: int, cycles: int, at_once: int = 40) -> None:
    """Connect so many clients to a server, `at_once` at a time; each breaks off in its own way."""
    for start in range(0, cycles, at_once):
        numbers = range(start, min(start + at_once, cycles))
        peers = [RawPeer.open(port, f"127.0.0.{1 + number % 8}") for number in numbers]
        under_way = [CLIENTS[number % len(CLIENTS)](peer) for number, peer in zip(numbers, peers, strict=True)]
        try:
            while under_way:
                under_way = [client for client in under_way if next(client, "done") != "done"]
        finally:
            for peer in peers:
                peer.close()


# --- servers -------------------------------------------------------------------------------------------------------


def _serve(peer: RawPeer) -> None:
    key = peer.read_head().one("sec-websocket-key")
    peer.send(wire.response(key))
    opcode, payload = peer.read_message()
    peer.send_frame(opcode, payload)


def refuses_by_reset(peer: RawPeer) -> None:
    peer.reset()


def leaves_within_the_response(peer: RawPeer) -> None:
    peer.send(wire.response(peer.read_head().one("sec-websocket-key"))[:40])
    peer.close()


def resets_within_the_response(peer: RawPeer) -> None:
    peer.send(wire.response(peer.read_head().one("sec-websocket-key"))[:40])
    peer.reset()


def refuses(peer: RawPeer) -> None:
    peer.read_head()
    peer.send(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy")
    peer.close()


def serves_and_resets(peer: RawPeer) -> None:
    _serve(peer)
    peer.reset()


def serves_and_vanishes(peer: RawPeer) -> None:
    _serve(peer)
    peer.close()


def serves_and_resets_within_a_frame(peer: RawPeer) -> None:
    _serve(peer)
    peer.send(wire.frame(wire.BINARY, bytes(100_000))[:50_000])
    peer.reset()


def serves_and_says_goodbye(peer: RawPeer) -> None:
    _serve(peer)
    peer.send_close(1001, "going away")
    peer.expect_close(1001)
    peer.close()


def serves_and_breaks_the_rules(peer: RawPeer) -> None:
    _serve(peer)
    peer.send_frame(wire.TEXT, b"x", rsv=4)
    peer.expect_close(1002)
    peer.close()


SERVERS: tuple[Callable[[RawPeer], None], ...] = (
    serves_and_resets,
    serves_and_vanishes,
    serves_and_says_goodbye,
    refuses_by_reset,
    leaves_within_the_response,
    resets_within_the_response,
    refuses,
    serves_and_resets_within_a_frame,
    serves_and_breaks_the_rules,
)
