"""Reconnecting: a loop over connections, asyncio and blocking, against a server that drops them.

Server and clients in one program. Usage: python reconnecting.py
"""

import asyncio

import lapwing

count = 0


async def restless(ws: lapwing.Connection) -> None:
    """Send the number of connections so far, and close with 1012 (service restart)."""
    global count
    count += 1
    await ws.send(str(count))
    await ws.close(1012, "back in a moment")


def tell(face: str) -> lapwing.Reconnect:
    """Use short delays for the demonstration, and print each attempt instead of logging it."""
    return lapwing.Reconnect(initial=0.1, on_attempt=lambda attempt: print(f"{face}: again: {attempt.cause}"))


async def follow(url: str) -> None:
    async for ws in lapwing.connect(url, reconnect=tell("asyncio")):
        try:
            async for message in ws:
                print("asyncio: received", message)
                if message == "3":
                    return  # like break: closes the connection and ends the loop
        except lapwing.ConnectionClosed:
            continue  # the connection was lost: connect again


def follow_blocking(url: str) -> None:
    for ws in lapwing.connect(url, reconnect=tell("blocking")):
        try:
            for message in ws:
                print("blocking: received", message)
                if message == "3":
                    return
        except lapwing.ConnectionClosed:
            continue


async def main() -> None:
    global count
    async with lapwing.listen(port=0, default=restless) as server:
        url = f"ws://localhost:{server.port}"
        await follow(url)
        count = 0
        await asyncio.to_thread(follow_blocking, url)


if __name__ == "__main__":
    asyncio.run(main())
