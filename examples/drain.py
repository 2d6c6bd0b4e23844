"""A server that drains on SIGTERM, and does other work during that time.

Usage: python drain.py [PORT]
"""

import asyncio
import signal
import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    server = await lapwing.listen(port=port, default=echo, health="/healthz")
    print("listening on port", server.port, flush=True)
    await stop.wait()

    # For one second /healthz answers 503; then clients are closed with 1012, spread over five seconds.
    draining = asyncio.create_task(server.drain(window=5, grace=1))
    print("draining", len(server.connections), flush=True)
    await draining
    print("no clients left", flush=True)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
