"""The mistakes of a first hour are met with the right exception and with words that say what to do."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import Face, call, facing_server, hosting, is_told_alone, steps, url
from tests.peers import wire
from tests.peers.raw import RawListener
from tests.peers.servers import echo

Listen = Callable[..., Any]


# --- the URL -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("ws:/localhost", "ws://localhost"),
        ("localhost:8080", "ws://localhost:8080"),
        ("example.com/chat", "ws://example.com/chat"),
        ("//example.com", "ws://example.com"),
        ("ws:example.com", "ws://example.com"),
        ("http://example.com/chat", "ws://example.com/chat"),
        ("https://example.com", "wss://example.com"),
    ],
)
async def test_a_url_without_the_right_scheme(face: Face, wrong: str, meant: str) -> None:
    with pytest.raises(lapwing.InvalidURL) as caught:
        await face.client().connect(wrong)
    assert f"did you mean '{meant}'?" in str(caught.value)
    assert is_told_alone(caught.value)


@pytest.mark.parametrize("wrong", [None, 8080, b"ws://localhost"])
async def test_a_url_that_is_no_str(face: Face, wrong: Any) -> None:
    with pytest.raises(TypeError, match="URL must be a str"):
        await face.client().connect(wrong)


# --- the other end -----------------------------------------------------------------------------------------------


async def test_a_closed_port(face: Face) -> None:
    with RawListener() as listener:
        port = listener.port
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(ConnectionRefusedError, match=rf":{port}: .*Is the server running") as caught:
            await face.client().connect(f"ws://{host}:{port}/")
        assert caught.value.errno == errno.ECONNREFUSED
        assert is_told_alone(caught.value)


async def test_an_unknown_host(face: Face) -> None:
    with pytest.raises(socket.gaierror, match=r"unknown host 'nowhere\.invalid'") as caught:
        await face.client().connect("ws://nowhere.invalid/")
    assert caught.value.errno is not None
    assert is_told_alone(caught.value)


@pytest.mark.parametrize(
    ("response", "status", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "200"),
        (b"HTTP/1.0 404 Not Found\r\n\r\nnothing here", 404, "path"),
        (b"HTTP/1.1 301 Moved\r\nLocation: ftp://elsewhere.example/\r\nContent-Length: 0\r\n\r\n", 301, "elsewhere"),
        (b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", 401, "credentials"),
        (b"220 smtp.example ESMTP\r\n", None, "HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None, "HTTP.*: is this its port"),
        (b"", None, "closed the connection"),
    ],
)
async def test_a_server_that_does_not_speak_websocket(
    face: Face, response: bytes, status: int | None, words: str
) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(face.client().connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            peer.send(response)
            peer.half_close()
            with pytest.raises(lapwing.HandshakeError, match=words) as caught:
                await connecting
            assert caught.value.status == status
            await call(peer.expect_reset_or_end)


async def test_a_server_that_says_nothing(face: Face) -> None:
    with (
        RawListener() as listener,
        pytest.raises(TimeoutError, match=r"check that a WebSocket server runs there.*open_timeout"),
    ):
        await face.client(open_timeout=0.05).connect(listener.url)


async def test_a_message_too_large_for_either_end(face: Face, listen: Listen) -> None:
    async def large(ws: lapwing.Connection) -> None:
        await ws.send("x" * 20_000)
        await ws.receive()

    async with listen(protocols={"large": large}, default=echo, max_message_size=10_000) as server:
        for subprotocol, words in (("large", r"max_message_size=.*receive_stream"), (None, "send smaller ones")):
            async with face.connected(url(server), subprotocol, max_message_size=10_000) as ws:
                if subprotocol is None:
                    await ws.send("x" * 20_000)
                assert await ws.receive() is None
                with pytest.raises(lapwing.ConnectionClosed, match=rf"1009.*{words}"):
                    await ws.send("too late")


async def test_a_wrong_accept(face: Face) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(face.client().connect(listener.url))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            peer.send(wire.response("another key"))
            with pytest.raises(lapwing.HandshakeError, match="Sec-WebSocket-Accept"):
                await connecting


# --- handlers and listen -----------------------------------------------------------------------------------------


def no_argument() -> None:
    """A handler that leaves out the connection."""


async def two_arguments(ws: Any, path: str) -> None:
    """A handler of another library's."""


