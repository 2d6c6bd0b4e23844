"""The client's side of a hub that is elsewhere: one connection after the other, requests, and places in topics.

A task connects, again and again, and reads. It hands on its input at once, in order: answers to the waiting
calls, messages to the subscriptions. A subscription that has no room is ended at the server, and asked for again, from
where it stands, once there is room: nothing piles up here.
"""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from ..client import connect
from ..connecting.reconnect import Reconnect
from ..protocol.errors import ConnectionClosed
from .errors import Denied, Expired, PublishError
from .message import Message, Origin
from .payloads import BINARY, JSON, payload_of
from .position import Position
from .presence import Member, Present
from .remote_seat import RemoteSeat
from .thread_calls import CallEndedError, ThreadCalls
from .tokens import failure_of, fetched
from .wire.client import Answer, ClientSession
from .wire.codes import is_final
from .wire.messages import (
    ConnectRequest,
    HistoryRequest,
    OfTopic,
    PublishRequest,
    RefreshRequest,
    RpcRequest,
    Send,
    StreamPosition,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..faces.aio.client import AsyncClient
    from .seats import Subscriber
    from .wire.messages import Message as WireMessage
    from .wire.messages import Publication, Push
    from .wire.session import Codec

    #: A token, or a function that fetches a new one.
    Token = str | Callable[[], str | Awaitable[str]]

__all__ = ["Remote"]

logger = logging.getLogger("lapwing.hub")

#: Seconds until a new token is asked for again, and until a subscription is that the server ended.
_RETRY: Final = 5.0


class Remote:
    """A hub that is elsewhere; a `Subscription` uses it like one in this process.

    Args:
        url: of the server.
        codec: the codec to speak.
        token: the token of the connection, or a function that fetches a new one.
        data: data for the server's `authenticate`, as JSON.
        name: of this client, for the server's statistics.
        timeout: seconds that an answer may take, and the first connection.
        reconnect: when to connect again.
        options: of the connections.

    Attributes:
        codec, timeout: the same.
        client: the identifier that the server gave to the connection; empty while there is none.
        connections: how many there have been.
        failure: why there is no other connection; None as long as there may be.
        ending: functions to call at the end.
    """

    def __init__(
        self,
        url: str,
        codec: Codec,
        token: Token,
        data: bytes,
        name: str,
        timeout: float,
        reconnect: Reconnect,
        options: dict[str, Any],
    ) -> None:
        self.codec = codec
        self.timeout = timeout
        self.client = ""
        self.connections = 0
        self.failure: Exception | None = None
        self.ending: dict[object, Callable[[], None]] = {}
        self.seats: dict[str, RemoteSeat] = {}
        self._url = url
        self._token = token
        self._data = data
        self._name = name
        self._reconnect = reconnect
        self._options = options
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: ThreadCalls | None = None
        self._task: asyncio.Task[None] | None = None
        self._ws: AsyncClient | None = None
        self._session: ClientSession | None = None
        self._connected = asyncio.Event()
        self._waiting: dict[int, Callable[[Answer | None], None]] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._jobs: set[asyncio.Task[None]] = set()
        self._last_error: Exception | None = None

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Connect; it goes on connecting after that, whatever happens to the connection.

        Raises:
            Denied: the server does not want this client.
            TimeoutError, OSError, HandshakeError: there was no connection in time.
        """
        if self._task is not None:
            raise RuntimeError("this client is connected already")
        self._loop = asyncio.get_running_loop()
        self._calls = ThreadCalls(self._loop)
        self._task = self._loop.create_task(self._run())
        try:
            async with asyncio.timeout(self.timeout):
                await self._wait_for_connection()
        except TimeoutError:
            await self.end()
            raise self._last_error or TimeoutError(f"no connection within {self.timeout:g} s") from None
        except BaseException:
            await self.end()
            raise

    async def _wait_for_connection(self) -> None:
        if self.failure is None:
            await self._connected.wait()
        if self.failure is not None:
            raise self.failure

    async def end(self) -> None:
        """Close the connection, and end all subscriptions."""
        for call in list(self.ending.values()):
            call()
        self.ending.clear()
        if self._calls is not None:
            self._calls.refuse()  # behind these: a thread that iterates knows that this is the end
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for job in list(self._jobs):
            job.cancel()
        if self._jobs:
            await asyncio.wait(self._jobs)
        self.failure = self.failure or ConnectionError("this client is closed")

    def node(self) -> None:
        """Make sure that this is the thread of the client's event loop.

        Raises:
            RuntimeError: it is not, or the client is not connected.
        """
        if self._loop is None or asyncio._get_running_loop() is not self._loop:
            raise RuntimeError(
                "this client is not connected, or belongs to another event loop: write 'async with "
                "lapwing.hub.connect(...) as client', or 'with' in a blocking program"
            )

    def call_from_thread(self, function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Have the client's loop run a coroutine function, and wait for it in this thread.

        Raises:
            RuntimeError: the client is not connected, or this is its own thread.
            ConnectionError: the client is closed.
        """
        if self._calls is None or asyncio._get_running_loop() is self._loop:
            raise RuntimeError("in this thread the client is awaited: write 'async with' and 'async for'")
        try:
            return self._calls.call(function, *args, **options)
        except CallEndedError:
            raise self.failure or ConnectionError("this client is closed") from None

    def cancel_calls(self) -> None:
        """Cancel what other threads still wait for, before the loop ends."""
        if self._calls is not None:
            self._calls.cancel()

    def leave_to_loop(self, function: Callable[[], object]) -> None:
        """Call a function in the client's thread: at once where this is it."""
        if self._loop is None or asyncio._get_running_loop() is self._loop:
            function()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    # --- one connection after the other ----------------------------------------------------------------------------

    async def _run(self) -> None:
        connector = connect(
            self._url,
            self.codec.subprotocol if not self.codec.is_text else None,
            **self._options,
            reconnect=self._how(),
        )
        try:
            async with aclosing(aiter(connector)) as connections:
                async for ws in connections:
                    await self._converse(ws)
                    if self.failure is not None:
                        return
        except Exception as error:  # noqa: BLE001 - it is raised where the client is used
            self.failure = error
        finally:
            self._give_up()

    def _how(self) -> Reconnect:
        """The settings of the attempts, with the codes that are final in this protocol."""
        settings = self._reconnect

        def on_attempt(attempt: Any) -> None:
            if not isinstance(attempt.cause, ConnectionClosed):  # the end of a connection is noted by `_converse`
                self._last_error = attempt.cause
            if settings.on_attempt is not None:
                settings.on_attempt(attempt)
                return
            # Python shows a warning without a configuration: a wrong port must not look like a slow server.
            level = logging.INFO if self.connections or attempt.number > 1 else logging.WARNING
            said = "connecting again in %.1f s, attempt %d: %s"
            logger.log(level, said, attempt.delay, attempt.number, self._last_error)

        names = ("initial", "maximum", "multiplier", "stable_after", "attempts", "retry_after_limit", "random", "clock")
        # Of the codes from 3000 on this protocol says which are final: 3000 itself is not.
        final = frozenset(code for code in range(3000, 5000) if is_final(code))
        others = frozenset(code for code in settings.final_codes if code < 3000)
        return Reconnect(
            **{name: getattr(settings, name) for name in names},
            final_codes=others | final,
            on_attempt=on_attempt,
        )

    async def _converse(self, ws: AsyncClient) -> None:
        """Speak on one connection until it ends."""
        session = ClientSession(self.codec)
        try:
            token = await fetched(self._token)
            number = session.ask("connect", ConnectRequest(token, self._data, name=self._name))
            self._ws, self._session = ws, session
            self._waiting[number] = self._begin
            self._flush()
            await self._read(ws, session)
        except ConnectionClosed as closed:
            self._last_error = closed
        except Exception as error:  # noqa: BLE001 - a token could not be fetched: perhaps the next time
            logger.warning("giving up the connection to the hub: %s", error)
            self._last_error = error
            await ws.close(1000)
        finally:
            self._lose_connection()

    async def _read(self, ws: AsyncClient, session: ClientSession) -> None:
        loop = asyncio.get_running_loop()
        while session.failure is None and self.failure is None:
            deadline = session.deadline
            left = None if deadline == float("inf") else max(deadline - loop.time(), 0)
            try:
                frame = await ws.receive(decode=False, timeout=left)
            except TimeoutError:
                session.act(loop.time())
                continue
            if frame is None:
                closed = ws.closed
                if closed is not None:
                    self._last_error = ConnectionClosed(*closed)
                    if is_final(closed.code):
                        self.failure = self._last_error
                return
            for said in session.receive(frame, loop.time()):
                self._take(said)
            self._flush()
        if session.failure is not None:
            if self.connections:
                logger.warning("giving up the connection to the hub: %s", session.failure)
                self._last_error = ConnectionError(session.failure)
            else:  # another attempt would not help
                self.failure = ConnectionError(
                    f"the server does not speak the protocol of a hub's clients ({session.failure}): its handler must "
                    "be hub.serve, and perhaps this is not its port or path"
                )
            ws.abort()

    def _take(self, said: Answer | Push) -> None:
        if isinstance(said, Answer):
            take = self._waiting.pop(said.id, None)
            if take is not None:
                take(said)
            return
        seat = self.seats.get(said.channel)
        if seat is not None:
            seat.pushed(said.kind, said.event)

    def _begin(self, answer: Answer | None) -> None:
        """Take the answer to "connect"."""
        if answer is None:
            return
        if answer.error is not None:
            failure = failure_of(answer.error, "the server refused the connection")
            self._last_error = failure
            if not (answer.error.temporary or (isinstance(failure, Expired) and callable(self._token))):
                self.failure = failure
            assert self._ws is not None
            self._ws._begin_close(1000, "")
            return
        if not answer.result.client and self._session is not None:
            self._session.failure = "its answer names no client"
            return
        self.client = answer.result.client
        self.connections += 1
        self._connected.set()
        self._refresh_later(answer.result)
        for seat in list(self.seats.values()):
            seat.connected()

    def _lose_connection(self) -> None:
        """The connection is gone: no answer comes any more."""
        self._ws = self._session = None
        self.client = ""
        self._connected.clear()
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        waiting, self._waiting = self._waiting, {}
        for take in waiting.values():
            take(None)
        for seat in list(self.seats.values()):
            seat.disconnected()

    def _give_up(self) -> None:
        """There is no other connection: the waiting calls fail."""
        self.failure = self.failure or ConnectionError("this client is closed")
        self._connected.set()
        for seat in list(self.seats.values()):
            seat.end(str(self.failure))

    def _flush(self) -> None:
        if self._session is not None and self._ws is not None and self._ws.closed is None:
            frame = self._session.take()
            if frame:
                self.start_job(self._send(self._ws, frame))

    async def _send(self, ws: AsyncClient, frame: bytes) -> None:
        try:
            await ws.send(frame.decode() if self.codec.is_text else frame)
        except ConnectionClosed:
            logger.debug("a frame for the hub was not sent: the connection is closed")

    # --- time ------------------------------------------------------------------------------------------------------

    def start_job(self, work: Any) -> None:
        """Start a task that ends with the client."""
        task = asyncio.get_running_loop().create_task(work)
        self._jobs.add(task)
        task.add_done_callback(self._job_done)

    def _job_done(self, task: asyncio.Task[None]) -> None:
        self._jobs.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the hub's client failed", exc_info=task.exception())

    def call_later(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function after some seconds, if the connection lasts."""
        loop = asyncio.get_running_loop()

        def fire() -> None:
            self._timers.discard(timer)
            call()

        timer = loop.call_later(seconds, fire)
        self._timers.add(timer)

    def _refresh_later(self, result: Any) -> None:
        """Fetch a new token of the connection when the old one ends."""
        if result.expires and callable(self._token):
            self.call_later(result.ttl, lambda: self.start_job(self._refresh()))

    async def _refresh(self) -> None:
        try:
            result = await self.ask("refresh", RefreshRequest(await fetched(self._token)))
        except ConnectionError:
            return
        except Denied as denied:
            logger.warning("the new token was refused: %s", denied)
            return
        except Exception as error:  # noqa: BLE001 - perhaps the next time
            logger.warning("the token could not be refreshed: %s", error)
            self.call_later(_RETRY * (1 + random.random()), lambda: self.start_job(self._refresh()))
            return
        self._refresh_later(result)

    # --- requests --------------------------------------------------------------------------------------------------

    def request(self, method: str, request: WireMessage, take: Callable[[Answer | None], None]) -> bool:
        """Send a command; `take` is called with its answer, or with None where the connection ends before.

        Returns:
            Whether there is a connection.
        """
        if self._session is None or not self.client:
            return False
        self._waiting[self._session.ask(method, request)] = take
        self._flush()
        return True

    async def ask(self, method: str, request: WireMessage, *, sent: list[bool] | None = None) -> Any:
        """Send a command, over the next connection where there is none, and wait for its result.

        Args:
            method: the method.
            request: the request.
            sent: gets an element once the command was sent.

        Raises:
            Denied, Expired, Unavailable, TooManyTopics, LookupError, ValueError: the server refused it.
            ConnectionError: the connection was lost, and it is not known whether the server has done it.
            TimeoutError: no answer came in time.
        """
        self.node()
        async with asyncio.timeout(self.timeout):
            await self._wait_for_connection()
            future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

            def take(answer: Answer | None) -> None:
                if not future.done():
                    future.set_result(answer)

            if not self.request(method, request, take):
                raise ConnectionError("the connection was lost")
            if sent is not None:
                sent.append(True)
            answer = await future
        if answer is None:
            raise self.failure or ConnectionError("the connection was lost before the answer came")
        if answer.error is not None:
            raise failure_of(answer.error, f"the server refused {method!r}")
        return answer.result

    async def publish(self, topic: str, data: object, key: str | None = None, origin: object = None) -> Position:
        """Publish to a topic; see `HubClient.publish`."""
        del origin
        if key is not None:
            raise ValueError("clients cannot pass key=: publish with key= in a program that has the hub")
        if self.codec.is_text or not isinstance(data, (bytes, bytearray, memoryview)):
            payload = payload_of(data, raw=False)[1]  # bytes are checked to be JSON, of one line
        else:
            payload = bytes(data)
        sent: list[bool] = []
        try:
            await self.ask("publish", PublishRequest(topic, payload), sent=sent)
        except (ConnectionError, TimeoutError) as error:
            raise PublishError(str(error) or "no answer in time", stored=None if sent else False) from error
        return Position(0)

    async def present(self, topic: str, limit: int = 1000) -> Present:
        """Return who is subscribed to a topic."""
        found = (await self.ask("presence", OfTopic(topic))).presence or {}
        members = [
            Member(client, info.user or None, info.conn_info or info.chan_info or None)
            for client, info in found.items()
        ]
        return Present(members[:limit], len(members), complete=True)

    async def history(self, topic: str, limit: int, since: int | None) -> list[Message[Any]]:
        """Return messages that a topic keeps, the oldest first."""
        start = None
        if since is not None:
            position = Position(since)
            start = StreamPosition(int(position), position.epoch)
        request = HistoryRequest(topic, limit, start, reverse=since is None)
        result = await self.ask("history", request)
        found = [self.message(topic, each, result.epoch) for each in result.publications]
        return found[::-1] if since is None else found

    async def call(self, method: str, data: bytes) -> bytes:
        """Have the server answer a call; JSON in, JSON out."""
        result = await self.ask("rpc", RpcRequest(data, method))
        return bytes(result.data)

    async def say(self, data: bytes) -> None:
        """Say something to the program of the server, over the next connection where there is none."""
        self.node()
        async with asyncio.timeout(self.timeout):
            while self._session is None or not self.client:
                await self._wait_for_connection()
        self._session.say("send", Send(data))
        self._flush()

    def message(self, topic: str, publication: Publication, epoch: str, *, raw: bool = False) -> Message[Any]:
        """Make a message of a publication."""
        info = publication.info
        origin = Origin(
            None if info is None else info.user or None,
            None if info is None else info.client,
            None if info is None else info.conn_info or info.chan_info or None,
            publication.tags,
        )
        position = Position(publication.offset, epoch or None)
        return Message(topic, publication.data, code=BINARY if raw else JSON, position=position, origin=origin)

    # --- for subscriptions -----------------------------------------------------------------------------------------

    async def seat(self, subscriber: Subscriber, topic: str, since: Any, **how: Any) -> RemoteSeat:
        """Subscribe to a topic.

        Raises:
            Denied, Expired, LookupError, ValueError: the server refused it.
            Unavailable: it may be asked again, and was, until the time was up.
            TimeoutError: it did not answer in time.
        """
        self.node()
        if topic in self.seats:
            raise ValueError(f"this client is subscribed to {topic!r} already: one subscription for each topic")
        seat = self.seats[topic] = RemoteSeat(self, subscriber, topic, since, **how)
        try:
            async with asyncio.timeout(self.timeout):
                await self._wait_for_connection()
                seat.connected()
                await seat.begun
        except TimeoutError:
            seat.leave()
            raise seat.failure or TimeoutError(f"the server did not answer for {topic!r} in time") from None
        except BaseException:
            seat.leave()
            raise
        return seat
