from collections.abc import Callable
from math import inf

from ..io.tls import TLS
from ..protocol.client_handshake import ClientHandshake
from ..protocol.http import Request, Response
from ..protocol.tunnel import TunnelHandshake
from .conversation import Opening

__all__ = ["ClientOpening"]

class ClientOpening(Opening):
    handshake: ClientHandshake
    def __init__(
        self,
        handshake: ClientHandshake,
        *,
        session: TLS | None = None,
        tunnel: TunnelHandshake | None = None,
        secure: Callable[[TLS | None], TLS | None] | None = None,
        now: float = 0.0,
        timeout: float = inf,
    ) -> None: ...
    @property
    def request(self) -> Request: ...
    @property
    def response(self) -> Response | None: ...
    @property
    def is_in_tunnel(self) -> bool: ...