def generator(ws: Any) -> Any:
    """A handler of which nothing would run."""
    yield ws


async def async_generator(ws: Any) -> Any:
    """Likewise."""
    yield ws


class Handler:
    """A class, where an instance of it is meant."""

    def __init__(self, ws: Any) -> None: ...


@pytest.mark.parametrize("where", ["default", "protocols"])
@pytest.mark.parametrize("function", [lapwing.listen, lapwing.run])
@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (no_argument, r"connection and nothing else, but no_argument\(\)"),
        (two_arguments, "missing a required argument: 'path'"),
        (functools.partial(no_argument), r"no_argument\(\)"),
        (generator, "generator is a generator function"),
        (async_generator, "async_generator is a generator function"),
        (Handler, "Handler is a class"),
        (functools.partial(Handler), "Handler is a class"),
        ("echo", "async def"),
        (42, "async def"),
    ],
)
def test_a_handler_that_cannot_be_one(function: Callable[..., Any], where: str, handler: Any, words: str) -> None:
    argument = handler if where == "default" else {"chat": handler}
    with pytest.raises(TypeError, match=words) as caught:
        function(port=0, **{where: argument})
    assert ("default" if where == "default" else "chat") in str(caught.value)


async def test_a_handler_that_was_called_already() -> None:
    coroutine: Any = echo(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async def"):
        lapwing.listen(port=0, default=coroutine)
    coroutine.close()


class Handlers:
    async def method(self, ws: lapwing.Connection) -> None:
        await echo(ws)

    async def __call__(self, ws: lapwing.Connection) -> None:
        await echo(ws)


async def prefixed(prefix: str, ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(f"{prefix}{message!s}")


@pytest.mark.parametrize("handler", [Handlers().method, Handlers(), functools.partial(prefixed, "")])
async def test_what_is_a_handler_all_the_same(face: Face, listen: Listen, handler: Any) -> None:
    async with listen(default=handler) as server:
        async with face.connected(url(server)) as ws:
            await ws.send("hello")
            assert await ws.receive() == "hello"


def test_protocols_that_are_no_mapping() -> None:
    with pytest.raises(TypeError, match="mapping"):
        lapwing.listen(port=0, protocols=[("echo", echo)])  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "with space", "ünï", "a,b"])
async def test_protocols_with_a_name_that_cannot_be_sent(face: Face, listen: Listen, name: str) -> None:
    with pytest.raises(ValueError, match="subprotocol"):
        await listen(protocols={name: echo})
    with pytest.raises(ValueError, match="subprotocol"):
        await face.client().connect("ws://127.0.0.1:1/", name or [""])


async def test_a_port_in_use(listen: Listen, runtime: Any) -> None:
    async with listen(default=echo) as server:
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{server.port}: .*another port") as caught:
            await lapwing.listen(server.port, "127.0.0.1", default=echo, **runtime.options)
        assert caught.value.errno == errno.EADDRINUSE
        assert is_told_alone(caught.value)


@pytest.mark.parametrize(
    ("port", "error"), [("8080", TypeError), (None, TypeError), (-1, ValueError), (65536, ValueError)]
)
async def test_a_port_that_is_none(port: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="port"):
        await lapwing.listen(port, default=echo)


