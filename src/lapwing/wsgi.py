"""lapwing inside Flask, Django and any WSGI application: `accept(environ)` gives a blocking connection.

The WSGI server has read the request, and a thread or greenlet of its own calls the application. That one serves the
WebSocket over the server's own socket, until the application returns: no other thread and no event loop takes part.

WSGI knows no WebSockets. The place of each server's socket, and of the bytes that it has read behind the request, is
known to `_find_of` alone. It was tried with Werkzeug 2.3 to 3.1, gunicorn 21.2 to 27.0, gevent 24.11 to 26.9,
and Django 4.2 to 5.2.
"""

from __future__ import annotations

import io
import ipaddress
import logging
import os
from functools import lru_cache, wraps
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack
from urllib.parse import quote

from .io import green, tcp
from .io.clock import now
from .opening.outcome import Refused
from .opening.server import adopt as read_already
from .options import ConnectionOptions, ServerSettings, settings_from
from .protocol.errors import HandshakeError
from .protocol.limits import MAX_HEAD
from .protocol.server_handshake import UNCHANGED, ServerPolicy
from .serving.accepted import AcceptedConnection
from .serving.handlers import has_not_failed

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from .faces.blocking.connection import BlockingConnection

__all__ = ["accept", "route", "view"]

logger = logging.getLogger("lapwing.server")

Environ = dict[str, Any]


def accept(
    environ: Environ,
    subprotocols: Collection[str] = (),
    *,
    origins: Sequence[str] | str | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    **options: Unpack[ConnectionOptions],
) -> BlockingConnection:
    """Open a WebSocket on a request that a WSGI application has got (RFC 6455 section 4.2).

    The calling thread, or greenlet, serves it. Close it before the application returns, best by `with`: the
    result of the application is not sent then, and the server closes its own end silently.

    Args:
        environ: the request's, of PEP 3333: `request.environ` in Flask, `request.META` in Django.
        subprotocols: the names of the subprotocols on offer, those that the server prefers first; a client that asks
            for none of them gets none.
        origins: origins whose pages may connect, besides those of the server's own host: a sequence such as
            `["https://example.com"]`, or `"*"` for all (RFC 6455 section 10.2).
        headers: more headers for the response with which the WebSocket is accepted, such as Set-Cookie.
        **options: see `lapwing.options.ConnectionOptions`.

    Returns:
        The open connection. It has no `broadcast` and no `server`.

    Raises:
        HandshakeError: the request opens no WebSocket or comes from a page of a foreign origin. `status`, `headers` and
            `body` are the response for the application to return.
        ConnectionError, TimeoutError: the client has left, or does not read the response.
        OSError: there is no descriptor left.
        TypeError: an option does not exist or has the wrong type.
        ValueError: an option is out of its range, or a header is malformed or belongs to the handshake.
        RuntimeError: the server is unknown, serves one request at a time, or has TLS by itself.
    """
    terms = _terms_of(subprotocols, origins, options)
    sock, take_rest = _find(environ)
    opening = read_already(terms.policy, _head_of(environ), now=now())
    if isinstance(opening.outcome, Refused):
        raise opening.outcome.error
    if headers:
        opening.handshake.accept(UNCHANGED, headers)
    client = _client_of(environ, sock)
    rest = take_rest()
    if rest:
        opening.receive(rest, now())
    tcp.watch_peer(sock, *terms.settings.tcp_limits)
    return AcceptedConnection._accept(terms.settings, os.dup(sock.fileno()), opening, client)


def route(
    app: Any,
    rule: str,
    subprotocols: Collection[str] = (),
    *,
    endpoint: str | None = None,
    origins: Sequence[str] | str | None = None,
    **options: Unpack[ConnectionOptions],
) -> Callable[[Callable[..., object]], Callable[..., Any]]:
    """Make a decorator: a function becomes the view of a Flask application for the WebSockets of a rule.

    It is called with the connection, and with the rule's variables by name, within the request's context. When it
    returns, the connection is closed with 1000, and with 1011 where it raises; one that ends by the `ConnectionClosed`
    of its own connection has not failed.

    Args:
        app: the application, or a blueprint.
        rule: such as "/rooms/<name>"; a request that asks for no WebSocket does not match it.
        subprotocols: as for `accept`.
        endpoint: the endpoint's name; the function's by default.
        origins: as for `accept`.
        **options: see `lapwing.options.ConnectionOptions`.
    """

    def decorate(serve: Callable[..., object]) -> Callable[..., Any]:
        import flask

        @wraps(serve)
        def handle(**variables: Any) -> flask.Response:
            ws, status, headers, body = _open(flask.request.environ, subprotocols, origins, options)
            if ws is not None:
                _serve(ws, serve, ws, **variables)
            return flask.Response(body, status, headers)

        app.add_url_rule(rule, endpoint or serve.__name__, handle, websocket=True)
        return handle

    return decorate


