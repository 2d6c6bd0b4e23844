"""Receiving a fast feed with tornado, whose client does not compress unless asked to."""

from _program import Stopwatch, expect, read_options, run
from tornado.websocket import websocket_connect


async def main(options):
    received = 0
    ws = await websocket_connect(options.url)
    await ws.read_message()
    watch = Stopwatch()
    while (message := await ws.read_message()) is not None:
        received += len(message)
    watch.report(options.count - 1)
    expect(received == (options.count - 1) * options.size, "every byte of the feed")


options = read_options()
run(main(options), options.loop)
