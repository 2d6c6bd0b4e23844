"""What a subscription and a topic take of memory: counts of bytes that Python has given out, not of time."""

from __future__ import annotations

import asyncio
import sys
import sysconfig
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lapwing.hub import serving
from lapwing.hub.wire.session import Limits

BENCH = Path(__file__).parent.parent.parent / "bench"

pytestmark = pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="objects are larger on a free-threaded build"
)


@pytest.fixture
def hub_memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.setattr(serving, "Limits", lambda topics: Limits(topics=topics, ping=3600))
    import hub_memory  # type: ignore[import-not-found]

    tracemalloc.start()
    yield hub_memory
    tracemalloc.stop()
    del sys.modules["hub_memory"]


async def measured(hub_memory: Any, topics: list[list[str]]) -> float:
    asyncio.get_running_loop().set_debug(False)  # what it notes of each task takes ten times the time
    found: float = await hub_memory.measure(len(topics), topics, history=0)
    return found


async def test_a_subscription_takes_160_bytes_beyond_its_connection(hub_memory: Any) -> None:
    topics = [[f"room:{number}" for number in range(40)]] * 40
    assert await measured(hub_memory, topics) <= 160


async def test_a_topic_with_its_subscription_takes_400_bytes(hub_memory: Any) -> None:
    topics = [[f"room:{client} {number}" for number in range(80)] for client in range(10)]
    assert await measured(hub_memory, topics) <= 400
