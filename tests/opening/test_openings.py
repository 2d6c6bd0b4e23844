"""The conversation that opens a connection, of either end: no socket, and every cut of the bytes."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterable, Iterator
from math import inf
from typing import Any

import pytest

from lapwing.io.tls import TLS, set_direct
from lapwing.opening.client import ClientOpening
from lapwing.opening.conversation import Opening
from lapwing.opening.outcome import Failed, Open, Redirect, Refused
from lapwing.opening.server import ServerOpening, adopt
from lapwing.protocol import ClientHandshake, Deflate, HandshakeError, ProxyError, Response, ServerPolicy, parse_url
from lapwing.protocol.proxy_header import ProxyHeaderReader
from lapwing.protocol.tunnel import TunnelHandshake
from tests.peers import wire
from tests.peers.certificates import Certificates
from tests.protocol.machine import pieces_of

POLICY = ServerPolicy(subprotocols=["chat"], default=True, extensions=[Deflate().for_server])
NONCE = bytes(range(16))
FRAME = wire.frame(wire.TEXT, b"early", key=wire.MASK)
PROXY = b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n"


def client(url: str = "ws://localhost/", **options: Any) -> ClientOpening:
    handshake = ClientHandshake(parse_url(url), nonce=NONCE, subprotocols=["chat"])
    return ClientOpening(handshake, now=0.0, **options)


def server(policy: ServerPolicy = POLICY, **options: Any) -> ServerOpening:
    return ServerOpening(policy, **{"now": 0.0, **options})


REQUEST = client().data_to_send()
#: The same, but for a header that no usual request has: the whole reader decides on it.
UNUSUAL = REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")
BAD_KEY = REQUEST.replace(b"AAECAwQFBgcICQoLDA0ODw==", b"short")
RESPONSE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    + wire.accept_value("AAECAwQFBgcICQoLDA0ODw==").encode()
    + b"\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Whole, byte by byte, and in two pieces at some places."""
    yield [data]
    yield pieces_of(data, 1)
    for place in range(1, len(data), 13):
        yield [data[:place], data[place:]]


