"""The memory that compression costs an idle connection of a server: KiB by client, and by the messages it has sent.

Usage: python bench/idle.py [CONNECTIONS]. The clients are bare sockets; every case has a server process of its own.
"""

from __future__ import annotations

import asyncio
import base64
import multiprocessing
import os
import random
import resource
import socket
import struct
import sys
import zlib
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from clients.compressed_load import document

import lapwing

OFFER = "permessage-deflate; client_max_window_bits"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
#: Clients by the offer that they make and the User-Agent that they send, and the server's choice for them.
CLIENTS: dict[str, tuple[str | None, str, bool | None]] = {
    "no compression": (None, BROWSER, None),
    "a browser": (OFFER, BROWSER, None),
    "another client": (OFFER, "client/1.0", None),
    "a browser, peer_context_takeover=True": (OFFER, BROWSER, True),
    "another client, peer_context_takeover=False": (OFFER, "client/1.0", False),
}
#: What each client sends: how many messages of how many bytes.
TRAFFIC = ((0, 0), (1, 256), (1, 2000), (10, 2000), (10, 20_000))


def resident(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def serve(pipe: Connection, choice: bool | None) -> None:
    """Run a server that reads, and tell its port and, when asked, the messages that came."""

    async def main() -> None:
        came = 0

        async def read(ws: lapwing.Connection) -> None:
            nonlocal came
            while await ws.receive() is not None:
                came += 1

        compression = lapwing.Deflate(peer_context_takeover=choice)
        async with lapwing.listen(0, "127.0.0.1", default=read, compression=compression, ping_interval=None) as server:
            pipe.send(server.port)
            while True:
                if pipe.poll():
                    pipe.recv()
                    pipe.send(came)
                await asyncio.sleep(0.01)

    asyncio.run(main())


class Client:
    """A bare socket after its opening handshake, with a compressor as it agreed on."""

    def __init__(self, port: int, offer: str | None, user_agent: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        extensions = "" if offer is None else f"Sec-WebSocket-Extensions: {offer}\r\n"
        self.sock.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"User-Agent: {user_agent}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"{extensions}\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.sock.recv(4096)
        self.deflates = b"permessage-deflate" in head
        self.forgets = b"client_no_context_takeover" in head
        self.compressor: Any = None

    def send(self, message: bytes) -> None:
        """Send a message, compressed where that was agreed on."""
        first = 0x81
        if self.deflates:
            first |= 0x40
            if self.compressor is None or self.forgets:
                self.compressor = zlib.compressobj(wbits=-15)
            message = (self.compressor.compress(message) + self.compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        size = len(message)
        head = struct.pack("!BB", first, 0x80 | size) if size < 126 else struct.pack("!BBH", first, 0x80 | 126, size)
        self.sock.sendall(head + bytes(4) + message)


def measure(name: str, connections: int) -> Iterator[float]:
    """Return the KiB that the server holds for each connection after each kind of traffic."""
    offer, user_agent, choice = CLIENTS[name]
    for count, size in TRAFFIC:
        pipe, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=serve, args=(theirs, choice), daemon=True)
        process.start()
        theirs.close()  # so that an end of the server is noticed
        port = pipe.recv()
        documents = [document(size, random.Random(number)) for number in range(count)]
        clients = run(port, offer, user_agent, documents, 50)  # so that what is made once is not counted
        settle(pipe, 50 * count)
        before = resident(process.pid or 0)
        clients += run(port, offer, user_agent, documents, connections)
        settle(pipe, (50 + connections) * count)
        yield (resident(process.pid or 0) - before) / 1024 / connections
        process.terminate()
        process.join()
        for client in clients:
            client.sock.close()


def run(port: int, offer: str | None, user_agent: str, documents: list[bytes], connections: int) -> list[Client]:
    clients = []
    for _ in range(connections):
        client = Client(port, offer, user_agent)
        for text in documents:
            client.send(text)
        client.compressor = None
        clients.append(client)
    return clients


def settle(pipe: Connection, expected: int) -> None:
    """Wait until the server has received so many messages."""
    while True:
        pipe.send(None)
        if pipe.recv() == expected:
            return


def main() -> None:
    """Print the table."""
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("| KiB of an idle connection after | " + " | ".join(f"{count} x {size} B" for count, size in TRAFFIC) + " |")
    print("|---" * (len(TRAFFIC) + 1) + "|")
    for name in CLIENTS:
        print(f"| {name} | " + " | ".join(f"{kib:.2f}" for kib in measure(name, connections)) + " |", flush=True)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    main()
