"""wss for both faces: certificates, what is said when TLS fails, and how a TLS stream may end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import re
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.connecting.reconnect import is_transient
from lapwing.io import tls as records
from lapwing.io import trust
from lapwing.protocol.client_handshake import ClientHandshake
from lapwing.protocol.tunnel import TunnelHandshake
from tests.conftest import Runtime
from tests.faces.callers import AFTER_A_FAILED_SEND, GUARD, IN_THREAD, ROOM, Face, call, hosting
from tests.peers import wire
from tests.peers.certificates import Certificate, Certificates
from tests.peers.key_updates import request_key_updates
from tests.peers.raw import RawListener, RawPeer
from tests.peers.servers import ServerThread, echo

Listen = Callable[..., Any]
MIB_16 = 16 * 1024 * 1024


def secure_url(server: Any, host: str = "localhost") -> str:
    return f"wss://{host}:{server.port}/"


@pytest.fixture(autouse=True, params=[True, False], ids=["direct", "through-ssl"])
def _way_of_records(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything here holds on both ways that records can take; where one cannot be had, twice on the other."""
    before = records.is_direct()
    records.set_direct(request.param)
    yield
    records.set_direct(before)


@pytest.fixture
def trusted(tls: Certificates, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The system trusts the authority of `tls`, and nothing is left of it afterwards."""
    monkeypatch.setenv("SSL_CERT_FILE", tls.ca_file)
    trust.client_context.cache_clear()
    yield
    trust.client_context.cache_clear()


def send_last(peer: RawPeer, data: bytes) -> None:
    """Send bytes and the close_notify in one piece, and leave TCP open."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    peer.send(data)
    peer.sock.settimeout(0)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.sock.unwrap()
    peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
    peer.sock.settimeout(GUARD)


# --- certificates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["context", "certfile", "both in one file"])
async def test_a_server_with_a_certificate(
    face: Face, listen: Listen, tls: Certificates, way: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"certfile": tls.good.certfile, "keyfile": tls.good.keyfile}
    if way == "context":
        options = {"ssl": tls.good.server_context()}
    elif way == "both in one file":
        file = tmp_path / "both.pem"
        file.write_text("".join(Path(name).read_text() for name in options.values()))
        options = {"certfile": str(file)}
    async with listen(default=echo, **options) as server:
        for host in ("localhost", "127.0.0.1"):
            async with face.connected(secure_url(server, host), ssl=tls.client_context()) as ws:
                await ws.send("secret")
                assert await ws.receive() == "secret"
                assert await ws.ping() > 0
                assert ws.ssl_object.version() in ("TLSv1.2", "TLSv1.3")
            assert ws.closed == (True, 1000, "")


async def test_what_the_system_trusts_is_the_default(
    face: Face, listen: Listen, tls: Certificates, trusted: None
) -> None:
    async with listen(default=echo, certfile=tls.good.certfile, keyfile=tls.good.keyfile) as server:
        async with face.connected(secure_url(server)) as ws:
            await ws.send("trusted")
            assert await ws.receive() == "trusted"
            assert ws.ssl_object.selected_alpn_protocol() == "http/1.1"


def test_one_context_is_shared_by_the_process(trusted: None) -> None:
    context = trust.client_context()
    assert trust.client_context() is context
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


async def test_sni_and_alpn_are_sent(face: Face, tls: Certificates, trusted: None) -> None:
    names: list[str | None] = []
    context = tls.good.server_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    context.sni_callback = lambda sock, name, _: names.append(name)
    with RawListener(context=context) as listener:
        async with face.facing(listener) as (ws, peer):
            assert names == ["localhost"]
            assert isinstance(peer.sock, ssl.SSLSocket)
            assert peer.sock.selected_alpn_protocol() == "http/1.1"
            assert ws.ssl_object.selected_alpn_protocol() == "http/1.1"
            receiving = asyncio.create_task(ws.receive())
            peer.send_close()
            await call(peer.expect_close)
            peer.end_tls()
            assert await receiving is None


async def test_an_older_tls_is_refused(face: Face, listen: Listen, tls: Certificates) -> None:
    async with listen(default=echo, certfile=tls.good.certfile, keyfile=tls.good.keyfile) as server:
        context = tls.client_context()
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((OSError, lapwing.HandshakeError)):
            await face.client(ssl=context).connect(secure_url(server))


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("expired", r"has expired\. The server needs a new one, or the clock of this machine is wrong"),
        ("not_yet_valid", r"not yet valid.*\. The clock of this machine is wrong, or the server uses it too early"),
        ("wrong_host", r"'localhost'\. Connect by a name in it.*server_hostname="),
        ("self_signed", "(self-signed|self signed).*cafile"),
    ],
)
async def test_a_wrong_certificate_is_refused_with_help(
    face: Face, listen: Listen, tls: Certificates, which: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate: Certificate = getattr(tls, which)
    async with hosting(listen, ssl=certificate.server_context()) as (server, _):
        with pytest.raises(ssl.SSLCertVerificationError, match=words) as caught:
            await face.client(ssl=tls.client_context()).connect(secure_url(server))
        assert f"localhost:{server.port}" in str(caught.value)
        # The server is none the worse for it.
        with await call(RawPeer.open, server.port):
            pass
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


async def test_an_authority_that_the_system_does_not_trust(face: Face, listen: Listen, tls: Certificates) -> None:
    async with hosting(listen, ssl=tls.good.server_context()) as (server, _):
        with pytest.raises(ssl.SSLCertVerificationError, match="cafile"):
            await face.client().connect(secure_url(server))


async def test_another_name_by_server_hostname(face: Face, listen: Listen, tls: Certificates) -> None:
    async with listen(default=echo, ssl=tls.wrong_host.server_context()) as server:
        options: dict[str, Any] = {"ssl": tls.client_context(), "server_hostname": "elsewhere.example"}
        async with face.connected(secure_url(server), **options) as ws:
            await ws.send("x")
            assert await ws.receive() == "x"


async def test_a_server_hostname_that_is_none_leaves_nothing_open(face: Face, tls: Certificates) -> None:
    with RawListener() as listener:
        client = face.client(ssl=tls.client_context(), server_hostname=".example")
        with pytest.raises(ValueError):
            await client.connect(f"wss://127.0.0.1:{listener.port}/")


async def test_a_server_that_asks_for_a_client_certificate(face: Face, listen: Listen, tls: Certificates) -> None:
    context = tls.good.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tls.ca_file)
    async with listen(default=echo, ssl=context) as server:
        with_one = tls.client_context()
        with_one.load_cert_chain(tls.client.certfile, tls.client.keyfile)
        async with face.connected(secure_url(server), ssl=with_one) as ws:
            await ws.send("known")
            assert await ws.receive() == "known"
        # With TLS 1.3 the refusal comes after the client's part of the handshake is done.
        with pytest.raises(
            ssl.SSLError, match=r"requires a client certificate\. .*load_cert_chain\(\).* pass that as ssl="
        ) as caught:
            await face.client(ssl=tls.client_context()).connect(secure_url(server))
        assert not is_transient(caught.value)
        without = tls.client_context()
        without.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="perhaps it requires a client certificate") as caught:
            await face.client(ssl=without).connect(secure_url(server))
        assert not is_transient(caught.value)
        other = tls.client_context()
        other.load_cert_chain(tls.self_signed.certfile, tls.self_signed.keyfile)
        with pytest.raises(
            ssl.SSLError, match="does not accept the client certificate: it must be signed by"
        ) as caught:
            await face.client(ssl=other).connect(secure_url(server))
        assert "To present one" not in str(caught.value)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_the_log_of_a_server_says_which_client_certificate_it_refused(
    face: Face, listen: Listen, tls: Certificates, version: ssl.TLSVersion, caplog: pytest.LogCaptureFixture
) -> None:
    """With OpenSSL's own text behind it."""
    context = tls.good.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(tls.ca_file)
    caplog.set_level(logging.DEBUG, "lapwing.server")
    for certificate, words in (
        (None, r"the client presented no certificate \(.*PEER_DID_NOT_RETURN_A_CERTIFICATE.*\)"),
        (
            tls.self_signed,
            r"the client's certificate is not trusted: self.signed certificate \(.*CERTIFICATE_VERIFY_FAILED.*\)",
        ),
    ):
        caplog.clear()
        client = tls.client_context()
        client.maximum_version = version
        if certificate is not None:
            client.load_cert_chain(certificate.certfile, certificate.keyfile)
        async with listen(default=echo, ssl=context) as server:
            with pytest.raises(ssl.SSLError):
                await face.client(ssl=client).connect(secure_url(server))
        assert server.stats().failed == 1
        (line,) = [record.getMessage() for record in caplog.records if record.name == "lapwing.server"]
        assert re.fullmatch(rf"connection from .*: no opening handshake: {words}", line), line


