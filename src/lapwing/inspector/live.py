"""The live page at work: it owns the connections that ask for it, and tells who watches what happens.

A server passes it every request under its path, and then knows nothing of that connection: it is in no statistic, takes
no place under a limit and gets no broadcast. While nobody watches nothing is done at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from ..protocol.http import HTTPError, Response
from ..protocol.server_handshake import ServerHandshake, ServerPolicy
from .assets import asset
from .guard import check
from .sampling import Sampler
from .tail import Tail
from .watcher import Watcher

if TYPE_CHECKING:
    from ..server import Server
    from ..serving.accepting import ServerConnection
    from .settings import Inspector

__all__ = ["LivePage"]

logger = logging.getLogger("lapwing.server")

#: The subprotocol of the page's WebSocket; its number changes with what is said there.
SUBPROTOCOL: Final = "lapwing.inspector.1"
#: Connections that may be there for the page at a time, files being loaded included, and pages that watch.
_CONNECTIONS: Final = 64
_WATCHERS: Final = 16
#: Seconds between two looks at the connections, at least and at most, and the part of the time that they may take.
_INTERVAL: Final = 0.5
_LONGEST_INTERVAL: Final = 10.0
_SHARE: Final = 0.01
#: Seconds between two looks at frames.
_TAIL_INTERVAL: Final = 0.125


class LivePage:
    """The live page of one server.

    Args:
        server: the server.
        settings: the page's.
        accepted: what the server accepts, as arguments of `ServerPolicy`.

    Attributes:
        sampler: what numbers the connections.
        policy: which requests are accepted.
    """

    def __init__(self, server: Server, settings: Inspector, accepted: dict[str, Any]) -> None:
        self.sampler = Sampler(server)
        self._server = server
        self._settings = settings
        self._loop = server._loop
        self.policy = ServerPolicy(subprotocols=[SUBPROTOCOL], default=False, plain_http=True, **accepted)
        self._connections: set[ServerConnection] = set()
        self._watchers: dict[ServerConnection, tuple[Watcher, asyncio.Task[None]]] = {}
        self._tails: dict[int, Tail] = {}
        self._next_look: asyncio.Handle | None = None
        self._next_tail: asyncio.Handle | None = None
        self._looked_at = 0.0
        self._interval = _INTERVAL
        self._last_cost = 0.0
        self._is_closing = False

    # --- requests --------------------------------------------------------------------------------------------------

    def is_meant(self, handshake: ServerHandshake) -> bool:
        """Tell whether a request is for the page."""
        request = handshake.request
        if request is None:
            return False
        path = self._settings.path
        return request.path.startswith(path) and (len(request.path) == len(path) or request.path[len(path)] == "/")

    def take(self, connection: ServerConnection, handshake: ServerHandshake) -> bool:
        """Take over a connection that asks for the page, and decide on its request; see `Admission.decide`."""
        own = ServerHandshake(self.policy)
        own.receive_data(handshake.request_head)
        if handshake.rest:
            own.rest = handshake.rest if own.accepted else b""
        connection._pass_to(self, own)
        self._connections.add(connection)
        request = own.request
        try:
            if request is None:
                raise HTTPError(400, "malformed request")  # noqa: TRY301 - answered below, like the rest
            if len(self._connections) > _CONNECTIONS or self._is_closing:
                raise HTTPError(503, "too many ask for this page: try again later", [("Retry-After", "5")])  # noqa: TRY301
            rest = request.path[len(self._settings.path) :]
            # The page itself is given out without the token: it has no secrets, and asks for it.
            if rest in ("/live", "/session"):
                check(self._settings.token, request.headers)
            self._decide(own, rest, request.method)
        except HTTPError as error:
            logger.debug("the live page is not for %s: %s", connection.peer_address, error)
            own.refuse(error.status, str(error), error.headers.items())
        return True

    def _decide(self, handshake: ServerHandshake, rest: str, method: str) -> None:
        """Answer a request of somebody who may see the page, by what its path goes on with."""
        if rest == "/live":
            if handshake.accepted and len(self._watchers) >= _WATCHERS:
                raise HTTPError(503, f"{_WATCHERS} pages watch already: close one first")
            return
        if method not in ("GET", "HEAD"):
            raise HTTPError(405, "expected GET", [("Allow", "GET, HEAD")])
        if rest == "/session":
            handshake.respond(Response.of(204, headers=[("Cache-Control", "no-store")]))
        elif rest == "":
            handshake.respond(Response.of(308, headers=[("Location", self._settings.path + "/")]))
        else:
            response = asset(rest[1:])
            if response is None:
                raise HTTPError(404, f"the page is at {self._settings.path}/")
            handshake.respond(response)

    # --- what a connection asks of its owner: see `Server` ----------------------------------------------------------

    def _decides_too_long(self, connection: ServerConnection, handshake: ServerHandshake) -> None:
        """Nothing here is decided later."""

    def _refused(self, connection: ServerConnection, handshake: ServerHandshake) -> None:
        """The server's statistics leave the page out."""

    def _failed(self, connection: ServerConnection, error: BaseException) -> None:
        logger.debug("the live page lost %s: %s", connection.peer_address, error)

    def _answer(self, request_head: bytes) -> Response | None:
        handshake = ServerHandshake(self.policy)
        handshake.receive_data(request_head)
        return handshake.response

    def _handle(self, connection: ServerConnection) -> None:
        """Begin to serve a page that watches."""
        watcher = Watcher(connection, self)
        task = self._loop.create_task(watcher.serve(), name="lapwing inspector")
        self._watchers[connection] = watcher, task
        task.add_done_callback(connection._handled)
        logger.info("somebody at %s watches the live page", connection.peer_address)
        watcher.tell(json.dumps(self._hello()))
        if self._next_look is None:
            self._looked_at = time.monotonic()
            self._next_look = self._loop.call_soon(self._look)
        else:
            self._inform(watcher)

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        watcher, _ = self._watchers.pop(connection)
        self.tail(watcher, None)
        if not self._watchers:
            self._rest()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the live page failed", exc_info=error)
        connection._begin_close(1000 if error is None else 1011, "")

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)

    # --- what watchers are told ------------------------------------------------------------------------------------

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "version": version("lapwing"),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "host": platform.node(),
            "subprotocols": list(self._server._handlers.by_protocol),
            "now": time.time(),
        }

    def _look(self) -> None:
        """Look at all connections and tell the watchers, at intervals that keep the cost within bounds."""
        begun, cost = time.monotonic(), time.thread_time()
        late = max(begun - self._looked_at - self._interval, 0.0)
        elapsed, self._looked_at = begun - self._looked_at, begun
        new = self.sampler.take()
        common = {"type": "tick", "now": time.time(), "late": round(late, 4), "server": self.sampler.server()}
        text = json.dumps(common | new, separators=(",", ":"))
        for watcher, _ in list(self._watchers.values()):
            if watcher.is_informed:
                watcher.is_informed = watcher.tell(text)
            else:
                self._inform(watcher, common)
        self.sampler.probe(elapsed, self._watched())
        cost = time.thread_time() - cost
        # One look that takes longer, because much has to be introduced, makes the next one no later.
        self._interval = min(max(_INTERVAL, min(cost, self._last_cost) / _SHARE), _LONGEST_INTERVAL)
        self._last_cost = cost
        self._next_look = self._loop.call_later(self._interval, self._look)

    def _inform(self, watcher: Watcher, common: dict[str, Any] | None = None) -> None:
        """Tell a watcher everything."""
        if common is None:
            common = {"type": "tick", "now": time.time(), "late": 0, "server": self.sampler.server()}
        text = json.dumps(common | self.sampler.everything() | {"all": True}, separators=(",", ":"))
        watcher.is_informed = watcher.tell(text)

    def _watched(self) -> set[Any]:
        watched = set()
        for number in self._tails:
            try:
                watched.add(self.sampler.connection(number))
            except LookupError:
                continue
        return watched

    def _rest(self) -> None:
        """Stop looking: nobody watches."""
        for handle in (self._next_look, self._next_tail):
            if handle is not None:
                handle.cancel()
        self._next_look = self._next_tail = None
        self._interval = _INTERVAL
        self._last_cost = 0.0
        self.sampler.clear()

    # --- frames ----------------------------------------------------------------------------------------------------

    def tail(self, watcher: Watcher, number: object) -> None:
        """Tell a watcher of the frames of a connection from now on, by its number; None for none.

        Raises:
            LookupError: there is no such connection.
        """
        connection = None if number is None else self.sampler.connection(number)
        before, watcher.tailed = watcher.tailed, None
        if before is not None and all(other.tailed != before for other, _ in self._watchers.values()):
            self._tails.pop(before).end()
        if connection is None or not isinstance(number, int):
            return
        watcher.tailed = number
        if number not in self._tails:
            self._tails[number] = Tail(connection)
            connection._probe()
        if self._next_tail is None:
            self._next_tail = self._loop.call_later(_TAIL_INTERVAL, self._look_at_frames)

    def _look_at_frames(self) -> None:
        for number, tail in list(self._tails.items()):
            frames, missed = tail.take()
            if frames or missed:
                text = json.dumps({"type": "frames", "number": number, "frames": frames, "missed": missed})
                for watcher, _ in self._watchers.values():
                    if watcher.tailed == number:
                        watcher.tell(text)
        self._next_tail = self._loop.call_later(_TAIL_INTERVAL, self._look_at_frames) if self._tails else None

    # --- the end ---------------------------------------------------------------------------------------------------

    async def close(self, timeout: float) -> None:
        """Close every connection of the page; the page tries to come back."""
        self._is_closing = True
        self._rest()
        tasks = [task for _, task in self._watchers.values()]
        for connection in list(self._connections):
            connection._begin_close(1012, "the server is restarting: connect again")
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for connection in list(self._connections):
            await connection.close(1012, timeout=timeout)
