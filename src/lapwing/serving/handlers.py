"""The handlers of a server, checked: what could not serve any connection is refused before there is one."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..protocol.errors import ConnectionClosed

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ..faces.aio.connection import Connection
    from ..faces.blocking.connection import BlockingConnection
    from ..opening.server import ServerOpening
    from ..options import Hub
    from .accepting import ServerConnection
    from .owner import Owner
    from .threaded import ThreadConnection

__all__ = ["Handler", "Handlers", "OpeningHandler", "check_place", "has_not_failed", "name_in_log"]

#: What serves a connection: called with it, already open, in a task of its own (`async def`) or in a thread (`def`).
Handler = Callable[["Connection"], Coroutine[Any, Any, None]] | Callable[["BlockingConnection"], None]


class OpeningHandler(ABC):
    """A handler that is called with a request which was let through, and opens the connection or refuses it itself."""

    __slots__ = ()

    @abstractmethod
    def _take(self, server: Any, connection: ServerConnection, opening: ServerOpening) -> Owner[ServerConnection]:
        """Return the owner of a connection from its request on; the handler is called with the connection next.

        Args:
            server: the `Server` that the connection belongs to.
            connection: the connection.
            opening: its opening, whose request is granted and not answered yet.
        """

    @abstractmethod
    def _lifespan(self, server: Any) -> AbstractAsyncContextManager[Any]:
        """Return what is to be set up for a server before its first connection, and taken down after its last."""

    @abstractmethod
    async def __call__(self, ws: Connection) -> None:
        """Serve the connection."""


class Handlers:
    """The handlers of a server, checked."""

    def __init__(self, protocols: Mapping[str, Handler] | None, default: Handler | None) -> None:
        if not protocols and default is None:
            raise ValueError(
                "expected protocols={name: handler} or default=handler: without either there is no handler for a client"
            )
        if protocols is not None and not isinstance(protocols, Mapping):
            raise TypeError(
                f"expected protocols to be a mapping of subprotocol to handler, got {protocols!r}: a handler for all "
                "clients is default=handler"
            )
        self.by_protocol = dict(protocols or {})
        for name in getattr(default, "subprotocols", ()):  # it speaks these by itself
            self.by_protocol.setdefault(name, default)  # type: ignore[arg-type]
        self.default = default
        #: The subprotocols whose handlers are plain functions; None for the default one.
        self.plain: set[str | None] = set()
        for name, handler in self.by_protocol.items():
            self._check(name, handler, f"the handler of {name!r}")
        if default is not None:
            self._check(None, default, "the default handler")
        #: Those that open connections themselves, by subprotocol, beneath the decorators around them.
        self.opening: dict[str | None, OpeningHandler] = {}
        given: list[tuple[str | None, Any]] = [(None, default), *self.by_protocol.items()]
        for place, each in given:
            inner = None if each is None else inspect.unwrap(each)
            if isinstance(inner, OpeningHandler):
                self.opening[place] = inner
        owners = (getattr(handler, "__self__", None) for handler in (default, *self.by_protocol.values()))
        #: The hub whose own method one of them is; None for none.
        self.hub: Hub | None = next((owner for owner in owners if hasattr(owner, "_start_with_server")), None)

    def _check(self, name: str | None, handler: Handler, what: str) -> None:
        _check_handler(handler, what)
        if not _is_async(handler):
            self.plain.add(name)

    @classmethod
    def of_nobody(cls, subprotocols: Collection[str]) -> Handlers:
        """Return those of a server whose connections the program serves itself; ValueError where a name is wrong."""
        if isinstance(subprotocols, str):
            raise TypeError(f"expected subprotocols to be a collection of names: write [{subprotocols!r}]")
        return cls(dict.fromkeys(subprotocols, _serve_nobody), _serve_nobody)

    def require_async(self, option: str) -> None:
        """Refuse handlers that are plain functions; ValueError where one is."""
        for name in self.plain:
            what = "the default handler" if name is None else f"the handler of {name!r}"
            raise ValueError(
                f"expected {what} to be an 'async def' function with {option}, got a plain function: that runs in a "
                "thread, which waits for a descriptor, and here the event loop's transport has the bytes. Leave out "
                f"{option}, or make it 'async def' and await asyncio.to_thread() for what blocks"
            )

    def of(self, subprotocol: str | None) -> Handler:
        """Return the handler of a connection, by its subprotocol."""
        handler = self.default if subprotocol is None else self.by_protocol.get(subprotocol, self.default)
        if handler is None:
            raise LookupError("a connection without a handler for its subprotocol needs a default handler")
        return handler

    def serve(self, subprotocol: str | None) -> bool:
        """Tell whether there is a handler for a subprotocol, or for none."""
        return self.default is not None or subprotocol in self.by_protocol

    def opener(self, subprotocol: str | None) -> OpeningHandler | None:
        """Return the handler of a connection, by its subprotocol, if that opens connections itself."""
        return self.opening.get(subprotocol if subprotocol in self.by_protocol else None)

    def is_plain(self, subprotocol: str | None) -> bool:
        """Tell whether the handler of a connection is a plain function, by its subprotocol."""
        return (subprotocol if subprotocol in self.by_protocol else None) in self.plain


async def _serve_nobody(ws: Connection) -> None:
    raise AssertionError(f"the program serves {ws!r}")


def has_not_failed(error: BaseException, connection: ServerConnection | ThreadConnection) -> bool:
    """Tell whether a handler ended only because its connection did: by `ConnectionClosed`, in exception groups too."""
    if isinstance(error, BaseExceptionGroup):
        return all(has_not_failed(each, connection) for each in error.exceptions)
    return isinstance(error, ConnectionClosed) and not connection._is_open


def name_in_log(handler: Callable[..., object], subprotocol: str | None) -> str:
    """Return what a log calls the handler of a connection: the function, and which clients it serves."""
    inner: Any = inspect.unwrap(handler)
    while isinstance(inner, partial):
        inner = inspect.unwrap(inner.func)
    name: str = getattr(inner, "__qualname__", type(inner).__qualname__)
    clients = "default" if subprotocol is None else f"subprotocol {subprotocol}"
    return f"{name.rpartition('<locals>.')[2]} ({clients})"


def _is_async(handler: object) -> bool:
    """Tell whether a handler is a coroutine function, or an object that is called like one."""
    while isinstance(handler, partial):
        handler = handler.func
    # An instance is called by way of its class.
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def check_place(port: object, interface: object) -> None:
    """Refuse a port or an interface of the wrong type, such as arguments in another order.

    Raises:
        TypeError: one of them is.
    """
    order = "the first arguments are port, interface, protocols and default"
    if callable(port):
        raise TypeError(f"expected port to be a whole number, got {port!r}: write default=handler; {order}")
    if isinstance(port, str) and isinstance(interface, int):
        raise TypeError(f"expected port to be a whole number, got {port!r}, and interface {interface!r}: {order}")
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"expected port to be a whole number, got {port!r}: {order}")
    if callable(interface):
        raise TypeError(
            f"expected interface to be an address or a name, got {interface!r}: write default=handler; {order}"
        )
    if isinstance(interface, Mapping):
        raise TypeError(
            f"expected interface to be an address or a name, got a mapping: write protocols={{...}}; {order}"
        )
    if not isinstance(interface, (str, Iterable)) or isinstance(interface, (bytes, bytearray)):
        raise TypeError(
            f"expected interface to be an address or a name, or several of them, got {interface!r}: {order}"
        )


def _check_handler(handler: object, what: str) -> None:
    """Refuse early what could not serve any connection."""
    if not callable(handler):
        raise TypeError(
            f"expected {what} to be an 'async def' function or a plain one that takes the connection, got {handler!r}"
        )
    inner: object = handler
    while isinstance(inner, partial):
        inner = inner.func
    name = getattr(inner, "__qualname__", repr(inner))
    if isinstance(inner, type):
        raise TypeError(
            f"expected {what} to be a function that takes the connection, but {name} is a class: give an instance that "
            "can be called, or one of its methods"
        )
    if any(
        check(inner) or check(type(inner).__call__)
        for check in (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    ):
        raise TypeError(
            f"expected {what} to serve the connection when it is called, but {name} is a generator function, of which "
            "nothing would run: it has a 'yield' in it"
        )
    try:
        signature = inspect.signature(handler)
    except ValueError:
        return  # a builtin that does not tell
    try:
        signature.bind(None)
    except TypeError as error:
        raise TypeError(
            f"expected {what} to be called with the connection and nothing else, but {name}{signature} cannot be: "
            f"{error}"
        ) from None
