"""Time-outs: when one expires, TimeoutError is raised, the connection stays usable and no message is lost.

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
        # timeout= holds for everything that waits on this connection; open_timeout= for connecting alone.
        lapwing.connect(f"ws://localhost:{server.port}", timeout=10, open_timeout=5) as ws,
    ):
        await ws.send("hello")
        try:
            await ws.receive(timeout=0.05)  # its own time-out for this one call
        except TimeoutError:
            print("no answer yet")
        print(await ws.receive())

        # asyncio's own way does as well, and may hold for several calls together.
        await ws.send("again")
        try:
            async with asyncio.timeout(0.05):
                await ws.receive()
        except TimeoutError:
            print("no answer yet")
        print(await ws.receive())


if __name__ == "__main__":
    asyncio.run(main())
