"""The rig itself: which tests run how often, and what fails them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import RUNTIMES

TESTS = Path(__file__).parent
HEADER = "import asyncio, os, pytest\n"


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test suite with this one's conftest.py."""
    pytester.makeini(
        "[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider -p no:asyncio\n"
        "filterwarnings = error\nnorecursedirs = peers\npythonpath = .\n"
    )
    tests = pytester.mkdir("tests")
    (tests / "faces").mkdir()
    (tests / "peers").symlink_to(TESTS / "peers")
    (tests / "conftest.py").write_bytes((TESTS / "conftest.py").read_bytes())
    return pytester


def _run(inner: pytest.Pytester, body: str, *options: str, where: str = "faces/test_it.py") -> pytest.RunResult:
    (inner.path / "tests" / where).write_text(HEADER + body)
    return inner.runpytest_subprocess("-v", *options)


def test_a_face_test_runs_on_every_event_loop(inner: pytest.Pytester) -> None:
    result = _run(
        inner,
        "async def test_it(runtime):\n"
        "    loop = asyncio.get_running_loop()\n"
        "    print(type(loop).__module__, loop.get_debug(), runtime.options)\n",
        "-s",
    )
    result.assert_outcomes(passed=len(RUNTIMES))
    result.stdout.fnmatch_lines(
        [
            "*test_it[[]asyncio+epoll] *asyncio.unix_events True {}",
            "*test_it[[]asyncio+portable] *asyncio.unix_events True {'portable': True}",
            "*test_it[[]uvloop+epoll] *uvloop True {}",
        ]
    )


def test_a_face_test_need_not_name_the_runtime(inner: pytest.Pytester) -> None:
    _run(inner, "async def test_it(tmp_path): assert tmp_path.exists()").assert_outcomes(passed=len(RUNTIMES))


def test_a_test_about_descriptors_is_left_out_on_transports(inner: pytest.Pytester) -> None:
    body = "@pytest.mark.descriptor('it asks the kernel')\nasync def test_it(): pass"
    transports = [runtime for runtime in RUNTIMES.values() if runtime.options.get("carrier") == "transport"]
    assert transports
    _run(inner, body).assert_outcomes(passed=len(RUNTIMES) - len(transports), deselected=len(transports))


def test_a_mark_about_descriptors_says_why(inner: pytest.Pytester) -> None:
    result = _run(inner, "@pytest.mark.descriptor\nasync def test_it(): pass")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*expected the mark to say why*"])


def test_one_event_loop_can_be_chosen(inner: pytest.Pytester) -> None:
    result = _run(inner, "async def test_it(): pass", "--runtime", "uvloop+epoll")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it[[]uvloop+epoll] PASSED*"])


def test_a_blocking_test_runs_once(inner: pytest.Pytester) -> None:
    _run(inner, "def test_it(): pass").assert_outcomes(passed=1)


def test_a_blocking_test_that_asks_for_the_runtime_runs_on_each(inner: pytest.Pytester) -> None:
    _run(inner, "def test_it(runtime): pass").assert_outcomes(passed=len(RUNTIMES))


def test_an_asynchronous_test_elsewhere_runs_once(inner: pytest.Pytester) -> None:
    result = _run(inner, "async def test_it(): assert asyncio.get_running_loop().get_debug()", where="test_it.py")
    result.assert_outcomes(passed=1)


def test_an_asynchronous_test_can_fail(inner: pytest.Pytester) -> None:
    _run(inner, "async def test_it(): assert False").assert_outcomes(failed=len(RUNTIMES))


def test_an_asynchronous_property_is_tried_with_every_example(inner: pytest.Pytester) -> None:
    result = _run(
        inner,
        "from hypothesis import given, strategies as st\n"
        "seen = set()\n"
        "@given(st.booleans())\n"
        "async def test_it(b):\n"
        "    seen.add(b)\n"
        "def test_seen(): assert seen == {True, False}\n",
        where="test_it.py",
    )
    result.assert_outcomes(passed=2)


def test_a_task_left_behind_fails_the_test(inner: pytest.Pytester) -> None:
    result = _run(inner, "async def test_it(): asyncio.create_task(asyncio.sleep(60))", "--runtime", "asyncio+epoll")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the test left tasks behind*"])


def test_a_task_that_only_has_to_finish_does_not(inner: pytest.Pytester) -> None:
    _run(inner, "async def test_it(): asyncio.create_task(asyncio.sleep(0))").assert_outcomes(passed=len(RUNTIMES))


@pytest.mark.parametrize("name", ["asyncio+epoll", "uvloop+epoll"])
def test_an_error_that_only_the_loop_hears_of_fails_the_test(inner: pytest.Pytester, name: str) -> None:
    result = _run(
        inner,
        "async def fail(): raise LookupError('lost')\n"
        "async def test_it():\n"
        "    asyncio.create_task(fail())\n"
        "    await asyncio.sleep(0)\n",
        "--runtime",
        name,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the event loop was told of: Task exception was never retrieved: *lost*"])


@pytest.mark.parametrize(
    "body",
    [
        "kept = []\ndef test_it(): kept.append(open(__file__))",
        "async def test_it(): os.open(__file__, os.O_RDONLY)",
    ],
)
def test_a_descriptor_left_open_is_an_error(inner: pytest.Pytester, body: str) -> None:
    result = _run(inner, body, "--runtime", "asyncio+epoll")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*descriptors before the test, *after it: new *test_it.py*"])


def test_the_certificates_are_made_once(inner: pytest.Pytester) -> None:
    body = "kept = []\ndef test_it(tls, runtime): kept.append(tls); assert kept[0] is tls"
    _run(inner, body).assert_outcomes(passed=len(RUNTIMES))
