"""The rig: how asynchronous tests are run, on which event loops, and what must be left of them: nothing."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial, wraps
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.peers")

# A proxy of the machine's is none of the tests', nor of the programs that they start.
for _name in [name for name in os.environ if name.lower().endswith("_proxy")]:
    del os.environ[_name]

# Where the tests run in a shell's background Ctrl-C is ignored, and would be by every program that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
# And SIGHUP is ignored under `nohup`; what has a handler here is as usual in the programs.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

from tests.peers.certificates import Certificates, make_certificates  # noqa: E402

if TYPE_CHECKING:
    from tests.peers.servers import ServerThread

pytest_plugins = ["pytester", "tests.peers.left_out"]

FACES = Path(__file__).parent / "faces"

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("bounded", deadline=None, max_examples=20)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=5000)
hypothesis.settings.load_profile("default")


# --- which event loops -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Runtime:
    """An event loop, and the way in which lapwing uses it.

    Attributes:
        name: what `--runtime` and the test's id call it.
        loop_factory: makes the event loop.
        options: what to pass on: `lapwing.listen(..., **runtime.options)`, `lapwing.AsyncClient(**runtime.options)`.
    """

    name: str
    loop_factory: Callable[[], asyncio.AbstractEventLoop]
    options: dict[str, Any] = field(default_factory=dict, hash=False)


def _uvloop() -> asyncio.AbstractEventLoop:
    import uvloop

    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


def _eager() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
    return loop


#: Whether tasks can be eager: from Python 3.12 on.
HAS_EAGER_TASKS = hasattr(asyncio, "eager_task_factory")

RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("asyncio+epoll", asyncio.new_event_loop),
        Runtime("asyncio+portable", asyncio.new_event_loop, {"portable": True}),
        Runtime("uvloop+epoll", _uvloop),
        Runtime("asyncio+transport", asyncio.new_event_loop, {"carrier": "transport"}),
        Runtime("uvloop+transport", _uvloop, {"carrier": "transport"}),
        *([Runtime("asyncio+eager", _eager)] if HAS_EAGER_TASKS else []),
    )
    if sys.platform == "linux" or "epoll" not in runtime.name
}

# Where tasks cannot be eager, or no Python code can be a buffer, there is nothing to test, and nothing is left out; who
# names one of these files is told why it has no tests.
HAS_PYTHON_BUFFERS = sys.version_info >= (3, 12)
collect_ignore = [] if HAS_EAGER_TASKS else ["faces/test_eager_tasks.py"]
if not HAS_PYTHON_BUFFERS:
    collect_ignore += ["protocol/test_python_buffers.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", choices=sorted(RUNTIMES), help="run the face tests on this event loop only")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that asks for `runtime`, and every asynchronous test of a face, once on each event loop."""
    face = FACES in metafunc.definition.path.parents
    if face and inspect.iscoroutinefunction(metafunc.function) and "runtime" not in metafunc.fixturenames:
        metafunc.fixturenames.append("runtime")
    if "runtime" in metafunc.fixturenames:
        only = metafunc.config.getoption("runtime")
        names = [only] if only else list(RUNTIMES)
        metafunc.parametrize("runtime", [RUNTIMES[name] for name in names], ids=names, indirect=True)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "descriptor(why): the test is about descriptors: left out where a transport is")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, on transports, the tests that are about descriptors: the mark of each says why."""
    left_out = [item for item in items if item.get_closest_marker("descriptor") and _is_on_a_transport(item)]
    for item in left_out:
        mark = item.get_closest_marker("descriptor")
        assert mark is not None
        assert mark.args, f"{item.nodeid}: expected the mark to say why"
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_on_a_transport(item: pytest.Item) -> bool:
    chosen = item.callspec.params.get("runtime") if hasattr(item, "callspec") else None
    return isinstance(chosen, Runtime) and chosen.options.get("carrier") == "transport"


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """The event loop of this run of the test."""
    chosen: Runtime = request.param
    return chosen


# --- how an asynchronous test is run -----------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run `async def test_...` in an event loop of its own, in debug mode."""
    face = FACES in pyfuncitem.path.parents
    chosen = pyfuncitem.funcargs.get("runtime")
    run = partial(_run, loop_factory=chosen.loop_factory if isinstance(chosen, Runtime) else None, strict=face)
    test = pyfuncitem.obj
    inner = getattr(getattr(test, "hypothesis", None), "inner_test", None)
    if inner is not None and inspect.iscoroutinefunction(inner):  # @given around it: each example gets its own loop

        @wraps(inner)
        def one_example(*args: Any, **kwargs: Any) -> None:
            run(lambda: inner(*args, **kwargs))

        test.hypothesis.inner_test = one_example
        return None
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}
    run(lambda: test(**arguments))
    return True


