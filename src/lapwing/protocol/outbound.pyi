from typing_extensions import Buffer

from .streaming import Streaming

__all__ = ["Outbound"]

class Outbound(Streaming):
    def send(self, message: str | Buffer, opcode: int | None = None, *, compress: bool | None = None) -> None: ...
    def send_fragment(
        self, payload: str | Buffer, *, fin: bool, opcode: int | None = None, compress: bool | None = None
    ) -> None: ...
    def data_to_send(self) -> bytes: ...
