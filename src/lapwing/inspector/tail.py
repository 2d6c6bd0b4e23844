"""The frames of one connection, as they come and go, for who watches it."""

from __future__ import annotations

import base64
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from ..protocol.frame import Opcode

if TYPE_CHECKING:
    from ..faces.frames import Frame, FrameWriter
    from ..serving.accepting import ServerConnection
    from ..serving.threaded import ThreadConnection

__all__ = ["Tail"]

#: Bytes of each payload that are shown.
SHOWN: Final = 1024
#: Frames that wait to be taken; the oldest are missed beyond that.
_WAITING: Final = 500


class Tail:
    """Takes the frames of a connection in whatever thread they come, until `end`.

    Args:
        connection: the connection. It costs as much as the log of frames does, for this connection alone.
    """

    def __init__(self, connection: ServerConnection | ThreadConnection) -> None:
        self._connection = connection
        self._waiting: deque[tuple[float, Frame]] = deque(maxlen=_WAITING)
        self._written = 0
        self._taken = 0
        #: The log of frames, where there is one too.
        self._log: FrameWriter | None = connection._tap(self, SHOWN)

    def write(self, frames: list[Frame]) -> None:
        """Take frames: a connection calls it, in its own thread."""
        now = time.time()
        self._written += len(frames)
        self._waiting.extend((now, frame) for frame in frames)
        if self._log is not None:
            self._log.write(frames)

    def take(self) -> tuple[list[list[Any]], int]:
        """Return the frames since the last call, as JSON has them, and how many there were that were not kept."""
        frames = []
        for _ in range(len(self._waiting)):
            try:
                frames.append(_row(*self._waiting.popleft()))
            except IndexError:  # another thread's frames have pushed it out
                break
        written = self._written
        missed = max(written - self._taken - len(frames) - len(self._waiting), 0)
        self._taken += len(frames) + missed
        return frames, missed

    def end(self) -> None:
        """Leave the connection as it was."""
        self._connection._tap(self._log, 64)


def _row(when: float, frame: Frame) -> list[Any]:
    """Make a frame into a row of the page.

    These are milliseconds since 1970, whether it was sent, opcode, FIN, whether it is compressed, bytes of payload,
    bytes before compression or -1, the kind of what follows, and the beginning of the payload: "t" for text, "b" for
    bytes in base64, "" where it is not known.
    """
    is_sent, first_byte, size, beginning, original = frame
    opcode = first_byte & 0x0F
    is_compressed = bool(first_byte & 0x40)
    is_text = opcode == Opcode.TEXT and (not is_compressed or original >= 0)
    if beginning is None or (is_compressed and original < 0):
        kind, shown = "", ""
    elif is_text or opcode in (Opcode.CONTINUATION, Opcode.CLOSE):
        skipped = 2 if opcode == Opcode.CLOSE else 0
        kind, shown = _as_text(beginning[skipped:], is_text)
    else:
        kind, shown = "b", base64.b64encode(beginning).decode()
    code = int.from_bytes(beginning[:2], "big") if opcode == Opcode.CLOSE and beginning else 0
    is_final = bool(first_byte & 0x80)
    return [int(when * 1000), is_sent, opcode, is_final, is_compressed, size, original, kind, shown, code]


def _as_text(beginning: bytes, is_text: bool) -> tuple[str, str]:
    """Show bytes as text where they are; a character that was cut off at the end is left out."""
    try:
        return "t", beginning.decode()
    except UnicodeDecodeError as error:
        if is_text or error.start >= len(beginning) - 3:
            return "t", beginning.decode(errors="ignore")
        return "b", base64.b64encode(beginning).decode()
