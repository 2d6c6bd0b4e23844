"""Chat rooms on several machines: the same program runs on each, connected through Redis or Valkey.

The first message of a client is the room, such as {"room": "lobby"}, or {"room": "lobby", "since": POSITION}.

Usage: python machines.py REDIS_URL [PORT]
"""

import json
import sys

import lapwing

hub = lapwing.Hub(sys.argv[1])  # the only difference: without a URL, topics belong to this machine


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
        try:
            await hub.publish(topic, text)
        except lapwing.PublishError as error:
            await ws.send_json({"not sent": str(error)})


if __name__ == "__main__":
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    lapwing.run(port=port, default=room, workers=2, hub=hub, health="/healthz", drain_window=10)
