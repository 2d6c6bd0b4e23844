"""What can be typed in a session beside messages: lines that begin with a slash."""

from __future__ import annotations

import re
from base64 import b64decode
from pathlib import Path
from typing import NamedTuple

from .outcome import Failed

__all__ = ["ORDERS", "Order", "close_arguments", "contents", "help_lines", "order_in"]

#: Bytes of a file that is sent as one message.
MAX_FILE = 64 * 1024 * 1024

#: Each order with what may follow it, and what it does.
ORDERS = {
    "help": ("", "list these"),
    "ping": ("[TEXT]", "send a ping and show the round trip"),
    "close": ("[CODE [REASON]]", "close the connection, with 1000 unless another code is given"),
    "reconnect": ("", "connect again, after closing what is open"),
    "text": ("TEXT | @FILE", "send a text message: of a file, or one that begins with a slash"),
    "binary": ("@FILE | HEX | base64:DATA", "send a binary message"),
    "save": ("FILE", "write the last received message to a file, whole and as it came"),
    "pretty": ("on | off", "indent JSON, or show it as it came"),
    "timestamps": ("on | off", "say when each message came or went"),
    "info": ("", "show what is known of the connection"),
    "quit": ("", "close and leave; Ctrl-D does the same"),
}

_KEYS = (
    "Enter sends, Alt-Enter begins another line; a line that begins with / is an order, with // a message that begins "
    "with /."
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
    """Return the order in what was typed, or the message that it is.

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
            raise Failed(f"there is no order {found[0].strip()}: /help lists them; /{line} sends it as a message")
        name = matching[0]
    return Order(name, line[found.end() :].strip())


def help_lines() -> list[tuple[str, str]]:
    """Return each order as it is written, with what it does; the last line explains keys."""
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
        raise Failed(f"/close: expected a close code that may be sent, 1000 or 3000 to 4999 say, got {code}")
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
