"""The endurance runs in small: `make soak` does the same for long."""

from __future__ import annotations

import sys

import pytest

from tests.soak import runs
from tests.soak.draining import draining
from tests.soak.topics import topics

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from Linux's /proc")


@pytest.mark.parametrize(
    "options", [(), ("portable",), ("transport",), ("adopting",), ("adopting", "transport")], ids=" ".join
)
def test_clients_that_break_off_leave_nothing_in_a_server(options: tuple[str, ...]) -> None:
    runs.aborting_clients(2_000, *options)


@pytest.mark.parametrize("asyncio", [False, True], ids=["Client", "AsyncClient"])
def test_servers_that_break_off_leave_nothing_in_a_client(asyncio: bool) -> None:
    runs.aborting_server(2_000, asyncio=asyncio)


def test_a_crowd_that_is_killed_leaves_nothing_in_a_server() -> None:
    runs.crowds(500)


@pytest.mark.parametrize("portable", [False, True], ids=["epoll", "portable"])
def test_a_drained_server_loses_nothing_that_was_acknowledged(portable: bool) -> None:
    draining(100, portable=portable)


@pytest.mark.parametrize("browsers", [False, True], ids=["clients of lapwing", "browsers"])
def test_idle_connections_cost_nothing_for_compression(browsers: bool) -> None:
    runs.idle_with_and_without_compression(500, browsers=browsers)


@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_topics_that_come_and_go_leave_nothing_at_a_broker(kind: str) -> None:
    topics(kind, 500)
