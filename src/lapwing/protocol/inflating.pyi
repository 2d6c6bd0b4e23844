from .compression import PerMessageDeflate

__all__ = ["Inflater"]

class Inflater:
    def __init__(self, codec: PerMessageDeflate) -> None: ...
    def inflate(self, data: bytes, limit: int = 1048576) -> bytes | None: ...
