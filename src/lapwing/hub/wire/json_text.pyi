from typing import Final

__all__ = ["MAX_DEPTH", "check"]

MAX_DEPTH: Final = 64

def check(data: bytes, depth: int = 64) -> bytes: ...
