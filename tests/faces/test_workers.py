"""`run` as a program in production: several processes, draining on a signal, and what happens to those that die."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, call
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.certificates import Certificates, make_certificates
from tests.peers.programs import free_port
from tests.peers.raw import RawPeer
from tests.peers.servers import echo

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="workers need os.fork")

SERVING = """
    import logging, os, sys, lapwing
    class Tell(logging.Handler):
        def emit(self, record):
            text = record.getMessage()
            if record.levelno >= logging.INFO:
                os.write(1, (f"{record.levelname} {text}" + chr(10)).encode())
    logging.basicConfig(level=logging.DEBUG, handlers=[Tell()])
    # What stays in a buffer at the fork must not be written twice.
    sys.stdout.write("buffered" + chr(10))
    async def who(ws):
        await ws.send(str(os.getpid()))
        async for message in ws:
            if message == "die":
                os._exit(3)
            await ws.send(message)
    options = eval(sys.argv[1])
    if options.pop("uvloop", False):
        import uvloop
        options["loop_factory"] = uvloop.new_event_loop
    # Which calls of os.fork fail, counted from 0.
    failing = options.pop("failing_forks", ())
    fork, numbers = os.fork, iter(range(1000))
    def fork_or_fail():
        if next(numbers) in failing:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return fork()
    os.fork = fork_or_fail
    if "unix" not in options:
        options |= {"port": 0, "interface": "127.0.0.1"}
    lapwing.run(default=who, **options)
    os.write(1, b"ended" + chr(10).encode())
"""


class Serving:
    """A program that serves, and the lines that it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.port = 0
        self._said = ""
        line = self.until("listening on")
        if "127.0.0.1" in line:
            self.port = int(line.partition("127.0.0.1', ")[2].partition(")")[0])

    def until(self, words: str) -> str:
        """The next line that has these words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said += line
            if words in line:
                return line
        raise AssertionError(f"it never said {words!r}; on stderr: {self.process.communicate()[1]}")

    def worker(self) -> int:
        """The process that serves a new connection."""
        with RawPeer.connect(self.port) as peer:
            pid = int(peer.read_frame().payload)
            peer.finish()
            return pid

    def all_workers(self, count: int) -> set[int]:
        """The processes of all workers: clients connect until each of them has had one."""
        deadline = time.monotonic() + GUARD
        found: set[int] = set()
        while len(found) < count:
            assert time.monotonic() < deadline, found
            found.add(self.worker())
        return found

    def end(self) -> None:
        """Wait for its end, which must be a good one."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        output = self.process.stdout.read()  # not by `communicate`, which misses lines that were read ahead
        errors = self.process.stderr.read()
        assert self.process.wait(GUARD) == 0, errors
        assert "ended\n" in output
        assert (self._said + output).count("buffered") == 1, "by this process and not by its workers as well"
        assert "Traceback" not in errors


@contextmanager
def serving(**options: Any) -> Iterator[Serving]:
    with program(SERVING, repr(options)) as process:
        yield Serving(process)


def gone(pid: int) -> None:
    """Wait until a process is gone: nobody is left to wait for it but whoever adopts it."""
    deadline = time.monotonic() + GUARD
    while True:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("way", [{}, {"portable": True}, {"uvloop": True}], ids=["asyncio", "portable", "uvloop"])
def test_several_processes_serve_one_port_and_end_on_a_signal(number: signal.Signals, way: dict[str, Any]) -> None:
    with serving(workers=2, **way) as server:
        workers = server.all_workers(2)
        assert server.process.pid not in workers
        with RawPeer.connect(server.port) as peer:
            assert int(peer.read_frame().payload) in workers
            server.process.send_signal(number)
            peer.expect_close(1001)
            peer.send_close(1001)
        server.end()
        for pid in workers:
            gone(pid)


