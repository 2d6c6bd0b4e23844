from ssl import SSLContext, SSLObject

__all__ = ["TLS", "is_direct", "set_direct"]

def is_direct() -> bool: ...
def set_direct(wanted: bool) -> bool: ...

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
