"""The names of Python that the reference links to, as an inventory of Sphinx: the build asks no network for them."""

from __future__ import annotations

import zlib
from pathlib import Path

#: Each name by its kind, with its page below https://docs.python.org/3/.
NAMES = {
    "py:class": {
        "asyncio.AbstractEventLoop": "library/asyncio-eventloop.html",
        "asyncio.Task": "library/asyncio-task.html",
        "asyncio.Transport": "library/asyncio-protocol.html",
        "bool": "library/functions.html",
        "bytearray": "library/stdtypes.html",
        "bytes": "library/stdtypes.html",
        "collections.abc.AsyncIterable": "library/collections.abc.html",
        "collections.abc.AsyncIterator": "library/collections.abc.html",
        "collections.abc.Awaitable": "library/collections.abc.html",
        "collections.abc.Callable": "library/collections.abc.html",
        "collections.abc.Iterable": "library/collections.abc.html",
        "collections.abc.Iterator": "library/collections.abc.html",
        "collections.abc.Mapping": "library/collections.abc.html",
        "collections.abc.Sequence": "library/collections.abc.html",
        "dict": "library/stdtypes.html",
        "float": "library/functions.html",
        "int": "library/functions.html",
        "list": "library/stdtypes.html",
        "logging.Logger": "library/logging.html",
        "memoryview": "library/stdtypes.html",
        "object": "library/functions.html",
        "socket.socket": "library/socket.html",
        "ssl.SSLContext": "library/ssl.html",
        "ssl.SSLObject": "library/ssl.html",
        "str": "library/stdtypes.html",
        "tuple": "library/stdtypes.html",
        "type": "library/functions.html",
    },
    "py:exception": {
        "asyncio.CancelledError": "library/asyncio-exceptions.html",
        "ConnectionError": "library/exceptions.html",
        "EOFError": "library/exceptions.html",
        "LookupError": "library/exceptions.html",
        "OSError": "library/exceptions.html",
        "RuntimeError": "library/exceptions.html",
        "ssl.SSLError": "library/ssl.html",
        "TimeoutError": "library/exceptions.html",
        "TypeError": "library/exceptions.html",
        "ValueError": "library/exceptions.html",
    },
}
_HEAD = (
    "# Sphinx inventory version 2\n# Project: Python\n# Version: 3\n"
    "# The remainder of this file is compressed using zlib.\n"
)


def write() -> Path:
    """Write the inventory beside what is built, and return its path."""
    path = Path(__file__).parent / "build" / "python.inv"
    path.parent.mkdir(exist_ok=True)
    lines = [f"{name} {kind} 1 {page}#$ -\n" for kind, names in NAMES.items() for name, page in names.items()]
    path.write_bytes(_HEAD.encode() + zlib.compress("".join(lines).encode()))
    return path
