"""JSON: a server that adds numbers up, and an asyncio and a blocking client.

Usage: python json_messages.py
"""

import asyncio

import lapwing


async def add(ws: lapwing.Connection) -> None:
    """Answer each list of numbers with their sum."""
    while True:
        try:
            numbers = await ws.receive_json()
            await ws.send_json({"sum": sum(numbers)})
        except lapwing.ConnectionClosed:
            return
        except (TypeError, ValueError) as error:  # not JSON, or not numbers: the connection stays open
            await ws.send_json({"error": str(error)})


def ask(port: int) -> None:
    """The same in a thread; json= takes any module with dumps and loads, orjson for example."""
    with lapwing.connect(f"ws://localhost:{port}") as ws:
        ws.send_json([1.5, 2.5])
        print(ws.receive_json())


async def main() -> None:
    async with lapwing.listen(port=0, default=add) as server:
        async with lapwing.connect(f"ws://localhost:{server.port}") as ws:
            await ws.send_json([1, 2, 3])
            print(await ws.receive_json())
            await ws.send("[1, 2")
            print(await ws.receive_json())
        await asyncio.to_thread(ask, server.port)


if __name__ == "__main__":
    asyncio.run(main())
