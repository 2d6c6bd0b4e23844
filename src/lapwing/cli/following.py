"""`lapwing connect --hub`: the messages of topics, a line each."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from lapwing.hub import Lost, Position

from . import hub
from .connecting import cause
from .escapes import neutralise
from .events import dump
from .notices import notice, timestamp
from .outcome import Failed, Status, told_to_end

if TYPE_CHECKING:
    import argparse

    from lapwing.hub import HubClient, Message

__all__ = ["follow"]


def follow(arguments: argparse.Namespace) -> int:
    """Follow topics until the count is reached, or for ever."""
    if not arguments.topics:
        raise Failed("--hub: expected a topic to follow: lapwing connect --hub URL TOPIC")
    if arguments.since is not None and len(arguments.topics) > 1:
        raise Failed("--since: expected one topic, since a position belongs to one")
    with told_to_end(), hub.explained(arguments):
        return asyncio.run(_Following(arguments).run())


class _Following:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._left = arguments.count
        self._is_terminal = sys.stdout.isatty()
        self._since: Position | None = None
        if arguments.since is not None:
            try:
                self._since = Position(arguments.since)
            except ValueError as error:
                raise Failed(f"--since: {error}") from None

    async def run(self) -> int:
        async with hub.client(self._arguments) as client:
            following = [asyncio.ensure_future(self._follow(client, topic)) for topic in self._arguments.topics]
            try:
                done, _ = await asyncio.wait(following, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in following:
                    task.cancel()
                await asyncio.wait(following)
            for task in done:
                task.result()
        return Status.OK

    async def _follow(self, client: HubClient, topic: str) -> None:
        """Print the messages; returns after the wanted number of them."""
        async with client.subscribe(topic, since=self._since, raw=self._arguments.binary) as messages:
            while self._left is None or self._left > 0:
                try:
                    message = await anext(messages)
                except Lost as lost:
                    notice(cause(lost))
                    continue
                except StopAsyncIteration:
                    raise ConnectionError("the hub is gone") from None
                if self._left is not None:
                    self._left -= 1
                self._print(message)

    def _print(self, message: Message[Any]) -> None:
        arguments = self._arguments
        if arguments.binary:
            sys.stdout.buffer.write(message.raw)
            sys.stdout.buffer.flush()
            return
        if arguments.json:
            event = {"type": "message", "topic": message.topic, "position": int(message.position)}
            if message.user is not None:
                event["user"] = message.user
            line = dump(event | {"data": message.data})
        else:
            line = message.raw.decode(errors="replace")
            if len(arguments.topics) > 1:
                line = f"{message.topic} {line}"
        if arguments.timestamps:
            line = f"{timestamp()} {line}"
        print(neutralise(line, one_line=True) if self._is_terminal else line, flush=True)
