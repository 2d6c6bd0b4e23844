"""Chat rooms with history: a client that reconnects gets the messages that it missed, once and in order.

The first message of a client is the room, such as {"room": "lobby"}, or {"room": "lobby", "since": POSITION} with the
position of the last message that it has. Its later messages are published in the room.

Usage: python hub_room.py [PORT]
"""

import json
import sys

import lapwing

hub = lapwing.Hub()


def frame(message: lapwing.Message[str]) -> str:
    """Send its position with each message, so that a client can continue from there."""
    return json.dumps({"position": message.position, "text": message.data})


@hub.topic("chat:*", history=100, keep=300, frame=frame)
def chat(ask: lapwing.hub.Ask) -> None:
    """Let all clients subscribe; `raise lapwing.Denied("...")` refuses one."""


async def room(ws: lapwing.Connection) -> None:
    """Join the room that the client names, and publish its messages there."""
    try:
        wanted = await ws.receive_json()
        topic, since = f"chat:{wanted['room']}", wanted.get("since")
    except (ValueError, KeyError, TypeError):
        await ws.close(4400, 'the first message must be JSON such as {"room": "lobby"}')
        return
    joined = await hub.join(ws, topic, since=since)
    if since is not None and not joined.recovered:
        await ws.send_json({"lost": True})  # the history is too short: the client must reload all state
    async for text in ws:
        await hub.publish(topic, text)


if __name__ == "__main__":
    lapwing.run(port=int(sys.argv[1]) if len(sys.argv) > 1 else 8080, default=room, hub=hub)
