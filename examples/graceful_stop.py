"""Graceful shutdown on SIGTERM or Ctrl-C: no new clients, and a close frame for each connected client.

Usage: python graceful_stop.py [PORT]
"""

import asyncio
import signal
import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    server = await lapwing.listen(port=port, default=echo)
    print("listening on port", server.port, flush=True)
    await stop.wait()

    print("stopping, with", len(server.connections), "connected", flush=True)
    await server.close()  # keep_clients=True leaves connected clients alone until they close
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