def view(
    subprotocols: Collection[str] = (),
    *,
    origins: Sequence[str] | str | None = None,
    **options: Unpack[ConnectionOptions],
) -> Callable[[Callable[..., object]], Callable[..., Any]]:
    """Make a decorator: a function becomes a view of Django that serves WebSockets.

    It is called with the request, the connection, and the variables of the path by name. Its end is that of a function
    under `route`.

    Args:
        subprotocols: as for `accept`.
        origins: as for `accept`.
        **options: see `lapwing.options.ConnectionOptions`.
    """

    def decorate(serve: Callable[..., object]) -> Callable[..., Any]:
        from django.http import HttpResponse

        @wraps(serve)
        def handle(request: Any, **variables: Any) -> HttpResponse:
            ws, status, headers, body = _open(request.META, subprotocols, origins, options)
            if ws is not None:
                _serve(ws, serve, request, ws, **variables)
            return HttpResponse(body, status=status, headers=headers)

        return handle

    return decorate


def _open(
    environ: Environ, subprotocols: Collection[str], origins: Sequence[str] | str | None, options: ConnectionOptions
) -> tuple[BlockingConnection | None, int, dict[str, str], bytes]:
    """Open a connection for a view; returns it, None where there is none, and the response's status, headers, body."""
    try:
        return accept(environ, subprotocols, origins=origins, **options), 101, {}, b""
    except HandshakeError as error:
        kept = () if error.headers is None else error.headers.items()
        headers = {name: value for name, value in kept if name.lower() not in _OF_THE_SERVER}
        return None, error.status or 400, headers, error.body
    except (ConnectionError, TimeoutError) as error:
        logger.debug("the connection was lost before it was open: %s", error)
        return None, 400, {}, b""


def _serve(ws: BlockingConnection, serve: Callable[..., object], *arguments: Any, **variables: Any) -> None:
    """Call what serves a connection, and close it."""
    try:
        with ws:
            serve(*arguments, **variables)
    except Exception as error:
        if not has_not_failed(error, ws):  # type: ignore[arg-type]
            raise
    logger.debug("connection from %s: %s", ws.peer_address, ws.closed)


#: Headers that a WSGI application must not give (PEP 3333, "Other HTTP Features"), or the framework sets.
_OF_THE_SERVER = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})


# --- options ---------------------------------------------------------------------------------------------------------


class _Terms(NamedTuple):
    """What connections with the same options have in common."""

    settings: ServerSettings
    policy: ServerPolicy


def _terms_of(subprotocols: Collection[str], origins: Sequence[str] | str | None, options: ConnectionOptions) -> _Terms:
    if isinstance(subprotocols, str):
        raise TypeError(f"expected subprotocols to be a collection of names: write [{subprotocols!r}]")
    pages = origins if origins is None or isinstance(origins, str) else tuple(origins)
    given = tuple(options.items())
    try:
        hash(given)
    except TypeError:  # one of the values is a dictionary, say
        return _make_terms.__wrapped__(tuple(subprotocols), pages, given)
    return _make_terms(tuple(subprotocols), pages, given)


@lru_cache(maxsize=64)
def _make_terms(
    subprotocols: tuple[str, ...], origins: tuple[str, ...] | str | None, given: tuple[tuple[str, Any], ...]
) -> _Terms:
    options = dict(given)
    for name in options:
        if name not in ConnectionOptions.__optional_keys__:
            known = ", ".join(sorted(ConnectionOptions.__optional_keys__))
            raise TypeError(f"the option {name!r} does not exist here: expected one of {known}")
    # The server has limits of a request's head, and has applied them.
    limits = {"max_header_line": MAX_HEAD, "max_headers": 4096}
    settings = settings_from(ServerSettings, {**limits, **options, "origins": origins})
    policy = ServerPolicy(
        subprotocols=subprotocols,
        default=True,
        extensions=() if settings.deflate is None else (settings.deflate.for_server,),
        origins=settings.origins,
        max_header_line=settings.max_header_line,
        max_headers=settings.max_headers,
    )
    return _Terms(settings, policy)


# --- the request -----------------------------------------------------------------------------------------------------


