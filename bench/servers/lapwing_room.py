"""A room of lapwing's hub: of plain WebSockets, or by `--variant centrifugo` of clients of that protocol.

With `--variant ungreeted` members are not told that they have joined: their messages are read once there are eight.
"""

import asyncio

from _program import announce, run

import lapwing

ROOM = "room:1"
UNGREETED = 8


def anybody(_):
    pass


async def main(options):
    hub = lapwing.Hub(options.redis)
    speaks_centrifugo = options.variant == "centrifugo"
    hub.topic("room:*", raw=False if speaks_centrifugo else "text")(anybody)

    async def publish(ws):
        async for text in ws:
            await hub.publish(ROOM, text.encode() if speaks_centrifugo else text)

    async def member(ws):
        await hub.join(ws, ROOM)
        await ws.send("joined")
        await publish(ws)

    everybody = asyncio.Barrier(UNGREETED)

    async def ungreeted(ws):
        await hub.join(ws, ROOM)
        await everybody.wait()
        await publish(ws)

    async def either(ws):
        await (publish(ws) if ws.path == "/publish" else hub.serve(ws))

    handler = {"centrifugo": either, "ungreeted": ungreeted}.get(options.variant, member)
    async with lapwing.listen(
        port=options.port, interface="127.0.0.1", default=handler, hub=hub, compression=None, ping_interval=None
    ) as server:
        announce(server.port)
        await server.serve_forever()


run(main)
