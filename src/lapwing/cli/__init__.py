"""The command `lapwing`: what a shell does with WebSockets, on lapwing's public interface alone.

Each command is a module of this package with two functions: `add_arguments(parser)`, and
`run(arguments)`, which returns the exit status or raises `Failed`. A module is loaded when its command is called, so
that `lapwing --help` costs no more than this file. `connecting` has what the commands share that go to a server.
"""

from __future__ import annotations

import argparse
import importlib
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
    "ping": "measure round trips to a server",
    "serve": "run a server: echo and chat, or handlers of your own",
    "bench": "put load on a server and measure it",
    "record": "write down a conversation, with its timing",
    "replay": "play a recorded conversation again",
    "doctor": "say what this installation is made of",
}

#: Libraries of the extra, by the name that they are imported by.
_EXTRA = {"rich", "prompt_toolkit"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments; those of the process by default.

    Returns:
        One of `Status`; the documentation of the command says what each means there.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in COMMANDS:
        _parser().parse_args(words)  # --help, --version, or a complaint
        return 2
    try:
        command = importlib.import_module(f".{words[0]}", __name__)
        parser = argparse.ArgumentParser(
            prog=f"lapwing {words[0]}",
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(parser)
        return int(command.run(parser.parse_args(words[1:])))
    except Failed as failed:
        print(f"lapwing {words[0]}: {failed}", file=sys.stderr)
        return failed.status
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        print(f"lapwing {words[0]} needs {error.name}: pip install 'lapwing[cli]'", file=sys.stderr)
        return Status.USAGE
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:  # who read the output has gone
        sys.stderr.close()
        return Status.BROKEN_PIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lapwing",
        usage="lapwing [--version] COMMAND [ARGUMENTS]",
        description="WebSockets on the command line.",
        epilog="commands:\n"
        + "".join(f"  {name:<9} {line}\n" for name, line in COMMANDS.items())
        + "\n`lapwing COMMAND --help` says more of each.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lapwing {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser
