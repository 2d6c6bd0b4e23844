"""lapwing inside real WSGI servers: Flask, Django and a plain application under each of them."""

from __future__ import annotations

import io
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import lapwing
import lapwing.wsgi
from tests.peers import wire
from tests.peers.programs import TIMEOUT, Program, free_port, wait_for_port
from tests.peers.raw import RawPeer

for _library in ("flask", "django", "gunicorn", "gevent"):
    pytest.importorskip(_library, reason=f"{_library} is not installed: pip install flask django gunicorn gevent")

HERE = Path(__file__).parent / "wsgi"
from gunicorn.config import KNOWN_SETTINGS  # noqa: E402

#: It has a file in the user's home, which tests must not share.
ALONE = ("--no-control-socket",) if any(each.name == "control_socket" for each in KNOWN_SETTINGS) else ()
GUNICORN = ("-m", "gunicorn", *ALONE, "--access-logfile", "-", "app:app", "-b")
SERVERS = {
    "werkzeug": ("serve.py", "werkzeug"),
    "gthread": ("-k", "gthread", "--threads", "50"),
    "gevent": ("-k", "gevent"),
    "pywsgi": ("serve.py", "pywsgi"),
    "runserver": ("serve.py", "runserver"),
}


class Server:
    """A server with the application of `wsgi/app.py`.

    Args:
        kind: which one.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.port = free_port()
        arguments = SERVERS[kind]
        if arguments[0] == "serve.py":
            command = [*arguments, str(self.port)]
        else:
            command = [*GUNICORN, f"127.0.0.1:{self.port}", *arguments]
        self.program = Program([sys.executable, *command], HERE)
        wait_for_port(self.port, self.program)
        self.url = f"ws://127.0.0.1:{self.port}"

    def get(self, path: str, **headers: str) -> bytes:
        """What an ordinary request gets."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            body: bytes = answer.read()
        return body

    def tracebacks(self) -> int:
        """How many it has logged."""
        return self.program.complaints.count("Traceback")

    def settled(self, path: str, expected: bytes) -> bool:
        """Ask for a number of descriptors, until it is as expected; returns whether it becomes so.

        The sockets of the questions just before may still be open: that of one is, always, on a busy machine.
        """
        return any(int(self.get(path)) <= int(expected) + 2 for _ in range(1000))


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(request.param)
    yield server
    server.program.close()


@pytest.mark.parametrize("framework", ["", "/django"], ids=["flask", "django"])
def test_messages_each_way(server: Server, framework: str) -> None:
    before = server.tracebacks()
    with lapwing.connect(f"{server.url}{framework}/echo/ann?q=1", "chat", timeout=TIMEOUT) as ws:
        subprotocol = "None" if framework else "chat"
        assert ws.receive() == f"ann 1 {subprotocol} {framework}/echo/ann"
        for message in ("hello", b"bytes", "x" * 300_000, b"y" * 1_000_000):
            ws.send(message)
            assert ws.receive() == message
        assert ws.ping() > 0
    assert ws.closed == (True, 1000, "")
    assert server.get(f"{framework}/") == b"hello"
    assert server.tracebacks() == before


def test_many_at_a_time(server: Server) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(lapwing.connect(f"{server.url}/echo/{n}", timeout=TIMEOUT)) for n in range(10)]
        for number, ws in enumerate(clients):
            assert ws.receive() == f"{number} None None /echo/{number}"
        for ws in reversed(clients):
            ws.send("hello")
            assert ws.receive() == "hello"


def test_what_came_behind_the_request_is_kept(server: Server) -> None:
    with RawPeer.open(server.port) as peer:
        frames = wire.frame(wire.TEXT, b"a", key=b"1234") + wire.frame(wire.BINARY, bytes(200_000), key=b"1234")
        peer.send(wire.request("127.0.0.1", "/echo/ann") + frames)
        assert peer.read_head().start_line == "HTTP/1.1 101 Switching Protocols"
        assert peer.read_message() == (wire.TEXT, b"ann None None /echo/ann")
        assert peer.read_message() == (wire.TEXT, b"a")
        assert peer.read_message() == (wire.BINARY, bytes(200_000))
        peer.send_close(1000)
        peer.expect_close(1000)
        peer.expect_end()  # and no response of HTTP before it