EARLY = """
    import logging, os, signal, sys, lapwing
    class Kill(logging.Handler):
        def emit(self, record):
            if "workers" in record.getMessage():
                os.kill(os.getpid(), int(sys.argv[2]))
    logging.basicConfig(level=logging.INFO, handlers=[Kill()])
    async def echo(ws): ...
    lapwing.run(unix=sys.argv[1], default=echo, workers=1)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())
    print("ended", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_there_are_workers_leaves_nothing_behind(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with program(EARLY, str(tmp_path / "socket"), str(int(number))) as process:
        output, errors = process.communicate(timeout=GUARD)
        assert (process.returncode, output, errors) == (0, "ended\n", "")
    assert list(tmp_path.iterdir()) == []


def test_the_live_page_of_all_workers_has_one_token_which_is_printed_once() -> None:
    with serving(workers=2, inspector=True) as server:
        workers = server.all_workers(2)
        server.process.send_signal(signal.SIGTERM)
        _, errors = server.process.communicate(timeout=GUARD)
    assert len(workers) == 2
    [line] = errors.splitlines()
    assert re.fullmatch(rf"live page: http://127\.0\.0\.1:{server.port}/_lapwing/#token=\S{{40,}}", line)


def test_a_signal_to_the_whole_group_is_one_signal() -> None:
    """A Ctrl-C in a terminal reaches the workers as well: that is no second one, which would cut the draining short."""
    with serving(workers=2, drain_window=0.3) as server:
        workers = server.all_workers(2)
        with RawPeer.connect(server.port) as peer, RawPeer.connect(server.port) as other:
            for each in (peer, other):
                each.read_frame()
            for pid in workers:
                os.kill(pid, signal.SIGINT)
            server.process.send_signal(signal.SIGINT)
            for each in (peer, other):
                each.expect_close(1012)
                each.send_close(1012)
        server.end()


def test_a_worker_that_dies_is_replaced() -> None:
    with serving(workers=2) as server:
        before = server.all_workers(2)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        assert f"worker {victim} ended with signal SIGKILL" in server.until("another one starts")
        after = server.all_workers(2)
        assert len(after - before) == 1
        server.process.send_signal(signal.SIGTERM)
        server.end()


def test_a_crash_loop_does_not_spin_and_ends_on_a_signal() -> None:
    with serving(workers=1) as server:
        waits = []
        for _ in range(4):
            with RawPeer.connect(server.port) as peer:
                peer.read_frame()
                peer.send_frame(wire.TEXT, b"die")
                peer.expect_reset_or_end()
            line = server.until("ended with exit status 3")
            waits.append(float(line.partition("another one starts in ")[2].split()[0]))
        assert waits == [0.1, 0.2, 0.4, 0.8]
        server.process.send_signal(signal.SIGTERM)
        server.end()


@pytest.mark.parametrize("failing", [(0,), (1, 2), (2,)], ids=["first", "second and again", "replacement"])
def test_a_system_that_has_no_process_to_give_is_asked_again(failing: tuple[int, ...]) -> None:
    """The workers that there are go on meanwhile."""
    with serving(workers=2, failing_forks=failing) as server:
        if failing[0] < 2:
            line = server.until("cannot start a worker")
            assert "Resource temporarily unavailable" in line
            assert "again in 0.1 s" in line
        before = server.all_workers(2)
        if failing[0] == 2:
            victim, other = before
            peer = RawPeer.connect(server.port)
            while int(peer.read_frame().payload) != other:
                peer.finish()
                peer = RawPeer.connect(server.port)
            with peer:
                os.kill(victim, signal.SIGKILL)
                server.until("cannot start a worker")
                peer.send_frame(wire.TEXT, b"still there")
                assert peer.read_frame().payload == b"still there"
            assert len(server.all_workers(2) - before) == 1
        server.process.send_signal(signal.SIGTERM)
        server.end()


def test_workers_end_when_their_parent_is_killed() -> None:
    with serving(workers=2) as server:
        workers = server.all_workers(2)
        server.process.kill()
        for pid in workers:
            gone(pid)
        with pytest.raises(ConnectionRefusedError):
            RawPeer.open(server.port)


def test_a_unix_socket_of_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(workers=2, unix=str(path), unix_mode=0o600) as server:
        found: set[bytes] = set()
        deadline = time.monotonic() + GUARD
        while len(found) < 2:
            assert time.monotonic() < deadline
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(GUARD)
                sock.connect(str(path))
                sock.sendall(wire.request("x"))
                data = b""
                while b"\r\n\r\n\x81" not in data or not data.rpartition(b"\x81")[2][1:]:
                    data += sock.recv(1000)
                found.add(data.rpartition(b"\x81")[2][1:])
        server.process.send_signal(signal.SIGTERM)
        server.end()
    assert not path.exists()


# --- replacing workers one by one -------------------------------------------------------------------------------


def replaced(server: Serving, count: int) -> None:
    """Wait until so many workers were replaced, and the old ones have ended."""
    for _ in range(count):
        old = int(server.until("replaces worker").rpartition(" ")[2])
        gone(old)


def test_sighup_replaces_the_workers_one_by_one() -> None:
    """A new one is there before an old one sends its clients away: connecting never fails."""
    with serving(workers=2, drain_window=0.1) as server:
        before = server.all_workers(2)
        with RawPeer.connect(server.port) as peer:
            assert int(peer.read_frame().payload) in before
            server.process.send_signal(signal.SIGHUP)
            peer.expect_close(1012)
            peer.send_close(1012)
        replaced(server, 2)
        after = server.all_workers(2)
        assert not after & before
        server.process.send_signal(signal.SIGTERM)
        server.end()


def test_sighup_again_while_workers_are_replaced() -> None:
    with serving(workers=2) as server:
        before = server.all_workers(2)
        server.process.send_signal(signal.SIGHUP)
        server.until("replaces worker")
        server.process.send_signal(signal.SIGHUP)
        replaced(server, 2)
        assert not server.all_workers(2) & before
        server.process.send_signal(signal.SIGTERM)
        server.end()


RESTARTING = """
    import contextlib, logging, os, sys, lapwing
    class Tell(logging.Handler):
        def emit(self, record):
            os.write(1, (f"{record.levelname} {record.getMessage()}" + chr(10)).encode())
    logging.basicConfig(level=logging.INFO, handlers=[Tell()])
    sys.stdout.write("buffered" + chr(10))

    @contextlib.asynccontextmanager
    async def lifespan(server):
        if os.path.exists(sys.argv[1]):
            raise LookupError("the configuration is broken")
        yield

    async def who(ws):
        await ws.send(str(os.getpid()))
        async for _ in ws:
            pass

    options = eval(sys.argv[2])
    lapwing.run(0, "127.0.0.1", default=who, workers=2, lifespan=lifespan, **options)
    os.write(1, b"ended" + chr(10).encode())
