"""`lapwing.hub.connect`: a client of a hub that is elsewhere, for asyncio and for blocking programs.

It speaks the Centrifugo client protocol, and so talks to servers of others that speak it, too. The wire's word for a
topic is "channel".
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Unpack

from ..checking import check_count, check_duration
from ..connecting.reconnect import Reconnect
from .names import check_name
from .payloads import payload_of
from .remote import Remote
from .subscription import Subscription
from .wire.json_codec import JsonCodec
from .wire.protobuf_codec import ProtobufCodec

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import TracebackType

    from ..options import ClientOptions
    from .message import Message
    from .position import Position
    from .presence import Member, Present
    from .remote_seat import RemoteSeat

__all__ = [
    "BlockingHubClient",
    "BlockingRemoteSubscription",
    "Connecting",
    "HubClient",
    "RemoteSubscription",
    "connect",
]


class RemoteSubscription(Subscription[Any]):
    """The messages of one topic of a hub that is elsewhere; `HubClient.subscribe` makes it.

    It is a `lapwing.Subscription`, and lives through the connections of its client: messages that were missed between
    two of them come afterwards, or `Lost` is raised.
    """

    _core: Any

    def __init__(self, core: Any, topic: str, since: int | None, state: Callable[[Any], Any] | None, how: Any) -> None:
        super().__init__(_WithOptions(core, how), (topic,), since, state)  # type: ignore[arg-type]

    async def history(self, limit: int = 100, *, since: int | None = None) -> list[Message[Any]]:
        """Return messages that the topic keeps, the oldest first; see `Hub.history`."""
        check_count("limit", limit)
        found: list[Message[Any]] = await self._core.history(self._only(), limit, since)
        return found


class _WithOptions:
    """A `Remote` for one subscription, whose options go with the command."""

    def __init__(self, remote: Remote, how: dict[str, Any]) -> None:
        self._remote = remote
        self._how = how

    def __getattr__(self, name: str) -> Any:
        return getattr(self._remote, name)

    async def seat(self, subscriber: Any, topic: str, since: Any) -> RemoteSeat:
        return await self._remote.seat(subscriber, topic, since, **self._how)


class BlockingRemoteSubscription(RemoteSubscription):
    """The same for blocking programs: `with` and `for`, and methods that wait in the calling thread."""

    def publish(self, data: object, *, key: str | None = None) -> Position:  # type: ignore[override]
        """Publish to the topic; see `HubClient.publish`."""
        position: Position = self._core.call_from_thread(super().publish, data, key=key)
        return position

    def present(self, limit: int = 1000) -> Present:  # type: ignore[override]
        """Return who is subscribed to the topic."""
        present: Present = self._core.call_from_thread(super().present, limit)
        return present

    def history(self, limit: int = 100, *, since: int | None = None) -> list[Message[Any]]:  # type: ignore[override]
        """Return messages that the topic keeps, the oldest first."""
        found: list[Message[Any]] = self._core.call_from_thread(super().history, limit, since=since)
        return found


class _Client:
    """The common part of the clients of both faces."""

    _subscription: type[RemoteSubscription]

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    @property
    def client(self) -> str:
        """The identifier that the server gave to the present connection; empty while there is none."""
        return self._remote.client

    @property
    def connections(self) -> int:
        """How many connections there have been."""
        return self._remote.connections

    def _subscribe(
        self,
        topic: str,
        since: int | None,
        state: Callable[[Any], Any] | None,
        token: str | Callable[[str], str | Awaitable[str]],
        data: object,
        raw: bool,
        on_join: Callable[[Member], object] | None,
        on_leave: Callable[[Member], object] | None,
    ) -> Any:
        check_name(topic)
        if state is not None and not callable(state):
            raise TypeError(f"expected state to be a function of a position, got {state!r}")
        how = {
            "token": token,
            "data": _encoded(data),
            "raw": raw,
            "on_join": on_join,
            "on_leave": on_leave,
        }
        return self._subscription(self._remote, topic, since, state, how)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client or 'not connected'}>"


class HubClient(_Client):
    """A client of a hub that is elsewhere, for asyncio; `lapwing.hub.connect` makes it.

    It connects again by itself, and its subscriptions go on where they were. Use it from its own event loop only.
    """

    _subscription = RemoteSubscription

    def subscribe(
        self,
        topic: str,
        *,
        since: int | None = None,
        state: Callable[[Any], Any] | None = None,
        token: str | Callable[[str], str | Awaitable[str]] = "",
        data: object = None,
        raw: bool = False,
        on_join: Callable[[Member], object] | None = None,
        on_leave: Callable[[Member], object] | None = None,
    ) -> RemoteSubscription:
        """Subscribe to a topic: a `Subscription`, to be entered with `async with`.

        Args:
            topic: the topic.
            since: where to begin, the `position` of a message; None: with the next message. A plain `int` is a
                position of a lapwing hub.
            state: a function that loads the program's state of the topic, see `Hub.subscribe`.
            token: for the topic's function; or a function of the topic, plain or `async def`, that fetches one, each
                time that one is needed.
            data: for the topic's function, a JSON value.
            raw: the topic's messages are bytes, as over protobuf they may be; `Message.data` is not decoded then.
            on_join: called with a `Member` that subscribes, where the topic tells; it must not wait.
            on_leave: called with a `Member` that leaves.

        Raises:
            Denied, Expired, when it is entered: the server does not let this client.
            LookupError, when it is entered: the server has no such topic.
            Unavailable, TimeoutError, when it is entered: the server was asked until the time was up. There are too
                many topics, or its function for this one failed.
        """
        found: RemoteSubscription = self._subscribe(topic, since, state, token, data, raw, on_join, on_leave)
        return found

    async def publish(self, topic: str, data: object) -> None:
        """Publish a message, and wait until the server has it.

        Args:
            topic: the topic.
            data: a JSON value, or bytes: those of a JSON value, and over protobuf any on a raw topic.

        Raises:
            Denied, Expired, LookupError, ValueError: the server does not take it.
            PublishError: the connection was lost, or no answer came: `stored` is None, it is not known.
        """
        await self._remote.publish(check_name(topic), data)

    async def present(self, topic: str, limit: int = 1000) -> Present:
        """Return who is subscribed to a topic that this client is subscribed to; see `Hub.present`."""
        check_count("limit", limit, least=0)
        return await self._remote.present(check_name(topic), limit)

    async def history(self, topic: str, limit: int = 100, *, since: int | None = None) -> list[Message[Any]]:
        """Return messages of a topic that this client is subscribed to, the oldest first; see `Hub.history`."""
        check_count("limit", limit)
        return await self._remote.history(check_name(topic), limit, since)

    async def call(self, method: str, data: object = None) -> Any:
        """Have the server answer a call, see `Hub.call`.

        Args:
            method: its name.
            data: a JSON value.

        Returns:
            The JSON value that the server's function returned.

        Raises:
            Denied: the function did.
            LookupError: there is no such function.
            Unavailable: it failed.
            ConnectionError, TimeoutError: it is not known whether it was called.
        """
        return _decoded(await self._remote.call(method, _encoded(data)))

    async def send(self, data: object) -> None:
        """Send a message to the program of the server, without an answer; see `Hub.on_message`.

        Args:
            data: a JSON value.

        Raises:
            TypeError, ValueError: `data` is not a JSON value.
            TimeoutError: there was no connection in time. A message that was sent on a lost connection may be lost,
                too.
        """
        await self._remote.say(_encoded(data))

    async def close(self) -> None:
        """Close the connection, and end all subscriptions."""
        await self._remote.end()


class BlockingHubClient(_Client):
    """A client of a hub that is elsewhere, for blocking programs: the words of `HubClient`, without `await`.

    A thread of its own keeps the connection. Its methods wait in the calling thread, and may be called from any; a
    subscription belongs to one thread at a time.
    """

    _subscription = BlockingRemoteSubscription

    def __init__(self, remote: Remote) -> None:
        super().__init__(remote)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lapwing hub client", daemon=True)
        self._closing = threading.Lock()

    def _start(self) -> None:
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._remote.start(), self._loop).result()
        except BaseException:
            self._stop()
            raise

    def _stop(self) -> None:
        self._remote.cancel_calls()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        if left := asyncio.all_tasks(self._loop):  # such as an attempt to connect that Ctrl-C has interrupted
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.wait(left))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def subscribe(
        self,
        topic: str,
        *,
        since: int | None = None,
        state: Callable[[Any], Any] | None = None,
        token: str | Callable[[str], str | Awaitable[str]] = "",
        data: object = None,
        raw: bool = False,
        on_join: Callable[[Member], object] | None = None,
        on_leave: Callable[[Member], object] | None = None,
    ) -> BlockingRemoteSubscription:
        """Subscribe to a topic, see `HubClient.subscribe`; to be entered with `with`.

        `token`, `state`, `on_join` and `on_leave` are called in the client's thread, and must not wait for the client.
        """
        found: BlockingRemoteSubscription = self._subscribe(topic, since, state, token, data, raw, on_join, on_leave)
        return found

    def publish(self, topic: str, data: object) -> None:
        """Publish a message, see `HubClient.publish`."""
        self._remote.call_from_thread(self._remote.publish, check_name(topic), data)

    def present(self, topic: str, limit: int = 1000) -> Present:
        """Return who is subscribed to a topic, see `HubClient.present`."""
        check_count("limit", limit, least=0)
        present: Present = self._remote.call_from_thread(self._remote.present, check_name(topic), limit)
        return present

    def history(self, topic: str, limit: int = 100, *, since: int | None = None) -> list[Message[Any]]:
        """Return messages of a topic, see `HubClient.history`."""
        check_count("limit", limit)
        found: list[Message[Any]] = self._remote.call_from_thread(self._remote.history, check_name(topic), limit, since)
        return found

    def call(self, method: str, data: object = None) -> Any:
        """Have the server answer a call, see `HubClient.call`."""
        return _decoded(self._remote.call_from_thread(self._remote.call, method, _encoded(data)))

    def send(self, data: object) -> None:
        """Say something to the program of the server, see `HubClient.send`."""
        self._remote.call_from_thread(self._remote.say, _encoded(data))

    def close(self) -> None:
        """Close the connection, and end all subscriptions. May be called again, and from any thread."""
        with self._closing:
            if not self._loop.is_closed():
                self._remote.call_from_thread(self._remote.end)
                self._stop()


def _encoded(data: object) -> bytes:
    return b"" if data is None else payload_of(data, raw=False)[1]


def _decoded(data: bytes) -> Any:
    return json.loads(data) if data else None


class Connecting:
    """What `lapwing.hub.connect` returns: `async with` gives a `HubClient`, `with` a `BlockingHubClient`."""

    def __init__(self, remote: Callable[[], Remote]) -> None:
        self._make = remote
        self._client: HubClient | None = None
        self._blocking: BlockingHubClient | None = None
        self._is_entered = False

    @contextmanager
    def _entering(self) -> Iterator[None]:
        """A block after which it is entered, unless that fails."""
        if self._is_entered:
            raise RuntimeError("this connect() is in use: each 'with' needs one of its own")
        self._is_entered = True
        try:
            yield
        except BaseException:
            self._is_entered = False
            raise

    async def __aenter__(self) -> HubClient:
        with self._entering():
            remote = self._make()
            await remote.start()
            self._client = HubClient(remote)
            return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        self._is_entered = False
        if client is not None:
            await client.close()

    def __enter__(self) -> BlockingHubClient:
        with self._entering():
            client = BlockingHubClient(self._make())
            client._start()
            self._blocking = client
            return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        client, self._blocking = self._blocking, None
        self._is_entered = False
        if client is not None:
            client.close()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"connect() returns no client yet and so has no {name!r}: write 'async with lapwing.hub.connect(...) as "
            "client', or 'with' in a blocking program"
        )


def connect(  # type: ignore[misc]
    url: str,
    *,
    token: str | Callable[[], str | Awaitable[str]] = "",
    data: object = None,
    protobuf: bool = False,
    name: str = "lapwing",
    timeout: float = 10.0,
    reconnect: Reconnect | None = None,
    **options: Unpack[ClientOptions],
) -> Connecting:
    """Connect to a hub, that of a lapwing server or of another one that speaks the Centrifugo client protocol.

    ::

        async with lapwing.hub.connect("wss://example.org/hub", token=get_token) as client:
            async with client.subscribe("chat:42") as messages:
                await messages.publish({"text": "hello"})
                async for message in messages: ...

        with lapwing.hub.connect("ws://localhost:8080") as client: ...   # blocking: the same words

    The client connects again by itself; its subscriptions go on where they were, or say by `Lost` that messages may be
    missing.

    Args:
        url: as for `lapwing.connect`.
        token: the token of the connection, or a function, plain or `async def`, that fetches one each time that one is
            needed: for each connection, and when the last one ends.
        data: for the server's `authenticate`, a JSON value.
        protobuf: whether to speak protobuf rather than JSON: it carries the bytes of raw topics.
        name: the name of this client for the server.
        timeout: seconds for the first connection, and for each answer.
        reconnect: when to connect again; None for `lapwing.Reconnect()`. Of the close codes from 3000 on, those are
            final that this protocol says: 3500 to 3999 and 4500 to 4999.
        **options: of the connections, see `lapwing.options.ClientOptions`.

    Raises:
        Denied, when it is entered: the server does not want this client.
        Expired, when it is entered: the token is too old, and no function fetches another one.
        InvalidURL, HandshakeError, TimeoutError, OSError, when it is entered: there was no connection in time.
        TypeError, ValueError: an argument has the wrong type or value.
    """
    check_duration("timeout", timeout)
    if not (isinstance(token, str) or callable(token)):
        raise TypeError(f"expected token to be a str, or a function that returns one, got {type(token).__name__}")
    if reconnect is not None and not isinstance(reconnect, Reconnect):
        raise TypeError(f"expected reconnect to be a lapwing.Reconnect, got {reconnect!r}")
    codec = ProtobufCodec if protobuf else JsonCodec
    encoded = _encoded(data)

    def remote() -> Remote:
        return Remote(url, codec, token, encoded, name, timeout, reconnect or Reconnect(), dict(options))

    return Connecting(remote)
