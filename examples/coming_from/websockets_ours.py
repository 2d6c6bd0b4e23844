"""The same with lapwing."""

import asyncio

import lapwing


async def upper(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message.upper())


async def main() -> None:
    async with lapwing.listen(
        0, "localhost", default=upper
    ) as server:
        url = f"ws://localhost:{server.port}"
        async with lapwing.connect(url) as ws:
            await ws.send("hello")
            print(await ws.receive())
            closed = await ws.close(1000, "bye")
            if await ws.receive() is None:
                print("closed with", closed.code)


asyncio.run(main())
