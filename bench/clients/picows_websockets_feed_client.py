"""Receiving a fast feed with picows and its websockets interface. Compression is off."""

from _program import Stopwatch, expect, read_options, run
from picows.websockets.asyncio.client import connect


async def main(options):
    received = 0
    async with connect(options.url, compression=None) as websocket:
        await websocket.recv()
        watch = Stopwatch()
        async for message in websocket:
            received += len(message)
        watch.report(options.count - 1)
    expect(received == (options.count - 1) * options.size, "every byte of the feed")


options = read_options()
run(main(options), options.loop)
