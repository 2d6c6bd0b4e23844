"""A server as a whole program: signals, draining and several processes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

from .checking import check_duration
from .inspector.settings import Inspector, announce
from .io import trust
from .io.notify import Notifier
from .options import ServerOptions, ServerSettings, settings_from
from .server import Handler, listen
from .serving.handlers import Handlers
from .serving.places import Places
from .serving.probes import open_probes
from .serving.siblings import Siblings, make_directory, remove_directory
from .serving.workers import Supervisor, Worker

if TYPE_CHECKING:
    from .serving.server import Server

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
    does, on the second signal; without it on the first. One more signal cancels the lifespan's shutdown. It ends as
    well when a handler or the lifespan closes the server.

    With `workers` SIGHUP replaces them one by one (rolling restart): a new one is ready before an old one is told to
    end, and the files of the certificate are read again. Where the terminal has gone that the program was started in,
    SIGHUP ends it.

    Under systemd, or another service manager that sets `NOTIFY_SOCKET`, it says when it is ready, replaces its workers
    and ends, and gives the watchdog its signs of life (sd_notify(3)).

    Args:
        port: as for `listen`, like the next ones.
        interface: where to listen.
        protocols: a handler for each subprotocol.
        default: the handler of other clients.
        loop_factory: makes the event loop, for example `uvloop.new_event_loop`; asyncio's own by default.
        workers: how many processes serve, forked from this one, which watches them: one that dies is replaced. They
            accept from the same sockets, and share a `hub`, whose topics are then in one more process; broadcasts and
            limits are each process's own. None: this process serves by itself.
        drain_window: seconds over which clients are sent away when the program is to end; None to close at once.
        drain_grace: seconds before that in which `health` says 503 and new clients are still served.
        **options: see `lapwing.options.ServerOptions`.

    Raises:
        ValueError, TypeError, OSError: as for `listen`.
        Exception: the one that the option `lifespan` failed with; in a worker it is logged.
        RuntimeError: an event loop is running in this thread, or this is not the main thread, which gets the signals:
            use `listen` there. Or this system has no `fork`, which `workers` needs.
    """
    _require_main_thread()
    drain = _draining(drain_window, drain_grace)
    count = _number_of(workers)
    listening = listen(port, interface, protocols, default, **options)
    if count is None:
        _serve(lambda: listening, loop_factory, drain, notifier=Notifier(os.environ))
        return
    settings = settings_from(ServerSettings, options)
    hub = settings.hub or Handlers(protocols, default).hub
    begin = partial(listen, protocols=protocols, default=default)
    _supervise(count, begin, settings, hub, (interface, port), loop_factory, drain)


def _require_main_thread() -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("an event loop is running here: write 'async with lapwing.listen(...)' instead of run()")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "run() ends on signals, which only the main thread gets: in another thread write "
            "'async with lapwing.listen(...)' in a coroutine, and asyncio.run() it there"
        )


def _draining(window: float | None, grace: float) -> tuple[float, float] | None:
    """Check the options of draining; returns window and grace, None to close at once."""
    if window is not None:
        check_duration("drain_window", window)
    check_duration("drain_grace", grace)
    if grace and window is None:
        raise ValueError("drain_grace goes before drain_window: expected drain_window, too")
    return None if window is None else (window, grace)


def _number_of(workers: object) -> int | None:
    if workers is None:
        return None
    if isinstance(workers, bool) or not isinstance(workers, int):
        raise TypeError(f"expected workers to be a whole number or None, got {workers!r}")
    if workers < 1:
        raise ValueError(f"expected workers to be 1 or more, got {workers!r}")
    return workers


#: Seconds beyond a worker's time for closing before it is killed.
_MARGIN = 10.0
#: The signals that end the program.
_STOPS = (signal.SIGINT, signal.SIGTERM)
#: For a process whose parent tells the service manager.
_SILENT = Notifier({})


