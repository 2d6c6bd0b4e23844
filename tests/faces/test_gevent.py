"""Under gevent the blocking face lets the other greenlets run: clients, and handlers that are plain functions.

gevent changes the whole process, so each of these is a program of its own. Wherever a wait stopped the other greenlets,
the program would stand still for ever: nothing is timed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest

import lapwing
from lapwing.io import green
from tests.conftest import RUNTIMES, Runtime
from tests.faces.callers import GUARD, HUGE
from tests.faces.programs import program
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.peers.needed import need_library
from tests.peers.raw import RawListener
from tests.peers.servers import ServerThread, echo


@pytest.fixture(autouse=True)
def _gevent() -> None:
    need_library("gevent")


PATCHED = """
from gevent import monkey
monkey.patch_all()
import gevent, gevent.event, sys, threading, warnings
warnings.simplefilter("error")
import lapwing

ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0)

def ticked(call, *args, **kwargs):
    # Call something that waits, and show that others ran meanwhile.
    before = ticks
    try:
        return call(*args, **kwargs)
    finally:
        assert ticks > before, "nobody else could run"

ticking = gevent.spawn(tick)
"""


def run(text: str, *arguments: str) -> list[str]:
    """Run a program under gevent to its end, which must be a good one; returns the lines that it printed."""
    with program(PATCHED + text, *arguments) as process:
        said, complaints = process.communicate(timeout=3 * GUARD)
        assert process.returncode == 0, complaints
        return said.splitlines()


async def relay(ws: lapwing.Connection) -> None:
    """Send every message to everybody, its sender included."""
    async for message in ws:
        ws.broadcast(message)


@pytest.fixture
def server() -> Iterator[ServerThread]:
    """A server in another process than the client's: its event loop makes no difference."""
    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo, protocols={"relay": relay}) as running:
        yield running


# --- clients -----------------------------------------------------------------------------------------------------


def test_two_clients_in_one_thread(server: ServerThread) -> None:
    """Each waits for what the other one sends next."""
    said = run(
        """
there = []

def play(name, other, begins):
    with lapwing.connect(sys.argv[1], "relay", timeout=20) as ws:
        there.append(name)
        while len(there) < 2:
            gevent.sleep(0)
        if begins:
            ws.send("0 " + other)
        while True:
            number, to = ws.receive().split()
            if int(number) == 200:
                return name
            if to == name:
                ws.send(f"{int(number) + 1} {other}")

players = [gevent.spawn(play, "ada", "bob", True), gevent.spawn(play, "bob", "ada", False)]
print(*[player.get() for player in players])
assert ticks > 100
""",
        server.url,
    )
    assert said == ["ada bob"]


def test_a_callback_of_the_hub_sends_and_closes() -> None:
    """Signal handlers run there, too. The hub must not wait, while a greenlet waits in `receive`."""
    text = """
client = lapwing.Client(close_timeout=0.2)
client.connect(sys.argv[1])

def handler():
    client.send("last words")
    try:
        client.ping()
    except RuntimeError:
        print("no ping", flush=True)
    print(client.close().reason, flush=True)

receiving = gevent.spawn(client.receive)
gevent.sleep(0)
gevent.get_hub().loop.run_callback(handler)
print(receiving.get(), client.closed.code, flush=True)
"""
    with RawListener() as listener, program(PATCHED + text, listener.url) as process:
        with listener.accept() as peer:
            peer.expect_frame(wire.TEXT, b"last words")
            peer.expect_close(1000)
            said, complaints = process.communicate(timeout=GUARD)
    assert process.returncode == 0, complaints
    assert said.splitlines() == [
        "no ping",
        "the closing handshake has begun: the call around this one goes on with it",
        "None 1006",
    ]


def test_every_wait_of_a_client_lets_others_run() -> None:
    text = """
client = lapwing.Client()
ticked(client.connect, sys.argv[1], timeout=20)
for timeout in (0.01, 0):
    try:
        client.receive(timeout=timeout)
    except TimeoutError:
        print("nothing yet", flush=True)
sys.stdin.readline()  # by now there is something, and that takes no time
print(client.receive(timeout=0), flush=True)
print(ticked(client.receive), flush=True)
print(ticked(client.receive, timeout=20), flush=True)
print(ticked(client.ping) > 0, flush=True)
ticked(client.send, bytes(int(sys.argv[2])))
print(*ticked(client.close), flush=True)
"""
    with RawListener(receive_buffer=65536) as listener:
        with program(PATCHED + text, listener.url, str(HUGE)) as process, listener.accept() as peer:
            assert process.stdout is not None
            assert process.stderr is not None
            assert [process.stdout.readline() for _ in range(2)] == 2 * ["nothing yet\n"], process.stderr.read()
            peer.send_frame(wire.TEXT, b"at once")
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "at once\n"
            for _ in range(2):
                peer.send_frame(wire.TEXT, b"here")
                assert process.stdout.readline() == "here\n"
            peer.send_frame(wire.PONG, peer.read_frame().payload)
            assert process.stdout.readline() == "True\n"
            assert peer.read_message() == (wire.BINARY, bytes(HUGE))
            peer.expect_close(1000)
            peer.send_close(1000)
            peer.close()
            assert process.stdout.readline() == "True 1000 \n"
            assert process.wait(GUARD) == 0, process.stderr.read()


