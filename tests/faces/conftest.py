"""What the tests of the faces share: a client of either face, a server in the test's loop, a guard against hanging."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import lapwing
from tests.faces.callers import GUARD, Face
from tests.peers.finalizers import others_left_out

if TYPE_CHECKING:
    from tests.conftest import Runtime


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Give up on an asynchronous test that hangs, at the await where it does: the whole run goes on."""
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def guarded(*args: Any, **kwargs: Any) -> None:
            async with asyncio.timeout(3 * GUARD):
                await test(*args, **kwargs)

        pyfuncitem.obj = guarded
    return (yield)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run a blocking client against a bare socket once: no event loop of lapwing's has a part in it."""
    if config.getoption("runtime") is None:
        items[:] = [item for item in items if not (isinstance(item, pytest.Function) and _is_a_repetition(item))]


def _is_a_repetition(item: pytest.Function) -> bool:
    params: dict[str, Any] = item.callspec.params if hasattr(item, "callspec") else {}
    if params.get("face") != "blocking" or params["runtime"].name == "asyncio+epoll":
        return False
    return "listen" not in item.fixturenames and "runtime" not in inspect.signature(item.function).parameters


@pytest.fixture(scope="module", autouse=True)
def _only_new_objects_are_collected() -> Iterator[None]:
    """Leave what pytest has made so far out of the rig's collections, three per test, which would take long."""
    gc.collect()
    with others_left_out():
        yield


@pytest.fixture(params=["asyncio", "blocking"])
def face(request: pytest.FixtureRequest, runtime: Runtime) -> Face:
    """Clients of one face; the test runs with each."""
    return Face(request.param, runtime.options)


@pytest.fixture
def listen(runtime: Runtime) -> Callable[..., Any]:
    """`lapwing.listen` on a free port of 127.0.0.1, in the way of this run."""
    return functools.partial(lapwing.listen, 0, "127.0.0.1", **runtime.options)
