"""The engines on brokers under fuzzing: whatever a server says, an engine reads it, or gives the link up.

An input is a script of the server: pieces with `SEPARATOR` between them; see `scripted`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any
from unittest import mock

from lapwing.hub import PublishError
from lapwing.hub.engines.contract import Declared, History
from lapwing.hub.engines.link import Refused
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.redis import RedisEngine
from lapwing.testing import VirtualLoop
from lapwing.testing.hub import Ear
from tests.fuzz.scripted import END, Nats, Redis

__all__ = ["ENGINES", "mutate", "nats_engine", "redis_engine", "seeds"]

SEPARATOR = b"\n\xff\n"
ENGINES: dict[str, tuple[Any, Any, str]] = {
    "redis_engine": (RedisEngine, Redis, "redis://:secret@localhost"),
    "nats_engine": (NatsEngine, Nats, "nats://localhost"),
}
#: What servers say instead of what they should.
_WORDS: dict[str, tuple[bytes, ...]] = {
    "redis_engine": (
        *(b"+OK\r\n", b":1\r\n", b":-1\r\n", b"$-1\r\n", b"*-1\r\n", b"*0\r\n", b"$0\r\n\r\n", b"$1\r\n\xff\r\n", END),
        *(
            b"-READONLY You can't write\r\n",
            b"-NOSCRIPT No matching script\r\n",
            b"-LOADING\r\n",
            b"-OOM\r\n",
            b"-\r\n",
        ),
        *(
            b"*1\r\n",
            b"*2\r\n$1\r\nx\r\n$1\r\ny\r\n",
            b"*3\r\n:1\r\n:2\r\n:3\r\n",
            b"*1\r\n-ERR x\r\n",
            b"*1\r\n*0\r\n",
        ),
        *(b"*3\r\n$7\r\nmessage\r\n$3\r\nabc\r\n$3\r\n1 0\r\n", b"*3\r\n$7\r\nmessage\r\n*0\r\n$0\r\n\r\n"),
        *(b"*3\r\n$9\r\nsubscribe\r\n*0\r\n:1\r\n", b"*3\r\n$7\r\nmessage\r\n$-1\r\n:5\r\n", b"$900000000\r\n"),
        *(b"*900000\r\n", b"$20\r\n99999999999999999999\r\n", b"$400\r\n" + b"9" * 400 + b"\r\n", b"*1\r\n" * 20),
    ),
    "nats_engine": (
        *(b"PING\r\n", b"PONG\r\n", b"+OK\r\n", b"-ERR 'Stale Connection'\r\n", b"INFO {}\r\n", END),
        *(b'INFO {"ldm":true}\r\n', b'INFO {"max_payload":"x","version":7,"tls_required":1}\r\n', b"INFO []\r\n"),
        *(b"-ERR 'Permissions Violation for Publish to \"lapwing.in.kept%3A1\"'\r\n", b"MSG a 1 900000000\r\n"),
        *(b"MSG lapwing.t.kept%3A1.live 1 1\r\nx\r\n", b"MSG lapwing.t.kept%3A1.joined 1 5\r\na\nb\nc\r\n"),
        *(b"MSG lapwing.nodes 1 3\r\n?ab\r\n", b"MSG lapwing.who 1 _I 7\r\nkept:1\n\r\n", b"HMSG a 1 4 4\r\nNATS\r\n"),
        *(b"null", b"{}", b"[]", b"1", b'"x"', b"-1", b"1e400", b"NaN", b'{"error":{}}', b'{"error":[1]}', b"[" * 99),
        *(
            b'{"error":{"err_code":10059}}',
            b'{"error":{"err_code":10071,"description":"last sequence: 5"}}',
            b"9" * 400,
        ),
        *(b"2026-11-30T12:00:00Z", b"0001-01-01T00:00:00+23:59", b"Nats-Sequence: 9", b" 503", b" 408 x", b" 404"),
    ),
}
#: Virtual seconds after which an engine must work again whose server has come to its senses.
_PATIENCE = 120.0
KEPT = History(100, 300.0)
#: What an engine may raise.
_NAMED = (PublishError, OSError)


def seeds(target: str) -> list[bytes]:
    """All that a good server says, and nothing."""
    return [b"", SEPARATOR.join(_Conversation(target, b"").run().said)]


def mutate(target: str, data: bytes, other: bytes, random: Random) -> bytes:
    """Have the server say something else at one place; `other` is a script to borrow from."""
    pieces, others = data.split(SEPARATOR), other.split(SEPARATOR)
    place = random.randrange(len(pieces) + 1)
    piece = pieces[place] if place < len(pieces) else b""
    word = random.choice(_WORDS[target])
    begin, end = sorted(random.randrange(len(piece) + 1) for _ in range(2))
    match random.randrange(8):
        case 0:
            piece = b""
        case 1 | 2:
            piece = word
        case 3:
            piece = random.choice(others)
        case 4:
            piece = piece[:end]
        case 5:
            piece = piece[:begin] + word + piece[end:]
        case 6:
            piece += word
        case _:
            piece = _other_value(piece, random)
    pieces[place : place + 1] = [piece]
    if random.random() < 0.1:  # from here on everything comes too late
        pieces.insert(place, word)
    return SEPARATOR.join(pieces)


def _other_value(piece: bytes, random: Random) -> bytes:
    """The same with another number, word or string in it."""
    found = list(re.finditer(rb"[0-9]+|[A-Za-z_]+|\"[^\"]*\"", piece))
    if not found:
        return piece
    chosen = random.choice(found)
    value = random.choice((b"", b"0", b"1", b"-1", b"99999999999999999999", b"null", b'"x"', b"true", b"x", b"\xff"))
    return piece[: chosen.start()] + value + piece[chosen.end() :]


class _Conversation(logging.Handler):
    """An engine and its server, in virtual time.

    Attributes:
        said: all that the server has said.
    """

    def __init__(self, target: str, data: bytes) -> None:
        super().__init__()
        engine, server, url = ENGINES[target]
        self._server = server(data.split(SEPARATOR) if data else ())
        self._make = partial(engine, url, timeout=5.0)
        self._found: list[object] = []
        self._wrong: list[str] = []
        self.said: list[bytes] = self._server.said

    def emit(self, record: logging.LogRecord) -> None:
        """Note each traceback that is logged: it is that of an unnamed error."""
        if record.exc_info:
            self._wrong.append(self.format(record))

    def run(self) -> _Conversation:
        """Have it."""
        loop = VirtualLoop()
        loop.create_connection = self._server.connect  # type: ignore[method-assign]
        loop.set_exception_handler(lambda _, context: self._wrong.append(repr(context)))
        logger = logging.getLogger("lapwing.hub")
        before = logger.propagate, logger.level
        logger.addHandler(self)
        logger.propagate = False
        try:
            with (
                mock.patch.object(uuid, "uuid4", return_value=uuid.UUID(int=7)),
                mock.patch.object(time, "monotonic", loop.time),
                mock.patch.object(time, "time_ns", return_value=7),
            ):
                loop.run_until_complete(self._all())
        finally:
            logger.removeHandler(self)
            logger.propagate, logger.level = before
            loop.close()
        return self

    @property
    def behaviour(self) -> tuple[object, ...]:
        """What came of it, coarsely."""
        return tuple(self._found)

    async def _all(self) -> None:
        engine, ear = self._make(), Ear()
        if await self._try("start", engine.start(ear)):
            for name, work in self._calls(engine):
                await self._try(name, work)
            await asyncio.sleep(15)  # probes, leases and looks after the stream
        self._found.append(frozenset(event[0] for event in ear.events))
        await self._recover(engine, ear)
        await engine.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}, "tasks are left"
        assert not self._wrong, self._wrong[0]
        for topic, messages in ear.messages.items():
            assert isinstance(topic, str)
            assert all(0 <= each.previous <= each.position < 2**53 for each in messages)

    @staticmethod
    def _calls(engine: Any) -> list[tuple[str, Awaitable[Any]]]:
        moment = datetime(2026, 11, 30, tzinfo=UTC)
        return [
            ("declare", engine.declare({"kept:*": Declared(100, 300.0, raw=False, max_message=1000)})),
            ("listen", engine.listen(["kept:1", "live:1"])),
            ("last", engine.last(["kept:1"])),
            ("live", engine.publish("live:1", b"1", history=None)),
            ("publish", engine.publish("kept:1", b"2", history=KEPT)),
            ("two", _together(*(engine.publish("kept:1", each, history=KEPT) for each in (b"3", b"4")))),
            ("key", engine.publish("kept:1", b"5", history=KEPT, key="k")),
            ("newest", engine.read("kept:1", None, 10)),
            ("after", engine.read("kept:1", 3_678_000_000_000_000, 10, size=1000)),
            ("moment", engine.read("kept:1", moment, 10)),
            ("enter", engine.enter("kept:1", "c", b"{}")),
            ("present", engine.present("kept:1", 10)),
            ("leave", engine.leave("kept:1", "c")),
            ("declared", engine.declared()),
        ]

    async def _try(self, name: str, work: Awaitable[Any]) -> bool:
        """Await a call of the engine, which may raise what its interface names; returns whether it did not."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await work
        except TimeoutError:
            raise AssertionError(f"{name} does not end") from None
        except _NAMED as error:
            self._found.append((name, type(error).__name__, re.sub(r"[0-9]+|'.*|\".*|b'.*", "", str(error))[:60]))
        except (Refused, ValueError) as error:
            assert name in ("start", "declare"), repr(error)
            self._found.append((name, type(error).__name__))
        else:
            return True
        return False

    async def _recover(self, engine: Any, ear: Ear) -> None:
        """The server comes to its senses: the engine must work again."""
        self._server.script.clear()
        try:
            async with asyncio.timeout(_PATIENCE):
                if engine._sink is None:
                    await engine.start(ear)
                while True:
                    try:
                        assert await engine.publish("kept:1", b"9", history=KEPT)
                        await engine.listen(["kept:1"])
                        await engine.last(["kept:1"])
                    except _NAMED:
                        await asyncio.sleep(1)
                    else:
                        return
        except TimeoutError:
            raise AssertionError(f"it does not work again: {engine.health}") from None


async def _together(*work: Awaitable[Any]) -> None:
    for each in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(each, BaseException):
            raise each


def redis_engine(data: bytes) -> tuple[object, ...]:
    """Have an engine talk to a server of Redis that says all this."""
    return _Conversation("redis_engine", data).run().behaviour


def nats_engine(data: bytes) -> tuple[object, ...]:
    """Have an engine talk to a server of NATS that says all this."""
    return _Conversation("nats_engine", data).run().behaviour
