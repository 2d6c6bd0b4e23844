from ..protocol.http import Request, Response

__all__ = ["Failed", "Open", "Outcome", "Redirect", "Refused"]

class Open:
    request_head: bytes
    subprotocol: str | None
    extensions: list[object]
    rest: bytes
    @property
    def request(self) -> Request: ...
    @property
    def response(self) -> Response: ...

class Refused:
    response: Response
    def __init__(self, response: Response, error: Exception | None = None) -> None: ...
    @property
    def error(self) -> Exception: ...

class Redirect(Refused):
    @property
    def location(self) -> str: ...

class Failed:
    error: BaseException
    def __init__(self, error: BaseException) -> None: ...

Outcome = Open | Refused | Failed
