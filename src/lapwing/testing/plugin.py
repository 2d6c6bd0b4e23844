"""Fixtures for pytest: `pytest_plugins = ["lapwing.testing.plugin"]` in the conftest.py at the root of your tests.

Each gives a function that makes what the test asks for, and closes it after the test. They are for tests that block;
an `async def` test writes `async with testing.serve(...)`, under pytest-asyncio, anyio or `testing.virtual_time`.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from .proxy import Proxy
from .serving import pair, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import lapwing

    from .serving import Served

__all__ = ["lapwing_pair", "lapwing_proxy", "lapwing_serve"]


@pytest.fixture
def lapwing_serve() -> Iterator[Callable[..., Served]]:
    """Serve handlers in a thread: called like `lapwing.testing.serve`, it gives the `Served`."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(serve(*args, **kwargs))


@pytest.fixture
def lapwing_pair() -> Iterator[Callable[..., tuple[lapwing.Client, lapwing.BlockingConnection]]]:
    """Make two connected ends: called like `lapwing.testing.pair`, it gives the client and the server's connection."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(pair(*args, **kwargs))


@pytest.fixture
def lapwing_proxy() -> Iterator[Callable[..., Proxy]]:
    """Put a proxy with faults in front of a server: called like `lapwing.testing.Proxy`, it gives the `Proxy`."""
    with ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(Proxy(*args, **kwargs))
