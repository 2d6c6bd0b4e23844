from collections.abc import Iterable, Iterator
from typing import ClassVar

from .messages import Command, Message, Push, Reply

__all__ = ["ProtobufCodec"]

class ProtobufCodec:
    name: ClassVar[str]
    subprotocol: ClassVar[str]
    is_text: ClassVar[bool]
    @staticmethod
    def commands(frame: bytes) -> Iterator[Command]: ...
    @staticmethod
    def replies(frame: bytes) -> Iterator[Reply | Push]: ...
    @staticmethod
    def command(command: Command) -> bytes: ...
    @staticmethod
    def reply(reply: Reply) -> bytes: ...
    @staticmethod
    def push(push: Push) -> bytes: ...
    @staticmethod
    def written(message: Message) -> bytes: ...
    @staticmethod
    def joined(parts: Iterable[bytes]) -> bytes: ...
