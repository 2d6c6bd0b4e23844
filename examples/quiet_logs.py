"""The log of a server: the program's own failures, and nothing about port scans.

Usage: python quiet_logs.py
"""

import asyncio
import logging
import sys

import lapwing


async def clumsy(ws: lapwing.Connection) -> None:
    """Fail on the second message."""
    await ws.send(await ws.receive() or "")
    raise RuntimeError("out of ideas")


async def scan(port: int) -> None:
    """Connect and disconnect like a port scanner."""
    for garbage in (b"", b"\x16\x03\x01\x00\xa5\x01", b"GET / HTTP/1.1\r\n"):
        reader, writer = await asyncio.open_connection("localhost", port)
        writer.write(garbage)
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()


async def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    async with lapwing.listen(port=0, default=clumsy) as server:
        await scan(server.port)
        async with lapwing.connect(f"ws://localhost:{server.port}") as ws:
            await ws.send("hello")
            print("received", await ws.receive())
            await ws.receive()
            print(ws.closed)
        print("openings that came to nothing:", server.stats().failed + server.stats().refused)


if __name__ == "__main__":
    asyncio.run(main())
