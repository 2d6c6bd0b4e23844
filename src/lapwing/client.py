"""`connect`, which serves both faces, and the clients under the names that lua-websockets gave them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from types import TracebackType

    from .aio import AsyncClient
    from .options import ClientOptions
    from .sync import Client

__all__ = ["Connector", "aio", "connect", "new", "sync"]


class Connector:
    """What `connect` returns: `with` connects a blocking client, `async with` and `await` connect an asyncio client.

    Nothing happens before one of these. At the end of a block the connection is closed: with 1000, with 1011 after an
    exception, with 1001 when the block was cancelled or interrupted.
    """

    __slots__ = ("_client", "_options", "_protocol", "_url")

    def __init__(self, url: str, protocol: str | Sequence[str] | None, options: ClientOptions) -> None:
        self._url = url
        self._protocol = protocol
        self._options = options
        self._client: Client | AsyncClient | None = None

    def __enter__(self) -> Client:
        from .sync import Client

        client = Client(**self._options)
        client.connect(self._url, self._protocol)
        self._client = client
        return client

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._client.__exit__(kind, error, traceback)  # type: ignore[union-attr]

    async def _connect(self) -> AsyncClient:
        from .aio import AsyncClient

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

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"connect() returns no connection yet and so has no {name!r}: write 'with lapwing.connect(...) as ws' in a "
            "blocking program, 'async with lapwing.connect(...) as ws' or 'ws = await lapwing.connect(...)' in asyncio"
        )

    def __repr__(self) -> str:
        return f"<connect({self._url!r}): use it with 'with', 'async with' or 'await'>"


def connect(  # type: ignore[misc]
    url: str,
    protocol: str | Sequence[str] | None = None,
    *,
    timeout: float | None = None,
    **options: Unpack[ClientOptions],
) -> Connector:
    """Connect to a WebSocket server (RFC 6455 section 4.1), blocking or with asyncio.

    ::

        with lapwing.connect(url) as ws:        # a blocking Client
        async with lapwing.connect(url) as ws:  # an AsyncClient
        ws = await lapwing.connect(url)         # an AsyncClient, to be closed by you

    Args:
        url: `ws://host[:port]/path?query`, or `wss://` for TLS.
        protocol: a subprotocol to ask for, or a sequence of them in the order of preference.
        timeout: seconds that a waiting method waits when it is not given its own, None for ever.
        **options: see `lapwing.options.ClientOptions`.

    Raises:
        InvalidURL, HandshakeError, TimeoutError, OSError: as `Client.connect` and `AsyncClient.connect` do, when it is
            entered or awaited.
        TypeError, ValueError: an option does not exist or is out of its range; likewise.
    """
    return Connector(url, protocol, {"timeout": timeout, **options})  # type: ignore[typeddict-item]


def sync(**options: Unpack[ClientOptions]) -> Client:
    """Make a blocking client: `lapwing.Client(**options)`."""
    from .sync import Client

    return Client(**options)


#: The same under its other name.
new = sync


def aio(**options: Unpack[ClientOptions]) -> AsyncClient:
    """Make an asyncio client: `lapwing.AsyncClient(**options)`."""
    from .aio import AsyncClient

    return AsyncClient(**options)
