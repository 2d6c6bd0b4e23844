"""A chat of one topic: each message goes to all clients, as plain text.

Usage: python hub_chat.py [PORT]
"""

import sys

import lapwing

hub = lapwing.Hub()


@hub.topic("chat", raw="text")
def chat(ask: lapwing.hub.Ask) -> None:
    """Let all clients subscribe."""


async def serve(ws: lapwing.Connection) -> None:
    """Join the chat, and publish each message of the client there."""
    await hub.join(ws, "chat")
    async for text in ws:
        await hub.publish("chat", str(text))


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=serve, hub=hub)
