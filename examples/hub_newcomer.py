"""A chat in which a newcomer gets the last twenty messages first.

Usage: python hub_newcomer.py [PORT]
"""

import sys

import lapwing

hub = lapwing.Hub()


@hub.topic("chat", raw="text", history=100, keep=3600)
def chat(ask: lapwing.hub.Ask) -> None:
    """Let all clients subscribe."""


async def serve(ws: lapwing.Connection) -> None:
    """Send the last messages, and join the chat after the last one of them."""
    recent = await hub.history("chat", 20)
    for message in recent:
        await ws.send(message.data)
    await hub.join(ws, "chat", since=recent[-1].position if recent else None)
    async for text in ws:
        await hub.publish("chat", str(text))


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=serve, workers=2, hub=hub)
