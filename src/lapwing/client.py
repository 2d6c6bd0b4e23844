"""`connect`, which serves both faces, and the clients under the names that lua-websockets gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Sequence
    from types import TracebackType

    from .connecting.reconnect import Backoff, Reconnect, Reconnection
    from .faces.aio.client import AsyncClient
    from .faces.blocking.client import Client
    from .options import ClientOptions, ConnectOptions

__all__ = ["AsyncReconnecting", "Connector", "aio", "connect", "new", "sync"]


class Connector:
    """What `connect` returns: `with` connects a blocking client, `async with` and `await` connect an asyncio client.

    With `reconnect`, `for` gives one connected blocking client after the other, and `async for` asyncio clients.

    Nothing happens before one of these. At the end of a block the connection is closed: with 1000, with 1011 after an
    exception, with 1001 when the block was cancelled or interrupted.
    """

    __slots__ = ("_client", "_options", "_protocol", "_reconnect", "_url")

    def __init__(
        self,
        url: str,
        protocol: str | Sequence[str] | None,
        options: ClientOptions,
        reconnect: bool | Reconnect = False,
    ) -> None:
        self._url = url
        self._protocol = protocol
        self._options = options
        self._reconnect = reconnect
        self._client: Client | AsyncClient | None = None

    def _require_once(self) -> None:
        if self._reconnect is not False:
            raise TypeError(
                "reconnect= is for a loop: write 'for ws in lapwing.connect(..., reconnect=True)', with 'async for' in "
                "asyncio; or leave reconnect out"
            )

    def __enter__(self) -> Client:
        from .faces.blocking.client import Client

        self._require_once()
        client = Client(**self._options)
        client.connect(self._url, self._protocol)
        self._client = client
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.__exit__(kind, error, traceback)  # type: ignore[union-attr]

    async def _connect(self) -> AsyncClient:
        from .faces.aio.client import AsyncClient

        self._require_once()
        client = AsyncClient(**self._options)
        await client.connect(self._url, self._protocol)
        return client

    def __await__(self) -> Generator[Any, None, AsyncClient]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncClient:
        client = await self._connect()
        self._client = client
        return client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)  # type: ignore[union-attr]

    def _backoff(self) -> Backoff:
        """Begin a loop of connections."""
        if self._reconnect is False:
            from .checking import check_names
            from .options import ConnectOptions

            check_names(ConnectOptions.__annotations__, self._options)  # perhaps `reconnect` is misspelt
            raise TypeError(
                "connect() gives one connection: write 'with lapwing.connect(...) as ws' and iterate over ws for its "
                "messages, with 'async' in asyncio; or pass reconnect=True to iterate over connections"
            )
        from .connecting.reconnect import Backoff, Reconnect

        if self._options.get("sock") is not None:
            raise ValueError("sock serves one connection: leave it out, or leave out reconnect")
        if self._reconnect is True:
            return Backoff(Reconnect())
        if isinstance(self._reconnect, Reconnect):
            return Backoff(self._reconnect)
        raise TypeError(f"expected reconnect to be True, False or a lapwing.Reconnect, got {self._reconnect!r}")

    def __iter__(self) -> Generator[Client]:
        return _reconnecting(self._url, self._protocol, self._options, self._backoff())

    def __aiter__(self) -> AsyncReconnecting:
        return AsyncReconnecting(self._url, self._protocol, self._options, self._backoff())

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"connect() returns no connection yet and so has no {name!r}: write 'with lapwing.connect(...) as ws' in a "
            "blocking program, 'async with lapwing.connect(...) as ws' or 'ws = await lapwing.connect(...)' in asyncio"
        )

    def __repr__(self) -> str:
        from .protocol.url import shown_url

        return f"<connect({shown_url(str(self._url))}): use it with 'with', 'async with' or 'await'>"


def connect(url: str, protocol: str | Sequence[str] | None = None, **options: Unpack[ConnectOptions]) -> Connector:
    """Connect to a WebSocket server (RFC 6455 section 4.1), blocking or with asyncio.

    ::

        with lapwing.connect(url) as ws:        # a blocking Client
        async with lapwing.connect(url) as ws:  # an AsyncClient
        ws = await lapwing.connect(url)         # an AsyncClient, to be closed by you

        for ws in lapwing.connect(url, reconnect=True):        # one Client after the other
        async for ws in lapwing.connect(url, reconnect=True):  # one AsyncClient after the other

    The loops connect again when an attempt fails for a reason that may pass, and when the body comes to its end or to
    `continue`: the connection is closed before that, if it is not yet. `break` closes it and leaves the loop. An
    exception of the body leaves the loop as ever, `ConnectionClosed` included: catch it, and `continue`. See
    `lapwing.Reconnect` for the delays, and for the errors that are final and raised. Cancelling an `async for` leaves
    nothing open. A connection on which a wait has expired, with nothing from the peer since, is aborted rather than
    closed.

    `contextlib.closing(iter(connector))`, or `aclosing(aiter(connector))` in asyncio, closes at the end of its block,
    and waits for the closing handshake.

    Args:
        url: `ws://host[:port]/path?query`, or `wss://` for TLS; `ws+unix:///path/of/socket:/path?query`, or
            `wss+unix://`, for a unix socket.
        protocol: a subprotocol to ask for, or a sequence of them in the order of preference.
        **options: see `lapwing.options.ConnectOptions`. `timeout` is among them: seconds that a waiting method waits
            when it is not given its own, None for ever.

    Raises:
        InvalidURL, HandshakeError, TimeoutError, OSError: as `Client.connect` and `AsyncClient.connect` do, when it is
            entered or awaited.
        TypeError, ValueError: an option does not exist or is out of its range; raised at the same time.
    """
    reconnect = options.pop("reconnect", False)
    return Connector(url, protocol, options, reconnect)


def _reconnecting(
    url: str, protocol: str | Sequence[str] | None, options: ClientOptions, backoff: Backoff
) -> Generator[Client]:
    """Give one connected client after the other; closing the generator closes the last one."""
    import time

    from .faces.blocking.client import Client

    while True:
        client = Client(**options)
        try:
            client.connect(url, protocol)
        except Exception as error:  # noqa: BLE001 - `failed` raises it again when it is final
            delay = _announce(url, backoff.failed(error, time.time()), backoff)
        else:
            backoff.connected()
            try:
                yield client
            finally:
                left_at, lasted = backoff.settings.clock(), client._lasted()
                if client._is_stalled():
                    client.abort()
                closed = client.close()
            delay = _announce(url, backoff.ended(closed, left_at, lasted), backoff)
        time.sleep(delay)


class AsyncReconnecting:
    """The iterator of `async for`: one connected `AsyncClient` after the other.

    An asynchronous generator makes the connections, so the event loop ends it wherever the loop over it is left: when
    its last reference goes, and when the event loop shuts down. That begins to close the last connection, and the
    reactor does the rest. `aclose` waits for it, too.
    """

    __slots__ = ("_client", "_connections")

    def __init__(
        self, url: str, protocol: str | Sequence[str] | None, options: ClientOptions, backoff: Backoff
    ) -> None:
        self._connections = _connecting(url, protocol, options, backoff)
        self._client: AsyncClient | None = None

    def __aiter__(self) -> AsyncReconnecting:
        return self

    async def __anext__(self) -> AsyncClient:
        self._client = None
        self._client = await anext(self._connections)
        return self._client

    async def aclose(self) -> None:
        """Close the last connection, with its closing handshake; there is no other after it.

        Cancelled, the closing goes on.
        """
        await self._connections.aclose()
        if self._client is not None:
            await self._client.close()


async def _connecting(
    url: str, protocol: str | Sequence[str] | None, options: ClientOptions, backoff: Backoff
) -> AsyncGenerator[AsyncClient]:
    import asyncio
    import time

    from .faces.aio.client import AsyncClient

    while True:
        client = AsyncClient(**options)
        try:
            await client.connect(url, protocol)
        except Exception as error:  # noqa: BLE001 - `failed` raises it again when it is final
            delay = _announce(url, backoff.failed(error, time.time()), backoff)
        else:
            backoff.connected()
            try:
                yield client
            finally:
                left_at, lasted = backoff.settings.clock(), client._lasted()
                if client._is_stalled():
                    client.abort()
                # Without a wait: a task of the event loop that shuts down may be what closes this generator.
                client._begin_close(1000, "")
            delay = _announce(url, backoff.ended(await client.close(), left_at, lasted), backoff)
        await asyncio.sleep(delay)


def _announce(url: str, attempt: Reconnection, backoff: Backoff) -> float:
    """Say that there will be another attempt, to the program if it wants to know, or in the log; returns the delay."""
    on_attempt = backoff.settings.on_attempt
    if on_attempt is not None:
        on_attempt(attempt)
        return attempt.delay
    import logging

    from .protocol.url import parse_url

    # Without path and query: they may hold secrets.
    where = parse_url(url)
    said = "connecting to %s again in %.1f s, attempt %d: %s"
    what = (where.unix_path or where.host_header, attempt.delay, attempt.number, attempt.cause)
    logger = logging.getLogger("lapwing.client")
    if backoff.is_news(attempt.cause):
        logger.warning(said, *what)
    else:
        logger.info(said, *what)
    return attempt.delay


def sync(**options: Unpack[ClientOptions]) -> Client:
    """Make a blocking client: `lapwing.Client(**options)`."""
    from .faces.blocking.client import Client

    return Client(**options)


#: The same under its other name.
new = sync


def aio(**options: Unpack[ClientOptions]) -> AsyncClient:
    """Make an asyncio client: `lapwing.AsyncClient(**options)`."""
    from .faces.aio.client import AsyncClient

    return AsyncClient(**options)
