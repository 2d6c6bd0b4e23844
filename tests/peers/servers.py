"""A lapwing server in a thread of its own, for tests of clients that block."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import lapwing

if TYPE_CHECKING:
    from tests.conftest import Runtime

#: Seconds after which a server that does not start or stop fails the test.
TIMEOUT = 20.0


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back as it came."""
    async for message in ws:
        await ws.send(message)


class ServerThread:
    """A server on a free port with an event loop of its own, started by `with`.

    Args:
        runtime: which event loop, and which options of `lapwing.listen` belong to it.
        options: what else `lapwing.listen` takes; `interface` is 127.0.0.1 and `port` 0 unless they are given.

    Attributes:
        server: the `lapwing.Server`; only `call` may touch it while it runs.
        port: its port.
    """

    def __init__(self, runtime: Runtime, **options: Any) -> None:
        self.port = 0
        self.server: lapwing.Server
        self._scheme = "wss" if options.get("ssl") or options.get("certfile") else "ws"
        self._runtime = runtime
        self._options = {"interface": "127.0.0.1", "port": 0, **runtime.options, **options}
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._started = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="ServerThread", daemon=True)

    @property
    def url(self) -> str:
        """The URL to connect to; over TLS it names localhost."""
        host = "localhost" if self._scheme == "wss" else "127.0.0.1"
        return f"{self._scheme}://{host}:{self.port}"

    def call(self, make: Any, *arguments: Any) -> Any:
        """Call a function in the server's loop, await what it returns if that can be awaited, and return the result."""

        async def work() -> Any:
            result = make(*arguments)
            return await result if hasattr(result, "__await__") else result

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(TIMEOUT)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(TIMEOUT), "the server does not start"
        if self._error is not None:
            self._thread.join(TIMEOUT)
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive(), "the server does not stop"
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with asyncio.Runner(debug=True, loop_factory=self._runtime.loop_factory) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised again in the test's thread
            self._error = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with lapwing.listen(**self._options) as server:
            self.server = server
            self.port = 0 if self._options.get("unix") else server.port
            self._started.set()
            await self._stop.wait()
