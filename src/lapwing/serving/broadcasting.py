"""The broadcasts of a server: from its event loop, and from other threads."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from ..broadcast.fanout import deliver, is_served_in
from ..broadcast.message import Broadcast
from ..broadcast.policy import Policy
from ..checking import check_choice
from ..faces.aio.threadsafe import ThreadsafeCalls
from ..faces.connection import BaseConnection
from ..options import Lagging
from ..protocol.prepared import Prepared

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future

    from ..broadcast.reader import Reader
    from ..options import ServerSettings
    from .handlers import Handlers

__all__ = ["ALL", "All", "Broadcaster", "connections_among"]

_Connection = TypeVar("_Connection", bound=BaseConnection)


class All:
    """The default of `broadcast`'s protocol: every connection, with any subprotocol."""

    def __repr__(self) -> str:
        return "every"


ALL: Final = All()

#: Held while a server gets its `ThreadsafeCalls`.
_making_threadsafe_calls = threading.Lock()


class Broadcaster:
    """Sends broadcasts to the connections of one server; see `Server.broadcast` for the arguments.

    Args:
        loop: the event loop.
        handlers: the server's.
        settings: the server's.
        every_reader: returns the drivers of all its connections.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handlers: Handlers,
        settings: ServerSettings,
        every_reader: Callable[[], list[Reader]],
    ) -> None:
        self._loop = loop
        self._process = os.getpid()
        self._thread = threading.get_ident()  # under gevent: that of the greenlet
        self._handlers = handlers
        self._settings = settings
        self._every_reader = every_reader
        budget = settings.lag_budget or settings.max_buffered
        self._policies = {name: Policy(name, budget, settings.lag_timeout) for name in get_args(Lagging)}
        self._threadsafe_calls: ThreadsafeCalls | None = None

    def send(
        self,
        message: object,
        protocol: str | All | None,
        opcode: int | None,
        *,
        compress: bool | None = None,
        lagging: Lagging | None = None,
        key: object = None,
        to: Iterable[Any] | None = None,
    ) -> int:
        """Send a message from the event loop; returns to how many connections it goes."""
        if not isinstance(protocol, All) and not self._may_serve(protocol):
            offered = ", ".join(map(repr, self._handlers.by_protocol)) or "none"
            raise ValueError(f"expected a subprotocol of this server ({offered}), got {protocol!r}")
        policy = self._settings.lagging if lagging is None else check_choice("lagging", lagging, Lagging)
        broadcast = Broadcast(Prepared(message, opcode, compress), self._policies[policy], key)
        if to is None:
            readers = self._every_reader()
        else:
            readers = [connection._reader for connection in connections_among(to, self._loop)]
        if isinstance(protocol, All):
            return deliver(broadcast, readers, to_all=True)
        return deliver(broadcast, readers, protocol)

    def _may_serve(self, protocol: str | None) -> bool:
        """Tell whether there may be connections of a subprotocol: the program may choose one that has no handler."""
        if protocol is None or protocol in self._handlers.by_protocol:
            return True
        is_open_choice = self._settings.on_request is not None or bool(self._handlers.opening)
        return self._handlers.default is not None and is_open_choice

    def leave(
        self, message: object, protocol: str | All | None, opcode: int | None, *, to: Iterable[Any] | None, **how: Any
    ) -> Future[int]:
        """Leave a broadcast with the event loop, from any thread; returns a future of its result."""
        chosen = None if to is None else connections_among(to, self._loop)
        if self._threadsafe_calls is None:
            with _making_threadsafe_calls:
                if self._threadsafe_calls is None:
                    self._threadsafe_calls = ThreadsafeCalls(self._loop, self._process)
        return self._threadsafe_calls.submit(partial(self.send, to=chosen, **how), message, protocol, opcode)

    def send_from_thread(self, message: object, protocol: str | None, opcode: int | None, **how: Any) -> int:
        """Have the loop broadcast for another thread, and wait for the result."""
        if threading.get_ident() == self._thread:
            return self.send(message, protocol, opcode, **how)
        sent = self.leave(message, protocol, opcode, **{"to": None, **how})
        try:
            return sent.result(self._settings.closing)
        except TimeoutError:
            sent.cancel()
            raise TimeoutError(
                f"the server's event loop did not broadcast within {self._settings.closing:g} s: something blocks it"
            ) from None


def connections_among(connections: Iterable[_Connection], loop: asyncio.AbstractEventLoop) -> list[_Connection]:
    """Make a list of connections to broadcast to, each once.

    Args:
        connections: any iterable of connections of servers in this event loop; closed ones are no error.
        loop: the event loop.

    Raises:
        TypeError: it is not iterable, or holds something else.
        ValueError: one of them is a client's, or belongs to another event loop.
    """
    if isinstance(connections, BaseConnection):
        raise TypeError("expected a set of connections, or another iterable, got one connection: write to=[connection]")
    chosen = list(connections if isinstance(connections, set | frozenset) else dict.fromkeys(connections))
    for connection in chosen:
        if not isinstance(connection, BaseConnection):
            raise TypeError(
                f"expected connections to broadcast to, got {type(connection).__name__}: {connection!r:.80}"
            )
        if not is_served_in(connection._reader, loop):
            raise ValueError(f"expected connections of servers in this event loop, got {connection!r}")
    return chosen
