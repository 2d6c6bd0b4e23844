"""Timeouts: when one expires, TimeoutError is raised, the connection stays usable and no message is lost.

Server and client in one program. Usage: python timeouts.py
"""

import asyncio

import lapwing


async def slow(ws: lapwing.Connection) -> None:
    """Think for a while before answering."""
    async for message in ws:
        await asyncio.sleep(0.5)
        await ws.send(f"at last: {message}")


async def main() -> None:
    async with (
        lapwing.listen(port=0, default=slow) as server,
        # timeout= limits each call on this connection; open_timeout= limits connecting.
        lapwing.connect(f"ws://localhost:{server.port}", timeout=10, open_timeout=5) as ws,
    ):
        await ws.send("hello")
        try:
            await ws.receive(timeout=0.05)  # a timeout for this call alone
        except TimeoutError:
            print("no answer yet")
        print(await ws.receive())

        # asyncio.timeout works, too, and can limit several calls together.
        await ws.send("again")
        try:
            async with asyncio.timeout(0.05):
                await ws.receive()
        except TimeoutError:
            print("no answer yet")
        print(await ws.receive())


if __name__ == "__main__":
    asyncio.run(main())
