"""The link to a server of NATS: one connection, supervised as `SupervisedLink` says.

The subscriptions are a set: a new link subscribes to all of it before it counts as one. Answers come on subjects
below one that is this process' own, where messages to ourselves come as well.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from ...io import trust
from . import nats_protocol as wire
from .link import CONNECT_PATIENCE, Refused, SupervisedLink
from .nats_credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .nats_protocol import Delivered, Info
    from .nats_url import NatsURL

__all__ = ["Link", "NoResponders", "NotPermitted", "Owner"]

logger = logging.getLogger("lapwing.hub")

#: The oldest release whose streams may begin at a number.
_OLDEST: Final = (2, 10)
#: Subjects that are subscribed to before the server is asked whether it has come so far.
_BATCH: Final = 500
#: Complaints of the server that are logged; later ones are counted.
_MOST_LOGGED: Final = 20


class NotPermitted(ConnectionError):  # noqa: N818 - as NoResponders
    """This user may not publish to a subject: nothing was done."""


class NoResponders(Exception):  # noqa: N818 - the server's word
    """A subject has no taker: the message is stored nowhere."""


class Owner(Protocol):
    """The owner of a link: an engine."""

    def message(self, delivered: Delivered) -> None:
        """A message of a subject, while the link is up."""

    def burst_ended(self) -> None:
        """All messages of one read have been handed over."""

    def interrupted(self, why: str) -> None:
        """The link is down: messages may be missing from here on."""

    def resumed(self) -> None:
        """It is up again, and every subject is subscribed to."""

    async def prepare(self, link: Link) -> None:
        """Prepare the engine, before the link counts as one."""

    def look(self) -> None:
        """Look after the engine's part of the server, each time that the link is probed."""


