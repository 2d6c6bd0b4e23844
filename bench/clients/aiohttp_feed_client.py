"""Receiving a fast feed with aiohttp, whose client does not compress unless asked to."""

from _program import Stopwatch, expect, read_options, run
from aiohttp import ClientSession


async def main(options):
    received = 0
    async with ClientSession() as session, session.ws_connect(options.url) as ws:
        await ws.receive()
        watch = Stopwatch()
        async for message in ws:
            received += len(message.data)
        watch.report(options.count - 1)
    expect(received == (options.count - 1) * options.size, "every byte of the feed")


options = read_options()
run(main(options), options.loop)
