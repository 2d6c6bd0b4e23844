from collections.abc import Callable, Iterable

__all__ = ["UsualResponses"]

class UsualResponses:
    def __init__(
        self,
        *,
        subprotocols: Iterable[str],
        longest_line: int,
        most_headers: int,
        agree: Callable[[str], list[object] | None],
    ) -> None: ...
    def accept(self, data: bytes, key: bytes) -> tuple[bytes, bytes, str | None, list[object]] | None: ...
