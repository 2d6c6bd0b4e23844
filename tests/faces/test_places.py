"""Where a server listens: unix sockets, sockets that it is given, ports that are shared."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

import lapwing
from lapwing.io import listen as sockets
from tests.conftest import Runtime
from tests.faces.callers import GUARD, call, is_told_alone, steps
from tests.peers import wire
from tests.peers.raw import RawPeer
from tests.peers.servers import echo


@pytest.fixture
def path() -> Iterator[Path]:
    """A path for a socket, short enough to be one."""
    with TemporaryDirectory(prefix="lapwing") as directory:
        yield Path(directory, "socket")


def reach(path: Path | str) -> RawPeer:
    """Connect to a unix socket and complete the opening handshake."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(GUARD)
    sock.connect(str(path))
    peer = RawPeer.__new__(RawPeer)  # a unix socket has no TCP_NODELAY
    peer.sock, peer.client, peer._unread = sock, True, b""
    peer.send(wire.request("localhost"))
    assert peer.read_head().start_line.startswith("HTTP/1.1 101")
    return peer


def converse(peer: RawPeer) -> None:
    peer.send_frame(wire.TEXT, b"hello")
    peer.expect_frame(wire.TEXT, b"hello")
    peer.finish()


# --- unix sockets ------------------------------------------------------------------------------------------------


async def test_a_unix_socket(path: Path, runtime: Runtime) -> None:
    seen: list[Any] = []

    async def handler(ws: lapwing.Connection) -> None:
        seen.append((ws.peer_address, ws.local_address))
        await echo(ws)

    async with lapwing.listen(
        default=handler, unix=path, unix_mode=0o600, max_connections_per_address=1, **runtime.options
    ) as server:
        assert server.addresses == [str(path)]
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(LookupError, match="no port"):
            _ = server.port
        # Its clients have no addresses, and so share none.
        with await call(reach, path) as peer, await call(reach, path) as other:
            await call(converse, peer)
            await call(converse, other)
        assert str(path) in repr(server)
    assert seen == [(None, None)] * 2
    assert not path.exists()


async def test_a_name_without_a_file(runtime: Runtime) -> None:
    name = f"\0lapwing-test-{os.getpid()}"
    async with lapwing.listen(default=echo, unix=name, unix_mode=0o600, **runtime.options):
        with await call(reach, name) as peer:
            await call(converse, peer)


async def test_what_a_dead_program_left_behind_is_replaced(path: Path, runtime: Runtime) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()
    assert path.exists()
    async with lapwing.listen(default=echo, unix=str(path), **runtime.options):
        with await call(reach, path) as peer:
            await call(converse, peer)
    assert not path.exists()


async def test_what_is_in_use_is_not_replaced(path: Path, runtime: Runtime) -> None:
    async with lapwing.listen(default=echo, unix=path, **runtime.options):
        with pytest.raises(OSError, match="another program listens there"):
            await lapwing.listen(default=echo, unix=path, **runtime.options)
        with await call(reach, path) as peer:
            await call(converse, peer)


async def test_what_is_no_socket_is_not_touched(path: Path, runtime: Runtime) -> None:
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(OSError, match="is not a socket"):
        await lapwing.listen(default=echo, unix=path, **runtime.options)
    assert path.read_text(encoding="utf-8") == "precious"


async def test_the_file_of_another_server_stays(path: Path, runtime: Runtime) -> None:
    first = await lapwing.listen(default=echo, unix=path, **runtime.options)
    path.unlink()
    async with lapwing.listen(default=echo, unix=path, **runtime.options):
        await first.close()
        with await call(reach, path) as peer:
            await call(converse, peer)


@pytest.mark.parametrize("wrong", ["x" * 200, "/nonexistent/directory/socket"])
async def test_a_path_that_cannot_be_listened_on(wrong: str, runtime: Runtime) -> None:
    with pytest.raises(OSError, match="cannot listen on") as caught:
        await lapwing.listen(default=echo, unix=wrong, **runtime.options)
    assert caught.value.errno in (errno.ENAMETOOLONG, errno.ENOENT)
    assert is_told_alone(caught.value)


# --- sockets that are given --------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
async def test_sockets_that_listen_already(several: bool, runtime: Runtime) -> None:
    given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 if several else 1)]
    ports = [sock.getsockname()[1] for sock in given]
    async with lapwing.listen(default=echo, sockets=given if several else given[0], **runtime.options) as server:
        assert server.port == ports[0]
        assert [address[1] for address in server.addresses] == ports
        for port in ports:
            with await call(RawPeer.connect, port) as peer:
                await call(converse, peer)
    assert all(sock.fileno() < 0 for sock in given)


async def test_a_unix_socket_that_listens_already(path: Path, runtime: Runtime) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    async with lapwing.listen(default=echo, sockets=sock, **runtime.options):
        with await call(reach, path) as peer:
            await call(converse, peer)
    assert path.exists()  # whoever made it removes it


async def test_sockets_that_cannot_be_accepted_from(runtime: Runtime) -> None:
    with socket.socket() as idle, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        with pytest.raises(ValueError, match=r"listen\(\) first"):
            await lapwing.listen(default=echo, sockets=idle, **runtime.options)
        with pytest.raises(ValueError, match="stream"):
            await lapwing.listen(default=echo, sockets=[datagrams], **runtime.options)


ACTIVATED = """
    import asyncio, os, lapwing
    async def echo(ws):
        async for message in ws:
            await ws.send(message)
    async def main():
        async with lapwing.listen(default=echo, sockets="systemd") as server:
            print([address[1] for address in server.addresses], flush=True)
            assert "LISTEN_FDS" not in os.environ
            assert not os.get_inheritable(3)
            await asyncio.to_thread(input)
    asyncio.run(main())
"""


