"""Who talks to whom: every peer by another author with every kind of end that lapwing has, each way round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import pytest

from lapwing import Deflate
from tests.interop.ends import TIMEOUT, AsyncPeer, Awaited, End, Listening, LoopThread, Peer
from tests.interop.ours import AsyncioFace, BlockingClient, Engine, ThreadHandlers
from tests.interop.program import ProgramPeer
from tests.interop.with_aiohttp import Aiohttp
from tests.interop.with_libsoup import Libsoup
from tests.interop.with_mojolicious import Mojolicious
from tests.interop.with_netty import Netty
from tests.interop.with_node import Node, Undici
from tests.interop.with_picows import Picows
from tests.interop.with_tornado import Tornado
from tests.interop.with_uwebsockets import UWebSockets
from tests.interop.with_websocket_client import WebsocketClient
from tests.interop.with_websockets import Websockets
from tests.interop.with_websockets_sync import WebsocketsSync
from tests.peers.certificates import Certificates
from tests.peers.uwebsockets import Compression

#: Peers by other authors.
THEIRS: dict[str, Callable[[], Peer | AsyncPeer]] = {
    "websockets": Websockets,
    "websockets+deflate": partial(Websockets, "deflate"),
    "websockets.sync": WebsocketsSync,
    "websockets.sync+deflate": partial(WebsocketsSync, "deflate"),
    "aiohttp": Aiohttp,
    "aiohttp+deflate": partial(Aiohttp, compress=True),
    "websocket-client": WebsocketClient,
    "picows": Picows,
    "ws": Node,
    "tornado": Tornado,
    "tornado+deflate": partial(Tornado, compress=True),
    "mojolicious": Mojolicious,
    "netty": Netty,
    "libsoup": Libsoup,
    "undici": Undici,
    "uwebsockets": partial(UWebSockets, Compression()),
    "uwebsockets+shared": partial(UWebSockets, Compression(shared_decompressor=True)),
    "uwebsockets+window": partial(UWebSockets, Compression(compressor_bits=9)),
}
CLIENTS_ONLY = {"websocket-client", "undici"}
SERVERS_ONLY = {"uwebsockets", "uwebsockets+shared", "uwebsockets+window"}

#: Those that take seconds for a message of 16 MiB.
SLOW = {"libsoup", "undici", "mojolicious", "netty", *SERVERS_ONLY}

#: Those that are not tried over TLS.
PLAIN_ONLY = {"libsoup", "undici", *SERVERS_ONLY}

#: Those that refer to their earlier messages unless they are told not to, and whose clients cannot be told.
TAKING_OVER = ("tornado+deflate", "mojolicious", "netty", "libsoup")

#: Those that cannot be asked to use a smaller window.
FULL_WINDOW_ONLY = {"mojolicious", "netty"}

#: Those that compress, as clients and as servers: the plain aiohttp only as a server.
DEFLATING_CLIENTS = ("websockets+deflate", "websockets.sync+deflate", "aiohttp+deflate", "ws", "undici", *TAKING_OVER)
DEFLATING_SERVERS = (
    "websockets+deflate",
    "websockets.sync+deflate",
    "aiohttp",
    "ws",
    *TAKING_OVER,
    "uwebsockets",
    "uwebsockets+shared",
    "uwebsockets+window",
)

#: Those that differ from others in how they compress alone.
VARIANTS = {"uwebsockets+shared", "uwebsockets+window"}


#: lapwing's own.
OUR_SERVERS: dict[str, Callable[[], Peer | AsyncPeer]] = {
    "listen": AsyncioFace,
    "listen.threads": ThreadHandlers,
    "Endpoint": Engine,
}
OUR_CLIENTS: dict[str, Callable[[], Peer | AsyncPeer]] = {
    "Client": BlockingClient,
    "AsyncClient": AsyncioFace,
    "Endpoint": Engine,
}

#: The same with settings for compression; the plain faces compress, too, but not the plain engine.
_SETTINGS = {
    "deflate": Deflate(threshold=0),
    "takeover": Deflate(threshold=0, context_takeover=True),
    "window": Deflate(threshold=0, context_takeover=True, server_max_window_bits=10, client_max_window_bits=9),
}
for _name, _settings in _SETTINGS.items():
    OUR_SERVERS[f"listen+{_name}"] = OUR_CLIENTS[f"AsyncClient+{_name}"] = partial(AsyncioFace, _settings)
    OUR_SERVERS[f"Endpoint+{_name}"] = OUR_CLIENTS[f"Endpoint+{_name}"] = partial(Engine, _settings)
    OUR_CLIENTS[f"Client+{_name}"] = partial(BlockingClient, _settings)


class LinkName(NamedTuple):
    """Who talks to whom, and whether it is lapwing that serves."""

    theirs: str
    ours: str
    inwards: bool

    def __str__(self) -> str:
        return f"{self.theirs}-to-{self.ours}" if self.inwards else f"{self.ours}-to-{self.theirs}"


LINKS = [
    *(
        LinkName(theirs, ours, True)
        for theirs in THEIRS
        if theirs not in SERVERS_ONLY
        for ours in OUR_SERVERS
        if "+" not in ours
    ),
    *(
        LinkName(theirs, ours, False)
        for theirs in THEIRS
        if theirs not in CLIENTS_ONLY | VARIANTS
        for ours in OUR_CLIENTS
        if "+" not in ours
    ),
]


def _is_tried(theirs: str, ours: str) -> bool:
    """Whether two that can compress are tried with each other: where they agree, and the pair adds something."""
    if "window" in ours and theirs in FULL_WINDOW_ONLY:
        return False
    if theirs in VARIANTS:
        return ours in ("Client", "AsyncClient+takeover")
    if theirs in (*TAKING_OVER, *SERVERS_ONLY, "undici"):  # the faces have the same engine as Endpoint
        return "Endpoint" not in ours
    return ours != "Endpoint"


#: Those that compress, with the default settings and with others.
DEFLATING_LINKS = [
    *(LinkName(theirs, ours, True) for theirs in DEFLATING_CLIENTS for ours in OUR_SERVERS if _is_tried(theirs, ours)),
    *(LinkName(theirs, ours, False) for theirs in DEFLATING_SERVERS for ours in OUR_CLIENTS if _is_tried(theirs, ours)),
]


@dataclass
class Pair:
    """Two ends of a connection, and a thread in which one may act while the other waits."""

    ours: End
    theirs: End
    pool: ThreadPoolExecutor

    def meanwhile(self, act: Callable[..., Any], *arguments: Any, **options: Any) -> Future[Any]:
        """Begin something in the other thread."""
        return self.pool.submit(act, *arguments, **options)

    def both_ways(self) -> tuple[tuple[End, End], tuple[End, End]]:
        """Who sends and who receives: first one way, then the other."""
        return (self.theirs, self.ours), (self.ours, self.theirs)


@dataclass
class Link:
    """A peer by another author and one of lapwing's, one of which is a server.

    Attributes:
        theirs, ours: the two implementations.
        inwards: whether it is lapwing that serves.
        listening: the server.
        tls: the certificates, for wss.
    """

    theirs: Peer
    ours: Peer
    inwards: bool
    listening: Listening
    tls: Certificates | None

    @contextmanager
    def open(self, subprotocols: Sequence[str] = ()) -> Iterator[Pair]:
        """Open a connection."""
        client = self.theirs if self.inwards else self.ours
        with ThreadPoolExecutor(2) as pool:
            opening = [
                pool.submit(client.connect, self.listening.url, subprotocols, self.tls),
                pool.submit(self.listening.accept),
            ]
            try:
                connected, accepted = (end.result(TIMEOUT) for end in opening)
                theirs, ours = (connected, accepted) if self.inwards else (accepted, connected)
                yield Pair(ours, theirs, pool)
            finally:  # both at a time: one may wait for the other
                ends = [end.result() for end in opening if end.exception(TIMEOUT) is None]
                for released in [pool.submit(end.release) for end in ends]:
                    released.result(TIMEOUT)


class World:
    """Every implementation, started when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._peers: dict[Callable[[], Peer | AsyncPeer], Peer] = {}

    @cached_property
    def our_loop(self) -> LoopThread:
        """The event loop of lapwing's ends."""
        return self._loop("lapwing")

    @cached_property
    def their_loop(self) -> LoopThread:
        """The event loop of the others' ends."""
        return self._loop("others")

    def _loop(self, name: str) -> LoopThread:
        loop = LoopThread(name)
        self._stack.callback(loop.close)
        return loop

    def peer(self, make: Callable[[], Peer | AsyncPeer], *, ours: bool) -> Peer:
        """The one implementation of a kind."""
        if make not in self._peers:
            peer = make()
            if isinstance(peer, ProgramPeer):
                self._stack.callback(peer.stop)
            if isinstance(peer, AsyncPeer):
                peer = Awaited(self.our_loop if ours else self.their_loop, peer)
            self._peers[make] = peer
        return self._peers[make]

    @contextmanager
    def link(self, name: LinkName, tls: Certificates | None = None) -> Iterator[Link]:
        """Have one of them listen for the other."""
        theirs, ours, inwards = name
        their_peer = self.peer(THEIRS[theirs], ours=False)
        our_peer = self.peer((OUR_SERVERS if inwards else OUR_CLIENTS)[ours], ours=True)
        with (our_peer if inwards else their_peer).listen(tls) as listening:
            yield Link(their_peer, our_peer, inwards, listening, tls)
        assert not self.our_loop.errors, self.our_loop.errors


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """Every implementation there is."""
    with ExitStack() as stack:
        yield World(stack)


@pytest.fixture(scope="module", params=LINKS, ids=str)
def link(request: pytest.FixtureRequest, world: World) -> Iterator[Link]:
    """Two implementations, one of which serves the other."""
    with world.link(request.param) as found:
        yield found
