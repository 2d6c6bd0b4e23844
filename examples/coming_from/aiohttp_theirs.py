"""A server and a client with aiohttp."""

import asyncio

from aiohttp import ClientSession, WSMsgType, web


async def upper(
    request: web.Request,
) -> web.WebSocketResponse:
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type == WSMsgType.TEXT:
            await ws.send_str(message.data.upper())
    return ws


async def main() -> None:
    app = web.Application()
    app.add_routes([web.get("/", upper)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0)
    await site.start()
    port = runner.addresses[0][1]
    async with ClientSession() as session:
        async with session.ws_connect(
            f"ws://localhost:{port}"
        ) as ws:
            await ws.send_str("hello")
            print((await ws.receive()).data)
            await ws.send_json({"a": 1})
            print((await ws.receive()).data)
            await ws.close()
            print("closed with", ws.close_code)
    await runner.cleanup()


asyncio.run(main())
