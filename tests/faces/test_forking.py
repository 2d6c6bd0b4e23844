"""A child that is forked beside a running loop: what it inherits stays the parent's."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.conftest import Runtime
from tests.faces.callers import GUARD
from tests.faces.programs import program

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

#: A parent with a server and clients in one loop. It forks with all of them open, and what the child did ends with its
#: status; then the parent's own connections are tried.
PROGRAM = """
    import asyncio, gc, os, signal, sys, warnings
    import lapwing
    from tests.conftest import RUNTIMES

    warnings.filterwarnings("ignore", "This process .* is multi-threaded")  # that of name resolution, which is idle
    runtime = RUNTIMES[sys.argv[1]]
    options = runtime.options
    path = sys.argv[2] + "/socket"

    async def echo(ws):
        async for message in ws:
            await ws.send(message)

    async def main():
        async with (
            lapwing.listen(0, "127.0.0.1", default=echo, **options) as server,
            lapwing.listen(unix=path, default=echo, **options) as local,
        ):
            url = f"ws://127.0.0.1:{server.port}"
            clients = [await lapwing.AsyncClient(**options).connect(url) for _ in range(3)]
            clients.append(await lapwing.AsyncClient(**options).connect(f"ws+unix://{path}:/"))
            waiting = asyncio.create_task(clients[0].receive())
            await asyncio.sleep(0)
            child = os.fork()
            if child == 0:
                status = 1
                signal.alarm(20)  # one that hangs is not to outlive the test
                try:
                    warnings.simplefilter("error")
                    in_child(server, local, clients)
                    status = 0
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0, status
            await clients[0].send("first")
            assert await waiting == "first"
            for ws in clients:
                await ws.send("still there")
                assert await ws.receive(timeout=10) == "still there"
                assert await ws.ping(timeout=10) < 10
            late = await lapwing.AsyncClient(**options).connect(f"ws+unix://{path}:/")
            await late.close()
            late = await lapwing.AsyncClient(**options).connect(url)
            for ws in [*clients, late]:
                assert (await ws.close()).was_clean

    def step(coroutine):
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it waits")

    def refused(call):
        try:
            call()
        except lapwing.ConnectionClosed as error:
            assert "forked" in str(error), error
        else:
            raise AssertionError("it was not refused")

    {in_child}

    with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
        runner.run(main())
    print("the parent is well")
"""

LETS_GO = """
    def in_child(server, local, clients):
        clients.clear()
        gc.collect()
"""

ENDS_THEM = """
    def in_child(server, local, clients):
        for ws in [*clients, *server.connections]:
            ws.abort()
            assert "forked" in step(ws.close()).reason
            refused(lambda: step(ws.send("from the child")))
            refused(lambda: step(ws.ping()))
            refused(ws.send_threadsafe("from the child").result)
            refused(ws.abort_threadsafe().result)
        refused(server.broadcast_threadsafe("from the child").result)
        assert server.broadcast("from the child") == 0
        for each in (server, local):
            try:
                each.close().send(None)
            except StopIteration:
                pass
        for entry in os.listdir("/proc/self/fd"):
            try:
                assert not os.readlink(f"/proc/self/fd/{entry}").startswith("anon_inode:[timerfd]")
            except FileNotFoundError:
                pass
"""

HAS_A_LOOP = """
    def in_child(server, local, clients):
        async def own():
            async with lapwing.listen(0, "127.0.0.1", default=echo, **options) as server:
                async with lapwing.connect(f"ws://127.0.0.1:{server.port}") as ws:
                    await ws.send("in the child")
                    assert await ws.receive() == "in the child"
        del server, local, clients[:]
        with asyncio.Runner(loop_factory=runtime.loop_factory) as runner:
            runner.run(own())
        gc.collect()
"""


@pytest.mark.parametrize("in_child", [LETS_GO, ENDS_THEM, HAS_A_LOOP], ids=["lets go", "ends them", "has a loop"])
def test_the_parent_goes_on(runtime: Runtime, in_child: str, tmp_path: Path) -> None:
    with program(PROGRAM.replace("{in_child}", in_child.strip()), runtime.name, str(tmp_path)) as parent:
        output, errors = parent.communicate(timeout=GUARD)
    assert (output, errors, parent.returncode) == ("the parent is well\n", "", 0)


async def test_a_child_leaves_the_port(runtime: Runtime) -> None:
    """A child that lives on does not keep clients waiting on a port where nothing accepts them."""
    text = """
        import asyncio, os, sys, warnings
        import lapwing
        from tests.conftest import RUNTIMES

        async def handler(ws):
            pass

        async def main():
            server = await lapwing.listen(0, "127.0.0.1", default=handler, **RUNTIMES[sys.argv[1]].options)
            warnings.simplefilter("ignore")
            if os.fork() == 0:
                print(server.port, flush=True)
                sys.stdin.read()
            os._exit(0)

        asyncio.run(main())
    """
    with program(text, runtime.name) as parent:
        assert parent.stdout is not None
        port = int(await asyncio.to_thread(parent.stdout.readline))
        await asyncio.to_thread(parent.wait)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