def test_sockets_of_systemd() -> None:
    """As systemd starts a program: the sockets are descriptors from 3 on, and the environment says how many."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        moved = [os.dup(sock.fileno()) for sock in (one, other)]
        command = f'exec 3<&{moved[0]} 4<&{moved[1]}; export LISTEN_PID=$$ LISTEN_FDS=2; exec "$0" -c "$1"'
        with subprocess.Popen(
            ["bash", "-c", command, sys.executable, textwrap.dedent(ACTIVATED)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=moved,
            env={**os.environ, "PYTHONPATH": str(Path(lapwing.__file__).parents[1])},
            text=True,
        ) as process:
            for descriptor in moved:
                os.close(descriptor)
            ports = [sock.getsockname()[1] for sock in (one, other)]
            assert process.stdout is not None
            assert process.stdout.readline().strip() == str(ports)
            for port in ports:
                with RawPeer.connect(port) as peer:
                    converse(peer)
            process.communicate("\n", timeout=GUARD)
            assert process.returncode == 0


REFUSED = """
    import asyncio, os
    import lapwing

    async def main():
        async def echo(ws):
            pass

        try:
            await lapwing.listen(default=echo, sockets="systemd")
        except ValueError as error:
            print(error)
        for descriptor in (3, 4):
            try:
                os.fstat(descriptor)
            except OSError:
                print(descriptor, "is closed")
    asyncio.run(main())
"""


def test_sockets_of_systemd_of_which_one_is_of_another_kind() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        moved = (one.fileno(), other.fileno())
        command = f'exec 3<&{moved[0]} 4<&{moved[1]}; export LISTEN_PID=$$ LISTEN_FDS=2; exec "$0" -W error -c "$1"'
        done = subprocess.run(
            ["bash", "-c", command, sys.executable, textwrap.dedent(REFUSED)],
            capture_output=True,
            pass_fds=moved,
            env={**os.environ, "PYTHONPATH": str(Path(lapwing.__file__).parents[1])},
            text=True,
            timeout=GUARD,
            check=True,
        )
    assert "expected a TCP or unix stream socket" in done.stdout
    assert done.stdout.endswith("\n3 is closed\n4 is closed\n")
    assert not done.stderr, "and not by the garbage collector"


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({}, OSError),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, OSError),
        ({"LISTEN_FDS": "many", "LISTEN_PID": str(os.getpid())}, ValueError),
        ({"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())}, ValueError),
    ],
)
def test_without_sockets_of_systemd(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], error: type[Exception]
) -> None:
    for name in ("LISTEN_FDS", "LISTEN_PID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error, match=r"systemd|LISTEN_FDS"):
        sockets.systemd_sockets()
    assert "LISTEN_FDS" not in os.environ


# --- ports that are shared ---------------------------------------------------------------------------------------


async def test_several_servers_on_one_port(runtime: Runtime) -> None:
    served: list[int] = []

    def counting(number: int) -> Any:
        async def handler(ws: lapwing.Connection) -> None:
            served.append(number)
            await echo(ws)

        return handler

    options: dict[str, Any] = {"interface": "127.0.0.1", "reuse_port": True, **runtime.options}
    async with lapwing.listen(0, default=counting(1), **options) as one:
        async with lapwing.listen(one.port, default=counting(2), **options) as other:
            assert other.port == one.port
            while len(set(served)) < 2:
                with await call(RawPeer.connect, one.port) as peer:
                    await call(converse, peer)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the filter")
def test_a_socket_that_holds_off_takes_nobody_new_and_loses_nobody() -> None:
    """The kernel lets the first packets of new connections drop; their clients send another one a second later."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = sock.getsockname()
        with socket.create_connection(address) as early, socket.socket() as late:
            if not sockets.hold_off(sock) and os.geteuid() != 0:
                pytest.skip("here only root may filter what comes to a socket")
            late.settimeout(0.2)
            with pytest.raises(TimeoutError):
                late.connect(address)
            accepted, name = sock.accept()
            with accepted:
                assert name == early.getsockname()
                early.sendall(b"still there")
                assert accepted.recv(100) == b"still there"


def test_a_unix_socket_has_nothing_to_hold_off() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        assert not sockets.hold_off(sock)


# --- what contradicts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"unix": "a", "sockets": "systemd"}, ValueError, "either unix or sockets"),
        ({"unix": "a", "reuse_port": True}, ValueError, "reuse_port"),
        ({"sockets": "systemd", "reuse_port": True}, ValueError, "reuse_port"),
        ({"unix_mode": 0o600}, ValueError, "expected unix"),
        ({"unix": "a", "unix_mode": 0o1777}, ValueError, "0o777"),
        ({"unix": "a", "unix_mode": "600"}, TypeError, "unix_mode"),
        ({"unix": ""}, ValueError, "empty"),
        ({"unix": 5}, TypeError, "path"),
        ({"sockets": []}, ValueError, "empty"),
        ({"sockets": "inetd"}, TypeError, "systemd"),
        ({"sockets": [5]}, TypeError, "socket"),
        ({"reuse_port": 1}, TypeError, "reuse_port"),
    ],
)
def test_options_that_make_no_sense(options: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        lapwing.listen(default=echo, **options)


@pytest.mark.parametrize("options", [{"port": 0}, {"interface": "127.0.0.1"}])
async def test_a_port_beside_a_unix_socket(path: Path, options: Any, runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="leave those out"):
        await lapwing.listen(default=echo, unix=path, **options, **runtime.options)
    await steps()
    assert not path.exists()
