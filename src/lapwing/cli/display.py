"""The output of a session: each kind of line with its mark and colour, without controls for the terminal."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from rich.console import Console
from rich.highlighter import JSONHighlighter
from rich.text import Text
from rich.theme import Theme

from .escapes import neutralise
from .notices import timestamp

if TYPE_CHECKING:
    from typing import IO

__all__ = ["Display", "indented"]

#: Characters of a message that are looked at, and bytes of a binary one.
MAX_SHOWN = 10_000
_MAX_BYTES = 256
#: Lines of the terminal that a message leaves to earlier lines and to the prompt; it always has a few.
_KEPT_FREE = 6
_FEWEST_LINES = 8
#: Columns from which on sixteen bytes are shown in a row, and the least width of one of two columns of text.
_WIDE = 90
_MIN_COLUMN = 30
#: A string of JSON, or one of the characters that shape it; the text between them is copied.
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s"\[\]{},:]+')
#: Objects and arrays within each other that are still indented.
_MAX_DEPTH = 50

_STYLES = {
    "received": ("<", "cyan"),
    "sent": (">", "green"),
    "control": ("*", "yellow"),
    "notice": ("-", "default"),
    "error": ("!", "bold bright_red"),
}

#: Colours that can be read on black as well as on white: rich has blue and dark grey, which cannot.
_THEME = Theme(
    {
        "json.key": "bold magenta",
        "json.str": "green",
        "json.number": "cyan",
        "json.null": "italic magenta",
        "aside": "italic",
        "failed": "bright_red",
    }
)


class Display:
    """The lines of a session.

    Args:
        file: where to.
        timestamps: whether to say when.
        pretty: whether JSON is indented.
    """

    def __init__(self, file: IO[str], *, timestamps: bool = False, pretty: bool = True) -> None:
        # The terminal wraps messages: text that is copied from it has no additional line ends.
        self._console = Console(file=file, soft_wrap=True, highlight=False, emoji=False, markup=False, theme=_THEME)
        self._json = JSONHighlighter()
        self.timestamps = timestamps
        self.pretty = pretty

    def message(self, kind: str, message: str | bytes) -> None:
        """Show a message that was "sent" or "received"."""
        if isinstance(message, bytes):
            text = Text(_dumped(message, 16 if self._console.width >= _WIDE else 8))
            self._show(kind, self._cut(kind, text, f"{len(message):,} bytes in all", len(message) > _MAX_BYTES))
            return
        pretty = indented(message) if self.pretty and len(message) <= MAX_SHOWN else None
        shown = neutralise(message[:MAX_SHOWN] if pretty is None else pretty[: 2 * MAX_SHOWN])
        text = Text(shown)
        if pretty is not None:
            self._json.highlight(text)
        self._show(kind, self._cut(kind, text, f"{len(message):,} characters in all", len(message) > MAX_SHOWN))

    def _cut(self, kind: str, text: Text, size: str, is_part: bool) -> Text:
        """Cut a message to one screen; the last line says how to have the rest.

        Args:
            kind: "sent" or "received".
            text: the message, or the beginning of it.
            size: how much it has in all.
            is_part: whether `text` is the beginning only.
        """
        room = max(self._console.height - _KEPT_FREE, _FEWEST_LINES)
        width = max(self._console.width - 2, 1)
        kept: list[Text] = []
        used = 0
        for line in text.split("\n", allow_blank=True):
            rows = max(-(-line.cell_len // width), 1)
            if used + rows > room:
                is_part = True
                if not kept:
                    line.truncate(room * width)
                    kept.append(line)
                break
            kept.append(line)
            used += rows
        shown = Text("\n").join(kept)
        if is_part:
            rest = "; /save FILE writes all of it to a file" if kind == "received" else ""
            shown.append(f"\n... {size}{rest}", style="aside")
        return shown

    def control(self, text: str) -> None:
        """Show an event of the connection other than a message."""
        self._show("control", Text(neutralise(text), style="yellow"))

    def notice(self, text: str) -> None:
        """Say something."""
        self._show("notice", Text(neutralise(text), style="aside"))

    def error(self, text: str) -> None:
        """Say that something went wrong."""
        self._show("error", Text(neutralise(text), style="failed"))

    def table(self, rows: list[tuple[str, str]]) -> None:
        """Show names and their values in two columns."""
        width = max(len(name) for name, _ in rows) + 4
        is_narrow = self._console.width - width < _MIN_COLUMN
        shown: list[Text] = []
        for name, text in rows:
            if name and is_narrow:
                shown.append(Text(f"  {name}", style="bold"))
            margin = 6 if name and is_narrow else width if name else 2
            lines = Text(neutralise(text, one_line=True)).wrap(self._console, max(self._console.width - margin, 1))
            for index, line in enumerate(lines):
                beside = f"  {name}" if name and index == 0 and not is_narrow else ""
                shown.append(Text(f"{beside:<{margin}}", style="bold") + line)
        self._print(shown)

    def _show(self, kind: str, text: Text) -> None:
        mark, colour = _STYLES[kind]
        prefix = Text()
        if self.timestamps:
            prefix.append(f"{timestamp()[11:-1]} ", style="aside")
        prefix.append(f"{mark} ", style=colour)
        margin = " " * len(prefix)
        if kind in ("received", "sent") and not text.spans:
            text.stylize(colour)
        lines = text.split("\n", allow_blank=True)
        if kind not in ("received", "sent"):
            lines = text.wrap(self._console, max(self._console.width - len(margin), 20))
        self._print([(prefix if index == 0 else Text(margin)) + line for index, line in enumerate(lines)])

    def _print(self, lines: list[Text]) -> None:
        """Print lines that belong together at once: a prompt is drawn again after each piece."""
        self._console.print(Text("\n").join(lines))


def indented(text: str) -> str | None:
    """Indent an object or array of JSON, without changing a digit of it; None when it is none."""
    if not text.lstrip(" \t\r\n").startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    output: list[str] = []
    depth = 0
    pieces = [found[0] for found in _PIECES.finditer(text)]
    for index, piece in enumerate(pieces):
        if piece in ("]", "}"):
            depth -= 1
            if pieces[index - 1] not in ("[", "{"):
                output.append("\n" + "  " * depth)
        output.append(": " if piece == ":" else piece)
        if piece in ("[", "{"):
            depth += 1
            if depth > _MAX_DEPTH:
                return None
            if pieces[index + 1] not in ("]", "}"):
                output.append("\n" + "  " * depth)
        elif piece == ",":
            output.append("\n" + "  " * depth)
    return "".join(output)


def _dumped(data: bytes, length: int) -> str:
    """Show bytes as hexadecimal digits and characters, in rows of this length."""
    lines = [f"binary, {len(data):,} bytes"]
    shown = data[:_MAX_BYTES]
    for start in range(0, len(shown), length):
        row = shown[start : start + length]
        characters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in row)
        lines.append(f"{start:04x}  {row.hex(' '):<{3 * min(length, len(shown)) - 1}}  {characters}")
    return "\n".join(lines)
