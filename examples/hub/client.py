"""A client of a room: presence, history and new messages, across reconnects.

Usage: python client.py [URL [NAME]]
"""

import asyncio
import sys

import lapwing

url = sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080"
name = sys.argv[2] if len(sys.argv) > 2 else "python"


async def main() -> None:
    async with lapwing.hub.connect(url, token=name) as client:
        print("rooms:", ", ".join(await client.call("rooms")), flush=True)
        async with client.subscribe("chat:lobby") as messages:
            present = await messages.present()
            print("here:", ", ".join(sorted(present.users)), flush=True)
            for message in await messages.history(10):
                print("before:", message.data["text"], flush=True)
            await messages.publish({"name": name, "text": "hello from Python"})
            while True:
                try:
                    async for message in messages:
                        print(f"{message.data['name']}: {message.data['text']}", flush=True)
                except lapwing.hub.Lost as lost:
                    print("messages may be missing:", lost.why, flush=True)


asyncio.run(main())