WRONG_PLACES: list[tuple[tuple[Any, ...], str]] = [
    ((8080, echo), r"expected interface to be an address.*got <function echo.*write default=handler"),
    ((echo,), r"expected port to be a whole number, got <function echo.*write default=handler"),
    ((8080, {"chat": echo}), r"expected interface to be an address.*got a mapping: write protocols="),
    ((8080, "*", echo), r"expected protocols to be a mapping.*got <function echo.*is default=handler"),
    (("127.0.0.1", 8080), r"expected port to be a whole number, got '127\.0\.0\.1', and interface 8080: the first arg"),
    (("8080",), r"expected port to be a whole number, got '8080'"),
    ((8080, b"::1"), r"expected interface to be an address or a name, or several of them, got b'::1'"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG_PLACES)
@pytest.mark.parametrize("function", [lapwing.listen, lapwing.run])
def test_an_argument_that_was_taken_for_another(function: Any, arguments: Any, said: str) -> None:
    """At the call, before anything listens."""
    with pytest.raises(TypeError, match=said):
        function(*arguments)


async def test_an_interface_that_is_none() -> None:
    with pytest.raises(OSError, match=r"nowhere\.invalid") as caught:
        await lapwing.listen(0, "nowhere.invalid", default=echo)
    assert is_told_alone(caught.value)
    with pytest.raises(OSError, match=r"192\.0\.2\.1.*does not have"):
        await lapwing.listen(0, "192.0.2.1", default=echo)
    with pytest.raises((TypeError, ValueError), match="interface"):
        await lapwing.listen(0, [], default=echo)


# --- await forgotten, or on the wrong face -----------------------------------------------------------------------


async def test_connect_without_with_or_await() -> None:
    ws: Any = lapwing.connect("ws://127.0.0.1:1/")
    for name in ("send", "receive", "close", "closed", "connect"):
        with pytest.raises(AttributeError, match=r"'with lapwing\.connect.*'async with lapwing\.connect.*await"):
            getattr(ws, name)


async def test_listen_without_async_with_or_await() -> None:
    server: Any = lapwing.listen(port=0, default=echo)
    for name in ("port", "close", "broadcast", "serve_forever"):
        with pytest.raises(AttributeError, match=r"await lapwing\.listen.*async with"):
            getattr(server, name)


async def test_with_on_listen() -> None:
    with pytest.raises(TypeError, match=r"async with.*lapwing\.run"):
        with lapwing.listen(port=0, default=echo):
            pass


async def test_with_and_for_on_the_asyncio_client(listen: Listen) -> None:
    async with facing_server(listen) as (server_side, _):
        for ws in (lapwing.AsyncClient(), server_side):
            with pytest.raises(TypeError, match="'async with' instead of 'with'"):
                with ws:
                    pass
            with pytest.raises(TypeError, match="'async for' instead of 'for'"):
                for _ in ws:
                    pass


async def test_async_words_on_the_blocking_client() -> None:
    client: Any = lapwing.Client()
    with pytest.raises(TypeError, match="'with' instead of 'async with'"):
        async with client:
            pass
    with pytest.raises(TypeError, match="'for' instead of 'async for'"):
        async for _ in client:
            pass
    with pytest.raises(TypeError, match=r"leave out 'await'.*AsyncClient"):
        await client


async def test_await_on_a_blocking_connect(listen: Listen) -> None:
    async with listen(default=echo) as server:

        def program() -> None:
            async def mistaken() -> None:
                client: Any = lapwing.Client()
                with pytest.warns(RuntimeWarning, match="AsyncClient"):
                    connecting = client.connect(url(server))
                try:
                    await connecting
                finally:
                    client.close()

            asyncio.run(mistaken())

        with pytest.raises(TypeError, match="leave out 'await'"):
            await call(program)


@pytest.mark.parametrize("name", ["receive", "close", "ping"])
async def test_await_forgotten_is_warned_of(listen: Listen, name: str) -> None:
    async with facing_server(listen) as (ws, _):
        with pytest.warns(RuntimeWarning, match=rf"{name}.* was never awaited"):
            getattr(ws, name)()


async def test_a_blocking_client_in_a_running_loop_is_warned_of() -> None:
    with RawListener() as listener, pytest.warns(RuntimeWarning, match=r"AsyncClient.*to_thread"):
        with pytest.raises(TimeoutError):
            lapwing.Client(timeout=0.01).connect(listener.url)


# --- messages ----------------------------------------------------------------------------------------------------


async def test_a_message_of_the_wrong_type(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            for wrong in ({"a": 1}, 42, None, 1.5, object(), True):
                with pytest.raises(TypeError, match=rf"str or bytes-like, got {type(wrong).__name__}: encode it"):
                    await ws.send(wrong)
            await ws.send("still open")
            await call(peer.expect_frame, wire.TEXT, b"still open")


async def test_text_that_cannot_be_encoded(face: Face) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(ValueError):
                await ws.send("\ud800")
            await ws.send("still open")
            await call(peer.expect_frame, wire.TEXT, b"still open")


@pytest.mark.parametrize("wrong", ["1000", None, 1000.5])
async def test_a_close_code_of_the_wrong_type(face: Face, wrong: Any) -> None:
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, _):
            with pytest.raises(TypeError):
                await ws.close(wrong)
            with pytest.raises(TypeError):
                await ws.close(1000, b"bytes")
            assert ws.closed is None


@pytest.mark.parametrize("wrong", ["1", object()])
async def test_a_timeout_of_the_wrong_type(face: Face, wrong: Any) -> None:
    with RawListener() as listener:
        async with face.facing(listener) as (ws, peer):
            with pytest.raises(TypeError):
                await ws.receive(timeout=wrong)
            peer.send_frame(wire.TEXT, b"still open")
            assert await ws.receive() == "still open"


@pytest.mark.parametrize(
    ("wrong", "error"), [("1", TypeError), (-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError)]
)
async def test_a_wrong_timeout_of_close(face: Face, wrong: Any, error: type[Exception]) -> None:
    """One that never passes would leave the closing to the peer."""
    with RawListener() as listener:
        async with face.facing(listener, close_timeout=0.2) as (ws, _):
            with pytest.raises(error, match="timeout"):
                await ws.close(timeout=wrong)
            assert ws.closed is None


@pytest.mark.parametrize("seconds", [1e10, 1e300])
async def test_times_beyond_what_a_clock_can_show(face: Face, listen: Listen, seconds: float) -> None:
    """They are as good as none."""
    times: dict[str, Any] = dict.fromkeys(("timeout", "open_timeout", "close_timeout", "ping_timeout"), seconds)
    async with (
        hosting(listen, ping_interval=seconds, **times) as (server, guests),
        face.connected(url(server), ping_interval=seconds, **times) as ws,
    ):
        guest = await guests.next()
        receiving = asyncio.create_task(guest.receive())
        await steps()
        await ws.send("here")
        assert await receiving == "here"


# --- options -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("time_out", "did you mean timeout="),
        ("max_size", "did you mean max_message_size="),
        ("heartbeat", "did you mean ping_interval="),
        ("extra_headers", "did you mean headers="),
        ("backlog", "expected"),
    ],
)
def test_an_unknown_option_of_a_client(name: str, meant: str) -> None:
    for make in (lapwing.Client, lapwing.AsyncClient, lapwing.client.sync, lapwing.client.aio):
        with pytest.raises(TypeError, match=rf"unknown option '{name}': {meant}.* one of .*timeout"):
            make(**{name: 1})  # type: ignore[arg-type]


