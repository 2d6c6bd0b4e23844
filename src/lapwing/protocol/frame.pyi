from collections.abc import Callable
from enum import IntEnum
from typing import Final, Literal

from typing_extensions import Buffer

__all__ = ["BINARY", "TEXT", "MaskingKeys", "Opcode", "apply_mask", "build_frame"]

class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA

TEXT: Final[Literal[Opcode.TEXT]]
BINARY: Final[Literal[Opcode.BINARY]]

class MaskingKeys:
    def __init__(self, random_bytes: Callable[[int], bytes] = ...) -> None: ...
    def next(self) -> bytes: ...
    def discard(self) -> None: ...

masking_keys: Final[MaskingKeys]

def apply_mask(payload: Buffer, key: bytes, offset: int = 0) -> bytes: ...
def build_frame(
    opcode: int, payload: Buffer = b"", *, fin: bool = True, reserved: int = 0, key: bytes | None = None
) -> bytes: ...
