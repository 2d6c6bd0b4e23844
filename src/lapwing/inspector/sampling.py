"""The numbers of a server and its connections: taken in one pass over all of them, and only the changes."""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from ..protocol.secrecy import shown_target

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..serving.accepting import ServerConnection
    from ..serving.server import Server
    from ..serving.threaded import ThreadConnection
    from ..stats import HubStats

    ServedConnection = ServerConnection | ThreadConnection

__all__ = ["Sampler"]

#: Characters of a path that the table shows.
_SHOWN_PATH: Final = 120
#: Seconds over which the CPU time is measured, at least.
_LEAST_MEASURED: Final = 0.4
#: Connections that are introduced in one pass: the rest comes with the next ones.
_INTRODUCED: Final = 2000
#: Seconds within which every connection is pinged once, and how many at most in one pass.
_PING_ROUND: Final = 10.0
_PINGED: Final = 200
#: Seconds between two pings of a connection that is watched by itself.
_WATCHED_PING: Final = 1.0


class _Shown:
    """A connection that is shown."""

    __slots__ = ("connection", "counters", "introduction", "number", "seen")

    def __init__(self, number: int, connection: ServedConnection) -> None:
        stats = connection.stats()
        self.number = number
        self.connection = connection
        self.counters: tuple[int, ...] = ()
        self.seen = 0
        opened_at = round(time.time() - stats.age, 3)
        # A record may hold secrets, and its `str` may be costly or fail.
        user = str(connection.user)[:80] if isinstance(connection.user, (str, int)) else ""
        address = _shown_address(connection.peer_address)
        request = connection.request
        path = "" if request is None else shown_target(request.target)[:_SHOWN_PATH]
        #: Number, peer, subprotocol, when it was opened in seconds since 1970, whether it has a thread, user, path.
        self.introduction = [
            number,
            address,
            connection.subprotocol or "",
            opened_at,
            int(connection._runs_in == "thread"),
            user,
            path,
        ]


