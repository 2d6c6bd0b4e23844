"""Permissions: who may subscribe, for how long, and to which messages; and how to revoke them.

Usage: python hub_permissions.py [PORT]
"""

import asyncio
import sys
from datetime import timedelta

import lapwing
from lapwing import auth

hub = lapwing.Hub()
MEMBERS = {"staff": {"alice"}, "all": {"alice", "bob"}}


@hub.topic("group:*", history=10)
async def group(ask: lapwing.hub.Ask) -> None:
    """Let members subscribe for an hour; a message marked for one user goes to that user alone."""
    name = ask.topic.removeprefix("group:")
    if ask.user not in MEMBERS.get(name, ()):
        raise lapwing.Denied(f"{ask.user} is no member of {name}")
    user = ask.user
    ask.expires = timedelta(hours=1)
    ask.filter = lambda message: message.tags.get("for", user) == user


async def serve(ws: lapwing.Connection) -> None:
    """Read each message as the name of a group, and join that group."""
    async for name in ws:
        try:
            await hub.join(ws, f"group:{name}")
        except lapwing.Denied as denied:
            await ws.send(f"denied: {denied}")
        else:
            await hub.publish(f"group:{name}", f"welcome to {name}", tags={"for": ws.user})


async def main(port: int) -> None:
    users = {"alice": "secret", "bob": "hidden"}
    async with lapwing.listen(port, default=serve, hub=hub, on_request=auth.basic_auth(users)) as server:
        print("groups on port", server.port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        MEMBERS["all"].discard("bob")
        await hub.revoke("group:all", user="bob")  # ends the subscription now; the function refuses the next one
        await hub.publish("group:all", "bob has left")
        print("revoked", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
