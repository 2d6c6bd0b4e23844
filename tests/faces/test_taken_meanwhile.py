"""A call that waits for a message, and a finalizer that takes the message before the call does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import lapwing
from tests.faces.callers import GUARD, blocking_pair, hosting, url
from tests.peers import wire
from tests.peers.finalizers import at_every_collection
from tests.peers.raw import RawListener

BUFFER = bytearray(8)

#: How to receive, and how to read what that gives for a message.
WAYS: list[tuple[str, tuple[Any, ...], Callable[[Any], str]]] = [
    ("receive", (), str),
    ("receive_many", (1,), lambda messages: str(messages[0])),
    ("receive_into", (BUFFER,), lambda size: BUFFER[:size].decode()),
    ("receive_json", (), str),
]
ways = pytest.mark.parametrize(("name", "arguments", "read"), WAYS, ids=[way[0] for way in WAYS])

#: At each of the first collections within a call the finalizer acts once; there are no more than these.
points = pytest.mark.parametrize("point", range(10))


class Thief:
    """Takes the message that is at hand, once; then the peer sends the next one.

    Args:
        is_there: whether there is one.
        take: takes it.
        send_next: what the peer does.
    """

    def __init__(
        self, is_there: Callable[[], bool], take: Callable[[], str | None], send_next: Callable[[], object]
    ) -> None:
        self.taken: list[str | None] = []
        self._steps = is_there, take, send_next

    def __call__(self) -> None:
        is_there, take, send_next = self._steps
        if not self.taken and is_there():
            self.taken.append(take())
            send_next()

    def check(self, received: str) -> None:
        """Each message was given out once, and in order."""
        assert [*self.taken, received] == ["0", "1"][: len(self.taken) + 1]


@points
@ways
def test_blocking(name: str, arguments: tuple[Any, ...], read: Callable[[Any], str], point: int) -> None:
    with RawListener() as listener, blocking_pair(listener, timeout=GUARD) as (client, peer):
        peer.send(wire.frame(wire.TEXT, b"first") + wire.frame(wire.TEXT, b"0"))
        assert client.receive() == "first"
        thief = Thief(
            lambda: client.stats().queued_messages > 0,
            lambda: str(client.receive()),
            lambda: peer.send_frame(wire.TEXT, b"1"),
        )
        with at_every_collection(thief, skip=point):
            result = getattr(client, name)(*arguments)
        thief.check(read(result))


@points
@ways
async def test_asyncio(
    listen: Callable[..., Any], name: str, arguments: tuple[Any, ...], read: Callable[[Any], str], point: int
) -> None:
    async with hosting(listen) as (server, guests), lapwing.connect(url(server), timeout=GUARD) as client:
        guest = await guests.next()
        await guest.send("0")
        await client.ping()  # it has come
        thief = Thief(
            lambda: client.stats().queued_messages > 0, lambda: _take(client), lambda: guest.send_threadsafe("1")
        )
        with at_every_collection(thief, skip=point):
            result = await getattr(client, name)(*arguments)
        thief.check(read(result))


def _take(client: lapwing.Connection) -> str:
    """Take a message that is there, in no task of its own."""
    with pytest.raises(StopIteration) as caught:
        client.receive().send(None)
    return str(caught.value.value)
