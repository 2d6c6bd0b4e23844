"""Closing a connection from either side, and how the other side learns of it.

Server and client in one program. Usage: python closing.py
"""

import asyncio

import lapwing


async def doorkeeper(ws: lapwing.Connection) -> None:
    """Close the connection of a client that does not send the password."""
    if await ws.receive() != "please":
        await ws.close(4001, "say please")
        return
    async for message in ws:  # the loop ends when the client closes the connection
        await ws.send(message)
    print("the server saw", ws.closed)


async def main() -> None:
    async with lapwing.listen(port=0, default=doorkeeper) as server:
        url = f"ws://localhost:{server.port}"

        async with lapwing.connect(url) as ws:
            await ws.send("let me in")
            assert await ws.receive() is None  # None: the connection is closed
            print("the client saw", ws.closed)

        async with lapwing.connect(url) as ws:
            await ws.send("please")
            closed = await ws.close(1000, "bye")
            print("close returned", closed)


if __name__ == "__main__":
    asyncio.run(main())
