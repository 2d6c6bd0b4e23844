"""Echo server of lapwing, with compression, and context takeover where it is asked for."""

from _program import announce, run

import lapwing


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main(options):
    settings = lapwing.Deflate(context_takeover=options.takeover, threshold=0)
    async with lapwing.listen(port=options.port, interface="127.0.0.1", default=echo, compression=settings) as server:
        announce(server.port)
        await server.serve_forever()


run(main)