class AnswersFirst:
    """A server that has said its last word, and reset the connection, before it has read the client's request.

    Args:
        context: the TLS context, which refuses the client; None to answer in plain text.
        monkeypatch: what lets the client wait for it. Over TLS there is no need: the request goes out along with the
            message that the server refuses.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None,
        monkeypatch: pytest.MonkeyPatch,
        answer: bytes = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n",
    ) -> None:
        self._context = context
        self._answer = answer
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        here, gone = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(here, gone))
        for kind in () if context is not None else (ClientHandshake, TunnelHandshake):
            before = kind.data_to_send

            def wait(handshake: Any, before: Any = before) -> bytes:
                here.set()
                gone.wait(GUARD)
                data: bytes = before(handshake)
                return data

            monkeypatch.setattr(kind, "data_to_send", wait)

    def _serve(self, here: threading.Event, gone: threading.Event) -> None:
        sock, _ = self._sock.accept()
        sock.settimeout(GUARD)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with sock:
            if self._context is None:
                here.wait(GUARD)
                sock.sendall(self._answer)
            else:
                with contextlib.suppress(ssl.SSLError):
                    self._context.wrap_socket(sock, server_side=True)
        gone.set()

    def __enter__(self) -> AnswersFirst:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(GUARD)
        self._sock.close()


@AFTER_A_FAILED_SEND
@pytest.mark.parametrize("role", ["server", "proxy"])
async def test_the_alert_is_read_when_the_request_was_not(
    face: Face, tls: Certificates, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = tls.good.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    with AnswersFirst(context, monkeypatch) as other:
        options: dict[str, Any] = {}
        if role == "proxy":
            options = {"proxy": f"https://localhost:{other.port}", "proxy_ssl": tls.client_context()}
        url = "wss://127.0.0.1:9/" if role == "proxy" else f"wss://localhost:{other.port}/"
        with pytest.raises(ssl.SSLError, match="requires a client certificate") as caught:
            await face.client(ssl=tls.client_context(), **options).connect(url)
        assert ("the proxy" in str(caught.value)) is (role == "proxy")
        assert ("proxy_ssl=" in str(caught.value)) is (role == "proxy")
        assert not is_transient(caught.value)


@AFTER_A_FAILED_SEND
async def test_the_response_is_read_when_the_request_could_not_be_sent(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AnswersFirst(None, monkeypatch) as other:
        with pytest.raises(lapwing.HandshakeError, match="429") as caught:
            await face.client().connect(f"ws://127.0.0.1:{other.port}/")
        assert caught.value.status == 429


async def test_a_request_that_could_not_be_sent_is_told_when_there_is_no_answer(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    with AnswersFirst(None, monkeypatch, answer=b"") as other:
        with pytest.raises((ConnectionResetError, BrokenPipeError)) as caught:
            await face.client().connect(f"ws://127.0.0.1:{other.port}/")
        assert is_transient(caught.value)


def test_a_certificate_that_cannot_be_read(tls: Certificates, tmp_path: Path) -> None:
    async def start(certfile: str, keyfile: str | None) -> None:
        await lapwing.listen(0, "127.0.0.1", default=echo, certfile=certfile, keyfile=keyfile)

    missing = str(tmp_path / "missing.pem")
    with pytest.raises(OSError, match=r"missing\.pem") as caught:
        asyncio.run(start(missing, None))
    assert "key in another file" not in str(caught.value)
    with pytest.raises(OSError, match=r"PEM.*\. The key belongs to another certificate$"):
        asyncio.run(start(tls.good.certfile, tls.expired.keyfile))
    with pytest.raises(OSError, match=r"PEM.*\. Has certfile the certificate, and keyfile its key\?$"):
        asyncio.run(start(tls.good.keyfile, tls.good.certfile))
    with pytest.raises(OSError, match=r"Is the key in another file\? Pass both files"):
        asyncio.run(start(tls.good.certfile, None))


# --- the wrong port ----------------------------------------------------------------------------------------------


async def test_tls_against_a_plain_port(face: Face, listen: Listen, tls: Certificates) -> None:
    async with listen(default=echo) as server:
        with pytest.raises(ssl.SSLError, match=r"does not speak TLS.*ws://"):
            await face.client(ssl=tls.client_context()).connect(secure_url(server))


async def test_tls_against_a_port_that_hangs_up(face: Face, tls: Certificates) -> None:
    with RawListener() as listener:
        connecting = asyncio.create_task(
            face.client(ssl=tls.client_context()).connect(f"wss://localhost:{listener.port}/")
        )
        with await call(listener.accept_bare) as peer:
            await call(peer.read)
        with pytest.raises(ConnectionResetError, match="TLS"):
            await connecting


async def test_no_tls_against_a_tls_port(
    face: Face, listen: Listen, tls: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with listen(default=echo, ssl=tls.good.server_context()) as server:
        with pytest.raises(lapwing.HandshakeError, match="wss://"):
            await face.client().connect(f"ws://127.0.0.1:{server.port}/")
    assert [record for record in caplog.records if record.levelname != "DEBUG"] == []


# --- how it ends -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clean", [True, False])
async def test_an_end_with_and_without_close_notify_is_told_apart(face: Face, tls: Certificates, clean: bool) -> None:
    with RawListener(context=tls.good.server_context()) as listener:
        async with face.facing(listener, ssl=tls.client_context()) as (ws, peer):
            peer.send_frame(wire.TEXT, b"last")
            assert await ws.receive() == "last"
            peer.end_tls() if clean else peer.close()
            assert await ws.receive() is None
            assert ws.closed[:2] == (False, 1006)
            assert ("cut off" in ws.closed.reason) is not clean
            assert ("without a close frame" in ws.closed.reason) is clean


@pytest.mark.parametrize("clean", [True, False])
async def test_the_server_tells_them_apart_as_well(listen: Listen, tls: Certificates, clean: bool) -> None:
    async with hosting(listen, ssl=tls.good.server_context()) as (server, guests):
        peer = await call(lambda: RawPeer.connect(server.port, context=tls.client_context()))
        ws = await guests.next()
        peer.end_tls() if clean else peer.close()
        assert await ws.receive() is None
        assert ws.closed is not None
        assert ("cut off" in ws.closed.reason) is not clean


async def test_lapwing_ends_tls_in_good_order(face: Face, listen: Listen, tls: Certificates) -> None:
    with RawListener(context=tls.good.server_context()) as listener:
        async with face.facing(listener, ssl=tls.client_context()) as (ws, peer):
            closing = asyncio.create_task(ws.close(3000))
            await call(peer.expect_close, 3000)
            peer.send_close(3000)
            peer.end_tls()
            assert await closing == (True, 3000, "")
    async with hosting(listen, ssl=tls.good.server_context()) as (server, guests):
        with await call(lambda: RawPeer.connect(server.port, context=tls.client_context())) as peer:
            guest = await guests.next()
            await call(peer.finish)  # expects the close_notify
            assert await guest.close() == (True, 1000, "")


async def test_a_close_notify_right_behind_the_close_frame_is_the_end(face: Face, tls: Certificates) -> None:
    """A peer may wait for this end's close_notify before it ends TCP: nothing but what came in one read tells of it."""
    with RawListener(context=tls.good.server_context()) as listener:
        async with face.facing(listener, ssl=tls.client_context(), close_timeout=60) as (ws, peer):
            closing = asyncio.create_task(ws.close(3000))
            await call(peer.expect_close, 3000)
            peer.send_close(3000)
            peer.sock.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.sock.unwrap()  # type: ignore[attr-defined]
            assert await closing == (True, 3000, "")


