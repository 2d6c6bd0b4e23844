"""lapwing clients in a process of their own: some that come and go, or a crowd that stays."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import lapwing
from tests.soak.child import Answer, give, next_question
from tests.soak.memory import allow_descriptors, held

#: A client that offers compression as browsers do, and obeys the response as they do.
BROWSER: dict[str, Any] = {
    "headers": {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"},
    "compression": lapwing.Deflate(context_takeover=True),
}

#: How a connection may fail when the server breaks off.
FAILURES = (OSError, lapwing.WebSocketError)


def come_and_go(url: str, cycles: int) -> int:
    """Connect blocking clients, one after the other, whatever the server does; returns how many got an answer."""
    answered = 0
    for number in range(cycles):
        client = lapwing.Client(timeout=30)
        try:
            client.connect(url)
            client.send(f"message {number}")
            while (message := client.receive()) is not None:
                answered += message == f"message {number}"
        except FAILURES:
            continue
        finally:
            if client.closed is None and client.request is not None:
                client.close()
    return answered


async def come_and_go_async(url: str, cycles: int, at_once: int = 20) -> int:
    """The same with asyncio clients, so many at a time."""
    numbers = iter(range(cycles))
    answered = 0

    async def one_after_the_other() -> None:
        nonlocal answered
        for number in numbers:
            client = lapwing.AsyncClient(timeout=30)
            try:
                await client.connect(url)
                await client.send(f"message {number}")
                while (message := await client.receive()) is not None:
                    answered += message == f"message {number}"
            except FAILURES:
                continue
            finally:
                if client.closed is None and client.request is not None:
                    await client.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())
    return answered


class Crowd:
    """Clients that are connected at the same time."""

    def __init__(self) -> None:
        self._clients: list[lapwing.AsyncClient] = []

    async def gather(self, port: int, size: int, at_once: int = 100, length: int = 0, *, browsers: bool = False) -> int:
        """Connect `size` clients, each of which has a message of `length` bytes or more echoed; returns how many."""
        options = BROWSER if browsers else {}
        numbers = iter(range(size))
        echoed = 0

        async def one_after_the_other() -> None:
            nonlocal echoed
            for number in numbers:
                client = lapwing.AsyncClient(timeout=120, **options)
                await client.connect(f"ws://127.0.0.{1 + number % 8}:{port}")
                self._clients.append(client)
                text = f"message {number}".ljust(length)
                await client.send(text)
                message = await client.receive()
                echoed += message == text

        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(one_after_the_other())
        return echoed


def main() -> None:
    warnings.simplefilter("error")
    allowed = allow_descriptors()
    crowd = Crowd()
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        complaints: list[str] = []
        loop.set_exception_handler(lambda _, context: complaints.append(str(context)))
        while (question := next_question()) is not None:
            what, arguments = question
            answer: Answer
            if what == "come and go":
                answer = {"answered": come_and_go(**arguments), "held": held()}
            elif what == "come and go, asyncio":
                answered = runner.run(come_and_go_async(**arguments))
                answer = {"answered": answered, "held": held(), "complaints": complaints}
            else:
                answer = {"echoed": runner.run(crowd.gather(**arguments)), "allowed": allowed}
            give(answer)


if __name__ == "__main__":
    main()
