"""Threads that send over the connections of an event loop; each waits only for its own message.

Server and client in one program. Usage: python threads.py
"""

import asyncio

import lapwing


def work(ws: lapwing.Connection, name: str) -> None:
    """Compute something in a thread, and report the progress."""
    for percent in (50, 100):
        # The future is done when `send` would return: wait for it, and the thread keeps pace with the reader.
        ws.send_threadsafe(f"{name}: {percent} %").result(timeout=10)


async def serve(ws: lapwing.Connection) -> None:
    """Start a thread for each job that the client names, and close when all are done."""
    jobs = str(await ws.receive()).split()
    await asyncio.gather(*(asyncio.to_thread(work, ws, job) for job in jobs))


async def main() -> None:
    async with (
        lapwing.listen(port=0, default=serve) as server,
        lapwing.connect(f"ws://localhost:{server.port}") as ws,
    ):
        await ws.send("sums products")
        for line in sorted([message async for message in ws]):
            print(line)


if __name__ == "__main__":
    asyncio.run(main())