async def test_a_close_notify_right_behind_a_message_is_the_end(face: Face, tls: Certificates) -> None:
    with RawListener(context=tls.good.server_context()) as listener:
        async with face.facing(listener, ssl=tls.client_context()) as (ws, peer):
            peer.send_frame(wire.TEXT, b"last")
            peer.sock.settimeout(0)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.sock.unwrap()  # type: ignore[attr-defined]
            assert await ws.receive() == "last"
            assert await ws.receive() is None
            assert ws.closed[:2] == (False, 1006)


@pytest.mark.parametrize("behind", [b"", wire.frame(wire.TEXT, b"greeting")])
async def test_a_close_notify_right_behind_the_response_is_the_end(
    face: Face, tls: Certificates, behind: bytes
) -> None:
    """TCP stays open: nothing but what came along with the response tells of the end."""
    with RawListener(context=tls.good.server_context()) as listener:
        ws = face.client(ssl=tls.client_context(), ping_interval=None)
        connecting = asyncio.create_task(ws.connect(listener.url))
        with await call(listener.accept_bare) as peer:
            head = await call(peer.read_head)
            await call(send_last, peer, wire.response(head.one("sec-websocket-key")) + behind)
            await connecting
            if behind:
                assert await ws.receive() == "greeting"
            assert await ws.receive() is None
            assert ws.closed == (False, 1006, "the connection ended without a close frame")


