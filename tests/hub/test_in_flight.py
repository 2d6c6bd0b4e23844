"""What is in flight to a broker is limited by number and bytes, in order."""

from __future__ import annotations

import asyncio

from lapwing.hub.engines.in_flight import InFlight


async def _turns() -> None:
    """Let every task go on as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


class _Publishes:
    """Publishes of these sizes, each in flight until it is told to end."""

    def __init__(self, in_flight: InFlight, *sizes: int) -> None:
        self.begun: list[int] = []
        self.ends = [asyncio.Event() for _ in sizes]
        self.tasks = [asyncio.create_task(self._publish(in_flight, *each)) for each in enumerate(sizes)]

    async def _publish(self, in_flight: InFlight, number: int, size: int) -> None:
        async with in_flight.room(size):
            self.begun.append(number)
            await self.ends[number].wait()

    async def end(self, *numbers: int) -> None:
        for number in numbers:
            self.ends[number].set()
        await _turns()


async def test_number_and_bytes_are_limited() -> None:
    in_flight = InFlight(3, 100)
    publishes = _Publishes(in_flight, 60, 40, 1, 1, 1)
    await _turns()
    assert publishes.begun == [0, 1]
    await publishes.end(1)
    assert publishes.begun == [0, 1, 2, 3]
    await publishes.end(0)
    assert publishes.begun == [0, 1, 2, 3, 4]
    await publishes.end(2, 3, 4)
    assert (in_flight.number, in_flight.size) == (0, 0)


async def test_a_payload_beyond_the_budget_goes_alone_and_in_its_turn() -> None:
    in_flight = InFlight(10, 100)
    publishes = _Publishes(in_flight, 50, 1000, 1)
    await _turns()
    assert publishes.begun == [0]
    await publishes.end(0)
    assert publishes.begun == [0, 1]
    await publishes.end(1)
    assert publishes.begun == [0, 1, 2]
    await publishes.end(2)
    assert (in_flight.number, in_flight.size) == (0, 0)


async def test_a_wait_that_is_cancelled_takes_no_room() -> None:
    in_flight = InFlight(10, 100)
    publishes = _Publishes(in_flight, 80, 50, 10)
    await _turns()
    publishes.tasks[1].cancel()
    await _turns()
    assert publishes.begun == [0, 2]
    await publishes.end(0, 2)
    assert (in_flight.number, in_flight.size) == (0, 0)


async def test_one_that_is_cancelled_when_it_was_just_let_in_gives_its_room_back() -> None:
    in_flight = InFlight(10, 100)
    await in_flight.enter(80)
    publishes = _Publishes(in_flight, 90)
    await _turns()
    in_flight.leave(80)
    publishes.tasks[0].cancel()
    await asyncio.wait(publishes.tasks)
    assert publishes.begun == []
    assert (in_flight.number, in_flight.size) == (0, 0)
