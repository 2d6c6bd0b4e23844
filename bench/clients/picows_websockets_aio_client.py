"""Asyncio round trips with picows and its websockets interface. Compression is off."""

from _program import batches, expect, make_message, read_options, run
from picows.websockets.asyncio.client import connect


async def main(options):
    message = make_message(options)
    async with connect(options.url, compression=None) as websocket:
        await websocket.send(message)
        expect(await websocket.recv() == message, "the message back")
        for batch in batches(options):
            for _ in range(batch):
                await websocket.send(message)
                await websocket.recv()


options = read_options()
run(main(options), options.loop)
