"""Peers that run as programs of their own, in whatever language: told what to do, and telling what happened.

Each line on stdin is a command, each line on stdout an event. A line consists of words with one space between them. A
string or bytes are base64, of no characters for empty ones; `-` stands for None. Commands:

    listen SERVER LIMIT CERTIFICATE KEY SUBPROTOCOLS    connect END LIMIT AUTHORITY SUBPROTOCOLS URL
    send END OPCODE PAYLOAD                             fragment END OPCODE FIN PAYLOAD
    ping END PAYLOAD                                    close END CODE REASON
    stop SERVER                                         terminate END

CERTIFICATE, KEY and AUTHORITY are names of files, or None without TLS. SUBPROTOCOLS are separated by commas. Events:

    server SERVER listening PORT                        server SERVER accepted END SUBPROTOCOL
    end END open SUBPROTOCOL                            end END message OPCODE PAYLOAD
    end END pong PAYLOAD                                end END closed CODE REASON
    end END error TEXT

The program counts the ends that it accepts downwards from -1, so that both sides may give numbers.
"""

from __future__ import annotations

import contextlib
import itertools
import queue
import subprocess
import threading
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.interop.ends import LIMIT, SUBPROTOCOLS, TIMEOUT, End, Ended, Listening, Message, Peer, url_of
from tests.peers.certificates import Certificates
from tests.peers.wire import BINARY, CONTINUATION, TEXT

#: The words of an event after the end or server that it is about.
Event = list[str]
Events = queue.SimpleQueue[Event]


class ProgramPeer(Peer):
    """A program that can do both ends.

    Args:
        command: what to run.
        repeats_close_code: as in `End`.
    """

    def __init__(self, command: Sequence[str], *, repeats_close_code: bool = True) -> None:
        self.repeats_close_code = repeats_close_code
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="ascii"
        )
        self._numbers = itertools.count(1)
        self._events: dict[tuple[str, int], Events] = {}
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen_to_it, name=command[0], daemon=True)
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

    def tell(self, what: str, *arguments: str | bytes | int | None) -> None:
        """Have the process do something."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(" ".join([what, *map(_word, arguments)]) + "\n")
            self._process.stdin.flush()

    def events_of(self, kind: str, number: int) -> Events:
        """What happens to a server or an end, in order."""
        with self._lock:
            return self._events.setdefault((kind, number), queue.SimpleQueue())

    def _listen_to_it(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            kind, number, *event = line.removesuffix("\n").split(" ")
            self.events_of(kind, int(number)).put(event)

    def connect(self, url: str, subprotocols: Sequence[str], tls: Certificates | None) -> End:
        number = next(self._numbers)
        events = self.events_of("end", number)
        authority = None if tls is None else tls.ca_file
        self.tell("connect", number, LIMIT, authority, ",".join(subprotocols), url)
        opened = events.get(timeout=TIMEOUT)
        assert opened[0] == "open", _shown(opened)
        return _ProgramEnd(self, number, opened[1])

    @contextmanager
    def listen(self, tls: Certificates | None) -> Iterator[Listening]:
        number = next(self._numbers)
        events = self.events_of("server", number)
        files = (None, None) if tls is None else (tls.good.certfile, tls.good.keyfile)
        self.tell("listen", number, LIMIT, *files, ",".join(SUBPROTOCOLS))
        listening = events.get(timeout=TIMEOUT)
        assert listening[0] == "listening", _shown(listening)
        try:
            yield _ProgramListening(self, events, url_of(int(listening[1]), tls))
        finally:
            self.tell("stop", number)


class _ProgramListening(Listening):
    def __init__(self, peer: ProgramPeer, events: Events, url: str) -> None:
        self._peer = peer
        self._events = events
        self.url = url

    def accept(self) -> End:
        accepted = self._events.get(timeout=TIMEOUT)
        return _ProgramEnd(self._peer, int(accepted[1]), accepted[2])


class _ProgramEnd(End):
    def __init__(self, peer: ProgramPeer, number: int, subprotocol: str) -> None:
        self.repeats_close_code = peer.repeats_close_code  # type: ignore[misc]
        self._peer = peer
        self._number = number
        self._events = peer.events_of("end", number)
        self._subprotocol = None if subprotocol == "-" else b64decode(subprotocol).decode()
        self._ended: Ended | None = None

    @property
    def subprotocol(self) -> str | None:
        return self._subprotocol

    @property
    def ended(self) -> Ended:
        assert self._ended is not None, "the connection is still open"
        return self._ended

    def send(self, message: Message) -> None:
        self._peer.tell("send", self._number, TEXT if isinstance(message, str) else BINARY, message)

    def send_fragments(self, parts: Sequence[bytes], *, text: bool, ping: bytes | None) -> None:
        opcode = TEXT if text else BINARY
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            self._peer.tell("fragment", self._number, CONTINUATION if index else opcode, last, part)
            if ping is not None and not last:
                self._peer.tell("ping", self._number, ping)

    def _next(self, *kinds: str) -> Event:
        """The next event of one of these kinds; pongs that no test waits for are passed over."""
        while (event := self._events.get(timeout=TIMEOUT))[0] not in kinds:
            assert event[0] == "pong", _shown(event)
        return event

    def receive(self) -> Message | None:
        kind, value, data = self._next("message", "closed")
        if kind == "closed":
            self._ended = Ended(int(value), b64decode(data).decode())
            return None
        payload = b64decode(data)
        return payload.decode() if int(value) == TEXT else payload

    def ping(self, payload: bytes) -> None:
        self._peer.tell("ping", self._number, payload)
        assert b64decode(self._next("pong")[1]) == payload

    def close(self, code: int | None, reason: str) -> None:
        self._peer.tell("close", self._number, code, reason)
        assert self.receive() is None

    def release(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._peer.tell("terminate", self._number)


def _word(value: str | bytes | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return str(int(value))
    return b64encode(value.encode() if isinstance(value, str) else value).decode()


def _shown(event: Event) -> str:
    kind, *words = event
    return f"{kind}: {b64decode(words[0]).decode() if kind == 'error' else ' '.join(words)}"
