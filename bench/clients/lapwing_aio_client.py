"""Asyncio round trips with lapwing."""

from _program import batches, expect, make_message, read_options, run

import lapwing


async def main(options):
    message = make_message(options)
    async with lapwing.connect(options.url) as ws:
        await ws.send(message)
        expect(await ws.receive() == message, "the message back")
        for batch in batches(options):
            for _ in range(batch):
                await ws.send(message)
                await ws.receive()


options = read_options()
run(main(options), options.loop)