class Sampler:
    """The connections of one server. Each keeps its number until it is closed, whether the page is open or not.

    Args:
        server: the server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._numbers = itertools.count(1)
        self._shown: dict[ServedConnection, _Shown] = {}
        self._by_number: dict[int, _Shown] = {}
        #: The numbers of connections that were shown once; it holds none of them.
        self._given: WeakKeyDictionary[ServedConnection, int] = WeakKeyDictionary()
        self._pass = 0
        self._ping_from = 0
        self._measured_from: tuple[float, float] | None = None
        self._used = 0.0
        self._watched_at = 0.0

    def clear(self) -> None:
        """Let go of every connection: no page is open."""
        self._shown.clear()
        self._by_number.clear()
        self._measured_from = None

    def connection(self, number: object) -> ServedConnection:
        """Return a connection by its number.

        Raises:
            LookupError: there is none.
        """
        shown = self._by_number.get(number) if isinstance(number, int) else None
        if shown is None or not shown.connection._is_open:
            raise LookupError("this connection is closed")
        return shown.connection

    def take(self) -> dict[str, Any]:
        """Look at all connections; return the changes since the last time."""
        self._pass += 1
        opened: list[list[Any]] = []
        changed: list[tuple[int, ...]] = []
        for connection in self._server._open_connections():
            shown = self._shown.get(connection)
            if shown is None:
                if len(opened) == _INTRODUCED:
                    continue
                shown = self._introduce(connection)
                opened.append(shown.introduction)
            shown.seen = self._pass
            counters = connection._sample()
            if counters != shown.counters:
                shown.counters = counters
                changed.append((shown.number, *counters))
        return {"opened": opened, "changed": changed, "gone": self._sweep()}

    def everything(self) -> dict[str, Any]:
        """Return what `take` has told so far: for who was not there."""
        shown = self._shown.values()
        return {
            "opened": [each.introduction for each in shown],
            "changed": [(each.number, *each.counters) for each in shown],
            "gone": [],
        }

    def _introduce(self, connection: ServedConnection) -> _Shown:
        number = self._given.get(connection)
        if number is None:
            number = self._given[connection] = next(self._numbers)
        shown = _Shown(number, connection)
        self._shown[connection] = self._by_number[shown.number] = shown
        return shown

    def _sweep(self) -> list[int]:
        """Forget the connections that the last pass did not meet."""
        gone = [shown for shown in self._shown.values() if shown.seen != self._pass]
        for shown in gone:
            del self._shown[shown.connection], self._by_number[shown.number]
        return [shown.number for shown in gone]

    def server(self) -> dict[str, Any]:
        """Return the server's totals, and the resources of the process."""
        stats = self._server.stats()
        cpu, wall = time.process_time(), time.monotonic()
        if self._measured_from is not None and wall - self._measured_from[1] < _LEAST_MEASURED:
            used = self._used
        else:
            if self._measured_from is not None:
                used = (cpu - self._measured_from[0]) / (wall - self._measured_from[1])
            else:
                used = 0.0
            self._measured_from, self._used = (cpu, wall), used
        return {
            "connections": stats.connections,
            "opened": stats.opened,
            "answered": stats.answered,
            "refused": stats.refused,
            "failed": stats.failed,
            "surplus": stats.surplus,
            "messages": [stats.messages_received, stats.messages_sent],
            "wire": [stats.wire_received, stats.wire_sent],
            "payload": [stats.payload_received, stats.payload_sent],
            "closed": {str(code): count for code, count in sorted(stats.closed.items())},
            "dropped": stats.dropped_broadcasts,
            "queued": stats.queued_bytes,
            "unsent": stats.unsent_bytes,
            "held": stats.held_bytes,
            "draining": self._server.draining,
            "cpu": round(used, 4),
            "memory": _memory(),
            "hub": self._hub(stats.hub),
        }

    def _hub(self, stats: HubStats | None) -> dict[str, Any] | None:
        """The numbers of the hub: its patterns, and the topics with the most subscriptions."""
        hub = self._server._hub
        if stats is None or hub is None:
            return None
        patterns = [
            [pattern, each.topics, each.subscriptions, each.behind, each.received, each.repairs, each.losses]
            for pattern, each in stats.patterns.items()
        ]
        topics = [[name[:_SHOWN_PATH], *numbers] for name, *numbers in hub._shown_topics()]
        return {"up": stats.is_up, "patterns": patterns, "topics": topics}

    def probe(self, seconds: float, watched: Collection[ServedConnection]) -> None:
        """Ping some connections, so that each has a fresh round trip every few seconds, and those watched at once.

        Args:
            seconds: since the last call.
            watched: the connections with a viewer.
        """
        self._watched_at += seconds
        if self._watched_at >= _WATCHED_PING:
            self._watched_at = 0.0
            for connection in watched:
                connection._probe()
        everyone = [connection for connection in self._shown if connection not in watched]
        if not everyone:
            return
        count = min(max(int(len(everyone) * seconds / _PING_ROUND), 1), _PINGED, len(everyone))
        begin = self._ping_from % len(everyone)
        self._ping_from = begin + count
        for connection in (everyone + everyone[:count])[begin : begin + count]:
            connection._probe()

    def details(self, number: int) -> dict[str, Any]:
        """Return the constant data of one connection.

        Raises:
            LookupError: there is none.
        """
        connection = self.connection(number)
        request = connection.request
        headers = {} if request is None else request.headers.by_name()
        response = connection.response
        extensions = None if response is None else response.headers.get("Sec-WebSocket-Extensions")
        tls = connection.ssl_object
        return {
            "number": number,
            "path": "" if request is None else shown_target(request.target)[:2048],
            "peer": _shown_address(connection.peer_address),
            "local": _shown_address(connection.local_address),
            "subprotocol": connection.subprotocol or "",
            "origin": ", ".join(headers.get("origin", ()))[:512],
            "agent": ", ".join(headers.get("user-agent", ()))[:512],
            "compression": extensions or "",
            "tls": "" if tls is None else f"{tls.version()} {(tls.cipher() or ('',))[0]}",
            "handler": connection._runs_in,
        }


def _shown_address(address: Any) -> str:
    if not isinstance(address, tuple):
        return "unix socket" if not address else str(address)
    host = str(address[0])
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"


_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def _memory() -> int:
    """Bytes of memory that the process has resident; 0 where that is not known."""
    if sys.platform != "linux":
        return 0
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - called twice a second
        return int(statm.read().split()[1]) * _PAGE
