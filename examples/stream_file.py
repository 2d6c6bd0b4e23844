"""Upload a file and download it again: one message each way, of any size; neither side holds more than a piece of it.

Server and client in one program. Usage: python stream_file.py [FILE]
"""

import asyncio
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import lapwing


def pieces_of(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the rest of a file, 64 KiB at a time."""
    while piece := file.read(65536):
        yield piece


def content_of(path: Path) -> Iterator[bytes]:
    """Open a file, and yield its pieces."""
    with path.open("rb") as file:
        yield from pieces_of(file)


def as_bytes(piece: str | bytes) -> bytes:
    """Return a piece as bytes: a piece of a TEXT message is text."""
    return piece.encode() if isinstance(piece, str) else piece


async def keep(ws: lapwing.Connection) -> None:
    """Write the message to a file, and send it back."""
    with tempfile.TemporaryFile() as file:
        async with ws.receive_stream(limit=1 << 40) as stream:
            if stream is None:
                return  # the client left without sending anything
            async for piece in stream:
                file.write(as_bytes(piece))
        file.seek(0)
        await ws.send(pieces_of(file))


async def main() -> None:
    path = Path(sys.argv[1] if len(sys.argv) > 1 else __file__)
    async with (
        lapwing.listen(port=0, default=keep) as server,
        lapwing.connect(f"ws://localhost:{server.port}") as ws,
    ):
        await ws.send(content_of(path))
        digest = hashlib.sha256()
        size = 0
        async for piece in ws.receive_stream():
            digest.update(as_bytes(piece))
            size += len(piece)
    print(f"{size} bytes came back, {'the same' if digest.digest() == digest_of(path) else 'but others'}")


def digest_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


if __name__ == "__main__":
    asyncio.run(main())