def _head_of(environ: Environ) -> bytes:
    """Write the head of a request again, as well as WSGI tells it."""
    target = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if target is None:
        path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
        target = quote(path.encode("latin-1")) or "/"
        if environ.get("QUERY_STRING"):
            target += "?" + environ["QUERY_STRING"]
    lines = [f"{environ['REQUEST_METHOD']} {target} {environ['SERVER_PROTOCOL']}"]
    lines += [
        f"{name[5:].replace('_', '-').title()}: {value}" for name, value in environ.items() if name.startswith("HTTP_")
    ]
    if environ.get("CONTENT_LENGTH"):
        lines.append(f"Content-Length: {environ['CONTENT_LENGTH']}")
    if any("\n" in line or "\r" in line for line in lines):
        raise HandshakeError("the request was refused: a header of it has a line break in it", status=400)
    return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace")


def _client_of(environ: Environ, sock: socket.socket) -> tuple[Any, ...] | None:
    """Return the client's address by the server or a middleware; None where it is that of the socket."""
    named = environ.get("REMOTE_ADDR")
    try:
        peer = sock.getpeername()
    except OSError as error:
        raise ConnectionResetError(f"the client has left: {error.strerror}") from None
    if not named or not isinstance(peer, tuple) or named == peer[0]:
        return None
    try:
        address = ipaddress.ip_address(named)
    except ValueError:
        return None  # a name, or an invention of a proxy
    return (str(address), 0) if address.version == 4 else (str(address).partition("%")[0], 0, 0, 0)


# --- the servers -----------------------------------------------------------------------------------------------------


_KNOWN = "Werkzeug, gunicorn with gthread or gevent workers, gevent.pywsgi, wsgiref and Django's runserver"


def _find(environ: Environ) -> tuple[socket.socket, Callable[[], bytes]]:
    """Return the socket of a request, and what gives the bytes that the server has read behind it."""
    software = environ.get("SERVER_SOFTWARE", "")
    try:
        sock, take_rest = _find_of(environ, software)
    except (AttributeError, KeyError, TypeError) as error:
        raise RuntimeError(
            f"lapwing.wsgi does not know this server, {software!r}: {error}. It knows {_KNOWN}"
        ) from error
    if not _serves_many(environ, software):
        raise RuntimeError(
            "this server serves one request at a time, and a WebSocket would keep it from all others: choose one with "
            "threads or greenlets, such as gunicorn --worker-class gthread --threads 100, or gevent"
        )
    if hasattr(sock, "getpeercert"):
        raise RuntimeError(
            "this server has TLS by itself, which lapwing.wsgi cannot take over: terminate TLS at a proxy"
        )
    if software.startswith("gevent") and not green.is_patched():
        raise RuntimeError(
            "gevent's server needs gevent.monkey.patch_all(): otherwise a waiting connection blocks all others"
        )
    return sock, take_rest


def _find_of(environ: Environ, software: str) -> tuple[Any, Callable[[], bytes]]:
    if "werkzeug.socket" in environ:
        return environ["werkzeug.socket"], _reader_of(environ)
    if "gunicorn.socket" in environ:
        unreader = environ["wsgi.input"].reader.unreader

        def take() -> bytes:
            held: bytes = unreader.buf.getvalue()
            unreader.buf = io.BytesIO()
            return held

        return environ["gunicorn.socket"], take
    if software.startswith(("gevent", "WSGIServer/")):
        take_rest = _reader_of(environ)
        return _socket_of(_buffer_of(environ)), take_rest
    raise KeyError("its environ names no socket")


def _serves_many(environ: Environ, software: str) -> bool:
    """Tell whether other requests are served while the application is at this one."""
    if environ.get("wsgi.multithread") or software.startswith("gevent"):
        return True
    # Werkzeug forks for each request, where gunicorn's workers are processes that serve one after the other.
    return bool(environ.get("wsgi.multiprocess")) and "werkzeug.socket" in environ


def _buffer_of(environ: Environ) -> io.BufferedReader:
    """Return what buffers the input of a server that reads from a file over its socket."""
    source: Any = environ["wsgi.input"]
    if not isinstance(source, io.BufferedReader):
        # gevent's Input, and the LimitedStream of Django's runserver.
        source = source.rfile if hasattr(source, "rfile") else source._read.__self__
    if not isinstance(source, io.BufferedReader):
        raise TypeError(f"its input is {source!r}, and not a buffered file")
    return source


def _socket_of(source: io.BufferedReader) -> Any:
    raw: Any = source.raw
    return raw._sock


def _reader_of(environ: Environ) -> Callable[[], bytes]:
    source = _buffer_of(environ)
    sock = _socket_of(source)

    def take() -> bytes:
        # An empty buffer would be filled first, for which the socket must not wait.
        seconds = sock.gettimeout()
        sock.settimeout(0)
        try:
            held = source.peek()
        finally:
            sock.settimeout(seconds)
        return source.read(len(held)) if held else b""

    return take