def test_greenlets_that_share_a_client(server: ServerThread) -> None:
    said = run(
        """
with lapwing.connect(sys.argv[1], timeout=20) as ws:
    received = []

    def receive():
        for message in ws:
            received.append(message)

    def send(name):
        for number in range(50):
            ws.send(f"{name} {number} " + "x" * 5_000)
        ws.ping()

    receiving = gevent.spawn(receive)
    gevent.joinall([gevent.spawn(send, name) for name in range(4)], raise_error=True)
    while len(received) < 200:
        gevent.sleep(0)
    ws.close()
    receiving.get()
    print(len(received), ws.closed.code)
""",
        server.url,
    )
    assert said == ["200 1000"]


def test_a_greenlet_that_is_given_up_loses_nothing(server: ServerThread) -> None:
    said = run(
        """
with lapwing.connect(sys.argv[1]) as ws:
    try:
        with gevent.Timeout(0.01):
            ws.receive()
    except gevent.Timeout:
        print("timeout")
    receiving = gevent.spawn(ws.receive)
    gevent.sleep(0.01)
    receiving.kill()
    print(repr(receiving.value))
    ws.send("still there")
    print(ws.receive())
""",
        server.url,
    )
    assert said == ["timeout", "GreenletExit()", "still there"]


@pytest.mark.parametrize("attempt", range(3))
def test_tls(tls: Certificates, attempt: int) -> None:
    """What comes before the greenlet waits for it must not be overlooked: it is a matter of moments."""
    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo, ssl=tls.good.server_context()) as server:
        _talk_over_tls(server, tls)


def _talk_over_tls(server: ServerThread, tls: Certificates) -> None:
    said = run(
        """
import ssl
with lapwing.connect(sys.argv[1], ssl=ssl.create_default_context(cafile=sys.argv[2]), timeout=20) as ws:
    for message in ("secret", "s" * 1_000_000):
        ws.send(message)
        print(len(ticked(ws.receive)))
print(ws.closed.code)
""",
        server.url,
        str(tls.ca_file),
    )
    assert said == ["6", "1000000", "1000"]


def test_a_server_that_says_nothing_while_a_client_connects() -> None:
    text = """
try:
    ticked(lapwing.Client(open_timeout=0.05).connect, sys.argv[1])
except TimeoutError as error:
    print(error)
"""
    with RawListener() as listener:
        assert "took longer than 0.05 s" in run(text, listener.url)[0]


def test_a_client_in_a_greenlet_beside_an_event_loop_is_no_mistake(server: ServerThread) -> None:
    said = run(
        """
import asyncio

def talk(done):
    with lapwing.connect(sys.argv[1], timeout=20) as ws:
        ws.send("from a greenlet")
        done(ws.receive())

async def main():
    loop = asyncio.get_running_loop()
    answer = loop.create_future()
    gevent.spawn(talk, lambda message: loop.call_soon_threadsafe(answer.set_result, message))
    print(await answer)

asyncio.run(main())
""",
        server.url,
    )
    assert said == ["from a greenlet"]


def test_abort_wakes_the_greenlets_that_wait() -> None:
    text = """
client = lapwing.Client(compression=False)
client.connect(sys.argv[1], timeout=20)

def send():
    try:
        client.send(bytes(int(sys.argv[2])))
    except lapwing.ConnectionClosed as error:
        return error.reason

sending = gevent.spawn(send)
print(client.receive(), flush=True)     # the peer has read the beginning of the message
receiving = gevent.spawn(client.receive)
gevent.sleep(0)
client.abort()
print(client.closed.code, flush=True)
print(receiving.get())
print(sending.get())
"""
    with RawListener(receive_buffer=65536) as listener:
        with program(PATCHED + text, listener.url, str(HUGE)) as process, listener.accept() as peer:
            assert process.stdout is not None
            came = len(peer.read_exactly(1000))
            peer.send_frame(wire.TEXT, b"under way")
            assert [process.stdout.readline() for _ in range(2)] == ["under way\n", "1006\n"]
            came += len(peer.read_to_end())
            # What `readline` has read ahead is lost on `communicate`.
            assert process.stdout.read() == "None\nthis end aborted the connection\n"
            assert process.wait(GUARD) == 0
            assert came < HUGE


