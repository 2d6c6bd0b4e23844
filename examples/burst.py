"""Many messages at once: `receive_many` returns all messages that have arrived.

Usage: python burst.py
"""

import asyncio

import lapwing


async def count(ws: lapwing.Connection) -> None:
    """Send a thousand numbers."""
    for number in range(1000):
        await ws.send(str(number))


async def main() -> None:
    async with (
        lapwing.listen(port=0, default=count) as server,
        lapwing.connect(f"ws://localhost:{server.port}") as ws,
    ):
        total = 0
        while messages := await ws.receive_many():  # an empty list: the connection is closed
            total += sum(map(int, messages))
        print(f"the sum is {total}")


if __name__ == "__main__":
    asyncio.run(main())
