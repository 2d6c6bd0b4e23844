from typing_extensions import Buffer

__all__ = ["Inflation", "PerMessageDeflate"]

class PerMessageDeflate:
    def __init__(
        self,
        *,
        keeps_outgoing: bool,
        keeps_incoming: bool,
        outgoing_window_bits: int,
        incoming_window_bits: int,
        level: int | None,
        memory_level: int,
        threshold: int,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def keeps_outgoing(self) -> bool: ...
    @property
    def keeps_incoming(self) -> bool: ...
    @property
    def outgoing_window_bits(self) -> int: ...
    @property
    def incoming_window_bits(self) -> int: ...
    @property
    def threshold(self) -> int: ...
    def compressed(self, payload: Buffer) -> bytes | None: ...

class Inflation:
    def __init__(self, codec: PerMessageDeflate) -> None: ...
    @property
    def size(self) -> int: ...
