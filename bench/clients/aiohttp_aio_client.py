"""Asyncio round trips with aiohttp, whose client does not compress unless asked to."""

from _program import batches, expect, make_message, read_options, run
from aiohttp import ClientSession


async def main(options):
    message = make_message(options)
    async with ClientSession() as session, session.ws_connect(options.url) as ws:
        send, receive = (ws.send_str, ws.receive_str) if options.text else (ws.send_bytes, ws.receive_bytes)
        await send(message)
        expect(await receive() == message, "the message back")
        for batch in batches(options):
            for _ in range(batch):
                await send(message)
                await receive()


options = read_options()
run(main(options), options.loop)