class Connection(asyncio.Protocol):
    """One connection.

    Args:
        delivered: called with each message.
        complained: called with each complaint of the server.
        ended: called once with the reason, when it has ended.
        burst_ended: called when what came at once has been handled.

    Attributes:
        info: the server's description of itself.
        writable: whether there is room for more.
        complaint: the last complaint of the server; empty for none.
    """

    transport: asyncio.Transport

    def __init__(
        self,
        delivered: Callable[[Delivered], None],
        complained: Callable[[str], None],
        ended: Callable[[str], None],
        burst_ended: Callable[[], None],
    ) -> None:
        self._delivered = delivered
        self._complained = complained
        self._ended = ended
        self._burst_ended = burst_ended
        self._loop = asyncio.get_running_loop()
        self._reader = wire.Reader()
        self._waiting: list[bytes] = []
        self._callers: list[Callable[[], None]] = []
        self._pongs: deque[asyncio.Future[None]] = deque()
        self._is_over = False
        self._why = ""
        self._complaints = 0
        self.complaint = ""
        self.info: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self.writable = asyncio.Event()
        self.writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are of no class of asyncio.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what waits for an answer."""
        self.close(self.complaint or (str(exc) if exc is not None else "the server has closed the connection"))

    def close(self, why: str) -> None:
        """End the connection. May be called again."""
        if self._is_over:
            return
        self._is_over = True
        self._why = why
        self.writable.set()
        self.transport.abort()
        error = ConnectionError(f"the link to the server is down: {why}")
        waiting: list[asyncio.Future[Any]] = [self.info, *self._pongs]
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # perhaps no caller waits any more
        self._pongs.clear()
        self._ended(why)

    def pause_writing(self) -> None:
        """Let messages wait."""
        self.writable.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        """Hand over the input."""
        self._reader.feed(data)
        try:
            while not self._is_over and (event := self._reader.next_event()) is not None:
                if type(event) is wire.Delivered:
                    self._delivered(event)
                else:
                    self._answer(event)
        except ValueError as error:
            self.close(f"invalid data from the server: {error}")
        self._burst_ended()

    def _answer(self, event: wire.Event) -> None:
        if isinstance(event, wire.Ping):
            self.send(wire.PONG)
        elif isinstance(event, wire.Pong):
            if self._pongs:
                pong = self._pongs.popleft()
                if not pong.done():
                    pong.set_result(None)
        elif isinstance(event, wire.Failed):
            self.complaint = event.why
            self._complaints += 1
            self._complained(event.why)
            if self._complaints <= _MOST_LOGGED:
                logger.error("the server of NATS says: %s", event.why)
        elif isinstance(event, wire.Info):
            self._learn(event)

    def _learn(self, info: Info) -> None:
        if not self.info.done():
            self.info.set_result(info.values)
        elif info.values.get("ldm") is True:
            self.close("the server is shutting down")

    async def encrypt(self, context: Any, host: str) -> None:
        """Go on with TLS.

        Raises:
            ConnectionError: the server has said more already, which would not be encrypted.
        """
        if not self._reader.is_empty:
            raise ConnectionError("the server sent plain text where TLS begins")
        transport = await self._loop.start_tls(self.transport, self, context, server_hostname=host)
        if transport is None:
            raise ConnectionError("the server closed the connection where TLS begins")
        self.transport = transport

    def send(self, *parts: bytes) -> None:
        """Send something, together with all else of this turn of the event loop."""
        if not self._waiting:
            self._loop.call_soon(self._flush)
        self._waiting.extend(parts)

    def after_flush(self, call: Callable[[], None]) -> None:
        """Call a function when what was sent in this turn is with the transport, or the link is down."""
        self._callers.append(call)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        callers, self._callers = self._callers, []
        if not self._is_over:
            self.transport.write(b"".join(waiting))
        for call in callers:
            call()

    def ping(self) -> asyncio.Future[None]:
        """Ask whether the server has handled everything so far; the future may raise ConnectionError."""
        future: asyncio.Future[None] = self._loop.create_future()
        if self._is_over:
            future.set_exception(ConnectionError(f"the link to the server is down: {self._why}"))
            future.exception()
        else:
            self._pongs.append(future)
            self.send(wire.PING)
        return future


class Link(SupervisedLink):
    """A supervised link to a server of a URL.

    Args:
        url: where the servers are.
        owner: who is told.
        inbox: the subject below which answers come.

    Attributes:
        desired: the subjects to subscribe to, with the number of each subscription.
        taps: functions by subject, which take its messages whether or not the link is up.
    """

    def __init__(self, url: NatsURL, owner: Owner, inbox: bytes) -> None:
        super().__init__(url.shown, owner.interrupted, owner.resumed, (NoResponders,))
        self._url = url
        self._owner = owner
        self._inbox = inbox + b"."
        self._numbers = itertools.count(1)
        self._tokens = itertools.count(1)
        self._answers: dict[bytes, Callable[[Delivered | None], None]] = {}
        #: What waits for an answer, by the subject that was published to.
        self._asked: dict[bytes, set[asyncio.Future[Delivered]]] = {}
        self._connection: Connection | None = None
        self._next_host = random.randrange(len(url.hosts))
        #: Subjects that are being subscribed to, and why some of them are forbidden.
        self._subscribing: dict[bytes, str] = {}
        self.taps: dict[bytes, Callable[[Delivered], None]] = {}
        self.desired: dict[bytes, int] = {inbox + b".*": next(self._numbers)}

    # --- making it -------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        async with asyncio.timeout(CONNECT_PATIENCE):
            connection = await self._open()
            await connection.ping()
        subjects = list(self.desired.items())
        for begin in range(0, len(subjects), _BATCH):
            connection.send(*(wire.subscribe(*each) for each in subjects[begin : begin + _BATCH]))
            async with asyncio.timeout(CONNECT_PATIENCE):
                await connection.ping()
        if connection.complaint:
            raise ConnectionError(connection.complaint)
        async with asyncio.timeout(CONNECT_PATIENCE):
            await self._come_back()
        await self._owner.prepare(self)
        if self._lost is not None and self._lost.done():
            raise ConnectionError(self._lost.result())

    async def _open(self) -> Connection:
        """Connect to the next one of the servers, up to where it has been told who we are."""
        host, port = self._url.hosts[self._next_host % len(self._url.hosts)]
        self._next_host += 1

        def make() -> Connection:
            return Connection(self._delivered, self._complained, self._ended, self._owner.burst_ended)

        _, connection = await asyncio.get_running_loop().create_connection(make, host, port)
        self._connection = connection
        info = await connection.info
        version = str(info.get("version", ""))[:40]
        numbers = tuple(int(each) for each in re.findall(r"\d{1,6}", version)[:2])
        if numbers < _OLDEST:
            raise Refused(
                f"{self._shown} is nats-server {version or 'of an unknown version'}: expected 2.10 or newer, where "
                "streams can begin at a number that was never given before"
            )
        if self._url.tls is not None or info.get("tls_required") is True:
            if not (info.get("tls_required") is True or info.get("tls_available") is True):
                raise ConnectionError("the server does not offer TLS: expected it behind a tls:// URL")
            await connection.encrypt(self._url.tls or trust.client_context(), host)
        connection.send(
            wire.connect(
                verbose=False,
                pedantic=False,
                headers=True,
                no_responders=True,
                protocol=1,
                lang="python",
                name="lapwing",
                version="1",
                **self._who(info),
            )
        )
        return connection

    def _who(self, info: dict[str, Any]) -> dict[str, str]:
        """The part of CONNECT that says who we are; a file of credentials is read again each time."""
        url = self._url
        if url.credentials is not None:
            nonce = info.get("nonce")
            if not isinstance(nonce, str):
                raise ConnectionError(f"{url.shown} asks for no signature: expected a server that knows nkeys or JWTs")
            return Credentials.read(url.credentials).answer(nonce)
        who = {"user": url.user, "pass": url.password, "auth_token": url.token}
        return {name: value for name, value in who.items() if value is not None}

    async def _probe_once(self) -> None:
        await self._come_back()
        self._owner.look()

    async def _come_back(self) -> None:
        """Send a message to ourselves, and wait for it."""
        token = b"%d" % next(self._tokens)
        future = self._expect(token)
        try:
            self._send(wire.publish(self._inbox + token, b""))
            await future
        finally:
            self._answers.pop(token, None)
        self._came_back()

    def _close(self, why: str) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close(why)
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            answer(None)

    # --- input -----------------------------------------------------------------------------------------------------

    def _delivered(self, delivered: Delivered) -> None:
        subject = delivered.subject
        if subject.startswith(self._inbox):
            answer = self._answers.get(subject[len(self._inbox) :])
            if answer is not None:
                answer(delivered)
        elif self.taps and subject in self.taps:
            self.taps[subject](delivered)
        elif self.is_up.is_set():
            self._owner.message(delivered)

    def _complained(self, why: str) -> None:
        """Fail the requests to a subject that this user may not publish, or subscribe, to."""
        found = re.search(r'^Permissions Violation for (Publish|Subscription) to "([^"]+)"', why)
        if found is None:
            return
        subject = found[2].encode()
        if found[1] == "Subscription":
            if subject in self._subscribing:
                self._subscribing[subject] = why
            elif subject in self.desired and self.is_up.is_set():
                self._ended(why)  # the server has just ended this subscription
            return
        for future in self._asked.get(subject, ()):
            if not future.done():
                future.set_exception(NotPermitted(why))
                future.exception()

    def _expect(self, token: bytes) -> asyncio.Future[Delivered]:
        """A future for the one answer with a token; it raises ConnectionError. The caller forgets the token then."""
        future: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()

        def answer(delivered: Delivered | None) -> None:
            if future.done():
                return
            if delivered is None:
                future.set_exception(ConnectionError(f"the link to {self._shown} is down: {self._why}"))
                future.exception()
            else:
                future.set_result(delivered)

        self._answers[token] = answer
        return future

    # --- for the engine --------------------------------------------------------------------------------------------

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes at once, headers included."""
        connection = self._connection
        if connection is None or not connection.info.done() or connection.info.exception() is not None:
            return 0
        most = connection.info.result().get("max_payload")
        return most if isinstance(most, int) else 0

    @property
    def nowhere(self) -> bytes:
        """A subject for answers that are of no interest."""
        return self._inbox + b"0"

    def desire(self, *subjects: bytes) -> None:
        """Subscribe to subjects with the next link, and those after it."""
        for subject in subjects:
            if subject not in self.desired:
                self.desired[subject] = next(self._numbers)

    @property
    def complaint(self) -> str:
        """The last complaint of the server on this connection."""
        return "" if self._connection is None else self._connection.complaint

    async def ready(self, patience: float) -> bool:
        """Wait until the link is up and has room; returns whether it is."""
        if self.is_up.is_set() and self._connection is not None and self._connection.writable.is_set():
            return True
        try:
            async with asyncio.timeout(patience):
                while not self.is_up.is_set() or self._connection is None:
                    await self.is_up.wait()
                await self._connection.writable.wait()
        except TimeoutError:
            return False
        return self._connection is not None

    def _send(self, *parts: bytes) -> Connection:
        connection = self._connection
        if connection is None:
            raise ConnectionError(f"the link to {self._shown} is down: {self._why}")
        connection.send(*parts)
        return connection

    def publish(
        self,
        subject: bytes,
        payload: bytes,
        headers: bytes = b"",
        reply: bytes = b"",
        sent: Callable[[], None] | None = None,
    ) -> None:
        """Publish without an answer.

        Once the message is with the transport, or the link is down after all, `sent` is called.

        Raises:
            ConnectionError: the link is down, and `sent` is not called.
        """
        connection = self._send(wire.publish(subject, payload, reply, headers))
        if sent is not None:
            connection.after_flush(sent)

    async def request(self, subject: bytes, payload: bytes, patience: float, headers: bytes = b"") -> Delivered:
        """Publish, and wait for the answer.

        Raises:
            TimeoutError: there is no answer after so many seconds.
            NoResponders: the subject has no taker.
            NotPermitted: this user may not do that.
            ConnectionError: the link is down before there is an answer.
        """
        token = b"%d" % next(self._tokens)
        future = self._expect(token)
        asked = self._asked.setdefault(subject, set())
        asked.add(future)
        timer = asyncio.get_running_loop().call_later(patience, _expire, future)
        try:
            self._send(wire.publish(subject, payload, self._inbox + token, headers))
            delivered = await future
        finally:
            timer.cancel()
            self._answers.pop(token, None)
            future.cancel()
            asked.discard(future)
            if not asked:
                self._asked.pop(subject, None)
        if wire.status(delivered.head) == 503:
            raise NoResponders
        return delivered

    def answers_to(self, answer: Callable[[Delivered | None], None]) -> tuple[bytes, Callable[[], None]]:
        """A subject for several answers, of which None is the last when the link goes down; and what ends it."""
        token = b"%d" % next(self._tokens)
        self._answers[token] = answer
        return self._inbox + token, lambda: self._answers.pop(token, None) and None

    async def subscribe(self, subjects: Iterable[bytes], patience: float) -> None:
        """Subscribe; a link that goes down before subscribes when it is up again.

        Raises:
            PermissionError: one of them is forbidden; the others are subscribed to.
            ConnectionError: there is no link in time.
        """
        wanted = list(subjects)
        self.desire(*wanted)
        self._subscribing.update(dict.fromkeys(wanted, ""))
        try:
            while True:
                connection = self._connection if await self.ready(patience) else None
                if connection is None:
                    raise ConnectionError(f"the link to {self._shown} is down: {self._why}")
                with suppress(ConnectionError):  # the next link subscribes to all, before it is up
                    await self._subscribe(connection, wanted)
                    break
        finally:
            refused = [why for each in wanted if (why := self._subscribing.pop(each, ""))]
        if refused:
            raise PermissionError(refused[0])

    async def _subscribe(self, connection: Connection, subjects: list[bytes]) -> None:
        for begin in range(0, len(subjects), _BATCH):
            some = subjects[begin : begin + _BATCH]
            connection.send(*(wire.subscribe(each, self.desired[each]) for each in some if each in self.desired))
            await connection.ping()

    async def flush(self, patience: float) -> None:
        """Have the server handle everything so far, for some seconds at most."""
        if self._connection is not None and self.is_up.is_set():
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(patience):
                    await self._connection.ping()

    def unsubscribe(self, subjects: Iterable[bytes]) -> None:
        """Have no more messages of subjects; late ones may come."""
        numbers = [self.desired.pop(subject, 0) for subject in subjects]
        if self._connection is not None:
            self._connection.send(*(wire.unsubscribe(number) for number in numbers if number))


def _expire(future: asyncio.Future[Any]) -> None:
    """End a wait. A timer for it costs half of what `asyncio.timeout` does."""
    if not future.done():
        future.set_exception(TimeoutError())
