"""The live page at work: it owns the connections that ask for it, and tells who watches what happens.

A server passes it every request under its path, and then knows nothing of that connection: it is in no statistic, takes
no place under a limit and gets no broadcast. Without a viewer it does nothing at all.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import time
from collections import Counter
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from ..protocol.http import Response
from ..protocol.refusal import HTTPError
from ..protocol.server_handshake import ServerPolicy
from ..serving.page import Page
from .acting import act
from .assets import asset
from .guard import check
from .others import STRIDE, Others, merged
from .relay import Relay
from .sampling import Sampler
from .settings import announce, page_url
from .tail import Tail
from .watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ..opening.server import ServerOpening
    from ..options import ServerSettings
    from ..protocol.server_handshake import ServerHandshake
    from ..serving.accepting import ServerConnection
    from ..serving.server import Server
    from ..serving.siblings import Siblings
    from .settings import Inspector

__all__ = ["LivePage"]

logger = logging.getLogger("lapwing.server")

#: The subprotocol of the page's WebSocket; its number changes with its messages.
SUBPROTOCOL: Final = "lapwing.inspector.2"
#: Connections that may be there for the page at a time, files being loaded included, and pages that watch.
_CONNECTIONS: Final = 64
_WATCHERS: Final = 16
#: Seconds between two looks at the connections, at least and at most, and the part of the time that they may take.
_INTERVAL: Final = 0.5
_LONGEST_INTERVAL: Final = 10.0
_SHARE: Final = 0.01
#: Seconds between two looks at frames.
_TAIL_INTERVAL: Final = 0.125


class LivePage(Page):
    """The live page of one server.

    Args:
        server: the server.
        options: the server's, which are the page's too.
        settings: the page's.

    Attributes:
        sampler: what numbers the connections.
        policy: which requests are accepted.
    """

    def __init__(self, server: Server, options: ServerSettings, settings: Inspector) -> None:
        self.sampler = Sampler(server)
        self._server = server
        self._settings = settings
        self._loop = server._loop
        self.policy = ServerPolicy(
            subprotocols=[SUBPROTOCOL],
            default=False,
            plain_http=True,
            origins=options.origins,
            max_header_line=options.max_header_line,
            max_headers=options.max_headers,
        )
        self._connections: set[ServerConnection] = set()
        self._watchers: dict[ServerConnection, tuple[Watcher, asyncio.Task[None]]] = {}
        self._relays: set[Relay] = set()
        self._others: Others | None = None
        self._tails: dict[int, Tail] = {}
        self._next_look: asyncio.Handle | None = None
        self._next_tail: asyncio.Handle | None = None
        self._looked_at = 0.0
        self._interval = _INTERVAL
        self._last_cost = 0.0
        self._is_closing = False
        #: How often an operator has closed a connection from the page, by close code.
        self.closed_by_operator: Counter[int] = Counter()

    # --- requests --------------------------------------------------------------------------------------------------

    def is_meant(self, opening: ServerOpening) -> bool:
        """Tell whether a request is for the page."""
        request = opening.request
        if request is None:
            return False
        path = self._settings.path
        return request.path.startswith(path) and (len(request.path) == len(path) or request.path[len(path)] == "/")

    def take(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        """Take over a connection that asks for the page, and decide on its request; see `Owner._decide`."""
        opening.read_by(self.policy)
        connection._pass_to(self)
        self._connections.add(connection)
        return self._decide(connection, opening)

    def _decide(self, connection: ServerConnection, opening: ServerOpening) -> bool:
        """Answer a request for the page: at once, in each case."""
        handshake = opening.handshake
        request = handshake.request
        try:
            if request is None:
                raise HTTPError(400, "malformed request")  # noqa: TRY301 - answered below, like the rest
            if len(self._connections) > _CONNECTIONS or self._is_closing:
                raise HTTPError(503, "too many requests for this page: try again later", [("Retry-After", "5")])  # noqa: TRY301
            rest = request.path[len(self._settings.path) :]
            # The page itself is given out without the token: it has no secrets, and asks for it.
            if rest in ("/live", "/session"):
                check(self._settings.token, request.headers)
            self._respond(handshake, rest, request.method)
        except HTTPError as error:
            logger.debug("the live page refused %s: %s", connection.peer_address, error)
            handshake.refuse(error.status, str(error), error.headers.items())
        return True

    def _respond(self, handshake: ServerHandshake, rest: str, method: str) -> None:
        """Answer an authorised request, by the rest of its path."""
        if rest == "/live":
            if handshake.accepted and len(self._watchers) >= _WATCHERS:
                raise HTTPError(503, f"{_WATCHERS} live pages are already open: close one first")
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

    def url(self, addresses: Iterable[Any], *, is_secure: bool) -> str:
        """Return the page's address with its token; what follows "#" is not sent by a browser."""
        return page_url(self._settings, addresses, is_secure=is_secure)

    def announce(self, addresses: Iterable[Any], *, is_secure: bool) -> None:
        """Print the address where the token was made here."""
        announce(self._settings, addresses, is_secure=is_secure)

    # --- the owner of its connections: see `Owner` ------------------------------------------------------------------

    def _announced(self, connection: ServerConnection) -> None:
        """Where a connection comes from is known before its request is."""

    def _decides_too_long(self, connection: ServerConnection, opening: ServerOpening) -> None:
        """Nothing here is decided later."""

    def _refused(self, connection: ServerConnection, response: Response) -> None:
        """The server's statistics leave the page out."""

    def _failed(self, connection: ServerConnection, error: BaseException) -> None:
        logger.debug("the live page lost %s: %s", connection.peer_address, error)

    def _handle(self, connection: ServerConnection) -> None:
        """Begin to serve a page that watches."""
        watcher = Watcher(connection, self)
        task = self._loop.create_task(watcher.serve(), name="lapwing inspector")
        self._watchers[connection] = watcher, task
        task.add_done_callback(connection._handled)
        logger.info("the live page is watched from %s", connection.peer_address)
        if self._others is not None:
            self._others.begin()
        self._greet(watcher)

    def _handled(self, connection: ServerConnection, task: asyncio.Task[None]) -> None:
        watcher, _ = self._watchers.pop(connection)
        watcher.tailed = None
        self._keep_tails()
        self._end_others()
        self._rest_if_unwatched()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the live page failed", exc_info=error)
        connection._begin_close(1000 if error is None else 1011, "")

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)

    # --- several workers -------------------------------------------------------------------------------------------

    def join(self, siblings: Siblings) -> None:
        """Show the connections of all workers; see `Page`."""
        self._others = Others(siblings, self._loop, self._tell_frames)

    async def relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Tell the live page of another worker of this one's connections, until it goes."""
        if self._is_closing:
            return
        relay = Relay(self, reader, writer)
        self._relays.add(relay)
        try:
            self._greet(relay)
            await relay.serve()
        finally:
            self._relays.discard(relay)
            self._keep_tails()
            self._rest_if_unwatched()

    def _end_others(self) -> list[asyncio.Task[None]]:
        """Follow the other workers no longer where no browser watches; returns the tasks that are ending."""
        return self._others.end() if self._others is not None and not self._watchers else []

    # --- what watchers are told ------------------------------------------------------------------------------------

    def _greet(self, watcher: Watcher | Relay) -> None:
        """Tell one that has just come."""
        watcher.tell(json.dumps(self._hello()))
        if self._next_look is None:
            self._looked_at = time.monotonic()
            self._next_look = self._loop.call_soon(self._look)
        else:
            self._inform(watcher)

    def _hello(self) -> dict[str, Any]:
        return {
            "type": "hello",
            "version": version("lapwing"),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "host": platform.node(),
            "subprotocols": list(self._server._handlers.by_protocol),
            "now": time.time(),
            "stride": None if self._others is None else STRIDE,
        }

    def _look(self) -> None:
        """Look at all connections and tell the watchers, at intervals that keep the cost within bounds."""
        begun, cost = time.monotonic(), time.thread_time()
        late = max(begun - self._looked_at - self._interval, 0.0)
        elapsed, self._looked_at = begun - self._looked_at, begun
        new = self.sampler.take()
        common = self._common(round(late, 4))
        self._tell(list(self._relays), common, new)
        if self._watchers:
            if self._others is not None:
                new, common = _joined(self._named(new), self._others.take()), self._common_to_all(common)
            self._tell([watcher for watcher, _ in self._watchers.values()], common, new)
        self.sampler.probe(elapsed, self._watched())
        cost = time.thread_time() - cost
        # One look that takes longer, because much has to be introduced, makes the next one no later.
        self._interval = min(max(_INTERVAL, min(cost, self._last_cost) / _SHARE), _LONGEST_INTERVAL)
        self._last_cost = cost
        self._next_look = self._loop.call_later(self._interval, self._look)

    def _tell(self, watchers: Collection[Watcher | Relay], common: dict[str, Any], new: dict[str, Any]) -> None:
        """Send changes to the watchers, or everything to those that have missed something."""
        text = json.dumps(common | new, separators=(",", ":")) if watchers else ""
        for watcher in watchers:
            if watcher.is_informed:
                watcher.is_informed = watcher.tell(text)
            else:
                self._inform(watcher, common)

    def _common(self, late: float) -> dict[str, Any]:
        """What every tick says: the time, the lag of the event loop in seconds, and the server's totals."""
        server = self.sampler.server() | {"operator": {str(code): n for code, n in self.closed_by_operator.items()}}
        return {"type": "tick", "now": time.time(), "late": late, "interval": self._interval, "server": server}

    def _common_to_all(self, common: dict[str, Any]) -> dict[str, Any]:
        """The same for all workers."""
        assert self._others is not None
        own = self._others.number, os.getpid(), common["late"], common["server"]
        late, server = merged([own, *self._others.servers()])
        return common | {"late": round(late, 4), "server": server}

    def _inform(self, watcher: Watcher | Relay, common: dict[str, Any] | None = None) -> None:
        """Tell a watcher everything."""
        everything = self.sampler.everything()
        is_merged = self._others is not None and isinstance(watcher, Watcher)
        if common is None:
            common = self._common(0)
            if is_merged:
                common = self._common_to_all(common)
        if is_merged and self._others is not None:
            everything = _joined(self._named(everything), self._others.everything())
        watcher.is_informed = watcher.tell(json.dumps(common | everything | {"all": True}, separators=(",", ":")))

    def _named(self, new: dict[str, Any]) -> dict[str, Any]:
        """Give the connections of this process the numbers that they have on the page of all workers."""
        named = self._number
        return {
            "opened": [[named(row[0]), *row[1:]] for row in new["opened"]],
            "changed": [[named(row[0]), *row[1:]] for row in new["changed"]],
            "gone": [named(number) for number in new["gone"]],
        }

    def _number(self, number: int) -> int:
        return number if self._others is None else number * STRIDE + self._others.number

    def _watched(self) -> set[Any]:
        watched = set()
        for number in self._tails:
            try:
                watched.add(self.sampler.connection(number))
            except LookupError:
                continue
        return watched

    def _rest_if_unwatched(self) -> None:
        if not self._watchers and not self._relays:
            self._rest()

    def _rest(self) -> None:
        """Stop looking: there is no viewer."""
        for handle in (self._next_look, self._next_tail):
            if handle is not None:
                handle.cancel()
        self._next_look = self._next_tail = None
        self._interval = _INTERVAL
        self._last_cost = 0.0
        self.sampler.clear()

    # --- requests to connections -----------------------------------------------------------------------------------

    async def act(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a page's request to a connection of any worker; see `acting.act`."""
        if self._others is None:
            return self.act_here(request)
        number = _checked(request.get("number"))
        if number % STRIDE == self._others.number:
            answer = self.act_here({**request, "number": number // STRIDE})
        else:
            answer = await self._others.act(number, request)
        if "details" in answer:
            answer["details"]["number"] = number
        return answer

    def act_here(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request to a connection of this process."""
        return act(self.sampler, self.closed_by_operator, request)

    # --- frames ----------------------------------------------------------------------------------------------------

    async def tail(self, watcher: Watcher, number: object) -> None:
        """Tell a watcher of the frames of a connection from now on, by its number; None for none.

        Raises:
            LookupError: there is no such connection.
            ValueError: its worker does not answer.
        """
        watcher.tailed = None
        try:
            if number is not None:
                checked = _checked(number)
                if self._others is None or checked % STRIDE == self._others.number:
                    self.sampler.connection(checked if self._others is None else checked // STRIDE)
                else:
                    self._others.check(checked)
                watcher.tailed = checked
        finally:
            answers = self._keep_tails()
        if self._others is not None and watcher.tailed is not None:
            await self._others.begun(answers, watcher.tailed)

    def tail_for(self, relay: Relay, numbers: Collection[int]) -> None:
        """Tell the live page of another worker of the frames of these connections, and of no others."""
        relay.tailed = frozenset(numbers)
        self._keep_tails()

    def _keep_tails(self) -> dict[int, asyncio.Future[dict[str, Any]]]:
        """Note the frames of the connections with a viewer alone; returns the answers of other workers."""
        tailed = [watcher.tailed for watcher, _ in self._watchers.values() if watcher.tailed is not None]
        answers = {}
        if self._others is not None:
            answers = self._others.tail(tailed)
            tailed = [number // STRIDE for number in tailed if number % STRIDE == self._others.number]
        wanted = set(tailed).union(*(relay.tailed for relay in self._relays))
        for number in self._tails.keys() - wanted:
            self._tails.pop(number).end()
        for number in wanted - self._tails.keys():
            try:
                connection = self.sampler.connection(number)
            except LookupError:  # it has just ended
                continue
            self._tails[number] = Tail(connection)
            connection._probe()
        if self._tails and self._next_tail is None:
            self._next_tail = self._loop.call_later(_TAIL_INTERVAL, self._look_at_frames)
        return answers

    def _look_at_frames(self) -> None:
        for number, tail in list(self._tails.items()):
            frames, missed = tail.take()
            if frames or missed:
                message = {"type": "frames", "number": number, "frames": frames, "missed": missed}
                for relay in self._relays:
                    if number in relay.tailed:
                        relay.tell(json.dumps(message))
                self._tell_frames(self._number(number), message)
        self._next_tail = self._loop.call_later(_TAIL_INTERVAL, self._look_at_frames) if self._tails else None

    def _tell_frames(self, number: int, message: dict[str, Any]) -> None:
        """Tell the browsers that look at a connection of its frames, by its number on the page."""
        watchers = [watcher for watcher, _ in self._watchers.values() if watcher.tailed == number]
        text = json.dumps(message | {"number": number}) if watchers else ""
        for watcher in watchers:
            watcher.tell(text)

    # --- the end ---------------------------------------------------------------------------------------------------

    async def close(self, timeout: float) -> None:
        """Close every connection of the page; the page tries to come back."""
        self._is_closing = True
        self._rest()
        tasks = [task for _, task in self._watchers.values()]
        if self._others is not None:
            tasks += self._others.end()
        for relay in self._relays:
            relay.close()
        for connection in list(self._connections):
            connection._begin_close(1012, "the server is restarting: connect again")
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for connection in list(self._connections):
            await connection.close(1012, timeout=timeout)


def _checked(number: object) -> int:
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    raise LookupError("this connection is closed")


def _joined(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {key: [*one[key], *other[key]] for key in one}