"""


def test_a_new_worker_that_fails_leaves_the_old_ones(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with program(RESTARTING, str(broken), "{}") as process:
        server = Serving(process)
        before = server.all_workers(2)
        broken.touch()
        process.send_signal(signal.SIGHUP)
        server.until("before it was ready: the old workers keep running")
        assert server.all_workers(2) == before
        broken.unlink()
        process.send_signal(signal.SIGHUP)
        replaced(server, 2)
        assert not server.all_workers(2) & before
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=GUARD)
        assert process.returncode == 0


def test_the_certificate_is_read_anew(tmp_path: Path, tls: Certificates, tmp_path_factory: Any) -> None:
    """As when it was renewed; files that cannot be read leave the workers as they are."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    newer = make_certificates(tmp_path_factory.mktemp("newer"))
    certificate.write_bytes(Path(tls.good.certfile).read_bytes())
    key.write_bytes(Path(tls.good.keyfile).read_bytes())

    def serial() -> str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", server.port), GUARD) as sock:
            with context.wrap_socket(sock) as secured:
                shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        return shown.hex()

    with program(RESTARTING, "", repr({"certfile": str(certificate), "keyfile": str(key)})) as process:
        server = Serving(process)
        first = serial()
        certificate.write_text("no certificate", encoding="utf-8")
        process.send_signal(signal.SIGHUP)
        server.until("no restart: the old workers keep running")
        assert serial() == first
        certificate.write_bytes(Path(newer.good.certfile).read_bytes())
        key.write_bytes(Path(newer.good.keyfile).read_bytes())
        process.send_signal(signal.SIGHUP)
        replaced(server, 2)
        assert serial() != first
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=GUARD)
        assert process.returncode == 0


def test_a_terminal_that_goes_away_ends_the_program() -> None:
    """The kernel sends SIGHUP then, and nobody could send a Ctrl-C any more."""
    main, terminal = os.openpty()
    text = textwrap.dedent(SERVING).replace("lapwing.run(", "lapwing.run(workers=2, ")
    process = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, termios, sys; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + text, "{}"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(lapwing.__file__).parents[1]), "."])},
    )
    os.close(terminal)
    with process:
        try:
            server = Serving(process)
            workers = server.all_workers(2)
            os.close(main)
            server.end()
            for pid in workers:
                gone(pid)
        finally:
            process.kill()


# --- numbers of all workers ---------------------------------------------------------------------------------------

COUNTING = """
    import json, os, sys, time, lapwing

    async def who(ws):
        await ws.send(str(os.getpid()))
        async for message in ws:
            if message == "block":
                time.sleep(4)

    async def on_request(request):
        if request.path == "/stats":
            found = await request.server.stats_of_workers()
            return lapwing.Response.of(200, json.dumps({number: stats.opened for number, stats in found.items()}))

    print("INFO listening on ('127.0.0.1', 0)", flush=True)
    sys.stdout = sys.stderr
    lapwing.run(int(sys.argv[1]), "127.0.0.1", default=who, on_request=on_request, workers=2)
    os.write(1, b"ended" + chr(10).encode())
"""


