from .noting import FrameNotes

__all__ = ["Inbound"]

class Inbound(FrameNotes):
    @property
    def wants_input(self) -> bool: ...
    @property
    def pending_messages(self) -> int: ...
    def next_message(self) -> str | bytes | None: ...
