from collections.abc import Callable, Iterable

__all__ = ["UsualRequests"]

class UsualRequests:
    def __init__(
        self,
        *,
        subprotocols: Iterable[str],
        default: bool,
        origins: Iterable[str] | None,
        loopback_only: bool,
        headers: bytes,
        longest_line: int,
        most_headers: int,
        answer: Callable[[str, bool], tuple[bytes, list[object]] | None],
    ) -> None: ...
    def grant(self, data: bytes) -> tuple[bytes, bytes, bytes, str | None, list[object]] | None: ...
