"""Topics that the user of a broker may not listen to: their subscribers are told, and others notice nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from lapwing.hub.engines import link
from lapwing.hub.hub import Hub
from tests.hub.brokers import data_of, declare, until
from tests.hub.nats_servers import NatsServer, nats_server
from tests.hub.rooms import anybody
from tests.hub.servers import RedisServer, redis_server

#: Users that may listen to all but the topics that begin with "no:", and to all.
_REDIS = "on >secret ~* +@all resetchannels &lapwing:0:probe:* &lapwing:0:c:\x01* &lapwing:0:c:live:*"
_NATS = """
authorization {{ users: [
  {{ user: app, password: secret, permissions: {{ publish: ">", subscribe: {{ allow: ">", deny: [{}] }} }} }}
] }}
"""
_DENIED = '"lapwing.t.no%3A1.*", "lapwing.t.no%3A2.*"'


class _Server:
    """A broker with a user who may not listen to every topic."""

    def __init__(self, server: RedisServer | NatsServer) -> None:
        self._server = server
        self.url = server.url.replace("://", "://app:secret@")

    def forbid(self, topic: str | None) -> None:
        """Take away a right, or give it back."""
        if isinstance(self._server, NatsServer):
            more = "" if topic is None else f', "lapwing.t.{topic.replace(":", "%3A")}.*"'
            self._server.configure(self._server.configuration.replace(_DENIED, _DENIED + more))
        else:
            rights = "resetchannels &lapwing:0:probe:* &lapwing:0:c:\x01*" if topic else "&lapwing:0:c:live:*"
            self._server.ask("ACL", "SETUSER", "app", *rights.split())


@contextmanager
def _running(kind: str) -> Iterator[RedisServer | NatsServer]:
    if kind == "nats":
        with nats_server(_NATS.format(_DENIED), greeting={"user": "app", "pass": "secret"}) as nats:
            yield nats
    else:
        with redis_server(kind) as redis:
            redis.ask("ACL", "SETUSER", "app", *_REDIS.split(" "))
            yield redis


@pytest.fixture(params=["redis", "valkey", "nats"])
def server(request: pytest.FixtureRequest) -> Iterator[_Server]:
    with _running(request.param) as found:
        yield _Server(found)


def _declare(url: str) -> Hub:
    hub = declare(Hub(url, timeout=30.0))
    hub.topic("no:*")(anybody)
    return hub


async def _enter(hub: Hub, topic: str) -> Any:
    async with hub.subscribe(topic) as messages:
        await hub.publish(topic, topic)
        return await data_of(messages, 1)


async def test_subscribers_of_a_forbidden_topic_are_told_and_others_notice_nothing(server: _Server) -> None:
    async with _declare(server.url) as hub, hub.subscribe("live:1") as messages:
        up = hub.health.since
        for _ in range(2):
            topics = ("no:1", "live:2", "no:2", "live:3")
            found = await asyncio.gather(*(_enter(hub, topic) for topic in topics), return_exceptions=True)
            assert [type(each) for each in found] == [PermissionError, list, PermissionError, list]
            assert [found[1], found[3]] == [["live:2"], ["live:3"]]
        await hub.publish("live:1", "hello")
        assert await data_of(messages, 1) == ["hello"]
        assert hub.health.is_up
        assert hub.health.since == up


async def test_a_topic_that_becomes_forbidden_is_said_to_be_the_reason(
    server: _Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_BACKOFF", (0.01, 0.05))
    async with _declare(server.url) as hub, hub.subscribe("live:1"):
        server.forbid("live:1")
        await until(lambda: not hub.health.is_up and ("NOPERM" in hub.health.why or "live%3A1" in hub.health.why))
        server.forbid(None)
        await until(lambda: hub.health.is_up)


async def test_a_forbidden_topic_does_not_hold_up_a_link_that_is_made_again() -> None:
    with redis_server("redis", "--user", "app", *_REDIS.split(" ")) as server:
        async with _declare(_Server(server).url) as hub, hub.subscribe("live:1"):
            server.kill()
            await until(lambda: not hub.health.is_up)
            entering = asyncio.ensure_future(_enter(hub, "no:1"))
            await until(lambda: "no:1" in hub._core.node().topics)
            server.start()
            with pytest.raises(PermissionError):
                await entering
            assert hub.health.is_up
