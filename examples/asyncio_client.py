"""An asyncio client: the same calls as in the blocking client, with await.

Usage: python asyncio_client.py [URL]
"""

import asyncio
import sys

import lapwing


async def main(url: str) -> None:
    async with lapwing.connect(url, "echo", timeout=5) as ws:
        await ws.send("a text")
        print("received", await ws.receive())

        await ws.send(b"some bytes")
        print("received", await ws.receive())

        was_clean, code, _ = await ws.close()

    print("closed", "cleanly" if was_clean else "uncleanly", "with code", code)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"))
