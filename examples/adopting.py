"""A small HTTP server of its own serves a page, and hands WebSocket connections over to lapwing.

Usage: python adopting.py [PORT]
"""

import asyncio
import sys

import lapwing

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n"


class HTTP(asyncio.Protocol):
    """One connection, until its request has arrived."""

    def __init__(self, server: lapwing.Server, tasks: asyncio.TaskGroup) -> None:
        self.server = server
        self.tasks = tasks
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accept a connection."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Collect the request's header, and decide who serves the connection."""
        self.held += data
        head, end, rest = self.held.partition(b"\r\n\r\n")
        if not end:
            return
        if b"upgrade: websocket" in head.lower():
            self.tasks.create_task(self.talk(head + end, rest))
        else:
            self.transport.write(PAGE)
            self.transport.close()

    async def talk(self, head: bytes, rest: bytes) -> None:
        """Send each message of a client to all clients."""
        try:
            ws = await lapwing.adopt(self.transport, head, rest, server=self.server)
        except (lapwing.HandshakeError, OSError) as error:
            print("no WebSocket:", error, flush=True)
            return
        async with ws:
            async for message in ws:
                ws.broadcast(message)


async def main() -> None:
    loop = asyncio.get_running_loop()
    async with lapwing.adopter(max_connections=1000) as server, asyncio.TaskGroup() as tasks:
        http = await loop.create_server(
            lambda: HTTP(server, tasks), "127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080
        )
        print("listening on port", http.sockets[0].getsockname()[1], flush=True)
        await http.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
