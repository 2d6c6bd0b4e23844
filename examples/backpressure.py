"""Backpressure: the reader is slow, so `send` waits, and raises TimeoutError after its timeout.

Server and client in one program. Usage: python backpressure.py
"""

import asyncio

import lapwing

PIECE = b"x" * 65536

go_on = asyncio.Event()


async def slow(ws: lapwing.Connection) -> None:
    """Start to read only when the event is set."""
    await go_on.wait()
    async for _ in ws:
        pass


async def main() -> None:
    async with (
        lapwing.listen(port=0, default=slow) as server,
        lapwing.connect(f"ws://localhost:{server.port}", compression=False) as ws,
    ):
        sent = 0
        try:
            while True:  # until all buffers between here and the reader are full
                await ws.send(PIECE, timeout=0.5)
                sent += 1
        except TimeoutError:
            print("the peer does not read; unsent here:", "bounded" if ws.stats().unsent_bytes < 200_000 else "much")

        go_on.set()
        await ws.send(PIECE)  # the peer reads again, and the connection still works
        print("and now it does")
        await ws.close()
        print("the server got all of them:", server.stats().messages_received == sent + 1)


if __name__ == "__main__":
    asyncio.run(main())
