"""A log of frames: a line for each that comes or goes, while the level of the logger `lapwing.frames` is DEBUG."""

from __future__ import annotations

import itertools
import logging
from typing import Any, Protocol

from ..protocol.frame import Opcode
from ..protocol.state import Role

__all__ = ["Frame", "FrameLog", "FrameWriter", "Framed", "describe_frame"]

logger = logging.getLogger("lapwing.frames")

#: A frame as `Endpoint.take_frames` gives it.
Frame = tuple[bool, int, int, "bytes | None", int]


class FrameWriter(Protocol):
    """What takes the frames of a connection."""

    def write(self, frames: list[Frame]) -> None:
        """Take frames, in the thread that the connection is used in."""


class Framed(Protocol):
    """The interface of a connection for the log, whose first line identifies it."""

    @property
    def _role(self) -> Role:
        """Which end it is."""

    @property
    def path(self) -> str | None:
        """The path that was asked for."""

    @property
    def peer_address(self) -> tuple[Any, ...] | None:
        """Where the peer is."""

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was agreed on."""


#: Bytes of a payload that a line shows.
_SHOWN = 64

#: Numbers the connections that are logged, within the process.
_numbers = itertools.count(1)


class FrameLog:
    """The log of one connection.

    Args:
        connection: the connection, just opened: the first line tells which it is.
    """

    def __init__(self, connection: Framed) -> None:
        self.name = f"{connection._role.value}-{next(_numbers)}"
        way = "from" if connection._role is Role.SERVER else "to"
        logger.debug(
            "%s = %s %s %s, subprotocol %s",
            self.name,
            connection.path,
            way,
            connection.peer_address,
            connection.subprotocol,
            extra={"connection": self.name},
        )

    def write(self, frames: list[Frame]) -> None:
        """Log frames, as `Endpoint.take_frames` gives them; a record has what programs want to know as attributes."""
        for frame in frames:
            is_sent, first_byte, _, beginning, _ = frame
            extra = {"connection": self.name, "sent": is_sent, "opcode": first_byte & 0x0F, "payload": beginning}
            logger.debug("%s %s", self.name, describe_frame(*frame), extra=extra)


def describe_frame(is_sent: bool, first_byte: int, size: int, beginning: bytes | None, original: int = -1) -> str:
    """Put a frame into a line: its direction, opcode, flags, size, and the escaped beginning of its payload."""
    opcode = first_byte & 0x0F
    try:
        name = Opcode(opcode).name
    except ValueError:
        name = f"OPCODE {opcode}"
    flags = "" if first_byte & 0x80 else " fragment"
    if first_byte & 0x40:
        flags += " compressed"
    direction = ">" if is_sent else "<"
    if opcode == Opcode.CLOSE and beginning is not None and size >= 2:
        return f"{direction} {name} {int.from_bytes(beginning[:2], 'big')} {_shown(beginning[2:], size - 2, True)}"
    is_text = opcode == Opcode.TEXT and (not first_byte & 0x40 or original >= 0)
    whole = f"{size} bytes" if original < 0 else f"{size} bytes of {original}"
    payload = "skipped" if beginning is None else _shown(beginning, size if original < 0 else original, is_text)
    return f"{direction} {name}{flags} {whole} {payload}"


def _shown(beginning: bytes, size: int, is_text: bool) -> str:
    """Show bytes with everything escaped that could upset a terminal or a log, and a mark where they go on."""
    beginning = beginning[:_SHOWN]
    shown = ascii(beginning.decode(errors="ignore") if is_text else beginning)
    return shown if len(beginning) >= size else f"{shown}..."