@pytest.mark.parametrize("kind", ["coroutine", pytest.param("thread", marks=IN_THREAD), "on_request"])
async def test_a_close_notify_right_behind_the_request_is_the_end(listen: Listen, tls: Certificates, kind: str) -> None:
    ended: asyncio.Queue[lapwing.Closed | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def handler(ws: lapwing.Connection) -> None:
        assert await ws.receive() is None
        ended.put_nowait(ws.closed)

    def in_thread(ws: lapwing.BlockingConnection) -> None:
        assert ws.receive() is None
        loop.call_soon_threadsafe(ended.put_nowait, ws.closed)

    left = asyncio.Event()

    async def decide(request: object) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()

    options: dict[str, Any] = {"ping_interval": None, "ssl": tls.good.server_context()}
    if kind == "on_request":
        options["on_request"] = decide
    async with listen(default=in_thread if kind == "thread" else handler, **options) as server:
        with await call(lambda: RawPeer.open(server.port, context=tls.client_context())) as peer:
            await call(send_last, peer, wire.request("127.0.0.1"))
            if kind == "on_request":
                await left.wait()
            else:
                assert await ended.get() == (False, 1006, "the connection ended without a close frame")


async def test_a_close_notify_of_a_proxy_right_behind_its_response_is_the_end(face: Face, tls: Certificates) -> None:
    with RawListener(context=tls.good.server_context()) as listener:
        client = face.client(proxy=listener.url.replace("wss", "https"), proxy_ssl=tls.client_context())
        connecting = asyncio.create_task(client.connect("wss://127.0.0.1:9/"))
        with await call(listener.accept_bare) as peer:
            await call(peer.read_head)
            await call(send_last, peer, b"HTTP/1.1 200 OK\r\n\r\n")
            with pytest.raises(ConnectionResetError, match="during the TLS handshake"):
                await connecting


# --- much data ---------------------------------------------------------------------------------------------------


async def test_sixteen_mebibytes_both_ways(face: Face, listen: Listen, tls: Certificates) -> None:
    room: dict[str, Any] = {"max_message_size": MIB_16}
    async with listen(default=echo, ssl=tls.good.server_context(), **room) as server:
        async with face.connected(secure_url(server), ssl=tls.client_context(), **room) as ws:
            message = bytes(range(256)) * (MIB_16 // 256)
            sending = asyncio.create_task(ws.send(message))
            assert await ws.receive() == message
            await sending


async def test_records_that_are_cut_anywhere(face: Face, listen: Listen, tls: Certificates) -> None:
    """Reads end anywhere within records, and room for a large message ends anywhere within reads."""
    sizes = [(number * 7919 + 1) % 300_000 for number in range(60)]
    messages = [random.Random(size).randbytes(size) for size in sizes]
    async with listen(default=echo, ssl=tls.good.server_context(), **ROOM) as server:
        async with face.connected(secure_url(server), ssl=tls.client_context(), **ROOM) as ws:

            async def pour() -> None:
                for message in messages:
                    await ws.send(message)

            sending = asyncio.create_task(pour())
            for message in messages:
                assert await ws.receive() == message
            await sending


async def test_many_small_messages_in_few_records(face: Face, tls: Certificates) -> None:
    """More messages in a record than are taken at once: what TLS holds is not told by the descriptor."""
    with RawListener(context=tls.good.server_context()) as listener:
        async with face.facing(listener, ssl=tls.client_context(), max_buffered=1000) as (ws, peer):
            await call(peer.send, b"".join(wire.frame(wire.TEXT, str(number).encode()) for number in range(5_000)))
            for number in range(5_000):
                assert await ws.receive() == str(number)
            peer.close()


def test_threads_send_and_receive_over_tls(echo_server_tls: ServerThread, tls: Certificates) -> None:
    senders, each = 4, 60
    with lapwing.connect(echo_server_tls.url, ssl=tls.client_context(), timeout=GUARD, **ROOM) as ws:

        def pour(name: int) -> None:
            for number in range(each):
                ws.send(bytes([name]) * (1 + number * 977 % 70_000))

        threads = [threading.Thread(target=pour, args=(name,)) for name in range(senders)]
        for thread in threads:
            thread.start()
        seen: dict[int, list[int]] = {name: [] for name in range(senders)}
        for _ in range(senders * each):
            message = ws.receive()
            assert isinstance(message, bytes)
            assert message == message[:1] * len(message), "two messages were mixed up"
            seen[message[0]].append(len(message))
        for thread in threads:
            thread.join(GUARD)
        assert all(sizes == [1 + number * 977 % 70_000 for number in range(each)] for sizes in seen.values())


# --- what a peer makes TLS hold ----------------------------------------------------------------------------------

#: What may be held of them before nothing is read any more, as in `io/stream.pxd`.
MAX_ANSWERS = 16 * 1024
#: So often a peer asks for new keys; each answer has more than 20 bytes.
UPDATES = 40_000
#: What may be held of the answers at most: the limit, and what comes of one read.
MOST_HELD = 320 * 1024


def shrink(sock: socket.socket) -> socket.socket:
    """Let the kernel hold little for a socket, and for those that it accepts."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    return sock


async def ask_for_keys(ws: Any, peer: RawPeer) -> None:
    """Ask for new keys and read nothing, until the other end reads nothing either."""
    assert isinstance(peer.sock, ssl.SSLSocket)
    peer.sock.settimeout(0)
    asked = held = 0
    async with asyncio.timeout(GUARD):
        while asked < UPDATES:
            sent = await call(request_key_updates, peer.sock, 200)
            asked += sent
            held = max(held, ws.stats().held_bytes)
            if not sent and held > MAX_ANSWERS:
                break
    assert asked < UPDATES, "the other end goes on reading"
    assert held <= MOST_HELD
    peer.sock.settimeout(GUARD)


@contextlib.contextmanager
def drained(peer: RawPeer) -> Iterator[None]:
    """Take from the kernel what came, in a thread: OpenSSL would have to write before it reads."""
    stop = threading.Event()

    def drain() -> None:
        while not stop.is_set():
            if select.select([peer.sock], [], [], 0.05)[0] and not socket.socket.recv(peer.sock, 65536):
                return

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(GUARD)


async def test_key_updates_of_a_server_that_does_not_read_are_not_read(face: Face, tls: Certificates) -> None:
    with RawListener(context=tls.good.server_context(), receive_buffer=8192) as listener:
        sock = shrink(socket.socket())
        sock.connect(("127.0.0.1", listener.port))
        async with face.facing(listener, ssl=tls.client_context(), sock=sock) as (ws, peer):
            shrink(peer.sock)
            receiving = asyncio.create_task(ws.receive())
            await ask_for_keys(ws, peer)
            with drained(peer):
                await call(peer.send_frame, wire.TEXT, b"hello")
                assert await receiving == "hello"


@pytest.mark.parametrize("kind", ["coroutine", pytest.param("thread", marks=IN_THREAD)])
async def test_key_updates_of_a_client_that_does_not_read_are_not_read(
    runtime: Runtime, tls: Certificates, kind: str
) -> None:
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def handler(ws: lapwing.Connection) -> None:
        arrived.put_nowait(ws)
        arrived.put_nowait(await ws.receive())

    def in_thread(ws: lapwing.BlockingConnection) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, ws)
        loop.call_soon_threadsafe(arrived.put_nowait, ws.receive())

    sock = shrink(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    port = sock.getsockname()[1]
    options = {"sockets": sock, "ssl": tls.good.server_context(), **runtime.options}
    async with lapwing.listen(default=in_thread if kind == "thread" else handler, **options):
        with await call(lambda: RawPeer.connect(port, context=tls.client_context(), receive_buffer=8192)) as peer:
            shrink(peer.sock)
            await ask_for_keys(await arrived.get(), peer)
            with drained(peer):
                await call(peer.send_frame, wire.TEXT, b"hello")
                assert await arrived.get() == "hello"


async def test_key_updates_before_the_request_end_the_connection(runtime: Runtime, tls: Certificates) -> None:
    sock = shrink(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    port = sock.getsockname()[1]
    async with lapwing.listen(default=echo, sockets=sock, ssl=tls.good.server_context(), **runtime.options):
        with await call(lambda: RawPeer.open(port, context=tls.client_context(), receive_buffer=8192)) as peer:
            shrink(peer.sock).settimeout(0)
            assert isinstance(peer.sock, ssl.SSLSocket)
            async with asyncio.timeout(GUARD):
                for _ in range(UPDATES // 200):
                    await call(request_key_updates, peer.sock, 200)
            peer.sock.settimeout(GUARD)
            await call(peer.expect_reset_or_end)


async def test_key_updates_and_much_data_both_ways(face: Face, listen: Listen, tls: Certificates) -> None:
    """The program's own output, however much of it waits, is no reason not to read."""
    async with listen(default=echo, ssl=tls.good.server_context(), **ROOM) as server:
        async with face.connected(secure_url(server), ssl=tls.client_context(), **ROOM) as ws:
            messages = [bytes([number]) * 1_000_000 for number in range(12)]

            async def pour() -> None:
                for message in messages:
                    await ws.send(message)

            sending = asyncio.create_task(pour())
            for message in messages:
                assert await ws.receive() == message
            await sending


# --- contexts of the wrong end -----------------------------------------------------------------------------------


def test_a_context_of_the_other_end_is_refused(tls: Certificates) -> None:
    with pytest.raises(ValueError, match="expected ssl to be the context of a server, got one of a client"):
        lapwing.listen(0, default=echo, ssl=tls.client_context())
    for kind in (lapwing.Client, lapwing.AsyncClient):
        with pytest.raises(ValueError, match="expected ssl to be the context of a client, got one of a server"):
            kind(ssl=tls.good.server_context())
        with pytest.raises(ValueError, match="expected proxy_ssl to be the context of a client, got one of a server"):
            kind(proxy_ssl=tls.good.server_context())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_context_of_a_server_without_a_certificate_is_refused(tls: Certificates, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ValueError, match=r"got one without: call its load_cert_chain\(\)"):
        lapwing.listen(0, default=echo, ssl=context)
    context.sni_callback = lambda *_: None  # it may choose a context that has one
    lapwing.listen(0, default=echo, ssl=context)
    context.sni_callback = None
    context.load_cert_chain(tls.good.certfile, tls.good.keyfile)
    lapwing.listen(0, default=echo, ssl=context)


def test_a_listening_socket_of_the_ssl_module_is_refused(tls: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, tls.good.server_context().wrap_socket(sock) as wrapped:

        async def start() -> None:
            await lapwing.listen(default=echo, sockets=wrapped)

        with pytest.raises(ValueError, match=r"expected a plain socket that listens, got <ssl.SSLSocket.*as ssl="):
            asyncio.run(start())
        assert wrapped.fileno() >= 0
