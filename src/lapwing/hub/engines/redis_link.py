"""The link to a Redis or Valkey server: two connections, supervised as `SupervisedLink` says.

One connection takes commands, the other one has the subscriptions. The subscriptions are a set: a new link
gets all of it before it counts as one.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from . import resp
from .link import CONNECT_PATIENCE, Refused, SupervisedLink
from .resp import Form, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .redis_url import RedisURL

__all__ = ["Link", "Owner", "Refused"]

#: Channels in one command.
_BATCH: Final = 500


class Owner(Protocol):
    """The owner of a link: an engine."""

    def message(self, channel: bytes, data: bytes) -> None:
        """A message of a channel, while the link is up."""

    def burst_ended(self) -> None:
        """All messages of one read have been handed over."""

    def interrupted(self, why: str) -> None:
        """The link is down: messages may be missing from here on."""

    def resumed(self) -> None:
        """It is up again, and every channel is subscribed to."""

    async def prepare(self, link: Link) -> None:
        """Prepare the engine, before the link counts as one."""

    async def look(self, link: Link) -> None:
        """Look after the engine's rights, each time that the link is probed."""


class Connection(asyncio.Protocol):
    """One connection: commands out, replies in, in order.

    Args:
        pushed: called with replies to no command.
        ended: called once with the reason, when it has ended.
        burst_ended: called when what came at once has been handled.
    """

    transport: asyncio.Transport

    def __init__(
        self, pushed: Callable[[Any], None], ended: Callable[[str], None], burst_ended: Callable[[], None]
    ) -> None:
        self._pushed = pushed
        self._ended = ended
        self._burst_ended = burst_ended
        self._reader = resp.make_reader()
        self._loop = asyncio.get_running_loop()
        self._expected: deque[tuple[asyncio.Future[Any], Form | None]] = deque()
        self._unread = 0
        self._waiting: list[bytes] = []
        self._callers: list[Callable[[], None]] = []
        self._is_over = False
        self.is_subscribed = False
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are of no class of asyncio.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for a reply."""
        self.close(str(exc) if exc is not None else "the server has closed the connection")

    def close(self, why: str) -> None:
        """End the connection. May be called again."""
        if self._is_over:
            return
        self._is_over = True
        self.writable.set()
        self.transport.abort()
        expected, self._expected = self._expected, deque()
        for future, _ in expected:
            if not future.done():
                future.set_exception(ConnectionError(f"the link to the server is down: {why}"))
                future.exception()  # perhaps no caller waits any more
        self._ended(why)

    def pause_writing(self) -> None:
        """Let commands wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Hand replies to those who wait for them."""
        try:
            self._reader.feed(data)
            self._unread += len(data)
            while (reply := self._next_reply()) is not False:
                self._unread = 0
                if self._is_over:
                    break
                if self.is_subscribed:
                    self._pushed(reply)
                else:
                    self._answer(reply)
            if self._unread > resp.MOST_UNREAD:
                raise ValueError("a reply that does not end")  # noqa: TRY301 - as all malformed input
        except ValueError as error:
            self.close(f"invalid data from the server: {error}")
        self._burst_ended()

    def _next_reply(self) -> Any:
        try:
            return self._reader.gets()
        except (TypeError, MemoryError) as error:  # hiredis: a name is no string, or a length exceeds the memory
            raise ValueError(f"no reply: {error!r}") from None

    def _answer(self, reply: Any) -> None:
        if not self._expected:
            raise ValueError("a reply without a command")
        future, form = self._expected[0]
        if form is not None and not form(reply) and type(reply) is not ServerError:
            raise ValueError(f"an unexpected reply: {reply!r:.80}")
        self._expected.popleft()
        if not future.done():
            future.set_result(reply)

    def send(self, *command: str | bytes | int | float) -> None:
        """Send a command, together with the others of this turn of the event loop."""
        if not self._waiting and not self._callers:
            self._loop.call_soon(self._flush)
        self._waiting.append(resp.encode(*command))

    def before_flush(self, call: Callable[[], None]) -> None:
        """Call a function before the commands of this turn are sent: its own go with them."""
        if not self._waiting and not self._callers:
            self._loop.call_soon(self._flush)
        self._callers.append(call)

    def _flush(self) -> None:
        callers, self._callers = self._callers, []
        for call in callers:
            call()
        waiting, self._waiting = self._waiting, []
        if not self._is_over:
            self.transport.write(b"".join(waiting))

    def ask(
        self,
        *command: str | bytes | int | float,
        form: Form | None = None,
        future: asyncio.Future[Any] | None = None,
    ) -> asyncio.Future[Any]:
        """Send a command; the future has the reply, which may be a `ServerError`, and raises ConnectionError.

        A reply of another form ends the connection.
        """
        if future is None:
            future = self._loop.create_future()
        if self._is_over:
            future.set_exception(ConnectionError("the link to the server is down"))
            future.exception()
            return future
        self._expected.append((future, form))
        self.send(*command)
        return future

    async def must(self, *command: str | bytes | int | float, form: Form | None = None) -> Any:
        """Send a command whose error is one of the link.

        Raises:
            ConnectionError: the server answers with an error, or the connection has ended.
        """
        reply = await self.ask(*command, form=form)
        if isinstance(reply, ServerError):
            raise ConnectionError(f"{command[0]!s}: {reply}")
        return reply


class Link(SupervisedLink):
    """A supervised link to the server of a URL.

    Args:
        url: where the server is.
        owner: who is told.
        probe: the channel of our messages to ourselves.
    """

    def __init__(self, url: RedisURL, owner: Owner, probe: str) -> None:
        super().__init__(url.shown, owner.interrupted, owner.resumed, (ServerError,))
        self._url = url
        self._owner = owner
        self._probe = probe.encode()
        self._token = b""
        self._answered: asyncio.Future[None] | None = None
        self._commands: Connection | None = None
        self._subscriptions: Connection | None = None
        self._confirmations: dict[bytes, list[asyncio.Future[None]]] = {}
        #: The commands to subscribe that are under way: their channels, and how many of these are confirmed.
        self._subscribing: deque[tuple[list[bytes], list[int]]] = deque()
        #: Channels that are to be subscribed to, and whether they ever were.
        self.desired: dict[bytes, bool] = {}

    # --- making it ------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """Make both connections, and everything that makes them a link."""
        async with asyncio.timeout(CONNECT_PATIENCE):
            address = await self._address()
            commands = self._commands = await self._open(address, self._unexpected)
            subscriptions = self._subscriptions = await self._open(address, self._pushed)
            await self._require_usable(commands)
            # A name may have several addresses; a replica would even pass our messages to ourselves on.
            await self._require_role(subscriptions)
        await self._subscribe_all(subscriptions)
        async with asyncio.timeout(CONNECT_PATIENCE):
            await self._come_back(commands)
        await self._probing(self._owner.prepare(self))
        if self._lost is not None and self._lost.done():
            raise ConnectionError(self._lost.result())

    async def _address(self) -> tuple[str, int] | str:
        url = self._url
        if url.path is not None:
            return url.path
        if url.service is None:
            return url.hosts[0]
        problems = []
        for host in url.hosts:
            try:
                async with asyncio.timeout(CONNECT_PATIENCE / max(len(url.hosts), 2)):
                    return await self._ask_sentinel(host)
            except (OSError, ServerError, ValueError) as error:
                problems.append(f"{host[0]}:{host[1]}: {str(error) or type(error).__name__}")
        raise ConnectionError(f"no sentinel knows the master {url.service!r}: {'; '.join(problems)}")

    async def _ask_sentinel(self, host: tuple[str, int]) -> tuple[str, int]:
        url = self._url
        sentinel = await self._open(host, self._unexpected, is_sentinel=True)
        try:
            command = "SENTINEL", "get-master-addr-by-name", url.service or ""
            found = await sentinel.must(*command, form=lambda reply: reply is None or resp.is_pairs(reply))
        finally:
            sentinel.close("it has answered")
        if found is None or len(found) != 2:
            raise ConnectionError(f"it knows no master {url.service!r}")
        host_of_master, port = found[0].decode(), int(found[1])
        if not 0 < port < 65536:
            raise ConnectionError(f"it says that the master is at port {port}")
        return host_of_master, port

    async def _open(
        self, address: tuple[str, int] | str, pushed: Callable[[Any], None], *, is_sentinel: bool = False
    ) -> Connection:
        url = self._url
        loop = asyncio.get_running_loop()
        ended = (lambda _: None) if is_sentinel else self._ended

        def make() -> Connection:
            return Connection(pushed, ended, self._owner.burst_ended)

        if isinstance(address, str):
            _, connection = await loop.create_unix_connection(make, address)
        else:
            host, port = address
            _, connection = await loop.create_connection(make, host, port, ssl=url.tls)
        user = url.sentinel_user if is_sentinel else url.user
        password = url.sentinel_password if is_sentinel else url.password
        try:
            if password is not None:
                await connection.must("AUTH", *(() if user is None else (user,)), password)
            if not is_sentinel:
                await connection.must("SELECT", url.db)
        except BaseException:
            connection.close("it cannot be used")
            raise
        return connection

    async def _require_usable(self, commands: Connection) -> None:
        """Refuse a cluster, and a server that is not the master."""
        cluster = await commands.must("INFO", "cluster", form=resp.is_string)
        if b"cluster_enabled:1" in cluster:
            raise Refused(
                f"{self._url.shown} is a node of a Redis Cluster, whose pub/sub sends every message to every node and "
                "keeps no order: expected a single server, or one behind Sentinel"
            )
        await self._require_master(commands)

    async def _require_role(self, connection: Connection) -> None:
        role = await connection.must("ROLE", form=_is_role)
        if role[0] != b"master":
            raise ConnectionError(f"the server is {role[0].decode()}, and no master")

    async def _require_master(self, commands: Connection) -> None:
        await self._require_role(commands)
        asked_at = time.monotonic()
        seconds, microseconds = await commands.must("TIME", form=resp.is_time)
        self.learn_time(int(seconds) + int(microseconds) / 1e6, asked_at)

    async def _subscribe_all(self, subscriptions: Connection) -> None:
        subscriptions.is_subscribed = True
        self._confirmations.clear()
        self._subscribing.clear()
        channels = [self._probe, *self.desired]
        for begin in range(0, len(channels), _BATCH):
            some = channels[begin : begin + _BATCH]
            async with asyncio.timeout(CONNECT_PATIENCE):
                try:
                    await self._subscribe(subscriptions, some)
                except PermissionError:
                    await self._subscribe_each(subscriptions, some)

    async def _subscribe_each(self, subscriptions: Connection, channels: list[bytes]) -> None:
        """Subscribe to channels of which some are forbidden: a new one fails alone, see `subscribe`.

        Raises:
            PermissionError: one is forbidden that the link cannot do without.
        """
        work = (self._subscribe(subscriptions, [channel]) for channel in channels)
        for channel, failure in zip(channels, await asyncio.gather(*work, return_exceptions=True), strict=True):
            if failure is not None and not (
                isinstance(failure, PermissionError) and self.desired.get(channel) is False
            ):
                raise failure

    async def _probe_once(self) -> None:
        if self._commands is not None:
            await self._require_master(self._commands)
            await self._come_back(self._commands)
            await self._owner.look(self)

    async def _come_back(self, commands: Connection) -> None:
        """Send a message to ourselves, and wait for it."""
        self._token = uuid.uuid4().hex.encode()
        self._answered = asyncio.get_running_loop().create_future()
        await commands.must("PUBLISH", self._probe, self._token)
        await self._answered
        self._came_back()

    def _close(self, why: str) -> None:
        commands, subscriptions = self._commands, self._subscriptions
        self._commands = self._subscriptions = None
        for connection in (commands, subscriptions):
            if connection is not None:
                connection.close(why)
        confirmations, self._confirmations = self._confirmations, {}
        self._subscribing.clear()
        waiting = [future for futures in confirmations.values() for future in futures]
        if self._answered is not None:
            waiting.append(self._answered)
        for future in waiting:
            if not future.done():
                future.set_exception(ConnectionError(f"the link to the server is down: {why}"))
                future.exception()

    # --- input -----------------------------------------------------------------------------------------------------

    def _unexpected(self, reply: Any) -> None:
        raise ValueError(f"an unexpected reply: {reply!r:.40}")

    def _pushed(self, reply: Any) -> None:
        if isinstance(reply, ServerError):
            self._refused(reply)
            return
        if not isinstance(reply, list) or len(reply) != 3:
            raise ValueError(f"no message: {reply!r:.40}")
        kind, channel, data = reply
        if type(channel) is not bytes or (type(data) is not bytes and kind == b"message"):
            raise ValueError(f"no message: {reply!r:.40}")
        if kind == b"message":
            if channel == self._probe:
                if data == self._token and self._answered is not None and not self._answered.done():
                    self._answered.set_result(None)
            elif self.is_up.is_set():
                self._owner.message(channel, data)
        elif kind == b"subscribe":
            self._count_confirmed()
            if channel in self.desired:
                self.desired[channel] = True
            future = self._confirmation(channel)
            if future is not None and not future.done():
                future.set_result(None)

    def _count_confirmed(self) -> None:
        if self._subscribing:
            channels, confirmed = self._subscribing[0]
            confirmed[0] += 1
            if confirmed[0] == len(channels):
                self._subscribing.popleft()

    def _confirmation(self, channel: bytes) -> asyncio.Future[None] | None:
        """What waits for the next confirmation of a channel."""
        waiting = self._confirmations.get(channel)
        if not waiting:
            return None
        future = waiting.pop(0)
        if not waiting:
            del self._confirmations[channel]
        return future

    def _refused(self, error: ServerError) -> None:
        """Fail the command to subscribe that a server refuses as a whole, where this user may not do that."""
        if error.kind != "NOPERM" or not self._subscribing:
            raise ValueError(f"the subscriptions are refused: {error}")
        channels, _ = self._subscribing.popleft()
        for channel in channels:
            future = self._confirmation(channel)
            if future is not None and not future.done():
                future.set_exception(PermissionError(f"the subscriptions are refused: {error}"))
                future.exception()  # perhaps no caller waits any more

    # --- for the engine --------------------------------------------------------------------------------------------

    async def commands(self, patience: float) -> Connection | None:
        """The connection for commands, as soon as the link is up and has room; None if that takes too long."""
        if self.is_up.is_set() and self._commands is not None and self._commands.writable.is_set():
            return self._commands
        try:
            async with asyncio.timeout(patience):
                while not self.is_up.is_set() or self._commands is None:
                    await self.is_up.wait()
                connection = self._commands
                await connection.writable.wait()
        except TimeoutError:
            return None
        return connection

    def raw_commands(self) -> Connection:
        """The connection for commands while the link is being made.

        Raises:
            ConnectionError: it has ended.
        """
        if self._commands is None:
            raise ConnectionError(self._why)
        return self._commands

    async def subscribe(self, channels: Iterable[bytes], patience: float) -> None:
        """Subscribe; a link that goes down before subscribes when it is up again.

        Raises:
            PermissionError: one of them is forbidden; the others may be subscribed to or not.
            ConnectionError: there is no link in time.
        """
        wanted = list(channels)
        for channel in wanted:
            self.desired.setdefault(channel, False)
        while True:
            if await self.commands(patience) is None or self._subscriptions is None:
                raise ConnectionError(f"the link to {self._url.shown} is down: {self._why}")
            with suppress(ConnectionError):  # the next link subscribes to all, before it is up
                for begin in range(0, len(wanted), _BATCH):
                    await self._subscribe(self._subscriptions, wanted[begin : begin + _BATCH])
                return

    async def _subscribe(self, subscriptions: Connection, channels: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        futures = []
        for channel in channels:
            future: asyncio.Future[None] = loop.create_future()
            self._confirmations.setdefault(channel, []).append(future)
            futures.append(future)
        self._subscribing.append((channels, [0]))
        subscriptions.send("SUBSCRIBE", *channels)
        await asyncio.gather(*futures)

    def unsubscribe(self, channels: Iterable[bytes]) -> None:
        """Have no more messages of channels; late ones may come."""
        unwanted = [channel for channel in channels if self.desired.pop(channel, None) is not None]
        if unwanted and self._subscriptions is not None:
            self._subscriptions.send("UNSUBSCRIBE", *unwanted)


def _is_role(reply: object) -> bool:
    """The role of a server, with more that depends on it."""
    return isinstance(reply, list) and bool(reply) and type(reply[0]) is bytes
