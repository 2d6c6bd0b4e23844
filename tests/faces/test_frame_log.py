"""The log of frames: off unless the logger `lapwing.frames` is enabled when a connection starts."""

from __future__ import annotations

import logging
import select
from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from lapwing.faces.frames import describe_frame
from tests.faces.callers import Face, call, hosting, url
from tests.peers import wire
from tests.peers.raw import RawListener

Listen = Callable[..., Any]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The lines so far, with the name of the connection left out."""
    caplog.set_level(logging.DEBUG, "lapwing.frames")
    return lambda: [r.getMessage().partition(" ")[2] for r in caplog.records if r.name == "lapwing.frames"]


async def test_every_frame_has_a_line(face: Face, lines: Callable[[], list[str]]) -> None:
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=None) as (ws, peer):
            await ws.send("hello")
            await ws.send(b"\x00\xff" * 50)
            for _ in range(2):
                await call(peer.read_frame)
            peer.send_frame(wire.TEXT, "grüße\n".encode())
            peer.send_frame(wire.TEXT, b"in ", fin=False)
            peer.send_frame(wire.PING, b"?")
            peer.send_frame(wire.CONTINUATION, b"pieces" * 100)
            assert await ws.receive() == "grüße\n"
            assert await ws.receive() == "in " + "pieces" * 100
            peer.send_close(3000, "bye")
            assert await ws.receive() is None
    found = lines()
    port = found[0].rpartition(" to ('127.0.0.1', ")[2]
    assert found[0] == f"= / to ('127.0.0.1', {port}"
    assert found[1:3] == ["> TEXT 5 bytes 'hello'", f"> BINARY 100 bytes {bytes.fromhex('00ff') * 32!r}..."]
    received = [line for line in found[3:] if line.startswith("<")]
    assert received == [
        r"< TEXT 8 bytes 'gr\xfc\xdfe\n'",
        "< TEXT fragment 3 bytes 'in '",
        "< PING 1 bytes b'?'",
        f"< CONTINUATION 600 bytes {(b'pieces' * 11)[:64]!r}...",
        "< CLOSE 3000 'bye'",
    ]
    assert "> PONG 1 bytes b'?'" in found
    assert found[-1] == "> CLOSE 3000 'bye'"


async def test_what_is_sent_has_its_line_before_the_peer_can_answer(face: Face) -> None:
    """So that the lines of two threads, one that sends and one that receives, are in order."""
    arrived: list[bool] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if getattr(record, "opcode", None) == wire.TEXT:
                arrived.append(bool(select.select([peer.sock], [], [], 0)[0]))

    logger = logging.getLogger("lapwing.frames")
    watching = Watching()
    logger.addHandler(watching)
    logger.setLevel(logging.DEBUG)
    try:
        with RawListener() as listener:
            async with face.facing(listener, ping_interval=None) as (ws, peer):
                await ws.send("hello")
                await call(peer.expect_frame, wire.TEXT, b"hello")
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(watching)
    assert arrived == [False]


async def test_a_record_has_the_frame_for_programs(face: Face, caplog: pytest.LogCaptureFixture) -> None:
    """All of a control frame, the beginning of others."""
    caplog.set_level(logging.DEBUG, "lapwing.frames")
    with RawListener() as listener:
        async with face.facing(listener, ping_interval=None) as (ws, peer):
            peer.send_frame(wire.PING, b"p" * 125)
            peer.send_frame(wire.TEXT, b"t" * 500)
            assert await ws.receive() == "t" * 500
            peer.send_close(1000)
            assert await ws.receive() is None
    records = [record for record in caplog.records if record.name == "lapwing.frames"]
    assert not hasattr(records[0], "opcode")  # it tells of the connection
    frames = [(record.opcode, record.sent, record.payload) for record in records[1:]]  # type: ignore[attr-defined]
    assert [frame for frame in frames if not frame[1]] == [
        (wire.PING, False, b"p" * 125),
        (wire.TEXT, False, b"t" * 125),
        (wire.CLOSE, False, b"\x03\xe8"),
    ]
    assert (wire.PONG, True, b"p" * 125) in frames


async def test_a_server_logs_both_directions_unmasked(listen: Listen, lines: Callable[[], list[str]]) -> None:
    face = Face("asyncio", {})
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        await ws.send("masked")
        assert await guest.receive() == "masked"
        server.broadcast(b"to all")
        assert await ws.receive() == b"to all"
    found = lines()
    assert found.count("< TEXT 6 bytes 'masked'") == 1
    assert found.count("> TEXT 6 bytes 'masked'") == 1
    assert found.count("> BINARY 6 bytes b'to all'") == 1
    assert found.count("< BINARY 6 bytes b'to all'") == 1


async def test_connections_are_told_apart(face: Face, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "lapwing.frames")
    async with hosting(listen) as (server, _):
        for _ in range(2):
            async with face.connected(url(server)):
                pass
    names = {record.connection for record in caplog.records if record.name == "lapwing.frames"}  # type: ignore[attr-defined]
    assert len(names) == 4
    assert sorted(name.partition("-")[0] for name in names) == ["client", "client", "server", "server"]


async def test_off_by_default(face: Face, listen: Listen, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "lapwing")
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        caplog.set_level(logging.DEBUG, "lapwing.frames")  # too late for these
        await ws.send("x")
        assert await guest.receive() == "x"
    assert [record for record in caplog.records if record.name == "lapwing.frames"] == []


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        ((True, 0x88, 0, b""), "> CLOSE 0 bytes b''"),
        ((True, 0x88, 2, b"\x03\xe8"), "> CLOSE 1000 ''"),
        ((False, 0xC1, 5, b"\xf2H\xcd"), "< TEXT compressed 5 bytes b'\\xf2H\\xcd'..."),
        ((False, 0xC1, 5, b"hello", 5), "< TEXT compressed 5 bytes of 5 'hello'"),
        ((True, 0xC1, 9, b"hello", 500), "> TEXT compressed 9 bytes of 500 'hello'..."),
        ((True, 0xC2, 9, b"a" * 100, 100), f"> BINARY compressed 9 bytes of 100 {b'a' * 64!r}..."),
        ((False, 0x82, 9, None), "< BINARY 9 bytes skipped"),
        ((False, 0x83, 0, b""), "< OPCODE 3 0 bytes b''"),
        ((True, 0x81, 70, "ü".encode() * 31 + b"x" + "ü".encode()[:1]), "> TEXT 70 bytes '" + r"\xfc" * 31 + "x'..."),
        ((True, 0x81, 3, b"\x1b[2"), r"> TEXT 3 bytes '\x1b[2'"),
    ],
)
def test_lines(frame: Any, line: str) -> None:
    assert describe_frame(*frame) == line


@pytest.mark.parametrize("takeover", [False, True])
async def test_a_compressed_message_is_shown_as_it_was(
    listen: Listen, lines: Callable[[], list[str]], takeover: bool
) -> None:
    """Where it is in one frame: what its fragments were is not kept."""
    face = Face("asyncio", {"compression": lapwing.Deflate(context_takeover=takeover)})
    text = "as long as it takes to be compressed, " * 20
    async with hosting(listen) as (server, guests), face.connected(url(server)) as ws:
        guest = await guests.next()
        await ws.send(text)
        assert await guest.receive() == text
        guest.broadcast(text)
        await guest.send(iter([text, text]))
        assert await ws.receive() == text
        assert await ws.receive() == text * 2
    found = lines()
    for direction in ("<", ">"):
        whole = [line for line in found if line.startswith(f"{direction} TEXT compressed ")]
        assert len(whole) == 2
        assert all(line.endswith(f"of {len(text)} {text[:64]!r}...") for line in whole)
        parts = [line for line in found if line.startswith(f"{direction} TEXT fragment compressed ")]
        assert len(parts) == 1
        assert " of " not in parts[0]
