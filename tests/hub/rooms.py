"""Helpers of the hub's tests: hubs with the topics that most of them use."""

from __future__ import annotations

from typing import Any

import lapwing.hub
from lapwing.hub.hub import Hub


def anybody(ask: Any) -> None:
    pass


def hub_with(*patterns: str, **options: Any) -> Hub:
    """A hub that has these topics, for everybody, with the same options."""
    hub = Hub()
    for pattern in patterns:
        hub.topic(pattern, **options)(anybody)
    return hub


async def numbers(messages: Any, count: int) -> list[Any]:
    """The data of the next messages."""
    return [(await anext(messages)).data for _ in range(count)]


__all__ = ["anybody", "hub_with", "lapwing", "numbers"]