def test_gevent_that_patches_nothing_changes_nothing(server: ServerThread) -> None:
    text = """
        import gevent, gevent.monkey, sys, lapwing
        with lapwing.connect(sys.argv[1], timeout=20) as ws:
            ws.send("as ever")
            print(ws.receive())
    """
    with program(text, server.url) as process:
        said, complaints = process.communicate(timeout=GUARD)
        assert (process.returncode, said) == (0, "as ever\n"), complaints


def test_gevent_is_not_loaded_by_lapwing() -> None:
    assert not green.is_patched()
    with program("import lapwing, sys; lapwing.Client(); print('gevent' in sys.modules)") as process:
        said, complaints = process.communicate(timeout=GUARD)
        assert (process.returncode, said) == (0, "False\n"), complaints
    assert "gevent" not in sys.modules


# --- servers -----------------------------------------------------------------------------------------------------

SERVER = """
import asyncio, json

def echo(ws):
    for message in ws:
        ws.send(message)

def room(ws):
    for message in ws:
        ws.broadcast(message)

async def async_echo(ws):
    async for message in ws:
        await ws.send(message)

options = json.loads(sys.argv[1])

def serve(work, **more):
    # Run a server in this greenlet, and `work(url)` in another one until it returns.
    async def main():
        protocols = {"echo": echo, "room": room, "async": async_echo}
        async with lapwing.listen(0, "127.0.0.1", protocols=protocols, **options, **more) as server:
            loop = asyncio.get_running_loop()
            done = asyncio.Event()
            working = gevent.spawn(work, f"ws://127.0.0.1:{server.port}")
            working.link(lambda _: loop.call_soon_threadsafe(done.set))
            await done.wait()
            print(working.get(), flush=True)
    asyncio.run(main())
"""


@pytest.fixture(params=["asyncio+epoll", "asyncio+portable"])  # uvloop waits natively: not under gevent
def options(request: pytest.FixtureRequest) -> str:
    """The options of `listen` for the two ways to watch descriptors."""
    runtime: Runtime = RUNTIMES[request.param]
    return json.dumps(runtime.options)


@pytest.mark.parametrize("protocol", ["echo", "async"])
def test_ten_clients_and_their_server_in_one_thread(options: str, protocol: str) -> None:
    said = run(
        SERVER
        + """
def work(url):
    there = [0]

    def talk(name):
        with lapwing.connect(url, sys.argv[2], timeout=20) as ws:
            there[0] += 1
            while there[0] < 10:
                gevent.sleep(0)
            for number in range(20):
                ws.send(f"{name} {number}")
                assert ws.receive() == f"{name} {number}"
        return ws.closed.code

    talking = [gevent.spawn(talk, name) for name in range(10)]
    gevent.joinall(talking, raise_error=True)
    assert ticks > 20
    return [greenlet.get() for greenlet in talking]

serve(work)
""",
        options,
        protocol,
    )
    assert said == [str([1000] * 10)]


def test_broadcast_by_handlers_in_greenlets(options: str) -> None:
    said = run(
        SERVER
        + """
def work(url):
    clients = [lapwing.Client(timeout=20).connect(url, "room") for _ in range(3)]
    for client in clients:
        client.ping()
    clients[0].send("to all")
    heard = [client.receive() for client in clients]
    for client in clients:
        client.close()
    return heard

serve(work)
""",
        options,
    )
    assert said == ["['to all', 'to all', 'to all']"]


def test_a_server_that_closes_under_its_handlers(options: str) -> None:
    said = run(
        SERVER
        + """
client = lapwing.Client(timeout=20)

def work(url):
    client.connect(url, "echo")
    client.send("in")
    return client.receive()

listening = gevent.event.Event()

def follow():
    listening.wait()
    return client.receive()

following = gevent.spawn(follow)
serve(lambda url: (work(url), listening.set())[0])
print(following.get(), *client.closed)
""",
        options,
    )
    assert said == ["in", "None True 1001 the server is closing"]


def test_run_ends_on_a_signal() -> None:
    text = (
        PATCHED
        + "import logging\nlogging.basicConfig(level=logging.INFO)\n"
        + """
def handler(ws):
    for message in ws:
        ws.send(message)

lapwing.run(0, "127.0.0.1", default=handler)
print("ended", flush=True)
"""
    )
    with program(text) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(line.rpartition(", ")[2].strip(")]\n"))
        with lapwing.connect(f"ws://127.0.0.1:{port}", timeout=GUARD) as ws:
            ws.send("hello")
            assert ws.receive() == "hello"
            process.terminate()
            assert ws.receive() is None
            assert ws.closed == (True, 1001, "the server is closing")
        said, complaints = process.communicate(timeout=GUARD)
        assert (process.returncode, said) == (0, "ended\n"), complaints
