"""Topics that come and go at a broker: it holds nothing of them afterwards."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from lapwing.hub import Lost, node
from lapwing.hub.engines import nats_stream, redis
from lapwing.hub.engines.nats import NatsEngine
from lapwing.hub.engines.redis import RedisEngine
from lapwing.hub.hub import Hub
from tests.hub.nats_servers import nats_server
from tests.hub.rooms import anybody
from tests.hub.servers import redis_server
from tests.peers.programs import free_port

#: Topics that are subscribed to at a time, and messages that are on their way at a time.
_SUBSCRIBED = 5_000
_ON_THEIR_WAY = 500
#: Seconds for which messages, keys and last positions are kept, instead of minutes and a day.
_KEPT = 1
#: Seconds until the broker has forgotten all: a guard against hanging.
_PATIENCE = 120.0


@dataclass
class _Broker:
    """A server, and what it holds of topics.

    Attributes:
        url: the server's.
        stored: counts what is stored.
        listened: counts what is listened to.
    """

    url: str
    stored: Callable[[], int]
    listened: Callable[[], int]


@contextmanager
def _redis() -> Iterator[_Broker]:
    with redis_server() as server:

        def stored() -> int:
            return len([key for key in server.all_keys() if "live:" in key or "kept:" in key])

        yield _Broker(server.url, stored, lambda: len(server.ask("PUBSUB", "CHANNELS", "*")))


@contextmanager
def _nats() -> Iterator[_Broker]:
    monitoring = free_port()
    with nats_server(f'http: "127.0.0.1:{monitoring}"') as server:

        def stored() -> int:
            subjects = server.stream("INFO", subjects_filter="lapwing.in.>")["state"].get("subjects") or {}
            return len([subject for subject in subjects if "%01" not in subject])

        def listened() -> int:
            with urllib.request.urlopen(f"http://127.0.0.1:{monitoring}/subsz", timeout=30) as answer:
                return int(json.load(answer)["num_subscriptions"])

        yield _Broker(server.url, stored, listened)


async def _use(hub: Hub, other: Hub, names: list[str]) -> None:
    """Subscribe to topics, and publish a message to each."""
    async with hub.subscribe(*names) as messages:
        for begin in range(0, len(names), _ON_THEIR_WAY):
            some = names[begin : begin + _ON_THEIR_WAY]
            keys = ["k" if name.startswith("kept:") else None for name in some]
            await asyncio.gather(*(other.publish(name, name, key=key) for name, key in zip(some, keys, strict=True)))
            waiting = set(some)
            while waiting:
                try:
                    waiting.discard((await anext(messages)).topic)
                except Lost as lost:  # its last position was over before the message, where a second is little
                    waiting.discard(lost.topic)


async def _come_and_go(broker: _Broker, count: int) -> tuple[int, int]:
    """Use so many topics; returns the most that the broker has held."""
    hub, other = Hub(broker.url), Hub(broker.url)
    for each in (hub, other):
        each.topic("live:*")(anybody)
        each.topic("kept:*", history=5, keep=_KEPT)(anybody)
    async with hub, other:
        before = broker.listened()
        stored = listened = 0
        for begin in range(0, count, _SUBSCRIBED):
            names = [f"{'live' if n % 2 else 'kept'}:{n}" for n in range(begin, min(begin + _SUBSCRIBED, count))]
            await _use(hub, other, names)
            now = broker.listened()  # topics are listened to for a moment more
            listened, stored = max(listened, now), max(stored, broker.stored())
        assert listened > before
        async with asyncio.timeout(_PATIENCE):
            while broker.stored():
                await asyncio.sleep(0.1)
            while broker.listened() != before:
                await asyncio.sleep(0.1)
    return stored, listened


def topics(kind: str, count: int) -> str:
    """Topics with and without history: each is subscribed to and published to; afterwards the broker holds none.

    Args:
        kind: "redis" or "nats".
        count: how many.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        for module, name, seconds in (
            (redis, "_LAST_KEPT", _KEPT),
            (redis, "_KEY_WINDOW", _KEPT * 1000),
            (nats_stream, "_LAST_KEPT", _KEPT),
            (nats_stream, "_KEY_WINDOW", _KEPT),
            (node, "_LINGER", 0.5),
            # A look at the hub's own topic would find its last position gone, too.
            (RedisEngine, "check_every", 3600.0),
            (NatsEngine, "check_every", 3600.0),
        ):
            stack.enter_context(patch.object(module, name, seconds))
        broker = stack.enter_context(_redis() if kind == "redis" else _nats())
        stored, listened = asyncio.run(_come_and_go(broker, count))
    took = time.monotonic() - began
    return f"{kind}, {count} topics, {took:.1f} s: up to {stored} entries and {listened} subscriptions, at the end none"
