"""Tests of a WebSocket program with lapwing.testing: no port, no network, no waiting. Run them with pytest."""

import asyncio

import lapwing
from lapwing import testing
from lapwing.testing import Fault

# --- the program under test ---------------------------------------------------------------------------------------


async def auction(ws: lapwing.Connection) -> None:
    """Take bids; half a minute after the last one, the highest bidder wins."""
    highest = 0
    while True:
        try:
            bid = await ws.receive(timeout=30)
        except TimeoutError:
            await ws.send(f"sold for {highest}")
            return
        if bid is None:
            return
        if int(bid) > highest:
            highest = int(bid)
            await ws.send(f"highest bid: {highest}")


async def follow(url: str, lines: list[str]) -> None:
    """Collect all messages up to "end", on as many connections as needed."""
    async for ws in lapwing.connect(url, reconnect=lapwing.Reconnect(random=lambda: 1.0)):
        try:
            async for message in ws:
                lines.append(str(message))
                if message == "end":
                    return
        except lapwing.ConnectionClosed:
            continue


# --- its tests ----------------------------------------------------------------------------------------------------


@testing.virtual_time
async def test_the_highest_bid_wins_after_half_a_minute() -> None:
    begin = asyncio.get_running_loop().time()
    async with testing.serve(auction) as served, served.connect() as ws:
        await ws.send("10")
        assert await ws.receive() == "highest bid: 10"
        await asyncio.sleep(29)  # takes no time
        await ws.send("12")
        assert await ws.receive() == "highest bid: 12"
        assert await ws.receive() == "sold for 12"
        assert asyncio.get_running_loop().time() - begin == 29 + 30


@testing.virtual_time
async def test_a_connection_that_breaks_off_is_made_again() -> None:
    async def tell(ws: lapwing.Connection) -> None:
        await ws.send("first")
        await ws.send("end")

    lines: list[str] = []
    # On the first connection, only 200 bytes arrive.
    async with testing.serve(tell, to_client=Fault(after=200, then="end"), connections=1) as served:
        await follow(served.url, lines)
    assert lines[-2:] == ["first", "end"]


def test_a_blocking_client_byte_by_byte() -> None:
    with testing.serve(auction, to_client=Fault(piece=1)) as served, served.connect() as ws:
        ws.send("7")
        assert ws.receive() == "highest bid: 7"