async def test_an_unknown_option_of_connect_and_listen() -> None:
    with pytest.raises(TypeError, match="unknown option 'time_out'"):
        await lapwing.connect("ws://127.0.0.1:1/", time_out=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown option 'headers'"):
        lapwing.listen(port=0, default=echo, headers={})  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown option 'reconect': did you mean reconnect="):
        for _ in lapwing.connect("ws://127.0.0.1:1/", reconect=True):  # type: ignore[call-arg]
            raise AssertionError


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("handler", "did you mean default=?"),
        ("handlers", "did you mean protocols=?"),
        ("subprotocols", "did you mean protocols=?"),
        ("host", "did you mean interface=?"),
        ("colour", "expected one of backlog, "),
    ],
)
@pytest.mark.parametrize("more", [{}, {"default": echo}], ids=["alone", "with a handler"])
@pytest.mark.parametrize("function", [lapwing.listen, lapwing.run])
def test_an_unknown_option_of_a_server(function: Any, more: dict[str, Any], name: str, meant: str) -> None:
    """It is named even where no handler is given: under a name that does not exist, perhaps."""
    with pytest.raises(TypeError) as caught:
        function(port=0, **more, **{name: echo})
    assert str(caught.value).startswith(f"unknown option '{name}': {meant}")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"close_timeout": True}, TypeError),
        ({"open_timeout": float("inf")}, ValueError),
        ({"max_message_size": 0}, ValueError),
        ({"max_message_size": 1.5}, TypeError),
        ({"max_buffered": None}, TypeError),
        ({"ssl": True}, TypeError),
        ({"max_message_size": 2**62}, ValueError),
        ({"max_buffered": 2**70}, ValueError),
        ({"max_header_line": 255}, ValueError),
        ({"max_header_line": 65_537}, ValueError),
        ({"max_header_line": None}, TypeError),
        ({"max_headers": 15}, ValueError),
        ({"max_headers": 4097}, ValueError),
        ({"portable": "no"}, TypeError),
        ({"portable": 1}, TypeError),
    ],
)
def test_an_option_out_of_its_range(options: dict[str, Any], error: type[Exception]) -> None:
    (name,) = options
    for make in (lapwing.Client, lapwing.AsyncClient, functools.partial(lapwing.listen, 0, default=echo)):
        with pytest.raises(error, match=name):
            make(**options)


