"""The proxy passes bytes on unchanged, and does to them what it is asked to."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from lapwing.testing import Direction, Fault, Proxy
from tests.peers.raw import TIMEOUT

Ends = tuple[socket.socket, socket.socket]
BOTH: tuple[Direction, ...] = ("to_server", "to_client")


class Rig:
    """A listener, a proxy before it, and connections through both."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.sockets: list[socket.socket] = [self.listener]

    def connect(self, proxy: Proxy) -> Ends:
        client = socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT)
        self.sockets.append(client)
        server, _ = self.listener.accept()
        self.sockets.append(server)
        server.settimeout(TIMEOUT)
        return client, server


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for sock in rig.sockets:
        sock.close()


def _ends(ends: Ends, direction: Direction) -> Ends:
    """The sender and the receiver of a direction."""
    return ends if direction == "to_server" else ends[::-1]


def _receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (part := sock.recv(count - len(data))):
        data += part
    return data


def _faulty(rig: Rig, direction: Direction, fault: Fault) -> Proxy:
    if direction == "to_server":
        return Proxy(rig.url, to_server=fault)
    return Proxy(rig.url, to_client=fault)


@pytest.mark.parametrize("direction", BOTH)
def test_passes_everything_on(rig: Rig, direction: Direction) -> None:
    data = bytes(range(256)) * 4096
    with Proxy(rig.url) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        thread = threading.Thread(target=sender.sendall, args=(data,))
        thread.start()
        assert _receive(receiver, len(data)) == data
        thread.join()
        assert proxy.accepted == 1
        proxy.wait_until(lambda proxy: proxy.passed[direction] == len(data))


def test_carries_several_connections_apart(rig: Rig) -> None:
    with Proxy(rig.url) as proxy:
        first, second = rig.connect(proxy), rig.connect(proxy)
        first[0].sendall(b"1")
        second[0].sendall(b"2")
        assert (_receive(first[1], 1), _receive(second[1], 1)) == (b"1", b"2")
        assert proxy.open == 2


@pytest.mark.parametrize("direction", BOTH)
def test_the_end_of_a_stream_is_passed_on_and_the_other_direction_lives(rig: Rig, direction: Direction) -> None:
    with Proxy(rig.url) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.shutdown(socket.SHUT_WR)
        assert receiver.recv(1) == b""
        receiver.sendall(b"still")
        assert _receive(sender, 5) == b"still"
        receiver.close()
        assert sender.recv(1) == b""
        proxy.wait_until(lambda proxy: proxy.open == 0)


@pytest.mark.parametrize("direction", BOTH)
def test_byte_by_byte(rig: Rig, direction: Direction) -> None:
    with _faulty(rig, direction, Fault(piece=1, pause=0.005)) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"hello")
        pieces: list[bytes] = []
        while sum(map(len, pieces)) < 5:
            pieces.append(receiver.recv(100))
        assert b"".join(pieces) == b"hello"
        assert len(pieces) > 1


@pytest.mark.parametrize("direction", BOTH)
@pytest.mark.parametrize("after", range(6))
def test_cut_at_every_byte_and_resumed(rig: Rig, direction: Direction, after: int) -> None:
    with _faulty(rig, direction, Fault(after=after)) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"hello")
        assert _receive(receiver, after) == b"hello"[:after]
        receiver.settimeout(0.02)
        if after < 5:
            with pytest.raises(TimeoutError):
                receiver.recv(1)
        receiver.settimeout(TIMEOUT)
        proxy.resume(direction)
        assert _receive(receiver, 5 - after) == b"hello"[after:]


@pytest.mark.parametrize("direction", BOTH)
def test_stall_and_resume(rig: Rig, direction: Direction) -> None:
    with Proxy(rig.url) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"a")
        assert _receive(receiver, 1) == b"a"
        proxy.stall(direction)
        sender.sendall(b"b")
        receiver.settimeout(0.05)
        with pytest.raises(TimeoutError):
            receiver.recv(1)
        receiver.settimeout(TIMEOUT)
        receiver.sendall(b"back")
        assert _receive(sender, 4) == b"back"
        proxy.resume(direction)
        assert _receive(receiver, 1) == b"b"


def test_a_stalled_direction_fills_up(rig: Rig) -> None:
    with Proxy(rig.url, buffer=4096) as proxy:
        client, _ = rig.connect(proxy)
        proxy.stall("to_server")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(16 << 20))


@pytest.mark.parametrize("direction", BOTH)
def test_delay(rig: Rig, direction: Direction) -> None:
    with _faulty(rig, direction, Fault(delay=0.2)) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"late")
        receiver.settimeout(0.05)
        with pytest.raises(TimeoutError):
            receiver.recv(1)
        receiver.settimeout(TIMEOUT)
        assert _receive(receiver, 4) == b"late"


@pytest.mark.parametrize("direction", BOTH)
def test_half_close_on_demand(rig: Rig, direction: Direction) -> None:
    with Proxy(rig.url) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"x")
        assert _receive(receiver, 1) == b"x"
        proxy.end(direction)
        assert receiver.recv(1) == b""
        receiver.sendall(b"still")
        assert _receive(sender, 5) == b"still"


@pytest.mark.parametrize("direction", BOTH)
def test_half_close_after_so_many_bytes(rig: Rig, direction: Direction) -> None:
    with _faulty(rig, direction, Fault(after=3, then="end")) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"hello")
        assert _receive(receiver, 5) == b"hel"


@pytest.mark.parametrize("direction", BOTH)
def test_reset_after_so_many_bytes(rig: Rig, direction: Direction) -> None:
    with _faulty(rig, direction, Fault(after=2, then="reset")) as proxy:
        sender, receiver = _ends(rig.connect(proxy), direction)
        sender.sendall(b"he")
        for end in (sender, receiver):
            with pytest.raises(ConnectionResetError):
                _receive(end, 3)


def test_reset_on_demand(rig: Rig) -> None:
    with Proxy(rig.url) as proxy:
        for end in rig.connect(proxy):
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_reset_of_one_side(rig: Rig) -> None:
    with Proxy(rig.url) as proxy:
        client, server = rig.connect(proxy)
        proxy.reset("client")
        with pytest.raises(ConnectionResetError):
            client.recv(1)
        assert server.recv(1) == b""


def test_a_reset_by_one_end_reaches_the_other(rig: Rig) -> None:
    with Proxy(rig.url) as proxy:
        client, server = rig.connect(proxy)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_server_that_is_not_there(rig: Rig) -> None:
    rig.listener.close()
    with Proxy(rig.url) as proxy:
        with pytest.raises(ConnectionResetError):
            _connect_and_receive(proxy.port)
        proxy.wait_until(lambda proxy: proxy.accepted == 1 and proxy.open == 0)


def _connect_and_receive(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
        client.recv(1)


def test_close_is_complete_and_may_be_repeated(rig: Rig) -> None:
    with Proxy(rig.url) as proxy:
        client, server = rig.connect(proxy)
        proxy.close()
        proxy.close()
        assert client.recv(1) == b""
        assert server.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), TIMEOUT)
