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
        async with lapwing.connect(
            f"ws://localhost:{server.port}"
        ) as ws:
            await ws.send("hello")
            print(await ws.receive())
            closed = await ws.close()
            print("closed with", closed.code)


asyncio.run(main())
