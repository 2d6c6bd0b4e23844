"""The command `lapwing`: WebSockets from a shell, on lapwing's public interface alone.

Each command is a module of this package with two functions: `add_arguments(parser)`, and
`run(arguments)`, which returns the exit status or raises `Failed`; where the list of all options would hide the rest,
its `USAGE` is what `--help` shows in place of it. A module is loaded when its command is called, so
that `lapwing --help` costs no more than this file. `connecting` has the common part of commands that go to a server.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from lapwing import __version__

from .outcome import Failed, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

#: Each command with the line that `lapwing --help` says of it.
COMMANDS = {
    "connect": "talk to a server, interactively or in a pipe",
    "publish": "publish messages to a topic of a hub",
    "ping": "measure round trip times to a server",
    "serve": "run a server: echo and chat, or your own handlers",
    "bench": "measure a server under load",
    "record": "record a conversation with its timing",
    "replay": "replay a recorded conversation",
    "doctor": "check and describe this installation",
}

#: How a URL begins: `lapwing URL` is `lapwing connect URL`.
_SCHEMES = ("ws://", "wss://", "ws+unix://", "wss+unix://")

#: Libraries of the extra, by the name that they are imported by.
_EXTRA = {"rich", "prompt_toolkit"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        One of `Status`; the documentation of the command explains each.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        _parser().print_help()
        return Status.OK
    if words[0].lower().startswith(_SCHEMES):
        words.insert(0, "connect")
    if words[0] not in COMMANDS and not words[0].startswith("-"):
        print(f"lapwing: unknown command {words[0]}. {_hint(words[0])}", file=sys.stderr)
        return Status.USAGE
    if words[0] not in COMMANDS:
        _parser().parse_args(words)  # --help, --version, or a complaint
        return 2
    try:
        command = importlib.import_module(f".{words[0]}", __name__)
        parser = argparse.ArgumentParser(
            prog=f"lapwing {words[0]}",
            description=command.__doc__,
            formatter_class=_Help,
        )
        command.add_arguments(parser)
        if hasattr(command, "USAGE"):
            parser.usage = f"lapwing {words[0]} {command.USAGE}"
        # Options may stand between the arguments, too, where one of these can be left out.
        return int(command.run(parser.parse_intermixed_args(words[1:])))
    except Failed as failed:
        print(f"lapwing {words[0]}: {failed}", file=sys.stderr)
        return failed.status
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in _EXTRA:
            raise
        print(f"lapwing {words[0]} needs {library}: pip install rich prompt-toolkit", file=sys.stderr)
        return Status.USAGE
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:  # the reader of the output has gone
        # The buffered rest would fail again when the interpreter flushes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Status.BROKEN_PIPE


def _hint(word: str) -> str:
    """Tell which command, or which URL, an unknown command may have been."""
    from difflib import get_close_matches

    if close := get_close_matches(word.lower(), COMMANDS, 1):
        return f"Did you mean `lapwing {close[0]}`?"
    scheme, colon, rest = word.partition("://")
    if colon:
        return f"Did you mean `lapwing connect {'wss' if scheme.lower() == 'https' else 'ws'}://{rest}`?"
    if ":" in word or "/" in word:
        return f"Did you mean `lapwing connect ws://{word}`?"
    return "`lapwing --help` lists the commands."


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help whose paragraphs are wrapped to the terminal; indented lines stay as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        import textwrap

        filled = []
        for paragraph in text.strip().split("\n\n"):
            lines = paragraph.splitlines()
            kept = any(line.startswith(" ") for line in lines)
            filled.append("\n".join(lines) if kept else textwrap.fill(" ".join(lines), width))
        return "\n\n".join(textwrap.indent(paragraph, indent) for paragraph in filled)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lapwing",
        usage="lapwing [--version] COMMAND [ARGUMENTS]\n       lapwing URL [OPTIONS]",
        description="WebSockets on the command line.",
        epilog="commands:\n"
        + "".join(f"  {name:<9} {line}\n" for name, line in COMMANDS.items())
        + "\n`lapwing COMMAND --help` lists the options of a command. `lapwing URL` is `lapwing connect URL`.",
        formatter_class=_Help,
    )
    parser.add_argument("--version", action="version", version=f"lapwing {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
