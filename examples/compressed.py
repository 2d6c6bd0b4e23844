"""Compression: on by default, chosen for a message, and with settings of one's own.

Server and client in one program. Usage: python compressed.py
"""

import asyncio
import json

import lapwing


async def report(ws: lapwing.Connection) -> None:
    """Send the same report twice: compressed, because it is long enough, and as it is."""
    text = json.dumps([{"city": "Oslo", "day": day, "temperature": 20.5} for day in range(300)])
    await ws.send(text)
    await ws.send(text, compress=False)


async def listen_to(ws: lapwing.Connection) -> None:
    """Print what the opening handshake agreed on, and what comes."""
    if ws.response is not None:
        print("agreed on:", ws.response.headers.get("Sec-WebSocket-Extensions"))
    async for message in ws:
        print("received", len(message), "characters")


async def main() -> None:
    # Small messages that resemble each other gain most when each may refer to the last ones.
    settings = lapwing.Deflate(context_takeover=True, threshold=32)
    async with lapwing.listen(port=0, default=report, compression=settings) as server:
        url = f"ws://localhost:{server.port}"
        async with lapwing.connect(url, compression=settings) as ws:
            await listen_to(ws)
        async with lapwing.connect(url, compression=False) as ws:
            await listen_to(ws)


if __name__ == "__main__":
    asyncio.run(main())
