"""The options for `lapwing serve served.py:options`: an echo, a clock, and a limit."""

import asyncio
import datetime

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def clock(ws: lapwing.Connection) -> None:
    while not ws.closed:
        await ws.send(datetime.datetime.now().isoformat(timespec="seconds"))
        await asyncio.sleep(1)


options = {
    "protocols": {"echo": echo, "clock": clock},
    "default": echo,
    "max_connections": 1000,
}
