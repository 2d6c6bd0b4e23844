"""The handlers of a server, checked: what could not serve any connection is refused before there is one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from ..protocol.errors import ConnectionClosed

if TYPE_CHECKING:
    from ..faces.aio import Connection
    from ..faces.blocking import BlockingConnection
    from .accepting import ServerConnection
    from .threaded import ThreadConnection

__all__ = ["Handler", "Handlers", "check_place", "has_not_failed"]

#: What serves a connection: called with it, already open, in a task of its own (`async def`) or in a thread (`def`).
Handler = Callable[["Connection"], Coroutine[Any, Any, None]] | Callable[["BlockingConnection"], None]


class Handlers:
    """The handlers of a server, checked."""

    def __init__(self, protocols: Mapping[str, Handler] | None, default: Handler | None) -> None:
        if not protocols and default is None:
            raise ValueError(
                "expected protocols={name: handler} or default=handler: without either nobody can be served"
            )
        if protocols is not None and not isinstance(protocols, Mapping):
            raise TypeError(
                f"expected protocols to be a mapping of subprotocol to handler, got {protocols!r}: a handler for all "
                "clients is default=handler"
            )
        self.by_protocol = dict(protocols or {})
        self.default = default
        #: The subprotocols whose handlers are plain functions; None for the default one.
        self.plain: set[str | None] = set()
        for name, handler in self.by_protocol.items():
            self._check(name, handler, f"the handler of {name!r}")
        if default is not None:
            self._check(None, default, "the default handler")

    def _check(self, name: str | None, handler: Handler, what: str) -> None:
        _check_handler(handler, what)
        if not _is_async(handler):
            self.plain.add(name)

    def of(self, subprotocol: str | None) -> Handler:
        """Return the handler of a connection, by its subprotocol."""
        handler = self.default if subprotocol is None else self.by_protocol[subprotocol]
        if handler is None:
            raise LookupError("a connection without a subprotocol is only accepted where there is a default handler")
        return handler


def has_not_failed(error: BaseException, connection: ServerConnection | ThreadConnection) -> bool:
    """Tell whether a handler ended only because its connection did: by `ConnectionClosed`, in exception groups too."""
    if isinstance(error, BaseExceptionGroup):
        return all(has_not_failed(each, connection) for each in error.exceptions)
    return isinstance(error, ConnectionClosed) and not connection._is_open


def _is_async(handler: object) -> bool:
    """Tell whether a handler is a coroutine function, or an object that is called like one."""
    while isinstance(handler, partial):
        handler = handler.func
    # An instance is called by way of its class.
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


def check_place(port: object, interface: object) -> None:
    """Refuse what was taken for a port or an interface, and is something else: the arguments in another order, say.

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
