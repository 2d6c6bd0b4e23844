"""Echo server of aiohttp: a WebSocket handler of an application, as in its documentation.

Its compression is off by default here. With ``--variant lapwing`` the handler's connection is one of lapwing.
"""

import asyncio

from _program import announce, run
from aiohttp import WSMsgType, web

clients = set()


def make_echo(compress):
    async def echo(request):
        ws = web.WebSocketResponse(compress=compress)
        await ws.prepare(request)
        async for message in ws:
            if message.type == WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    return echo


async def lapwing_echo(request):
    import lapwing.aiohttp

    ws = await lapwing.aiohttp.upgrade(request, compression=None)
    async for message in ws:
        await ws.send(message)
    return lapwing.aiohttp.response(ws)


def handler_for(options):
    if options.variant == "lapwing":
        return lapwing_echo
    return broadcast if options.broadcast else make_echo(options.compress)


async def broadcast(request):
    ws = web.WebSocketResponse(compress=False)
    await ws.prepare(request)
    clients.add(ws)
    try:
        async for message in ws:
            text = message.type == WSMsgType.TEXT
            for client in clients:
                await (client.send_str(message.data) if text else client.send_bytes(message.data))
    finally:
        clients.discard(ws)
    return ws


async def main(options):
    application = web.Application()
    application.router.add_get("/", handler_for(options))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port, ssl_context=options.tls())
    await site.start()
    announce(runner.addresses[0][1])
    await asyncio.Event().wait()


run(main)
