from collections.abc import Iterable
from math import inf

from ..io.tls import TLS
from ..protocol.http import Request, Response
from ..protocol.proxy_header import ProxyHeaderReader
from ..protocol.server_handshake import ServerHandshake, ServerPolicy
from .conversation import Opening

__all__ = ["ServerOpening", "adopt"]

class ServerOpening(Opening):
    def __init__(
        self,
        policy: ServerPolicy,
        *,
        now: float,
        timeout: float = inf,
        session: TLS | None = None,
        header_reader: ProxyHeaderReader | None = None,
    ) -> None: ...
    @property
    def request(self) -> Request | None: ...
    @property
    def handshake(self) -> ServerHandshake: ...
    @property
    def response(self) -> Response | None: ...
    def refuse(self, status: int, text: str, headers: Iterable[tuple[str, str]] = ()) -> None: ...
    def read_by(self, policy: ServerPolicy) -> ServerHandshake: ...

def adopt(
    policy: ServerPolicy, request: bytes, rest: bytes = b"", *, now: float, timeout: float = ...
) -> ServerOpening: ...