async def test_tls_options_for_a_url_without_tls(face: Face) -> None:
    for options in ({"ssl": ssl.create_default_context()}, {"server_hostname": "example.com"}):
        with pytest.raises(ValueError, match="wss://"):
            await face.client(**options).connect("ws://127.0.0.1:1/")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"backlog": 2**40}, ValueError),
        ({"lag_budget": 2**70}, ValueError),
        ({"certfile": 5}, TypeError),
        ({"certfile": "cert.pem", "keyfile": 5}, TypeError),
        ({"origins": 5}, TypeError),
        ({"interface": 5}, TypeError),
        ({"interface": ["127.0.0.1", 5]}, TypeError),
    ],
)
async def test_an_option_of_a_server_out_of_its_range(options: dict[str, Any], error: type[Exception]) -> None:
    arguments: dict[str, Any] = {"port": 0, "default": echo, **options}
    with pytest.raises(error, match=f"{[*options][-1]}.*got "):
        await lapwing.listen(**arguments)


async def test_sizes_up_to_the_largest(face: Face, listen: Listen) -> None:
    sizes: dict[str, Any] = dict.fromkeys(("max_message_size", "max_buffered"), 2**62 - 1)
    async with listen(default=echo, **sizes) as server, face.connected(url(server), **sizes) as ws:
        await ws.send("here")
        assert await ws.receive() == "here"


@pytest.mark.parametrize("options", [{"headers": 5}, {"headers": "X: y"}, {"headers": [5]}, {"headers": ["abc"]}])
async def test_headers_that_are_no_pairs(face: Face, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="expected headers to be a mapping, or pairs of name and value, got "):
        await face.client(**options).connect("ws://127.0.0.1:1/")


async def test_a_subprotocol_that_is_no_str(face: Face) -> None:
    with pytest.raises(TypeError, match="expected a subprotocol to be a str, or several of them in a sequence, got 5"):
        await face.client().connect("ws://127.0.0.1:1/", 5)  # type: ignore[arg-type]


def test_a_proxy_for_a_socket_that_is_connected() -> None:
    ends = socket.socketpair()
    with ends[0], ends[1], pytest.raises(ValueError, match="leave out proxy, proxy_ssl and local_address, or sock"):
        lapwing.Client(sock=ends[0], proxy_ssl=ssl.create_default_context())


def test_contradictory_options_of_a_server() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ValueError, match="either ssl or certfile"):
        lapwing.listen(0, default=echo, ssl=context, certfile="cert.pem")
    with pytest.raises(ValueError, match="certfile"):
        lapwing.listen(0, default=echo, keyfile="key.pem")


def test_portable_is_no_option_of_a_blocking_client() -> None:
    with pytest.raises(ValueError, match="AsyncClient"):
        lapwing.Client(portable=True)


@pytest.mark.parametrize("origins", ["https://example.com", ["example.com"], ["*"], ["https://*.example.com"]])
async def test_origins_that_are_none(listen: Listen, origins: Any) -> None:
    with pytest.raises(ValueError, match="origin"):
        await listen(default=echo, origins=origins)


@pytest.mark.parametrize("headers", [{"X": "a\r\nb"}, {"Upgrade": "h2c"}, {"Sec-WebSocket-Key": "x"}, [("a b", "c")]])
async def test_headers_that_cannot_be_sent(face: Face, headers: Any) -> None:
    with pytest.raises(ValueError):
        await face.client(headers=headers).connect("ws://127.0.0.1:1/")
