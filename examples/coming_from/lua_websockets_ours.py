"""The names of lua-websockets, in Python."""

import asyncio

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    while (message := await ws.receive()) is not None:
        await ws.send(message)


async def goodbye(ws: lapwing.Connection) -> None:
    await ws.send("goodbye strange client")
    await ws.close()


def sync(url: str) -> None:
    client = lapwing.client.sync(timeout=2)
    client.connect(url, "echo")
    client.send("hello", lapwing.TEXT)
    print("sync:", client.receive())
    was_clean, code, reason = client.close(
        4001, "lost interest"
    )
    print("sync:", was_clean, code, reason)


async def copas(url: str) -> None:
    client = lapwing.client.aio(timeout=2)
    await client.connect(url)
    print("aio:", await client.receive())
    print("aio:", await client.receive(), client.closed)


async def main() -> None:
    server = await lapwing.server.listen(
        port=0,
        interface="localhost",
        protocols={"echo": echo},
        default=goodbye,
    )
    url = f"ws://localhost:{server.port}"
    await asyncio.to_thread(sync, url)
    await copas(url)
    await server.close(keep_clients=False)


asyncio.run(main())