def _supervise(
    count: int,
    listen: Callable[..., Any],
    settings: ServerSettings,
    hub: Any,
    place: tuple[str | Sequence[str], int],
    loop_factory: LoopFactory | None,
    drain: tuple[float, float] | None,
) -> None:
    """Serve in worker processes until a signal comes.

    Args:
        count: how many.
        listen: begins to listen in a worker, with its options.
        settings: the server's.
        hub: the hub that they share, or None.
        place: interface and port.
        loop_factory: makes their event loops.
        drain: window and grace, or None.
    """
    _with_certificate(settings)  # an error is raised here rather than in each worker
    with ExitStack() as ends:
        release = ends.enter_context(_held(_STOPS))
        places = Places(settings, *place)
        for sock in places.sockets:
            ends.callback(sock.close)
        ends.callback(places.remove_file)
        directory = make_directory()
        ends.callback(remove_directory, directory)
        shared = None
        if hub is not None:
            shared = hub._share()
            ends.callback(hub._unshare)
        if settings.health_port is not None:
            probes = open_probes(settings)
            for sock in probes:
                ends.callback(sock.close)
            settings = replace(settings, health_port=probes)
        page, addresses = settings.live_page, [sock.getsockname() for sock in places.sockets]
        announce(page, addresses, is_secure=settings.ssl is not None or settings.certfile is not None)
        if page is not None:
            settings = replace(settings, inspector=Inspector(page.path, page.token))  # printed once, not by each worker
        logger.info("listening on %s with %d workers", addresses, count)

        def make_work() -> Callable[[Worker], None]:
            begin = partial(listen, **_options(_with_certificate(settings), places))
            return lambda worker: _serve(begin, loop_factory, drain, directory, worker)

        patience = 2 * settings.closing + sum(drain or ()) + _MARGIN
        helper = None if shared is None else partial(shared.work, loop_factory)
        Supervisor(count, make_work, patience, helper, Notifier(os.environ)).run(release)


def _with_certificate(settings: ServerSettings) -> ServerSettings:
    """Read the files of the certificate: once for all workers, and again for each restart."""
    if settings.certfile is None:
        return settings
    context = trust.server_context(settings.certfile, settings.keyfile)
    return replace(settings, ssl=context, certfile=None, keyfile=None)


def _options(settings: ServerSettings, places: Places) -> dict[str, Any]:
    """The options of a worker, which takes over sockets that are open."""
    names = ServerOptions.__optional_keys__ - {"unix", "unix_mode", "reuse_port", "sockets"}
    return {name: getattr(settings, name) for name in names} | {"sockets": places.sockets}


def _serve(
    begin: Callable[[], Any],
    loop_factory: LoopFactory | None,
    drain: tuple[float, float] | None,
    directory: str | None = None,
    worker: Worker | None = None,
    notifier: Notifier = _SILENT,
) -> None:
    """Serve until a signal comes, in this process.

    Args:
        begin: calls `listen`.
        loop_factory: makes the event loop.
        drain: window and grace, or None.
        directory: where the workers ask each other; None where there are none.
        worker: this process, as one of the workers; None where it is the whole program.
        notifier: tells the service manager; for a worker its parent does.
    """

    async def main() -> None:
        loop = asyncio.get_running_loop()
        stops: asyncio.Queue[None] = asyncio.Queue()  # each signal ends a step, and begins the next one
        stop = partial(stops.put_nowait, None)
        for number in numbers:
            loop.add_signal_handler(number, stop)
        if worker is not None:
            worker.begin(loop, stop)
        release()
        beginning, stopped = asyncio.ensure_future(begin()), asyncio.ensure_future(stops.get())
        try:
            await asyncio.wait((beginning, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not beginning.done():
                beginning.cancel()
                await asyncio.wait((beginning,))
                return
            async with beginning.result() as server:
                if worker is not None and directory is not None:
                    await server._join(Siblings(directory, worker.number, server.stats))
                    worker.ready()
                else:
                    logger.info("listening on %s", server.addresses)
                    notifier.ready(f"listening on {server.addresses}")
                    notifier.beat(loop)
                await _either(server.wait_closed(), stopped)
                notifier.stopping("closing connections")
                await _end(server, drain, stops)
        finally:
            stopped.cancel()
            if worker is not None:
                worker.finished(loop)
            for number in numbers:
                loop.remove_signal_handler(number)

    numbers = _STOPS if worker is None else (signal.SIGTERM,)
    # A worker is forked with its signals blocked, and `Worker.begin` lets them come.
    with _held(numbers if worker is None else ()) as release, asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@contextmanager
def _held(numbers: Sequence[signal.Signals]) -> Iterator[Callable[[], object]]:
    """Have signals wait until there are handlers for them: they would leave objects half made.

    Args:
        numbers: the signals.

    Yields:
        A function that lets them come; the end of the block does so, too.
    """
    held = set(numbers) - signal.pthread_sigmask(signal.SIG_BLOCK, ())
    release = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, held)
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, held)
        yield release
    finally:
        release()


async def _end(server: Server, drain: tuple[float, float] | None, stops: asyncio.Queue[None]) -> None:
    """Drain and close a server; each further signal cuts a step short."""
    if drain is not None:
        await _either(server.drain(drain[0], grace=drain[1]), stops.get())
    await _either(server.close(), stops.get())
    server._hurry_lifespan()


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
