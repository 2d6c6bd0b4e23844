"""Where the lines of a session are typed: keys, completion, and a history that is kept from one to the next."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import Completer, Completion
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.shortcuts import CompleteStyle
from prompt_toolkit.styles import Style

from .orders import ORDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyPressEvent

__all__ = ["Prompt", "open_history"]

#: Entries of the history that are kept from one session to the next.
_MAX_ENTRIES = 1000
#: Lines that may wait because those before are still being sent.
_MAX_WAITING = 100


class Prompt:
    """The prompt of a session: one for all its lines, since between two the terminal would obey keys on its own.

    Args:
        history: earlier lines.
        toolbar: gives the line at the bottom.

    Attributes:
        lines: the typed lines, in order; None at the end, after Ctrl-D.
    """

    def __init__(self, history: History, toolbar: Callable[[], str]) -> None:
        self.lines: asyncio.Queue[str | None] = asyncio.Queue()
        self._session: PromptSession[None] = PromptSession(
            "> ",
            multiline=True,
            history=history,
            key_bindings=self._keys(),
            completer=_OrderCompleter(),
            complete_style=CompleteStyle.READLINE_LIKE,
            complete_while_typing=False,
            auto_suggest=AutoSuggestFromHistory(),
            bottom_toolbar=toolbar,
            prompt_continuation="  ",
            erase_when_done=True,
            style=Style.from_dict({"bottom-toolbar": "noreverse", "bottom-toolbar.text": "ansibrightblack"}),
        )

    async def run(self) -> bool:
        """Take lines until the end of input.

        Returns:
            Whether it was ended with Ctrl-D, or by `stop`; not so with Ctrl-C.
        """
        try:
            await self._session.prompt_async()
        except EOFError:
            self.lines.put_nowait(None)
        except _Interrupted:
            return False
        return True

    def stop(self) -> None:
        """Have `run` come to its end."""
        if self._session.app.is_running and not self._session.app.is_done:
            self._session.app.exit()

    def refresh(self) -> None:
        """Draw the line at the bottom again."""
        self._session.app.invalidate()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _take(event: KeyPressEvent) -> None:
            line = event.current_buffer.text.rstrip()
            if self.lines.qsize() >= _MAX_WAITING:
                event.app.output.bell()
                return
            event.current_buffer.reset(append_to_history=True)
            self.lines.put_nowait(line)

        @keys.add("escape", "enter")
        @keys.add("escape", "c-j")  # typed before the terminal was the prompt's
        def _new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _discard(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            else:
                # Not a KeyboardInterrupt, which would break out of the event loop.
                event.app.exit(exception=_Interrupted())

        return keys


class _Interrupted(Exception):  # noqa: N818 - how a prompt ends
    """Ctrl-C, with nothing typed."""


class _OrderCompleter(Completer):
    """Completes the names of orders."""

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:  # noqa: ARG002
        text = document.text_before_cursor
        if text.startswith("/") and not text.startswith("//") and " " not in text:
            for name in ORDERS:
                if name.startswith(text[1:]):
                    yield Completion(f"/{name} ", start_position=-len(text))


def open_history(*, kept: bool) -> tuple[History, str | None]:
    """Open the history: a file that its owner alone may read, in the directory for state (XDG base directories).

    Args:
        kept: whether it is kept at all.

    Returns:
        The history, and a warning when it cannot be kept.
    """
    if not kept:
        return InMemoryHistory(), None
    directory = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "lapwing"
    path = directory / "connect-history"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _shorten(path)
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError as error:
        return InMemoryHistory(), f"the history is not saved: {path}: {error.strerror}"
    return FileHistory(path), None


def _shorten(path: Path) -> None:
    """Drop the oldest entries once there are twice as many as are kept."""
    if not path.exists():
        return
    # Each entry is a line with the time, which begins with "#", and lines that begin with "+".
    entries = path.read_bytes().split(b"\n# ")
    if len(entries) > 2 * _MAX_ENTRIES:
        shorter = path.with_suffix(f".{os.getpid()}")
        shorter.touch(0o600)
        shorter.write_bytes(b"\n# " + b"\n# ".join(entries[-_MAX_ENTRIES:]))
        shorter.replace(path)
