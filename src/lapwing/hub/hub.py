"""`Hub`: what programs call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar

from ..checking import check_choice, check_count, check_duration
from ..stats import HubStats
from .clients import Clients
from .core import Core, check_since
from .engines.choice import engine_of
from .engines.memory import MemoryEngine
from .gate import Gate
from .message import Origin
from .names import Declaration, check_name
from .outage import OnOutage
from .rooms import Rooms
from .subscription import Subscription

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from ..faces.aio.connection import Connection
    from .engines.contract import Engine, Health
    from .engines.process import Shared
    from .errors import Lost
    from .message import Message
    from .names import Lagging
    from .payloads import Raw
    from .position import Position
    from .presence import Present

__all__ = ["Hub"]

Function = TypeVar("Function", bound=Callable[[Any], Any])


class Hub:
    """Topics, their history and who is subscribed to them.

    ::

        hub = lapwing.Hub()

        @hub.topic("chat:*", history=100, presence=True)
        async def chat(ask):
            if ask.user is None:
                raise lapwing.Denied("sign in first")

        lapwing.run(port=8080, default=handler, hub=hub)

    A server that is given the hub starts it, drains it and ends it. Without a server, `async with hub:` does. After its
    end it may be started again; histories that an engine keeps in this process are gone then, which subscribers are
    told.

    Topics are declared by `topic`; one that no pattern matches cannot be used. Methods belong to the event loop's
    thread, but for those that say otherwise.

    Args:
        url: None: everything stays in this process, or is shared by the workers of this machine. A URL of Redis or
            Valkey: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, `unix:///path`, or
            `redis+sentinel://host[:port],host/master`. Several of these URLs, as a list: each server has a part of the
            topics. A URL of NATS with JetStream: `nats://[user:password@]host[:port][,host]`, `tls://` for TLS. Or an
            engine of one's own, as `lapwing.hub.Engine` describes it.
        max_history: bytes of all histories of an engine in this process; beyond them the history of the topic that was
            published to the longest ago is dropped, and those who need it are told.
        max_topics: topics that may be subscribed to in this process at a time.
        max_topics_per_client: topics that one client may be subscribed to.
        max_new_topics: topics without other subscribers here that one client may subscribe or publish to in a minute.
        timeout: seconds that `publish`, and a client that subscribes, wait for the engine.
        namespace: what keys and channels on a server begin with, for several hubs on one.
        on_outage: what becomes of clients while the broker, or one of several, cannot be reached. "keep": they stay
            connected and wait. "close": after `timeout` seconds their connections, and new ones, are closed with 1012
            (service restart) until the link is back, so that they connect to another server.

    Raises:
        ValueError: there is no engine for this URL, or a limit is out of its range.
    """

    def __init__(
        self,
        url: str | Sequence[str] | Engine | None = None,
        *,
        max_history: int = 256 * 1024 * 1024,
        max_topics: int = 1_000_000,
        max_topics_per_client: int = 128,
        max_new_topics: int = 60,
        timeout: float = 5.0,
        namespace: str = "lapwing",
        on_outage: OnOutage = "keep",
    ) -> None:
        for name, value in (
            ("max_history", max_history),
            ("max_topics", max_topics),
            ("max_topics_per_client", max_topics_per_client),
            ("max_new_topics", max_new_topics),
        ):
            check_count(name, value)
        check_duration("timeout", timeout)
        check_choice("on_outage", on_outage, OnOutage)
        engine = engine_of(url, namespace, timeout, max_history=max_history, max_topics=max_topics)
        self._core = Core(engine, max_topics, Clients(max_topics_per_client, max_new_topics), timeout, on_outage)
        self._gate = Gate(self._core)
        self._rooms = Rooms(self._core, self._gate)
        self._shared: tuple[MemoryEngine, Shared] | None = None

    # --- declaring -------------------------------------------------------------------------------------------------

    def topic(
        self,
        pattern: str,
        *,
        history: int = 0,
        keep: float = 300.0,
        presence: bool = False,
        lagging: Lagging | None = None,
        raw: Raw = False,
        clients_publish: bool = False,
        max_message: int = 64 * 1024,
        frame: Callable[[Message[Any]], str | bytes] | None = None,
        type: Any = None,  # noqa: A002 - the word for it
    ) -> Callable[[Function], Function]:
        """Declare topics, and the function that says who may subscribe to them.

        The function is called with an `Ask` when a client subscribes, publishes, or asks for presence or history:
        return to allow it; raise `Denied` to refuse it. It is an `async def` function, or a plain one that does not
        block. Code of the server itself (`subscribe`, `publish`) is not asked; `join` is.

        Args:
            pattern: a topic's name, or a prefix that ends in "*" for all names that begin with it. The name itself goes
                before a prefix, a longer prefix before a shorter one.
            history: messages that are kept. Subscribers then get every message in order, or are told that they do not.
                With 1 every subscriber gets the last message first. 0: messages go to the subscribers of that moment.
            keep: seconds for which they are kept, at least.
            presence: whether to know, and to tell, who is subscribed.
            lagging: what becomes of messages for subscribers that are too slow. With a history "catch-up" (the default:
                they are served from history when they can take more) or "disconnect". Without one "disconnect" (the
                default), "drop-newest", "drop-oldest" or "keep-latest", as for `Server.broadcast`.
            raw: True: messages are `bytes` and `str` as they are, and clients have to speak protobuf, for JSON has no
                bytes. "text": they are `str` alone, for all clients. False: they are JSON values.
            clients_publish: whether clients may publish, if the function lets them.
            max_message: bytes of a message, at most 16 MiB.
            frame: makes the message for plain WebSockets (`join`) of a `Message`, once for all of them: `str` or
                `bytes`. None: the payload, as it is.
            type: the type of the data of messages for subscribers in Python: a data class, a class with
                `model_validate`, or a function of the decoded value.

        Returns:
            A decorator.

        Raises:
            ValueError: the pattern is declared already, a value is out of its range, or `lagging` would break the
                promise of the history.
            TypeError: a value has the wrong type.
        """
        if not isinstance(pattern, str):  # such as the function below `@hub.topic` without a call
            raise TypeError(f'expected the pattern of a topic, as in @hub.topic("chat:*"), got {pattern!r}')

        def declare(function: Function) -> Function:
            self._core.declare(
                Declaration(
                    pattern,
                    function,
                    history=history,
                    keep=keep,
                    presence=presence,
                    lagging=lagging or ("catch-up" if history else "disconnect"),
                    raw=raw,
                    clients_publish=clients_publish,
                    max_message=max_message,
                    frame=frame,
                    type=type,
                )
            )
            return function

        return declare

    def authenticate(self, function: Function) -> Function:
        """Have a function say who a client is that connects by the Centrifugo protocol; a decorator.

        It is called once for each connection with an `Ask`, whose `token` and `data` are the client's, and sets
        `ask.user`, perhaps `ask.expires` and `ask.info`. `Denied` closes the connection with its `code`, `Expired` asks
        the client for a new token. Without such a function the user is the connection's `user`, if it has one.

        Raises:
            ValueError: there is such a function already.
        """
        if self._gate.authenticate_by is not None:
            raise ValueError("this hub has a function for authenticate already")
        if not callable(function):
            raise TypeError(f"expected a function, got {function!r}")
        self._gate.authenticate_by = function
        return function

    def call(self, method: str) -> Callable[[Function], Function]:
        """Have a function answer the calls (rpc) of clients; a decorator.

        It is called with a `Call`, and returns a JSON value. `Denied` is told to the client; what else it raises is
        logged, and the client learns that it failed.

        Args:
            method: the name that clients call.

        Raises:
            ValueError: there is a function for it already.
        """
        check_name(method)

        def declare(function: Function) -> Function:
            if method in self._gate.calls:
                raise ValueError(f"this hub has a function for the call {method!r} already")
            if not callable(function):
                raise TypeError(f"expected a function, got {function!r}")
            self._gate.calls[method] = function
            return function

        return declare

    def on_message(self, function: Function) -> Function:
        """Have a function take the messages that clients send to the program itself (`send`); a decorator.

        ::

            @hub.on_message
            async def said(call):
                log(call.user, call.data)

        It is called with a `Call`, once for each message, and those of a connection one after the other in their
        order. There is no answer: its result is ignored, its exception is logged. Without such a function
        these messages are dropped, and one warning says so.

        Raises:
            ValueError: there is such a function already.
        """
        if self._gate.message_by is not None:
            raise ValueError("this hub has a function for on_message already")
        if not callable(function):
            raise TypeError(f"expected a function, got {function!r}")
        self._gate.message_by = function
        return function

    # --- life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._core.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._core.end()

    async def _start_with_server(self) -> None:
        """Start, before a server listens."""
        await self._core.start()

    async def _end_with_server(self) -> None:
        """End, after the server's last connection."""
        await self._core.end()

    def _share(self) -> Shared | None:
        """Have the workers that are forked from now on share a process, which has the engine that was this one's."""
        engine = self._core.engine
        if not isinstance(engine, MemoryEngine):
            return None
        from .engines.local import LocalEngine  # only workers need it
        from .engines.process import Shared

        self._shared = engine, Shared(engine)
        self._core.engine = LocalEngine(self._shared[1].path, self._core.timeout)
        return self._shared[1]

    def _unshare(self) -> None:
        """Go on in this process, when the workers have ended."""
        if self._shared is not None:
            self._core.engine, shared = self._shared
            self._shared = None
            shared.close()

    @property
    def health(self) -> Health:
        """How the engine does. Safe in any thread."""
        return self._core.engine.health

    def stats(self) -> HubStats:
        """Return the statistics of this process since the hub was started. Safe in any thread."""
        node = self._core.running
        return HubStats() if node is None else node.stats()

    def _shown_topics(self) -> list[tuple[str, int, int, int]]:
        """The topics that the live page shows."""
        node = self._core.running
        return [] if node is None else node.shown_topics()

    def __repr__(self) -> str:
        state = "not started" if self._core.running is None else "running"
        return f"<lapwing.Hub {state} on {type(self._core.engine).__name__}>"

    # --- publishing ------------------------------------------------------------------------------------------------

    async def publish(
        self, topic: str, data: object, *, key: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Position:
        """Publish a message, and wait until it is stored and on its way.

        Args:
            topic: the topic.
            data: a JSON value, or the bytes of one; on a raw topic `bytes` or `str`, on one of text `str`. Data classes
                go out as objects.
            key: the same key within two minutes is the same message: it is stored and sent once, and this returns the
                first position again. Only for topics with a history.
            tags: short strings by name, for the filters of subscribers.

        Returns:
            The position; 0 on a topic without history.

        Raises:
            LookupError: no pattern matches the topic.
            PublishError: the message is not stored, or this is not known: see its `stored`.
            TypeError, ValueError: the data are not of the topic's kind, or too long; or `key` on a topic without
                history.
            RuntimeError: the hub is not running, or runs in another event loop.

        Cancelled, the message may be stored or not: with a key it can be published again.
        """
        return await self._core.publish(topic, data, key, Origin.with_tags(tags))

    def publish_soon(self, topic: str, data: object, *, tags: Mapping[str, str] | None = None) -> None:
        """Publish a message without waiting. What then fails is counted, and logged once a minute.

        Up to 1 MiB waits for an engine that is slow; further messages are dropped and counted. Messages of a
        topic go out in the order of these calls.

        Args:
            topic: the topic.
            data: as for `publish`.
            tags: as for `publish`.

        Raises:
            LookupError, TypeError, ValueError, RuntimeError: as for `publish`.
        """
        self._core.publishing().soon(topic, data, Origin.with_tags(tags))

    def publish_sync(
        self, topic: str, data: object, *, key: str | None = None, tags: Mapping[str, str] | None = None
    ) -> Position:
        """Publish from another thread, such as that of a handler that is a plain function; see `publish`.

        Raises:
            RuntimeError: this is the thread of the hub's event loop, or the hub does not run, or is stopped.
        """
        return self._core.call_from_thread(self.publish, topic, data, key=key, tags=tags)

    # --- subscribing -----------------------------------------------------------------------------------------------

    def subscribe(
        self,
        *topics: str,
        since: int | datetime | Mapping[str, int | datetime | None] | None = None,
        state: Callable[[Any], Any] | None = None,
    ) -> Subscription[Any]:
        """Subscribe to one topic, or to several: a `Subscription`, to be entered with `async with`.

        In a thread, such as that of a handler that is a plain function, it is entered with `with`.

        Args:
            topics: the topics.
            since: where to begin: behind a position that a message had, or at a moment. None: with the next message
                (of a topic with `history=1` with its last message). For several topics a mapping by topic.
            state: a function, or an `async def` one, that loads the program's state of the topic; it is called with
                a position, first and again after each loss, and its result is the subscription's `state`. The state
                may be newer than the position: apply messages so that twice is once. With it no `Lost` is raised.
                For several topics it is called with the one that is to be loaded, as a mapping to its position.

        Raises:
            LookupError: no pattern matches one of them.
            TypeError, ValueError: a name is invalid, there is none, or `since` is none of these.
        """
        if not topics:
            raise ValueError("expected a topic to subscribe to, got none")
        if len(set(topics)) != len(topics):
            raise ValueError(f"expected different topics, got {topics}")
        for topic in topics:
            self._core.declarations.find(check_name(topic))
        if len(topics) > 1 and since is not None and not isinstance(since, Mapping):
            raise TypeError(f"expected since to be a mapping for several topics, got {since!r}")
        for each in since.values() if isinstance(since, Mapping) else [since]:
            check_since(each)
        if isinstance(since, Mapping) and (unknown := set(since) - set(topics)):
            raise ValueError(f"since names topics that are not subscribed to: {sorted(unknown)}")
        if state is not None and not callable(state):
            raise TypeError(f"expected state to be a function of a position, got {state!r}")
        return Subscription(self._core, topics, since, state)

    async def history(self, topic: str, limit: int = 100, *, since: int | datetime | None = None) -> list[Message[Any]]:
        """Return messages that a topic keeps, the oldest first.

        Args:
            topic: the topic.
            limit: at most so many, and no more than the topic keeps.
            since: those after a position, or since a moment; None: the last ones.

        Raises:
            Lost: it is not known whether these were all after `since`.
            LookupError: no pattern matches the topic, or it keeps no history.
            OSError: the engine cannot be reached.
        """
        check_count("limit", limit)
        return await self._core.history(topic, limit, since)

    # --- presence --------------------------------------------------------------------------------------------------

    async def present(self, topic: str, limit: int = 1000) -> Present:
        """Return who is subscribed to a topic, in all processes of the hub.

        Args:
            topic: the topic.
            limit: as many members at most; `count` says how many there are.

        Raises:
            LookupError: no pattern matches the topic, or it was declared without `presence=True`.
            OSError: the engine cannot be reached.
        """
        check_count("limit", limit, least=0)
        return await self._core.present(topic, limit)

    # --- permissions -----------------------------------------------------------------------------------------------

    async def revoke(
        self, topic: str | None = None, *, user: str | None = None, client: str | None = None, refresh: bool = False
    ) -> None:
        """End subscriptions of clients: those that all of the arguments mean, here at once, and in all workers.

        A client may ask for a revoked permission again: the topic's function has to say no then. Subscriptions of the
        program itself are not meant.

        Args:
            topic: the topic; None: every one.
            user: the user; None: every one.
            client: the identifier of a connection; None: every one.
            refresh: clients are to subscribe again at once, rather than for good: their permission has changed.

        Raises:
            ValueError: none of topic, user and client is given.
            PublishError: other workers may not have been told; here it is done.
        """
        self._core.node()
        if topic is None and user is None and client is None:
            raise ValueError("expected topic, user or client: without any of them all subscriptions would end")
        await self._core.revoke(topic, user, client, refresh=refresh)

    # --- clients of the Centrifugo protocol ------------------------------------------------------------------------

    async def serve(self, ws: Connection) -> None:
        """Serve a connection whose client speaks the Centrifugo client protocol: a handler like any other.

        ::

            lapwing.run(port=8080, default=hub.serve)

        As the default handler it also serves the subprotocols `centrifuge-protobuf` and `centrifuge-json`; without one
        of them, and by another name, frames are JSON. The server starts and ends the hub whose handler this is.

        A client may subscribe to topics that are declared, if their functions let it, publish, ask for history and
        presence, and call the functions of `call`. Where it may not it is told so, and stays connected. The wire's word
        for a topic is "channel".

        Raises:
            RuntimeError: the hub is not running.

        Cancelled, it ends the client's subscriptions.
        """
        from .serving import serve

        await serve(self._core, self._gate, ws)

    serve.subprotocols = ("centrifuge-protobuf", "centrifuge-json")  # type: ignore[attr-defined]

    # --- plain WebSockets ------------------------------------------------------------------------------------------

    def join(
        self,
        ws: Any,
        topic: str,
        *,
        since: int | datetime | None = None,
        token: str = "",
        data: Any = None,
        on_lost: Callable[[Lost], Any] | None = None,
    ) -> Any:
        """Have a topic's messages go to a plain WebSocket of a server; the topic's function is asked.

        ::

            joined = await hub.join(ws, "prices:EUR")   # in a handler that is an async def function
            joined = hub.join(ws, "prices:EUR")         # in one that is a plain function

        Payloads go out as they are, or as the topic's `frame` makes them. The WebSocket leaves when it is closed, or by
        `Joined.leave`. How slow readers are treated is said by the topic's `lagging` and the server's `lag_budget` and
        `lag_timeout`.

        Args:
            ws: a connection of a server.
            topic: the topic.
            since: where to begin: behind a position or at a moment; None: with the next message. See
                `Joined.recovered`.
            token: for the topic's function, as `Ask.token`.
            data: for the topic's function, as `Ask.data`.
            on_lost: called in the event loop with `Lost` when messages may be lost, also at the beginning; they go on
                behind `lost.now`. None: the WebSocket is closed with 1013 (try again later) when messages are lost
                later; at the beginning `Joined.recovered` says it.

        Returns:
            `Joined`, to be awaited where `ws` is of the asyncio face.

        Raises:
            Denied, Expired: the topic's function says no.
            Unavailable: it failed.
            TooManyTopics: a limit is reached.
            LookupError: no pattern matches the topic.
            ValueError: the WebSocket is in this room already, or the name is invalid.
            TypeError: `ws` is not a connection of a server.
            ConnectionClosed: it is closed already.
            OSError: the engine cannot be reached.
        """
        check_since(since)
        return self._rooms.join(ws, topic, since=since, token=token, data=data, on_lost=on_lost)