def test_refusals_are_the_applications_responses(server: Server) -> None:
    foreign = {"Origin": "https://elsewhere.example"}
    for path in ("/echo/ann", "/django/echo/ann", "/plain/"):
        with pytest.raises(lapwing.HandshakeError) as caught:
            lapwing.Client(headers=foreign).connect(server.url + path)
        assert caught.value.status == 403
        assert b"may not connect" in caught.value.body
    for path in ("/django/echo/ann", "/plain/"):
        with pytest.raises(urllib.error.HTTPError) as answer:
            server.get(path)
        assert answer.value.code == 426
        answer.value.close()
    own = {"Origin": f"http://127.0.0.1:{server.port}"}
    with lapwing.connect(f"{server.url}/echo/ann", headers=own) as ws:
        assert ws.receive() == "ann None None /echo/ann"


@pytest.mark.parametrize("path", ["/crash", "/django/crash"])
def test_a_handler_that_fails(server: Server, path: str) -> None:
    before = server.program.complaints.count("LookupError: of the handler")
    with RawPeer.open(server.port) as peer:
        peer.send(wire.request("127.0.0.1", path))
        peer.read_head()
        peer.expect_close(1011)
        peer.send_close(1011)
        peer.expect_end()
    server.get("/")
    while server.program.complaints.count("LookupError: of the handler") == before:
        server.get("/")
    assert server.tracebacks() == server.program.complaints.count("LookupError: of the handler")


def test_limits_and_ends(server: Server) -> None:
    before = server.tracebacks()
    with lapwing.connect(f"{server.url}/small") as ws:
        ws.send(bytes(1001))
        assert ws.receive() is None
        assert ws.closed is not None
        assert ws.closed.code == 1009
    with lapwing.connect(f"{server.url}/plain/close") as ws:
        assert ws.response is not None
        assert ws.response.headers["Set-Cookie"] == "a=b"
        assert ws.receive() is None
        assert ws.closed == (True, 4000, "enough")
    with lapwing.connect(f"{server.url}/plain/timeout") as ws:
        assert ws.receive() == "nothing came in time"
        assert ws.receive() is None
    with lapwing.connect(f"{server.url}/plain/behind") as ws:
        assert ws.receive() == "203.0.113.7 None"
        assert "has no event loop for broadcasts" in str(ws.receive())
    for number in range(3):
        with RawPeer.open(server.port) as peer:
            peer.send(wire.request("127.0.0.1", "/echo/ann"))
            peer.read_head()
            if number == 1:
                peer.send(b"\x83\x00")  # no such opcode
                peer.read_message()
                peer.expect_close(1002)
            peer.reset()
    assert server.get("/") == b"hello"
    assert server.tracebacks() == before


def test_nothing_follows_a_connection_that_was_not_closed(server: Server) -> None:
    with RawPeer.open(server.port) as peer:
        peer.send(wire.request("127.0.0.1", "/plain/careless"))
        peer.read_head()
        assert peer.read_message() == (wire.TEXT, b"never closed")
        peer.expect_reset_or_end()


def test_a_handler_that_forgets_to_receive_is_bounded(server: Server) -> None:
    ws = lapwing.Client(compression=None).connect(f"{server.url}/plain/forget")
    with pytest.raises(TimeoutError):
        while True:
            ws.send(bytes(500_000), timeout=0.3)
    server.get("/plain/release")
    ws.abort()


def test_two_hundred_connections_leave_nothing(server: Server) -> None:
    for _ in range(5):
        lapwing.connect(f"{server.url}/plain/close").__enter__().close()
    before = server.get("/plain/descriptors")
    for number in range(200):
        path = ("/plain/close", "/plain/careless", "/echo/ann")[number % 3]
        ws = lapwing.Client(compression=None).connect(server.url + path)
        if number % 2:
            ws.close()
        else:
            ws.abort()
    assert server.settled("/plain/descriptors", before)


def test_clients_by_other_authors(server: Server) -> None:
    import websocket
    import websockets.sync.client

    with websockets.sync.client.connect(f"{server.url}/echo/ann") as theirs:
        assert theirs.recv() == "ann None None /echo/ann"
        for message in ("hello", b"y" * 100_000):
            theirs.send(message)
            assert theirs.recv() == message
    other = websocket.create_connection(f"{server.url}/django/echo/ann", timeout=TIMEOUT)
    assert other.recv() == "ann None None /django/echo/ann"
    other.send("hello")
    assert other.recv() == "hello"
    other.close()


# --- without a server ----------------------------------------------------------------------------------------------


