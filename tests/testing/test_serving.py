"""Handlers under test and connected ends, of both faces, with what goes wrong in them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import lapwing
from lapwing import testing
from lapwing.testing import Fault, Pair, Script, Served, virtual_time
from tests.peers.certificates import Certificates


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


def echo_in_thread(ws: lapwing.BlockingConnection) -> None:
    for message in ws:
        ws.send(message)


_before: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_before() -> None:
    """Other tests of this process may have left a thread of a client that nobody closed."""
    _before.clear()
    _before.update(threading.enumerate())


def threads_left() -> list[str]:
    return [
        thread.name for thread in threading.enumerate() if thread not in _before and thread.name.startswith("lapwing")
    ]


async def broken(ws: lapwing.Connection) -> None:
    await ws.receive()
    raise KeyError("it was looked for")


@virtual_time
async def test_a_handler_is_served_without_a_port() -> None:
    async with testing.serve(echo) as served, served.connect() as ws:
        assert isinstance(served, Served)
        await ws.send("hello")
        assert await ws.receive() == "hello"
        assert served.url.startswith("ws+unix://")
        path = Path(served.server.addresses[0])
        assert path.is_socket()
        assert served.proxy is None
    assert not path.parent.exists(), "nothing is left of it"


@pytest.mark.parametrize("handler", [echo, echo_in_thread])
def test_with_a_blocking_client(handler: object) -> None:
    with testing.serve(protocols={"echo": handler}) as served, served.connect("echo") as ws:  # type: ignore[dict-item]
        ws.send(b"hello")
        assert ws.receive() == b"hello"
        assert ws.subprotocol == "echo"
    assert threads_left() == []


def test_what_a_handler_raises_is_raised_in_the_test(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError, match="it was looked for"):
        with testing.serve(broken) as served, served.connect() as ws:
            ws.send("now")
            assert ws.receive() is None
            assert ws.closed is not None
            assert ws.closed.code == 1011
    assert caplog.records[-1].name == "lapwing.server"


async def grouped_echo(ws: lapwing.Connection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(echo(ws))


@pytest.mark.parametrize("handler", [echo, grouped_echo])
def test_a_handler_that_ends_with_its_connection_is_no_failure(handler: Any) -> None:
    async def main() -> None:
        async with testing.serve(handler) as served, served.connect() as ws:
            await ws.close(4001, "enough")
        assert served.errors == []

    testing.run(main())


def test_a_handler_in_a_thread_that_ends_with_its_connection_is_no_failure() -> None:
    with testing.serve(echo_in_thread) as served, served.connect() as ws:
        ws.close(4001, "enough")
    assert served.errors == []


def test_a_handler_that_sends_while_it_closes_is_no_failure() -> None:
    async def closing(ws: lapwing.Connection) -> None:
        task = asyncio.create_task(ws.close())
        await asyncio.sleep(0)
        try:
            await ws.send("too late")
        finally:
            await task

    async def main() -> None:
        async with testing.serve(closing) as served, served.connect() as ws:
            assert await ws.receive() is None
        assert served.errors == []

    testing.run(main())


@virtual_time
async def test_several_failures_come_as_a_group() -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with testing.serve(broken) as served:
            for _ in range(2):
                async with served.connect() as ws:
                    await ws.send("now")
                    assert await ws.receive() is None
    assert [type(error) for error in caught.value.exceptions] == [KeyError, KeyError]


@virtual_time
async def test_a_failure_that_was_expected_is_taken_out() -> None:
    async with testing.serve(broken) as served, served.connect() as ws:
        await ws.send("now")
        await ws.receive()
        assert isinstance(served.errors.pop(), KeyError)


@pytest.mark.parametrize("expect", [KeyError, LookupError, (KeyError,)])
def test_an_error_that_is_expected_is_no_failure_of_the_test(expect: Any) -> None:
    with testing.serve(broken, expect=expect) as served, served.connect() as ws:
        ws.send("now")
        assert ws.receive() is None
    assert [type(error) for error in served.errors] == [KeyError]


def test_an_error_of_another_kind_is_raised() -> None:
    with pytest.raises(KeyError):
        with testing.serve(broken, expect=ValueError) as served, served.connect() as ws:
            ws.send("now")
            assert ws.receive() is None


def test_an_expected_error_that_does_not_come_is_a_failure() -> None:
    with pytest.raises(AssertionError, match="expect= names KeyError and OSError, but no handler has raised it"):
        with testing.serve(echo_in_thread, expect=(KeyError, OSError)) as served, served.connect() as ws:
            ws.send("now")
            assert ws.receive() == "now"


def test_an_error_of_the_test_itself_comes_first() -> None:
    with pytest.raises(ZeroDivisionError):
        with testing.serve(echo_in_thread, expect=KeyError):
            raise ZeroDivisionError


@virtual_time
async def test_beside_an_error_of_the_test_a_handlers_is_a_note() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        async with testing.serve(broken) as served, served.connect() as ws:
            await ws.send("now")
            await ws.receive()
            _ = 1 / 0
    assert caught.value.__notes__ == ["a handler under test has failed, too: KeyError('it was looked for')"]


@virtual_time
async def test_a_lost_connection_is_no_failure_of_the_handler() -> None:
    async with testing.serve(echo, to_server=Fault()) as served:
        assert served.proxy is not None
        ws = await served.connect()
        served.proxy.end("to_server")
        assert await ws.receive() is None
        await ws.close()


def test_what_is_no_handler_is_refused_when_it_is_entered() -> None:
    with pytest.raises(ValueError, match="expected protocols"):
        with testing.serve():
            pass
    with pytest.raises(TypeError, match="the default handler"):
        with testing.serve(3):  # type: ignore[arg-type]
            pass
    assert threads_left() == []


def test_over_tls(tls: Certificates) -> None:
    with (
        testing.serve(echo, tcp=True, ssl=tls.good.server_context()) as served,
        served.connect(ssl=tls.client_context()) as ws,
    ):
        ws.send("secret")
        assert ws.receive() == "secret"
        assert served.url.startswith("wss://localhost:")


@virtual_time
async def test_a_pair() -> None:
    async with testing.pair("chat", client={"headers": {"X-Test": "yes"}}, server={"max_message_size": 10}) as pair:
        client, server = pair
        await client.send("question")
        assert await server.receive() == "question"
        await server.send(b"answer")
        assert await client.receive() == b"answer"
        assert client.subprotocol == server.subprotocol == "chat"
        assert server.request is not None
        assert server.request.headers["X-Test"] == "yes"
        await client.send("longer than ten bytes")
        assert await server.receive() is None
        assert await client.receive() is None
        assert client.closed is not None
        assert client.closed.code == 1009


def test_a_blocking_pair() -> None:
    with testing.pair() as (client, server):
        client.send("question")
        assert server.receive() == "question"
        server.send("answer")
        assert client.receive() == "answer"
    assert client.closed == server.closed == (True, 1000, "")
    assert threads_left() == []


def test_a_blocking_pair_with_a_reset() -> None:
    fault = Fault(after=400, then="reset")
    with testing.pair(to_server=fault, tcp=True, client={"compression": None}) as (client, server):
        client.send(bytes(1000))
        assert server.receive() is None
        assert server.closed is not None
        assert server.closed.code == 1006
        assert client.receive() is None


@pytest.mark.parametrize("make", [testing.pair, testing.serve])
def test_a_unix_socket_cannot_be_reset(make: type[Pair] | type[Served]) -> None:
    with pytest.raises(ValueError, match="tcp=True"):
        make(to_client=[Fault(after=1, then="stall"), Fault(after=1, then="reset")])  # type: ignore[call-arg]


SCRIPTS: list[tuple[Script, bytes]] = [
    ([Fault(after=2, then="corrupt"), Fault(after=2, then="corrupt")], b"ab\x9cd\x9a"),
    ([Fault(after=1, then="go on"), Fault(after=3, then="end")], b"abcd"),
    ([Fault(after=3, then="stall", seconds=3600)], b"abcde"),
    (Fault(after=2, then="drop"), b"ab"),
    ([], b"abcde"),
]


@pytest.mark.parametrize(("script", "arrives"), SCRIPTS)
@virtual_time
async def test_scripts(script: Script, arrives: bytes, tmp_path: Path) -> None:
    """Each fault has its turn; bytes pass as they came after the last one."""
    arrived: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        while piece := await reader.read(100):
            data += piece
            if data == arrives:
                break
        arrived.set_result(data)
        writer.close()

    path = tmp_path / "s"
    async with await asyncio.start_unix_server(take, path) as server:
        async with testing.Proxy(f"ws+unix://{path}:/", to_server=script) as proxy:
            reader, writer = await asyncio.open_unix_connection(proxy.url.removeprefix("ws+unix://").removesuffix(":/"))
            writer.write(b"abcde")
            assert await arrived == arrives
            await proxy.until(lambda proxy: proxy.passed["to_server"] == len(arrives))
            writer.close()
            await writer.wait_closed()
        server.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"piece": 0},
        {"piece": []},
        {"piece": "ab"},
        {"pause": -1},
        {"delay": float("inf")},
        {"after": -1},
        {"then": "explode"},
        {"seconds": 3},
        {"seconds": 3, "after": 1, "then": "end"},
    ],
)
def test_a_fault_that_makes_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises((ValueError, TypeError), match="expected"):
        Fault(**wrong)  # type: ignore[arg-type]


def test_a_proxy_that_is_misused() -> None:
    with pytest.raises(TypeError, match=r"expected a lapwing\.testing\.Fault"):
        testing.Proxy("ws://localhost", to_client=["reset"])  # type: ignore[list-item]
    proxy = testing.Proxy("ws+unix:///nowhere:/")
    with pytest.raises(ValueError, match="cannot be reset"):
        proxy.reset()
    with pytest.raises(LookupError, match="no port"):
        _ = proxy.port
    with pytest.raises(RuntimeError, match="await proxy"):
        proxy.wait_until(lambda proxy: True)


def test_nothing_of_it_needs_pytest() -> None:
    program = "import sys, lapwing; lapwing.testing.serve; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_fixtures(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['lapwing.testing.plugin']")
    pytester.makepyfile("""
        from lapwing import testing

        def echo(ws):
            for message in ws:
                ws.send(message)

        def test_serve_and_proxy(lapwing_serve, lapwing_proxy):
            served = lapwing_serve(echo)
            proxy = lapwing_proxy(served.url, to_client=testing.Fault(piece=1))
            import lapwing
            with lapwing.connect(proxy.url) as ws:
                ws.send("x")
                assert ws.receive() == "x"

        def test_pair(lapwing_pair):
            client, server = lapwing_pair("chat")
            server.send("x")
            assert client.receive() == "x"

        def test_a_handler_that_fails(lapwing_serve):
            def broken(ws):
                raise KeyError("broken")
            with lapwing_serve(broken).connect() as ws:
                assert ws.receive() is None
    """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=3, errors=1)
    result.stdout.fnmatch_lines(["*KeyError: 'broken'*"])


@pytest.mark.filterwarnings("default")
def test_an_async_test_that_nothing_runs_says_how_to_have_it_run(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("pytest_plugins = ['lapwing.testing.plugin']")
    pytester.makepyfile("""
        from lapwing import testing

        async def test_alone():
            pass

        @testing.virtual_time
        async def test_decorated():
            pass
        """)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:asyncio", "-p", "no:anyio")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["test_alone is an async def that no plugin runs.*", "*@lapwing.testing.virtual_time*"])


def test_the_log_says_what_a_test_did(caplog: pytest.LogCaptureFixture) -> None:
    """A handler's failure is logged as in production, with its traceback."""
    caplog.set_level(logging.ERROR)
    with testing.serve(broken) as served, served.connect() as ws:
        ws.send("now")
        ws.receive()
        served.errors.clear()
    (record,) = caplog.records
    assert record.exc_info is not None
