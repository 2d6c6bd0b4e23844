"""Echo server of lapwing, with compression, and context takeover where it is asked for."""

import sys

from _program import announce, run

import lapwing

TAKEOVER = "--takeover" in sys.argv
if TAKEOVER:
    sys.argv.remove("--takeover")


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main(port):
    settings = lapwing.Deflate(context_takeover=TAKEOVER, threshold=0)
    async with lapwing.listen(port=port, interface="127.0.0.1", default=echo, compression=settings) as server:
        announce(server.port)
        await server.serve_forever()


run(main)
