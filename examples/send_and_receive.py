"""Sending and receiving at the same time, each at its own pace: two tasks on one connection.

Server and client in one program. Usage: python send_and_receive.py
"""

import asyncio

import lapwing


async def double(ws: lapwing.Connection) -> None:
    """Answer every number with its double."""
    async for message in ws:
        await ws.send(str(2 * int(message)))


async def ask(ws: lapwing.AsyncClient, count: int) -> None:
    """Send all the questions, without waiting for an answer."""
    for number in range(count):
        await ws.send(str(number))  # waits when the server is slow, so memory stays bounded


async def hear(ws: lapwing.AsyncClient, count: int) -> None:
    """Receive all the answers."""
    answers = [await ws.receive() for _ in range(count)]
    print(len(answers), "answers, the last one is", answers[-1])


async def main(count: int = 1000) -> None:
    async with (
        lapwing.listen(port=0, default=double) as server,
        lapwing.connect(f"ws://localhost:{server.port}") as ws,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(ask(ws, count))
        group.create_task(hear(ws, count))


if __name__ == "__main__":
    asyncio.run(main())
