from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from socket import socket
from ssl import SSLContext
from typing import Any, Literal

from ..faces.aio.connection import Connection
from ..io.stream import Stream
from ..opening.server import ServerOpening
from ..options import ServerSettings
from ..protocol.proxy_header import ProxyHeaderReader
from ..protocol.server_handshake import ServerPolicy
from .owner import Owner

__all__ = ["Listener", "ServerConnection", "Terms"]

class Terms:
    def __init__(
        self,
        owner: Owner[ServerConnection],
        loop: AbstractEventLoop,
        settings: ServerSettings,
        context: SSLContext | None,
        policy: ServerPolicy,
        header_reader: Callable[[], ProxyHeaderReader] | None = None,
    ) -> None: ...

class ServerConnection(Connection):
    _runs_in: Literal["task"]
    @staticmethod
    def _start(terms: Terms, stream: Stream) -> ServerConnection: ...
    @property
    def _is_open(self) -> bool: ...
    @property
    def _is_opening(self) -> bool: ...
    @property
    def _is_over(self) -> bool: ...
    def _at_end(self, call: Callable[[], object]) -> None: ...
    def _set_peer(self, address: tuple[Any, ...]) -> None: ...
    @staticmethod
    def _adopt(
        terms: Terms, stream: Stream, opening: ServerOpening, owner: Owner[ServerConnection]
    ) -> ServerConnection: ...
    async def _open(self) -> None: ...
    def _begin(self) -> None: ...
    def _begin_close(self, code: int, reason: str, timeout: float | None = None) -> None: ...
    def _leave(self, reason: str) -> None: ...
    def _pass_to(self, owner: Owner[ServerConnection]) -> None: ...
    def _abort_opening(self) -> None: ...
    def _handled(self, task: Task[None]) -> None: ...
    def _decided(self) -> None: ...

class Listener:
    sock: socket
    def __init__(
        self,
        loop: AbstractEventLoop,
        sock: socket,
        accepted: Callable[[Stream], None],
        *,
        portable: bool,
        is_shared: bool = False,
    ) -> None: ...
    def accept_waiting(self) -> None: ...
    @property
    def address(self) -> Any: ...
    def close(self) -> None: ...
