"""What `listen` returns: a server to be, for `await` and for `async with`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from types import TracebackType

__all__ = ["Listening"]


class _Closing(Protocol):
    async def close(self) -> None: ...


Server = TypeVar("Server", bound=_Closing)


class Listening(Generic[Server]):
    """Awaited it is the server, with `async with` it is the server that closes at the end.

    Args:
        make: makes the server.
    """

    def __init__(self, make: Callable[[], Awaitable[Server]]) -> None:
        self._make = make
        self._server: Server | None = None

    def __await__(self) -> Generator[Any, None, Server]:
        return self._make().__await__()

    async def __aenter__(self) -> Server:
        self._server = await self
        return self._server

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.close()

    def __enter__(self) -> None:
        raise TypeError(
            "a server is an asyncio program: write 'async with lapwing.listen(...)', or use lapwing.run(...)"
        )

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"listen() returns no server yet and so has no {name!r}: write 'server = await lapwing.listen(...)' or "
            "'async with lapwing.listen(...) as server'"
        )
