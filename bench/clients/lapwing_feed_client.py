"""Receiving a fast feed with lapwing: message by message, or with ``--variant receive_many`` all at hand at once."""

from _program import Stopwatch, expect, read_options, run

import lapwing


async def one_by_one(ws):
    received = 0
    async for message in ws:
        received += len(message)
    return received


async def many_at_once(ws):
    received = 0
    while messages := await ws.receive_many():
        received += sum(map(len, messages))
    return received


async def main(options):
    receive = many_at_once if options.variant == "receive_many" else one_by_one
    async with lapwing.connect(options.url) as ws:
        await ws.receive()
        watch = Stopwatch()
        received = await receive(ws)
        watch.report(options.count - 1)
    expect(received == (options.count - 1) * options.size, "every byte of the feed")


options = read_options()
run(main(options), options.loop)