def _run(
    test: Callable[[], Coroutine[Any, Any, None]],
    *,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None,
    strict: bool,
) -> None:
    """Run a test. What reaches the loop's exception handler fails it, and so does, if strict, a task left behind."""
    errors: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(_describe(context)))
        loop.slow_callback_duration = float("inf")  # a busy machine is nothing to complain of
        await test()
        if strict and (left := await _tasks_left()):
            pytest.fail(f"the test left tasks behind: {left}")

    with asyncio.Runner(debug=True, loop_factory=loop_factory) as runner:
        runner.run(main())
    if strict:
        gc.collect()  # a task that was destroyed, or whose exception nobody took, is reported when it is collected
    if errors:
        pytest.fail("the event loop was told of: " + "; ".join(errors))


async def _tasks_left() -> set[asyncio.Task[Any]]:
    """The other tasks that are still there, once those that only have to be stepped to their end have been."""
    for _ in range(20):
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            break
        await asyncio.sleep(0)
    return left


def _describe(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return context["message"] if error is None else f"{context['message']}: {error!r}"


# --- what a test may leave behind --------------------------------------------------------------------------------


def _descriptors() -> dict[str, str]:
    """The open descriptors of this process, each with what it is."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = str(entry.readlink())
        except FileNotFoundError:  # the directory's own
            continue
    return found


@pytest.fixture(scope="session")
def _opened_once() -> None:
    """Let each kind of event loop open what it keeps open for the life of the process (uvloop: a pipe for signals)."""
    for each in RUNTIMES.values():
        if each.loop_factory is _uvloop and find_spec("uvloop") is None:
            continue  # as for `make races`
        with asyncio.Runner(loop_factory=each.loop_factory) as runner:
            runner.run(asyncio.sleep(0))


@pytest.fixture(autouse=True)
def _no_descriptor_left(request: pytest.FixtureRequest, _opened_once: None) -> Iterator[None]:
    """Every test of a face closes what it has opened."""
    if FACES not in request.path.parents or sys.platform != "linux":
        yield
        return
    before = _descriptors()
    yield
    after = _descriptors()
    if len(after) != len(before):  # what garbage holds is closed with it, and is reported
        gc.collect()
        after = _descriptors()
    if len(after) != len(before):
        more = {name: what for name, what in after.items() if before.get(name) != what}
        less = {name: what for name, what in before.items() if after.get(name) != what}
        pytest.fail(f"{len(before)} descriptors before the test, {len(after)} after it: new {more}, gone {less}")


# --- what a test may ask for -------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority with a good certificate and several bad ones."""
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def serve(runtime: Runtime) -> Iterator[Callable[..., ServerThread]]:
    """Start a server in a thread of its own, with the options of `lapwing.listen`; it is stopped after the test."""
    from tests.peers.servers import ServerThread

    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(ServerThread(runtime, **options))


@pytest.fixture
def echo_server(serve: Callable[..., ServerThread]) -> ServerThread:
    """A server in a thread of its own that sends every message back, for the subprotocol "echo" and for any other."""
    from tests.peers.servers import echo

    return serve(protocols={"echo": echo}, default=echo)


@pytest.fixture
def echo_server_tls(serve: Callable[..., ServerThread], tls: Certificates) -> ServerThread:
    """The same over TLS, with the good certificate of `tls`."""
    from tests.peers.servers import echo

    return serve(protocols={"echo": echo}, default=echo, ssl=tls.good.server_context())
