from asyncio import AbstractEventLoop, Task
from collections.abc import Callable
from socket import socket
from ssl import SSLContext
from typing import Any

from ..faces.aio import Connection
from ..io.stream import Stream
from ..options import ServerSettings
from ..protocol.proxy_header import ProxyHeaderReader
from ..protocol.server_handshake import ServerHandshake

__all__ = ["Listener", "ServerConnection", "Terms"]

class Terms:
    def __init__(
        self, owner: Any, loop: AbstractEventLoop, settings: ServerSettings, context: SSLContext | None
    ) -> None: ...

class ServerConnection(Connection):
    @staticmethod
    def _start(
        terms: Terms, stream: Stream, handshake: ServerHandshake, announcement: ProxyHeaderReader | None = None
    ) -> ServerConnection: ...
    @property
    def _is_open(self) -> bool: ...
    @property
    def _is_opening(self) -> bool: ...
    @property
    def _is_over(self) -> bool: ...
    def _pass_to(self, owner: Any, handshake: ServerHandshake) -> None: ...
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
