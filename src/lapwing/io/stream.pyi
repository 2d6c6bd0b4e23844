from ssl import SSLContext, SSLObject
from typing import Any

__all__ = ["TLS", "Stream"]

class TLS:
    def __init__(
        self,
        context: SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        carrier: TLS | None = None,
    ) -> None: ...
    @property
    def ssl_object(self) -> SSLObject: ...

class Stream:
    def __init__(self, fd: int, tls: TLS | None = None) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def is_full(self) -> bool: ...
    @property
    def was_cut(self) -> bool: ...
    @property
    def local_address(self) -> tuple[Any, ...] | None: ...
    @property
    def peer_address(self) -> tuple[Any, ...] | None: ...
