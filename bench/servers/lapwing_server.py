"""Echo server of lapwing: a coroutine handler."""

from _program import announce, run

import lapwing


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def broadcast(ws):
    async for message in ws:
        ws.broadcast(message)


async def main(options):
    handler = broadcast if options.broadcast else echo
    async with lapwing.listen(
        port=options.port, interface="127.0.0.1", default=handler, ssl=options.tls(), compression=options.compress
    ) as server:
        announce(server.port)
        await server.serve_forever()


run(main)
