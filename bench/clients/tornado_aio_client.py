"""Asyncio round trips with tornado, whose client does not compress unless asked to."""

from _program import batches, expect, make_message, read_options, run
from tornado.websocket import websocket_connect


async def main(options):
    message = make_message(options)
    ws = await websocket_connect(options.url)
    await ws.write_message(message, binary=not options.text)
    expect(await ws.read_message() == message, "the message back")
    for batch in batches(options):
        for _ in range(batch):
            await ws.write_message(message, binary=not options.text)
            await ws.read_message()
    ws.close()


options = read_options()
run(main(options), options.loop)