def environ_of(sock: Any, **more: Any) -> dict[str, Any]:
    head = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "x",
        "HTTP_UPGRADE": "websocket",
        "HTTP_CONNECTION": "Upgrade",
        "HTTP_SEC_WEBSOCKET_KEY": wire.KEY,
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
        "wsgi.multithread": True,
        "wsgi.input": io.BufferedReader(socket.SocketIO(sock, "r")) if sock is not None else io.BytesIO(),
    }
    if sock is not None:
        head["werkzeug.socket"] = sock
    return head | more


def test_servers_that_cannot_be_used() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for more, text in (
            ({"wsgi.multithread": False}, "serves one request at a time"),
            ({"wsgi.input": io.BytesIO()}, "does not know this server, 'Some/1.0'.*It knows Werkzeug, gunicorn"),
            ({"SERVER_SOFTWARE": "gevent/26.9"}, "needs gevent.monkey.patch_all"),
        ):
            with pytest.raises(RuntimeError, match=text):
                lapwing.wsgi.accept(environ_of(ours, **{"SERVER_SOFTWARE": "Some/1.0", **more}))
        with pytest.raises(RuntimeError, match="its environ names no socket"):
            lapwing.wsgi.accept(environ_of(None, SERVER_SOFTWARE="waitress"))
        with pytest.raises(RuntimeError, match=r"does not know this server, 'gunicorn/99\.0'.*'reader'"):
            lapwing.wsgi.accept(environ_of(None, SERVER_SOFTWARE="gunicorn/99.0", **{"gunicorn.socket": ours}))
        forked = {"wsgi.multithread": False, "wsgi.multiprocess": True}
        with pytest.raises(lapwing.HandshakeError, match="426"):
            lapwing.wsgi.accept(environ_of(ours, **forked, HTTP_UPGRADE="h2c"))


def test_tls_of_the_server() -> None:
    class Secure(socket.socket):
        def getpeercert(self) -> None:
            """Only such sockets have it."""

    ours, theirs = socket.socketpair()
    with Secure(fileno=ours.detach()) as secure, theirs:
        with pytest.raises(RuntimeError, match="TLS by itself"):
            lapwing.wsgi.accept(environ_of(secure))


def test_requests_that_open_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for more, status in (
            ({"SERVER_PROTOCOL": "HTTP/2"}, 505),
            ({"CONTENT_LENGTH": "5"}, 400),
            ({"HTTP_SEC_WEBSOCKET_KEY": "a,b"}, 400),
            ({"HTTP_X": "a\r\nB: c"}, 400),
            ({"REQUEST_METHOD": "POST"}, 405),
        ):
            with pytest.raises(lapwing.HandshakeError) as caught:
                lapwing.wsgi.accept(environ_of(ours, **more))
            assert caught.value.status == status
        assert ours.fileno() >= 0


def test_a_client_that_has_left() -> None:
    import flask

    app = flask.Flask(__name__)
    served: list[Any] = []
    lapwing.wsgi.route(app, "/", endpoint="index")(served.append)
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(ConnectionError):
        lapwing.wsgi.accept(environ_of(ours))
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, app.test_request_context(environ_overrides=environ_of(ours)):
        view: Any = app.view_functions["index"]
        assert view().status_code == 400
    assert served == []


def test_the_query_where_the_server_does_not_keep_the_target() -> None:
    ours, theirs = socket.socketpair()
    with ours, RawPeer(theirs, client=True) as peer:
        environ = environ_of(ours, SCRIPT_NAME="/a", PATH_INFO="/b \xc3\xa4", QUERY_STRING="c=d")
        ws = lapwing.wsgi.accept(environ, tcp_user_timeout=5.0)  # which is left alone where there is no TCP
        assert ws.request is not None
        assert ws.request.target == "/a/b%20%C3%A4?c=d"
        peer.read_head()
        ws.abort()
        peer.expect_reset_or_end()


def test_mistakes_of_the_program() -> None:
    accept: Any = lapwing.wsgi.accept
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(TypeError, match="the option 'max_connections' does not exist here"):
            accept(environ_of(ours), max_connections=5)
        with pytest.raises(TypeError, match="expected json to"):
            accept(environ_of(ours), json={})
        with pytest.raises(ValueError, match="max_message_size"):
            accept(environ_of(ours), max_message_size=-1)
        with pytest.raises(TypeError, match="write \\['chat'\\]"):
            accept(environ_of(ours), "chat")
        with pytest.raises(ValueError, match="Sec-WebSocket-Accept"):
            accept(environ_of(ours), headers={"Sec-WebSocket-Accept": "x"})
