"""Receiving a fast feed with lapwing."""

from _program import Stopwatch, expect, read_options, run

import lapwing


async def main(options):
    received = 0
    async with lapwing.connect(options.url) as ws:
        await ws.receive()
        watch = Stopwatch()
        async for message in ws:
            received += len(message)
        watch.report(options.count - 1)
    expect(received == (options.count - 1) * options.size, "every byte of the feed")


options = read_options()
run(main(options), options.loop)
