"""Compression: the default, the choice for one message, and custom settings.

Server and client in one program. Usage: python compressed.py
"""

import asyncio
import json

import lapwing


async def report(ws: lapwing.Connection) -> None:
    """Send the same report twice: compressed, because it is long enough, and uncompressed."""
    text = json.dumps([{"city": "Oslo", "day": day, "temperature": 20.5} for day in range(300)])
    await ws.send(text)
    await ws.send(text, compress=False)


async def listen_to(ws: lapwing.Connection) -> None:
    """Print the parameters that were negotiated, and the messages."""
    if ws.response is not None:
        print("agreed on:", ws.response.headers.get("Sec-WebSocket-Extensions"))
    async for message in ws:
        print("received", len(message), "characters")


async def main() -> None:
    # Small, similar messages compress best when each may refer to earlier ones (context takeover).
    settings = lapwing.Deflate(context_takeover=True, threshold=32)
    async with lapwing.listen(port=0, default=report, compression=settings) as server:
        url = f"ws://localhost:{server.port}"
        async with lapwing.connect(url, compression=settings) as ws:
            await listen_to(ws)
        async with lapwing.connect(url, compression=False) as ws:
            await listen_to(ws)


if __name__ == "__main__":
    asyncio.run(main())
