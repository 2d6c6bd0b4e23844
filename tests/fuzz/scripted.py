"""Servers of Redis and NATS that answer as they are told to: for what no real server would say to an engine.

Each lives in the event loop of the engine, without sockets. What it says is a script of pieces, one for each time it
has something to say: an empty piece stands for what a good server would say, and so does the end of the script.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from lapwing.hub.engines import redis_scripts as scripts
from lapwing.hub.engines import resp

__all__ = ["END", "Nats", "Redis"]

#: A piece that ends the connection.
END = b"\xffend"
#: The position of the first message of a topic, and the server's time: at the end of 2026.
_FIRST = 3_678_000_000_000_000
_NOW = 1_796_000_000
_WRITTEN = "2026-11-30T12:00:00.5Z"


class Pipe(asyncio.Transport):
    """A connection to such a server."""

    def __init__(self, server: Server, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._server = server
        self._protocol = protocol
        self.reader: Any = None
        self.subjects: dict[bytes, bytes] = {}
        self.is_open = True

    def write(self, data: Any) -> None:
        if self.is_open:
            self._server.take(self, bytes(data))

    def is_closing(self) -> bool:
        return not self.is_open

    def say(self, data: bytes) -> None:
        """Have the client read something, later on."""
        asyncio.get_running_loop().call_soon(self._hand_over, data)

    def _hand_over(self, data: bytes) -> None:
        if self.is_open and data == END:
            self.abort()
        elif self.is_open and data:
            self._protocol.data_received(data)

    def abort(self) -> None:
        if self.is_open:
            self.is_open = False
            self._server.pipes.remove(self)
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    close = abort


class Server(ABC):
    """What both have in common.

    Args:
        script: the pieces.

    Attributes:
        script: what is left of them.
        said: all that was said.
        pipes: the open connections.
    """

    def __init__(self, script: Iterable[bytes]) -> None:
        self.script = deque(script)
        self.said: list[bytes] = []
        self.pipes: list[Pipe] = []
        self._position = _FIRST

    async def connect(
        self, make: Callable[[], asyncio.Protocol], *_: Any, **__: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """Take the place of `create_connection`."""
        protocol = make()
        pipe = Pipe(self, protocol)
        self.pipes.append(pipe)
        protocol.connection_made(pipe)
        self.greet(pipe)
        return pipe, protocol

    def say(self, pipe: Pipe, good: bytes) -> None:
        """Say the next piece of the script, or what is good."""
        piece = (self.script.popleft() if self.script else b"") or good
        self.said.append(piece)
        pipe.say(piece)

    @abstractmethod
    def greet(self, pipe: Pipe) -> None:
        """Begin a connection."""

    @abstractmethod
    def take(self, pipe: Pipe, data: bytes) -> None:
        """Take what a client says."""


def _reply(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_reply, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    if isinstance(value, str):
        return b"+%b\r\n" % value.encode()
    return b"$-1\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


class Redis(Server):
    """A server of Redis."""

    def __init__(self, script: Iterable[bytes]) -> None:
        super().__init__(script)
        self._scripts = {hashlib.sha1(source.encode()).hexdigest().encode(): source for source in scripts.ALL}

    def greet(self, pipe: Pipe) -> None:
        pipe.reader = resp.Reader()

    def take(self, pipe: Pipe, data: bytes) -> None:
        pipe.reader.feed(data)
        while (command := pipe.reader.gets()) is not False:
            name, arguments = command[0], command[1:]
            if name in (b"SUBSCRIBE", b"UNSUBSCRIBE"):
                for channel in arguments:
                    pipe.subjects[channel] = b""
                    self.say(pipe, _reply([name.lower(), channel, 1]))
            else:
                self.say(pipe, _reply(self._answer(name, arguments)))

    def _answer(self, name: bytes, arguments: list[bytes]) -> Any:
        answers: dict[bytes, Any] = {
            b"INFO": b"# Cluster\r\ncluster_enabled:0\r\n",
            b"ROLE": [b"master", 0, []],
            b"TIME": [b"%d" % _NOW, b"500000"],
            b"HGETALL": [],
            b"ZRANGE": [],
            b"ZRANGEBYSCORE": [],
            b"AUTH": "OK",
            b"SELECT": "OK",
        }
        if name == b"PUBLISH":
            self._publish(arguments[0], arguments[1])
            return 1
        if name == b"SCRIPT":
            return hashlib.sha1(arguments[1]).hexdigest().encode()
        if name in (b"EVALSHA", b"EVAL"):
            count = int(arguments[1])
            source = self._scripts.get(arguments[0], arguments[0].decode())
            return self._run(source, arguments[2 : 2 + count], arguments[2 + count :])
        return answers.get(name, 1)

    def _publish(self, channel: bytes, message: bytes) -> None:
        for pipe in list(self.pipes):
            if channel in pipe.subjects:
                self.say(pipe, _reply([b"message", channel, message]))

    def _next(self, channel: bytes, payload: bytes) -> bytes:
        self._position += 1
        self._publish(channel, b"%d %d\n%b" % (self._position, self._position - 1, payload))
        return b"%d" % self._position

    def _run(self, source: str, keys: list[bytes], arguments: list[bytes]) -> Any:
        if source == scripts.PUBLISH:
            return [self._next(arguments[4], arguments[0]), b""]
        if source == scripts.PUBLISH_ALL:
            return [b"", b"", *(self._next(arguments[3], payload) for payload in arguments[7::2])]
        if source == scripts.OPEN:
            return [b"%d" % self._position] * (len(keys) // 2)
        if source == scripts.READ:
            entry = [b"%d-0" % self._position, [b"p", b"%d" % (self._position - 1), b"d", b'"x"']]
            return [[entry], b"%d" % self._position, [entry]][: len(arguments) + 1]
        if source == scripts.ADVANCE:
            return arguments[1]
        if source == scripts.DECLARE:
            return [b""]
        if source == scripts.RENEW:
            return [1, [], [arguments[0]], 1]
        return None if source == scripts.SWEEP else 1


class Nats(Server):
    """A server of NATS with JetStream."""

    #: The configurations of streams, by name.
    _streams: dict[str, dict[str, Any]]

    def __init__(self, script: Iterable[bytes]) -> None:
        super().__init__(script)
        self._streams = {}

    def greet(self, pipe: Pipe) -> None:
        pipe.reader = bytearray()
        info = {"version": "2.15.1", "max_payload": 1_048_576, "headers": True, "jetstream": True}
        self.say(pipe, b"INFO %b\r\n" % json.dumps(info).encode())

    def take(self, pipe: Pipe, data: bytes) -> None:
        pipe.reader += data
        while (end := pipe.reader.find(b"\r\n")) >= 0:
            words = bytes(pipe.reader[:end]).split(b" ")
            place = end + 2
            if words[0] in (b"PUB", b"HPUB"):
                size = int(words[-1])
                head = int(words[-2]) if words[0] == b"HPUB" else 0
                body = bytes(pipe.reader[place : place + size])
                place += size + 2
                has_reply = len(words) == (5 if head else 4)
                self._published(words[1], words[2] if has_reply else b"", body[:head], body[head:])
            elif words[0] == b"SUB":
                pipe.subjects[words[1]] = words[2]
            elif words[0] == b"PING":
                self.say(pipe, b"PONG\r\n")
            del pipe.reader[:place]

    def _deliver(
        self, subject: bytes, payload: bytes, *headers: bytes, reply: bytes = b"", status: bytes = b""
    ) -> None:
        head = b"NATS/1.0%b\r\n%b\r\n" % (status, b"".join(b"%b\r\n" % each for each in headers))
        wide = subject.rpartition(b".")[0] + b".*"
        for pipe in list(self.pipes):
            number = pipe.subjects.get(subject) or pipe.subjects.get(wide)
            if number is None:
                continue
            to = b" ".join(filter(None, (subject, number, reply)))
            if headers or status:
                sizes = len(head), len(head) + len(payload)
                self.say(pipe, b"HMSG %b %d %d\r\n%b%b\r\n" % (to, *sizes, head, payload))
            else:
                self.say(pipe, b"MSG %b %d\r\n%b\r\n" % (to, len(payload), payload))

    def _published(self, subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
        words = subject.decode().split(".")
        if subject.startswith(b"$JS.API.DIRECT.GET."):
            self._give(reply, json.loads(payload))
        elif subject.startswith(b"$JS.API.STREAM."):
            self._deliver(reply, json.dumps(self._api(words[3], words[-1], payload)).encode())
        elif words[1:2] in (["in"], ["d"]):
            self._position += 1
            name = "lapwing" if words[1] == "in" else "lapwing-topics"
            if words[1] == "in":
                last = b"Nats-Last-Sequence: %d" % (self._position - 1)
                headers = [*head.split(b"\r\n")[1:-2], *self._headers(self._position, batch=False), last]
                self._deliver(b"lapwing.t.%b.live" % words[2].encode(), payload, *headers)
            self._deliver(reply, json.dumps({"stream": name, "seq": self._position}).encode())
        else:
            self._deliver(subject, payload, reply=reply)

    def _give(self, reply: bytes, body: dict[str, Any]) -> None:
        """Answer a direct get: with one message, and with the end where several are asked for."""
        if "lapwing.d." in str(body):
            self._deliver(reply, b"", status=b" 404 Message Not Found")
            return
        self._deliver(reply, b'"x"', *self._headers(body.get("seq") or self._position, batch="batch" in body))
        if "batch" in body:
            last = b"Nats-Last-Sequence: %d" % (body.get("seq") or self._position)
            self._deliver(reply, b"", b"Nats-Num-Pending: 0", last, status=b" 204 EOB")

    def _headers(self, number: int, *, batch: bool) -> list[bytes]:
        found = [b"Nats-Stream: lapwing", b"Nats-Subject: lapwing.in.kept%3A1", b"Nats-Sequence: %d" % number]
        found += [b"Nats-Time-Stamp: %b" % _WRITTEN.encode(), b"Lapwing-Keep: 300"]
        return [*found, b"Nats-Num-Pending: 1", b"Nats-Last-Sequence: 0"] if batch else found

    def _api(self, action: str, name: str, payload: bytes) -> dict[str, Any]:
        if action in ("CREATE", "UPDATE"):
            self._streams[name] = json.loads(payload)
        if name not in self._streams:
            return {"error": {"code": 404, "err_code": 10059, "description": "stream not found"}}
        if action == "MSG":
            message = {"seq": self._position, "time": _WRITTEN, "data": base64.b64encode(b'"x"').decode()}
            return {"message": message, "ts": _WRITTEN}
        return {"config": self._streams[name], "state": {"last_seq": self._position}, "ts": _WRITTEN}
