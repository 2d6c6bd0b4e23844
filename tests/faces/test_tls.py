"""wss for both faces: certificates, what is said when TLS fails, and how a TLS stream may end."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing.io import tls as records
from lapwing.io import trust
from tests.faces.callers import GUARD, ROOM, Face, call, hosting
from tests.peers import wire
from tests.peers.certificates import Certificate, Certificates
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
        ("expired", "has expired: the server needs a new one, or the clock of this machine is wrong"),
        ("not_yet_valid", "not yet valid: the clock of this machine is wrong, or the server has it too early"),
        ("wrong_host", r"'localhost'\.?: connect by a name that it has.*server_hostname="),
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
        with pytest.raises((OSError, lapwing.HandshakeError)):
            await face.client(ssl=tls.client_context()).connect(secure_url(server))


def test_a_certificate_that_cannot_be_read(tls: Certificates, tmp_path: Path) -> None:
    async def start(certfile: str, keyfile: str | None) -> None:
        await lapwing.listen(0, "127.0.0.1", default=echo, certfile=certfile, keyfile=keyfile)

    missing = str(tmp_path / "missing.pem")
    with pytest.raises(OSError, match=r"missing\.pem"):
        asyncio.run(start(missing, None))
    with pytest.raises(OSError, match="PEM"):
        asyncio.run(start(tls.good.certfile, tls.expired.keyfile))  # a key that belongs to another certificate


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
