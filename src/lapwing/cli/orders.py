"""The commands of a session: lines that begin with a slash."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import NamedTuple

from .outcome import Failed

__all__ = ["ORDERS", "Order", "close_arguments", "contents", "help_lines", "order_in"]

#: Bytes of a file that is sent as one message.
MAX_FILE = 64 * 1024 * 1024

#: Each order with its arguments and its description.
ORDERS = {
    "help": ("", "list the commands"),
    "ping": ("[TEXT]", "send a ping and show the round trip time"),
    "close": ("[CODE [REASON]]", "close the connection, with 1000 by default"),
    "reconnect": ("", "close the connection and connect again"),
    "text": ("TEXT | @FILE", "send a text message, or the content of a file"),
    "binary": ("@FILE | HEX | base64:DATA", "send a binary message"),
    "save": ("FILE", "write the last received message to a file, complete and unchanged"),
    "pretty": ("on | off", "indent JSON, or show it unchanged"),
    "timestamps": ("on | off", "show the time of each message"),
    "info": ("", "show details of the connection"),
    "quit": ("", "close the connection and quit, as Ctrl-D does"),
}

_KEYS = (
    "Enter sends, Alt-Enter begins another line; a line that begins with / is a command, with // a message that "
    "begins with /."
)


class Order(NamedTuple):
    """A line that begins with a slash.

    Attributes:
        name: a key of `ORDERS`.
        rest: what follows, without white space around it.
    """

    name: str
    rest: str


def order_in(line: str) -> Order | str:
    """Return the order in a line, or the message that it is.

    Raises:
        Failed: there is no such order.
    """
    if not line.startswith("/"):
        return line
    if line.startswith("//"):
        return line[1:]
    found = re.match(r"/(\S*)\s*", line)
    assert found is not None
    name = found[1].lower()
    if name not in ORDERS:
        matching = [known for known in ORDERS if name and known.startswith(name)]
        if len(matching) != 1:
            raise Failed(
                f"unknown command {found[0].strip()}. /help lists the commands; /{line} sends the line as a message"
            )
        name = matching[0]
    return Order(name, line[found.end() :].strip())


def help_lines() -> list[tuple[str, str]]:
    """Return each order as it is written, with its description; the last line explains keys."""
    return [*((f"/{name} {rest}".rstrip(), text) for name, (rest, text) in ORDERS.items()), ("", _KEYS)]


def close_arguments(rest: str) -> tuple[int, str]:
    """Parse what follows /close.

    Raises:
        Failed: the code is none that may be sent.
    """
    from lapwing.protocol import may_be_sent

    code, _, reason = rest.partition(" ")
    if not code:
        return 1000, ""
    if not (code.isascii() and code.isdigit() and len(code) == 4 and may_be_sent(int(code))):
        raise Failed(f"/close: expected a close code, such as 1000 or 3000 to 4999, got {code}")
    return int(code), reason.strip()


def contents(rest: str) -> bytes:
    """Return the bytes that follow /binary.

    Raises:
        Failed: they are none, or the file cannot be read.
    """
    try:
        if rest.startswith("@"):
            return file_contents(rest[1:])
        if rest.startswith("base64:"):
            return b64decode(rest.removeprefix("base64:").strip(), validate=True)
        return bytes.fromhex(rest.removeprefix("hex:"))
    except ValueError as error:
        raise Failed(f"/binary: expected @FILE, hexadecimal digits or base64:DATA: {error}") from None


def file_contents(name: str) -> bytes:
    """Read a file that is to be sent.

    Raises:
        Failed: it cannot be read, or is too large.
    """
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as error:
        raise Failed(f"cannot read {name}: {error.strerror}") from None
    if len(data) > MAX_FILE:
        raise Failed(f"{name} has more than {MAX_FILE} bytes: send it in pieces, with `lapwing connect --binary`")
    return data
