"""Fixtures for pytest: `pytest_plugins = ["lapwing.testing.plugin"]` in the conftest.py at the root of your tests.

Each gives a function that makes an object for the test, and closes it after the test. They are for tests that block;
an `async def` test writes `async with testing.serve(...)`, under pytest-asyncio, anyio or `testing.virtual_time`.
"""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from .proxy import Proxy
from .serving import pair, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..faces.blocking.client import Client
    from ..faces.blocking.connection import BlockingConnection
    from .serving import Served

#: The ways to run a test that is a coroutine function.
_RUNNERS = (
    "decorate it with @lapwing.testing.virtual_time: its time limits pass at once, and there is nothing to install",
    "mark it with @pytest.mark.asyncio, with pytest-asyncio installed",
    "mark it with @pytest.mark.anyio, with anyio installed",
)

__all__ = ["lapwing_pair", "lapwing_proxy", "lapwing_serve"]


@pytest.fixture
def lapwing_serve() -> Iterator[Callable[..., Served]]:
    """Serve handlers in a thread: called like `lapwing.testing.serve`, it gives the `Served`."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(serve(*args, **kwargs))


@pytest.fixture
def lapwing_pair() -> Iterator[Callable[..., tuple[Client, BlockingConnection]]]:
    """Make two connected ends: called like `lapwing.testing.pair`, it gives the client and the server's connection."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(pair(*args, **kwargs))


@pytest.fixture
def lapwing_proxy() -> Iterator[Callable[..., Proxy]]:
    """Put a proxy with faults in front of a server: called like `lapwing.testing.Proxy`, it gives the `Proxy`."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Proxy(*args, **kwargs))


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> None:
    """Explain which plugin an `async def` test needs, before pytest says that it needs some plugin."""
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        ways = "\n".join(f"- {way}" for way in _RUNNERS)
        pytest.fail(f"{pyfuncitem.name} is an async def that no plugin runs. Do one of these:\n{ways}", pytrace=False)