def connectable(port: int) -> None:
    """Wait until something listens at a port."""
    deadline = time.monotonic() + GUARD
    while True:
        try:
            RawPeer.open(port).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


def opened(port: int) -> dict[int, int]:
    """How many connections each worker has opened, as one of them says it."""
    with RawPeer.open(port) as peer:
        peer.send(b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = json.loads(peer.read_to_end().partition(b"\r\n\r\n")[2])
    return {int(number): count for number, count in answer.items()}


def test_any_worker_tells_the_numbers_of_all() -> None:
    port = free_port()
    with program(COUNTING, str(port)) as process:
        server = Serving(process)
        server.port = port
        connectable(port)
        workers = server.all_workers(2)
        before = opened(port)
        assert sorted(before) == [0, 1]
        assert all(before.values())
        for _ in range(5):
            server.worker()
        assert sum(opened(port).values()) == sum(before.values()) + 5
        os.kill(min(workers), signal.SIGKILL)
        gone(min(workers))
        while sorted(opened(port)) != [0, 1]:  # the next one begins after a moment
            pass
        assert 0 in opened(port).values()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=GUARD)
        assert process.returncode == 0


def test_a_worker_that_is_blocked_is_left_out() -> None:
    port = free_port()
    with program(COUNTING, str(port)) as process:
        server = Serving(process)
        server.port = port
        connectable(port)
        server.all_workers(2)
        with RawPeer.connect(port) as peer:
            peer.read_frame()
            peer.send_frame(wire.TEXT, b"block")
            found = opened(port)
            assert len(found) == 1 or sorted(found) == [0, 1]  # the blocked one may have been the one that was asked
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=GUARD)


async def test_a_server_that_is_no_worker_is_alone() -> None:
    async with lapwing.listen(0, "127.0.0.1", default=echo) as server:
        assert await server.stats_of_workers() == {0: server.stats()}


# --- draining on a signal ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [None, 2])
def test_a_signal_drains(workers: int | None) -> None:
    with serving(workers=workers, drain_window=0.1) as server:
        with RawPeer.connect(server.port) as peer:
            peer.read_frame()
            server.process.send_signal(signal.SIGTERM)
            peer.expect_close(1012)
            peer.send_close(1012)
            peer.expect_end()
        server.end()


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("numbers", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)])
def test_a_second_signal_ends_it_at_once(workers: int | None, numbers: tuple[signal.Signals, signal.Signals]) -> None:
    with serving(workers=workers, drain_window=3600, drain_grace=3600, health="/healthz") as server:
        with RawPeer.connect(server.port) as peer:
            peer.read_frame()
            server.process.send_signal(numbers[0])
            for _ in range(workers or 1):
                server.until("draining")
            with RawPeer.open(server.port) as asking:
                asking.send(b"GET /healthz HTTP/1.0\r\n\r\n")
                assert asking.read_head().start_line == "HTTP/1.1 503 Service Unavailable"
            server.process.send_signal(numbers[1])
            peer.expect_close(1001)
            peer.send_close(1001)
        server.end()


# --- what makes no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"workers": 0}, ValueError),
        ({"workers": True}, TypeError),
        ({"workers": "2"}, TypeError),
        ({"drain_window": -1}, ValueError),
        ({"drain_window": "60"}, TypeError),
        ({"drain_grace": 5}, ValueError),
        ({"drain_window": 1, "drain_grace": float("nan")}, ValueError),
        ({"workers": 2, "unknown": 1}, TypeError),
        ({"workers": 2, "certfile": "/nonexistent"}, OSError),
        ({"workers": 2, "unix": "/nonexistent/s", "port": 80}, OSError),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], error: type[Exception]) -> None:
    """Each in the process that calls, rather than in every worker again."""
    with pytest.raises(error):
        lapwing.run(default=echo, **options)


@pytest.mark.parametrize("workers", [None, 2])
async def test_signals_want_the_main_thread(workers: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve() -> None:
        lapwing.run(0, "127.0.0.1", default=echo, workers=workers)

    monkeypatch.setattr(socket, "socket", None)  # it is refused before it listens

    with pytest.raises(RuntimeError, match="main thread"):
        await call(serve)
    assert sys.platform != "win32"
