"""Echo server of lapwing: a coroutine handler."""

from _program import announce, run

import lapwing


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main(port):
    async with lapwing.listen(port=port, interface="127.0.0.1", default=echo) as server:
        announce(server.port)
        await server.serve_forever()


run(main)