def give(opening: Opening, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        opening.receive(piece, 0.0)


def opened(opening: Opening) -> Open:
    outcome = opening.outcome
    assert isinstance(outcome, Open)
    return outcome


def refused(opening: Opening) -> Response:
    outcome = opening.outcome
    assert isinstance(outcome, Refused)
    return outcome.response


def failure(opening: Opening) -> BaseException:
    outcome = opening.outcome
    assert isinstance(outcome, Failed)
    return outcome.error


# --- a server ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_head", [REQUEST, UNUSUAL], ids=["usual", "unusual"])
@pytest.mark.parametrize("rest", [b"", FRAME], ids=["alone", "with a frame behind it"])
def test_a_request_opens_a_connection(request_head: bytes, rest: bytes) -> None:
    for pieces in ways(request_head + rest):
        opening = server()
        give(opening, pieces)
        assert opened(opening).rest == rest, pieces
        assert (opened(opening).subprotocol, opened(opening).extensions) == ("chat", [])
        assert (opened(opening).request.path, opened(opening).response.status) == ("/", 101)
        assert opening.data_to_send() == RESPONSE
        assert opening.data_to_send() == b""
        assert opened(opening).response.headers["Sec-WebSocket-Protocol"] == "chat", "after it was sent, too"


@pytest.mark.parametrize("rest", [b"", FRAME])
def test_a_request_that_is_wrong_is_refused(rest: bytes) -> None:
    for pieces in ways(BAD_KEY + rest):
        opening = server()
        give(opening, pieces)
        assert refused(opening).status == 400
        assert b"Sec-WebSocket-Key" in opening.data_to_send()
        assert isinstance(opening.outcome.error, HandshakeError)  # type: ignore[union-attr]
        assert (opening.request, opening.response) != (None, None)


def test_a_client_that_leaves() -> None:
    opening = server()
    opening.receive_eof(1.0)
    assert "before it asked for anything" in str(failure(opening))
    assert (opening.data_to_send(), opening.deadline()) == (b"", inf)
    for size in (1, 20, len(REQUEST) - 1):
        opening = server()
        opening.receive(REQUEST[:size], 0.0)
        opening.receive_eof(1.0)
        assert refused(opening).status == 400
        assert opening.data_to_send().startswith(b"HTTP/1.1 400 ")
    opening = server()
    opening.receive(REQUEST, 0.0)
    opening.receive_eof(1.0)
    assert "before its request was decided on" in str(failure(opening))
    assert opening.data_to_send() == b""


def test_a_server_has_a_deadline_until_it_has_answered() -> None:
    opening = server(now=100.0, timeout=5.0)
    assert opening.deadline() == 105.0
    opening.advance(104.9)
    assert opening.outcome is None
    opening.advance(105.0, 2.0)
    assert (opening.outcome, opening.deadline()) == (None, 107.0), "two seconds of it were this end's doing"
    opening.advance(107.0)
    assert isinstance(failure(opening), TimeoutError)
    assert "took longer than 5 s" in str(failure(opening))
    answered = server(timeout=5.0)
    answered.receive(REQUEST, 1.0)
    assert answered.deadline() == 5.0
    answered.data_to_send()
    assert answered.deadline() == inf
    answered.advance(6.0)
    assert isinstance(answered.outcome, Open)
    assert server().deadline() == inf


@pytest.mark.parametrize("request_head", [REQUEST, UNUSUAL, BAD_KEY], ids=["usual", "unusual", "wrong"])
def test_the_owner_may_say_something_else_until_the_response_is_taken(request_head: bytes) -> None:
    opening = server()
    with pytest.raises(RuntimeError, match="before the request is complete"):
        _ = opening.handshake
    opening.receive(request_head, 0.0)
    opening.handshake.respond(Response.of(200, "a page"))
    sent = opening.data_to_send()
    assert refused(opening) == opening.response
    assert (refused(opening).status, sent.endswith(b"a page")) == (200, True)
    with pytest.raises(RuntimeError, match="already sent"):
        opening.refuse(403, "too late")
    with pytest.raises(RuntimeError, match="already sent"):
        opening.read_by(POLICY)


def test_an_owner_that_asks_for_the_handshake_and_changes_nothing() -> None:
    opening = server()
    opening.receive(REQUEST, 0.0)
    assert opening.handshake.accepted
    assert opening.request == opening.handshake.request
    assert opening.data_to_send() == RESPONSE
    assert opened(opening).response.status == 101
    late = server()
    late.receive(REQUEST, 0.0)
    late.data_to_send()
    with pytest.raises(RuntimeError, match="already sent"):
        late.handshake.refuse(403, "no")


@pytest.mark.parametrize("size", [0, 1, 30])
def test_refusing_before_the_request_is_complete(size: int) -> None:
    opening = server()
    give(opening, [REQUEST[:size]] if size else [])
    opening.refuse(503, "closing", [("Retry-After", "5")])
    opening.receive(REQUEST[size:], 0.0)
    assert refused(opening).status == 503
    assert opening.data_to_send().startswith(b"HTTP/1.1 503 ")


def test_another_policy_decides_on_the_request() -> None:
    opening = server(ServerPolicy(subprotocols=["other"], default=False))
    opening.receive(REQUEST, 0.0)
    assert refused(opening).status == 400
    assert opening.read_by(POLICY).accepted
    assert opened(opening).subprotocol == "chat"
    assert opening.data_to_send() == RESPONSE
    assert opened(opening).response.headers["Sec-WebSocket-Protocol"] == "chat"


def test_what_comes_before_the_answer_is_kept_within_limits() -> None:
    opening = server()
    give(opening, [REQUEST, FRAME, FRAME])
    assert opened(opening).rest == FRAME + FRAME
    opening.receive(bytes(64 * 1024 - 2 * len(FRAME)), 0.0)
    before = opening.wants_input
    opening.receive(b"x", 0.0)
    assert (before, opening.wants_input) == (True, False)
    opening.handshake.refuse(403, "no")
    opening.data_to_send()
    assert refused(opening).status == 403


def test_one_that_was_made_without_its_constructor_is_refused() -> None:
    opening = ServerOpening.__new__(ServerOpening)
    with pytest.raises(RuntimeError, match="never begun"):
        opening.receive(REQUEST, 0.0)


# --- a request that was read before ------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", FRAME])
@pytest.mark.parametrize("request_head", [REQUEST, UNUSUAL], ids=["usual", "unusual"])
def test_adopting_a_request(request_head: bytes, rest: bytes) -> None:
    opening = adopt(POLICY, request_head, rest, now=1.0, timeout=5.0)
    assert (opened(opening).rest, opening.deadline()) == (rest, 6.0)
    assert opening.data_to_send() == RESPONSE
    assert opened(opening).request_head == request_head


def test_adopting_what_cannot_be_granted() -> None:
    assert refused(adopt(POLICY, BAD_KEY, FRAME, now=0.0)).status == 400
    assert refused(adopt(POLICY, REQUEST[:-2], now=0.0)).status == 400
    assert refused(adopt(POLICY, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", now=0.0)).status == 405
    assert isinstance(failure(adopt(POLICY, b"", now=0.0)), HandshakeError)
    for wrong in (None, "GET"):
        with pytest.raises(TypeError):
            adopt(POLICY, wrong, now=0.0)  # type: ignore[arg-type]


# --- behind a proxy that says who the client is ------------------------------------------------------------------


def test_a_proxy_header_comes_first() -> None:
    for pieces in ways(PROXY + REQUEST + FRAME):
        opening = server(header_reader=ProxyHeaderReader())
        give(opening, pieces)
        assert opening.proxy_header is not None
        assert opening.proxy_header.source == ("192.0.2.1", 1234)
        assert opened(opening).rest == FRAME
        assert opening.data_to_send() == RESPONSE


def test_without_its_proxy_header_nothing_is_said() -> None:
    for pieces in ways(REQUEST):
        opening = server(header_reader=ProxyHeaderReader())
        opening.receive(pieces[0], 0.0)
        assert "expected a header of the PROXY protocol" in str(failure(opening))
        assert (opening.data_to_send(), opening.proxy_header) == (b"", None)
    opening = server(header_reader=ProxyHeaderReader())
    opening.receive(PROXY[:9], 0.0)
    opening.receive_eof(0.0)
    assert "before its PROXY header" in str(failure(opening))


# --- a client ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"", b"\x81\x02hi"])
def test_a_response_opens_a_connection(rest: bytes) -> None:
    for pieces in ways(RESPONSE + rest):
        opening = client()
        assert opening.data_to_send() == REQUEST
        assert opening.data_to_send() == b""
        give(opening, pieces)
        assert (opened(opening).rest, opened(opening).subprotocol) == (rest, "chat")
        assert opened(opening).request_head == REQUEST
        assert (opened(opening).request, opened(opening).response) == (opening.request, opening.response)
        assert (opening.data_to_send(), opening.deadline()) == (b"", inf)


def test_a_client_is_refused_redirected_or_not_answered() -> None:
    for pieces in ways(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"):
        opening = client()
        give(opening, pieces)
        assert refused(opening).body == b"no"
        assert "403 Forbidden" in str(opening.outcome.error)  # type: ignore[union-attr]
    for pieces in ways(b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"):
        opening = client()
        give(opening, pieces)
        assert isinstance(opening.outcome, Redirect)
        assert opening.outcome.location == "/there"
    for answer in (b"SSH-2.0-x\r\n", RESPONSE.replace(b"chat", b"other")):
        for pieces in ways(answer):
            opening = client()
            give(opening, pieces)
            assert isinstance(failure(opening), HandshakeError)
    opening = client()
    opening.receive_eof(0.0)
    assert "closed the connection before it answered" in str(failure(opening))
    nowhere = client()
    nowhere.receive(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", 0.0)
    assert type(nowhere.outcome) is Refused, "without a Location it leads nowhere"


def test_a_client_has_a_deadline() -> None:
    opening = client(timeout=5.0)
    opening.receive(RESPONSE[:-1], 4.0)
    assert opening.deadline() == 5.0
    opening.advance(5.0)
    assert isinstance(failure(opening), TimeoutError)
    refusal = client(timeout=5.0)
    refusal.receive(b"HTTP/1.1 503 Busy\r\nContent-Length: 9\r\n\r\nall", 1.0)
    refusal.advance(5.0)
    assert refused(refusal).body == b"all", "only its end is missing"
    refusal.expire()
    assert refused(refusal).status == 503


def test_failing_for_a_reason_of_the_owners() -> None:
    for opening in (client(timeout=5.0), server(timeout=5.0)):
        reason = ConnectionResetError("gone")
        opening.fail(reason)
        assert (failure(opening), opening.data_to_send(), opening.deadline()) == (reason, b"", inf)


# --- through a tunnel --------------------------------------------------------------------------------------------


def tunnel() -> TunnelHandshake:
    return TunnelHandshake("localhost", 80, None, "the proxy")


def test_a_client_asks_a_proxy_first() -> None:
    for pieces in ways(b"HTTP/1.1 200 OK\r\n\r\n"):
        opening = client(tunnel=tunnel())
        assert opening.data_to_send().startswith(b"CONNECT localhost:80 HTTP/1.1\r\n")
        before = opening.is_in_tunnel
        give(opening, pieces)
        assert (before, opening.is_in_tunnel) == (False, True)
        assert opening.data_to_send() == REQUEST
        give(opening, [RESPONSE])
        assert opened(opening).subprotocol == "chat"


def test_a_proxy_that_makes_no_tunnel() -> None:
    opening = client(tunnel=tunnel())
    opening.receive(b"HTTP/1.1 302 Found\r\nLocation: ws://evil.example/\r\nContent-Length: 0\r\n\r\n", 0.0)
    assert type(opening.outcome) is Refused, "a redirect of a proxy's is not followed"
    assert isinstance(opening.outcome.error, ProxyError)
    opening = client(tunnel=tunnel())
    opening.receive(b"HTTP/1.1 200 OK\r\n\r\n" + RESPONSE, 0.0)
    assert "unexpected data" in str(failure(opening))
    opening = client(tunnel=tunnel())
    opening.receive_eof(0.0)
    assert isinstance(failure(opening), ProxyError)
    opening = client(tunnel=tunnel())
    opening.receive(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 9\r\n\r\nno", 0.0)
    opening.expire()
    assert refused(opening).status == 502


# --- over TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["direct", "through-ssl"])
def records(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each way that records may go."""
    if set_direct(request.param) is not request.param:
        pytest.skip("OpenSSL cannot be called directly here")
    yield
    set_direct(True)


def converse(one: Opening, other: Opening, size: int) -> None:
    """Let two ends talk, in pieces of so many bytes, until neither has anything to say."""
    while True:
        said, answered = one.data_to_send(), other.data_to_send()
        if not said and not answered:
            return
        give(other, pieces_of(said, size))
        give(one, pieces_of(answered, size))


def server_session(tls: Certificates) -> TLS:
    return TLS(tls.good.server_context(), server_side=True)


def client_session(tls: Certificates, carrier: TLS | None = None) -> TLS:
    return TLS(tls.client_context(), server_side=False, server_hostname="localhost", carrier=carrier)


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_opening_over_tls(tls: Certificates, size: int) -> None:
    ours, theirs = client(session=client_session(tls)), server(session=server_session(tls))
    converse(ours, theirs, size)
    assert (opened(ours).subprotocol, opened(theirs).subprotocol) == ("chat", "chat")
    assert ours.ssl_object is not None
    assert ours.ssl_object.version() == "TLSv1.3"
    assert isinstance(ours.take_session(), TLS)
    assert client().take_session() is None


@pytest.mark.usefixtures("records")
def test_the_owner_goes_on_with_the_session(tls: Certificates) -> None:
    ours, theirs = client(session=client_session(tls)), server(session=server_session(tls))
    while theirs.outcome is None:
        give(theirs, [ours.data_to_send()])
        if theirs.outcome is None:
            give(ours, [theirs.data_to_send()])
    assert isinstance(theirs.take_session(), TLS)
    theirs.receive(FRAME, 0.0)
    assert (opened(theirs).rest, theirs.data_to_send()) == (FRAME, RESPONSE), "in plain text from now on"


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_refusal_over_tls(tls: Certificates, size: int) -> None:
    theirs = server(ServerPolicy(subprotocols=["other"], default=False), session=server_session(tls))
    ours = client(session=client_session(tls))
    converse(ours, theirs, size)
    assert (refused(ours).status, refused(theirs).status) == (400, 400)


@pytest.mark.usefixtures("records")
def test_an_alert_tells_the_peer_why_tls_failed(tls: Certificates) -> None:
    ours = client(session=TLS(tls.client_context(), server_side=False, server_hostname="other.example"))
    theirs = server(session=server_session(tls))
    converse(ours, theirs, 1 << 20)
    assert "certificate" in str(failure(ours)).lower()
    assert "ALERT" in str(failure(theirs)).upper()


@pytest.mark.usefixtures("records")
def test_the_end_within_tls(tls: Certificates) -> None:
    opening = server(session=server_session(tls))
    opening.receive_eof(0.0)
    assert "during the TLS handshake" in str(failure(opening))
    opening = server(session=server_session(tls))
    opening.receive(REQUEST, 0.0)
    assert isinstance(failure(opening), OSError), "that was no TLS"
    ours, theirs = client(session=client_session(tls)), server(session=server_session(tls))
    give(theirs, [ours.data_to_send()])
    give(ours, [theirs.data_to_send()])
    ours.receive_eof(0.0)
    assert "closed the connection before it answered" in str(failure(ours))


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_tls_behind_a_proxy_header(tls: Certificates, size: int) -> None:
    ours = client(session=client_session(tls))
    theirs = server(session=server_session(tls), header_reader=ProxyHeaderReader())
    give(theirs, pieces_of(PROXY + ours.data_to_send(), size))
    converse(ours, theirs, size)
    assert theirs.proxy_header is not None
    assert (opened(ours).subprotocol, opened(theirs).subprotocol) == ("chat", "chat")


class SecureProxy:
    """A proxy that speaks TLS by Python's own means, and hands on what comes through its tunnel."""

    def __init__(self, context: ssl.SSLContext, behind: Opening) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._session = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._head = b""
        self._is_tunnel = False
        self._behind = behind

    def pass_on(self, data: bytes) -> bytes:
        """Take what came from the client, and return what is for it."""
        self._incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._session.do_handshake()
            while True:
                self._take(self._session.read(1 << 16))
        said = self._behind.data_to_send()
        if said:
            self._session.write(said)
        return self._outgoing.read()

    def _take(self, plaintext: bytes) -> None:
        if self._is_tunnel:
            self._behind.receive(plaintext, 0.0)
            return
        self._head += plaintext
        if self._head.endswith(b"\r\n\r\n"):
            self._is_tunnel = True
            self._session.write(b"HTTP/1.1 200 OK\r\n\r\n")


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize("size", [1, 100, 1 << 20])
@pytest.mark.parametrize("is_secure", [False, True], ids=["ws", "wss"])
def test_through_a_proxy_that_speaks_tls(tls: Certificates, size: int, is_secure: bool) -> None:
    theirs = server(session=server_session(tls) if is_secure else None)
    proxy = SecureProxy(tls.good.server_context(), theirs)

    def secure(carrier: TLS | None) -> TLS | None:
        return client_session(tls, carrier) if is_secure else carrier

    ours = client(session=client_session(tls), tunnel=tunnel(), secure=secure)
    while said := ours.data_to_send():
        for piece in pieces_of(said, size):
            give(ours, pieces_of(proxy.pass_on(piece), size))
    assert (opened(ours).subprotocol, opened(theirs).subprotocol) == ("chat", "chat")


def test_a_session_that_cannot_be_made_is_a_failure() -> None:
    def secure(carrier: TLS | None) -> TLS | None:
        raise ValueError("expected a host name")

    opening = client(tunnel=tunnel(), secure=secure)
    opening.receive(b"HTTP/1.1 200 OK\r\n\r\n", 0.0)
    assert "expected a host name" in str(failure(opening))
