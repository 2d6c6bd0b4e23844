"""A server as a whole program: signals, draining and several processes."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

from .inspector.settings import Inspector, announce
from .io import trust
from .options import ServerOptions, ServerSettings, check_duration, settings_from
from .server import Handler, listen
from .serving.places import Places
from .serving.workers import Supervisor, Worker

__all__ = ["run"]

logger = logging.getLogger("lapwing.server")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run(
    port: int = 80,
    interface: str | Sequence[str] = "*",
    protocols: Mapping[str, Handler] | None = None,
    default: Handler | None = None,
    *,
    loop_factory: LoopFactory | None = None,
    workers: int | None = None,
    drain_window: float | None = None,
    drain_grace: float = 0.0,
    **options: Unpack[ServerOptions],
) -> None:
    """Run a WebSocket server as a whole program.

    It ends on SIGINT (Ctrl-C) or SIGTERM: with `drain_window` as `Server.drain` does, and at once, as `Server.close`
    does, on the second signal; without it on the first.

    Args:
        port: as for `listen`, like the next ones.
        interface: where to listen.
        protocols: a handler for each subprotocol.
        default: the handler of other clients.
        loop_factory: makes the event loop, for example `uvloop.new_event_loop`; asyncio's own by default.
        workers: how many processes serve, forked from this one, which watches them: one that dies is replaced. They
            accept from the same sockets and share nothing else: broadcasts and limits are each process's own. None:
            this process serves by itself.
        drain_window: seconds over which clients are sent away when the program is to end; None to close at once.
        drain_grace: seconds before that in which `health` says 503 and new clients are still served.
        **options: see `lapwing.options.ServerOptions`.

    Raises:
        ValueError, TypeError, OSError: as for `listen`.
        RuntimeError: an event loop is running in this thread, or this is not the main thread, which gets the signals:
            use `listen` there. Or this system has no `fork`, which `workers` needs.
    """
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("an event loop is running here: write 'async with lapwing.listen(...)' instead of run()")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "run() ends on signals, which only the main thread gets: in another thread write "
            "'async with lapwing.listen(...)' in a coroutine, and asyncio.run() it there"
        )
    if drain_window is not None:
        check_duration("drain_window", drain_window)
    check_duration("drain_grace", drain_grace)
    if drain_grace and drain_window is None:
        raise ValueError("drain_grace goes before drain_window: expected drain_window, too")
    drain = None if drain_window is None else (drain_window, drain_grace)
    if workers is None:
        listening = listen(port, interface, protocols, default, **options)
        _serve(lambda: listening, loop_factory, drain, None)
        return
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"expected workers to be a whole number or None, got {workers!r}")
    if workers < 1:
        raise ValueError(f"expected workers to be 1 or more, got {workers!r}")
    listen(port, interface, protocols, default, **options)  # for its checks: better here than in every worker
    settings = settings_from(ServerSettings, options)
    if settings.certfile is not None:
        context = trust.server_context(settings.certfile, settings.keyfile)
        settings = replace(settings, ssl=context, certfile=None, keyfile=None)
    places = Places(settings, interface, port)
    try:
        page, addresses = settings.live_page, [sock.getsockname() for sock in places.sockets]
        announce(page, addresses, is_secure=settings.ssl is not None)
        if page is not None:
            settings = replace(settings, inspector=Inspector(page.path, page.token))  # printed once, not by each worker
        given = _options(settings, places)
        logger.info("listening on %s with %d workers", addresses, workers)
        patience = 2 * settings.closing + sum(drain or ()) + _MARGIN
        serve = partial(_serve, partial(listen, protocols=protocols, default=default, **given), loop_factory, drain)
        Supervisor(workers, serve, patience).run()
    finally:
        places.remove_file()
        for sock in places.sockets:
            sock.close()


#: Seconds beyond what a worker may take for closing before it is killed.
_MARGIN = 10.0


def _options(settings: ServerSettings, places: Places) -> dict[str, Any]:
    """The options of a worker, which takes over sockets that are open."""
    names = ServerOptions.__optional_keys__ - {"unix", "unix_mode", "reuse_port", "sockets"}
    return {name: getattr(settings, name) for name in names} | {"sockets": places.sockets}


def _serve(
    begin: Callable[[], Any],
    loop_factory: LoopFactory | None,
    drain: tuple[float, float] | None,
    worker: Worker | None,
) -> None:
    """Serve until a signal comes, in this process.

    Args:
        begin: gives what `listen` returns.
        loop_factory: makes the event loop.
        drain: window and grace, or None.
        worker: what this process is one of; None where it is the whole program.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stops = [asyncio.Event(), asyncio.Event()]

        def stop() -> None:
            (stops[1] if stops[0].is_set() else stops[0]).set()

        server = await begin()
        numbers = (signal.SIGINT, signal.SIGTERM) if worker is None else (signal.SIGTERM,)
        for number in numbers:
            loop.add_signal_handler(number, stop)
        if worker is not None:
            worker.ready(loop, stop)
        try:
            async with server:
                if worker is None:
                    logger.info("listening on %s", server.addresses)
                await stops[0].wait()
                if drain is not None:
                    await _either(server.drain(drain[0], grace=drain[1]), stops[1].wait())
        finally:
            if worker is not None:
                worker.finished(loop)
            for number in numbers:
                loop.remove_signal_handler(number)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


async def _either(*waits: Any) -> None:
    """Wait for the first one to end, and cancel the other."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
