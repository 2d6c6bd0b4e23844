"""Thread handlers: each call of a plain function has a thread of its own, next to an `async def` handler.

Usage: python thread_server.py [PORT]
"""

import asyncio
import sys
import time

import lapwing


def slow(ws: lapwing.BlockingConnection) -> None:
    """Answer questions that take time; no other client waits for that."""
    for question in ws:
        time.sleep(0.1)  # such as a database query
        ws.send(f"{question}: 42")


def chat(ws: lapwing.BlockingConnection) -> None:
    """Send every message to all clients in the room."""
    with ws:
        while (message := ws.receive()) is not None:
            ws.broadcast(message)
    code = ws.closed.code if ws.closed else None
    print(f"one left, closed with {code}\n", end="", flush=True)  # in one write: other threads print, too


async def quick(ws: lapwing.Connection) -> None:
    """Serve in the event loop, which can hold thousands of such connections."""
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    async with lapwing.listen(
        port=port, protocols={"slow": slow, "chat": chat, "quick": quick}, max_threads=100
    ) as server:
        print("listening on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
