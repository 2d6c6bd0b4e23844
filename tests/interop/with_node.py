"""`ws` on Node.js as a peer, in a process of its own: see node/peer.js."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import shutil
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.ends import LIMIT, SUBPROTOCOLS, TIMEOUT, End, Ended, Listening, Message, Peer, url_of
from tests.peers.certificates import Certificates

_NODE = Path(__file__).parent / "node"

Event = dict[str, Any]
Events = queue.SimpleQueue[Event]


class Node(Peer):
    """Both ends. The client offers permessage-deflate, and the server would accept it."""

    def __init__(self) -> None:
        node = shutil.which("node")
        if node is None or not (_NODE / "node_modules" / "ws").is_dir():
            pytest.skip("Node.js or its package ws is not installed: run tests/install-peers node")
        self._process = subprocess.Popen(
            [node, str(_NODE / "peer.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self._numbers = itertools.count(1)
        self._events: dict[tuple[str, int], Events] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen_to_node, name="node", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._process.wait()
            self._thread.join(TIMEOUT)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def tell(self, what: str, **arguments: object) -> None:
        """Have the process do something."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
            self._process.stdin.flush()

    def events_of(self, kind: str, number: int) -> Events:
        """What happens to a server or an end, in order."""
        with self._lock:
            return self._events.setdefault((kind, number), queue.SimpleQueue())

    def _listen_to_node(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            kind = "server" if "server" in event else "end"
            self.events_of(kind, event[kind]).put(event)

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        number = next(self._numbers)
        events = self.events_of("end", number)
        self.tell(
            "connect",
            end=number,
            url=url,
            subprotocols=list(subprotocols),
            maxPayload=LIMIT,
            caFile=None if tls is None else tls.ca_file,
        )
        opened = events.get(timeout=TIMEOUT)
        assert opened["on"] == "open", opened
        return _End(self, number, opened["subprotocol"])

    @contextmanager
    def listen(self, tls: Certificates | None) -> Iterator[Listening]:
        number = next(self._numbers)
        events = self.events_of("server", number)
        self.tell(
            "listen",
            server=number,
            subprotocols=SUBPROTOCOLS,
            maxPayload=LIMIT,
            tls=None if tls is None else {"certfile": tls.good.certfile, "keyfile": tls.good.keyfile},
        )
        listening = events.get(timeout=TIMEOUT)
        assert listening["on"] == "listening", listening
        try:
            yield _Listening(self, events, url_of(listening["port"], tls))
        finally:
            self.tell("stop", server=number)


class _Listening(Listening):
    def __init__(self, node: Node, events: Events, url: str) -> None:
        self._node = node
        self._events = events
        self.url = url

    def accept(self) -> End:
        accepted = self._events.get(timeout=TIMEOUT)
        return _End(self._node, accepted["end"], accepted["subprotocol"])


class _End(End):
    def __init__(self, node: Node, number: int, subprotocol: str | None) -> None:
        self._node = node
        self._number = number
        self._events = node.events_of("end", number)
        self._subprotocol = subprotocol
        self._ended: Ended | None = None

    @property
    def subprotocol(self) -> str | None:
        return self._subprotocol

    @property
    def ended(self) -> Ended:
        assert self._ended is not None, "the connection is still open"
        return self._ended

    def _tell(self, what: str, **arguments: object) -> None:
        self._node.tell(what, end=self._number, **arguments)

    def send(self, message: Message) -> None:
        if isinstance(message, str):
            self._tell("send", text=message)
        else:
            self._tell("send", binary=_pack(message))

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        packed = None if ping is None else _pack(ping)
        self._tell("fragments", parts=[_pack(part) for part in parts], text=text, ping=packed)

    def _next(self, *kinds: str) -> Event:
        """The next event of one of these kinds; pongs that nobody waits for are passed over."""
        while (event := self._events.get(timeout=TIMEOUT))["on"] not in kinds:
            assert event["on"] == "pong", event
        return event

    def receive(self) -> Message | None:
        event = self._next("message", "closed")
        if event["on"] == "closed":
            self._ended = Ended(event["code"], event["reason"])
            return None
        message: Message = event["text"] if "text" in event else b64decode(event["binary"])
        return message

    def ping(self, payload: bytes) -> None:
        self._tell("ping", payload=_pack(payload))
        assert b64decode(self._next("pong")["payload"]) == payload

    def close(self, code: int | None, reason: str) -> None:
        self._tell("close", code=code, reason=reason)
        assert self.receive() is None

    def release(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._tell("terminate")


def _pack(data: bytes) -> str:
    return b64encode(data).decode()
