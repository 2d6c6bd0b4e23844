"""Asyncio connections of lapwing, each opened and closed."""

from _program import batches, read_options, run

import lapwing


async def main(options):
    for batch in batches(options):
        for _ in range(batch):
            await (await lapwing.connect(options.url)).close()


options = read_options()
run(main(options), options.loop)
