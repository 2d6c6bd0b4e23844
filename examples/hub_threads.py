"""The hub from threads: a handler that is a plain function joins a room, and another thread publishes and listens.

Usage: python hub_threads.py [PORT]
"""

import asyncio
import sys
import threading

import lapwing

hub = lapwing.Hub()


@hub.topic("log", history=10)
def log(ask: lapwing.hub.Ask) -> None:
    """Let all clients subscribe."""


def watch(ws: lapwing.BlockingConnection) -> None:
    """Send the messages of the topic to the client, until it leaves."""
    hub.join(ws, "log")
    for message in ws:
        hub.publish_sync("log", message)


def listen() -> None:
    """Print each message that is published; the iteration ends with the hub."""
    with hub.subscribe("log") as messages:
        print("listening", flush=True)
        for message in messages:
            print("heard", message.data, flush=True)


async def main(port: int) -> None:
    async with lapwing.listen(port, default=watch, hub=hub) as server:
        threading.Thread(target=listen).start()
        print("log on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
