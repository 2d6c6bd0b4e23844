"""Run a server: an echo and a chat with its page, or your own handlers.

  lapwing serve                      an echo and a chat; browsers get the chat page at /
  lapwing serve app:handlers         the object `handlers` in the module app
  lapwing serve app.py:echo          the object `echo` in the file app.py
  lapwing serve --app shop.asgi:app  the WebSockets of an ASGI application, such as one of FastAPI or Django

The target is a handler, a dict of subprotocols and handlers, or a dict of options of lapwing.listen that has
"protocols" or "default". The live page with the connections is at /_lapwing/; it needs the token that is printed.

exit status: 0 after a signal, 1 the server could not start, 2 usage error
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import logging
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import lapwing

from .target import Target, TargetError, load, load_application, understand

__all__ = ["USAGE", "add_arguments", "run"]

USAGE = "[MODULE:NAME] [OPTIONS]"

#: Where the token of the live page may be, so that it is in no list of processes.
_TOKEN_VARIABLE: Final = "LAPWING_TOKEN"
_BACKLOG: Final = 1024
#: Seconds for closing before a reload, unless the options say otherwise: one does not want to wait for it.
_QUICK_CLOSE: Final = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("target", nargs="?", metavar="MODULE:NAME", help="the target; by default an echo and a chat")
    parser.add_argument("--app", metavar="MODULE:NAME", help="serve the WebSockets of this ASGI application")
    parser.add_argument("--root-path", default="", metavar="PATH", help="the path of the application, such as /live")
    where = parser.add_argument_group("address")
    where.add_argument("-p", "--port", type=int, default=8080, help="the port (default 8080); 0 for any free port")
    where.add_argument(
        "-i",
        "--interface",
        action="append",
        metavar="ADDRESS",
        help='an address or a host name, "*" for all interfaces; repeatable (default localhost)',
    )
    where.add_argument(
        "--tls",
        nargs="+",
        metavar=("CERT", "KEY"),
        help="serve wss with these PEM files; CERT may include the key",
    )
    where.add_argument("--systemd", action="store_true", help="use the sockets of systemd's socket activation")
    how = parser.add_argument_group("operation")
    how.add_argument(
        "--reload", action="store_true", help="restart when an imported file below this directory has changed"
    )
    how.add_argument("--workers", type=int, metavar="NUMBER", help="number of worker processes")
    how.add_argument("--health", metavar="PATH", help="the path of health checks by load balancers, such as /healthz")
    how.add_argument(
        "--health-port", type=int, metavar="PORT", help="the port of /healthz and /readyz for an orchestrator"
    )
    how.add_argument(
        "--origin", action="append", metavar="ORIGIN", help='allow pages of this origin, "*" for any origin; repeatable'
    )
    how.add_argument(
        "--drain", type=float, metavar="SECONDS", help="on Ctrl-C or SIGTERM, close the connections over this time"
    )
    live = parser.add_argument_group("live page")
    live.add_argument(
        "--inspector", action=argparse.BooleanOptionalAction, help="serve the live page (the default), or do not"
    )
    live.add_argument(
        "--token",
        nargs="?",
        const="",
        metavar="TOKEN",
        help=f"its token (default: {_TOKEN_VARIABLE} of the environment, or a new one)",
    )
    logs = parser.add_argument_group("output")
    logs.add_argument("--access-log", action="store_true", help="print a line for each connection and request")
    logs.add_argument("-v", "--verbose", action="count", default=0, help="log more; repeat for everything")


def run(arguments: argparse.Namespace) -> int:
    """Serve; returns the exit status: 0 after a signal, 1 for what cannot be served, 2 for a senseless command line."""
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=levels[min(arguments.verbose, 2)], force=True
    )
    if complaint := _complaint(arguments):
        return _fail(complaint, 2)
    # Made here, it is the same after each reload.
    arguments.has_token = arguments.token is not None
    arguments.token = arguments.token or os.environ.get(_TOKEN_VARIABLE) or secrets.token_urlsafe()
    try:
        sockets = [] if arguments.systemd else _open(arguments.interface or ["localhost"], arguments.port)
    except OSError as error:
        return _fail(str(error), 1)
    try:
        if not arguments.reload:
            try:
                return _serve(arguments, sockets)
            except TargetError as error:
                return _fail(str(error), 1)
        return _serve_again_and_again(arguments, sockets)
    finally:
        for sock in sockets:
            sock.close()


def _complaint(arguments: argparse.Namespace) -> str | None:
    """Say what makes no sense in the command line, if anything does."""
    if arguments.reload and arguments.workers is not None:
        return "--reload is for development, --workers for production: leave one of them out"
    if arguments.systemd and (arguments.reload or arguments.interface):
        return "--systemd uses sockets that are already open: leave out --interface and --reload"
    if arguments.reload and not hasattr(os, "fork"):
        return "--reload needs a system with fork"
    if arguments.app is not None and arguments.target is not None:
        return f"expected handlers or an application, got both: leave out {arguments.target} or --app {arguments.app}"
    if arguments.root_path and arguments.app is None:
        return "--root-path is for an application: name it with --app"
    if arguments.reload and arguments.target is None and arguments.app is None:
        return "--reload needs a program to watch: name it, as in lapwing serve app:handlers --reload"
    if arguments.tls is not None and len(arguments.tls) > 2:
        return f"expected --tls CERT or --tls CERT KEY, got {' '.join(arguments.tls)}: put the target before --tls"
    if arguments.token is not None and arguments.inspector is False:
        return "--token is for the live page, which --no-inspector leaves out"
    if not 0 <= arguments.port <= 65535:
        return f"expected a port from 0 to 65535, got {arguments.port}"
    return None


def _fail(text: str, status: int) -> int:
    print(f"lapwing serve: {text}", file=sys.stderr)
    return status


def _serve(arguments: argparse.Namespace, sockets: list[socket.socket]) -> int:
    """Serve in this process until a signal comes.

    Raises:
        TargetError: the target cannot be served.
    """
    target = _target(arguments)
    protocols, default, options = _settled(arguments, target)
    given: dict[str, Any] = {**options, "sockets": "systemd" if arguments.systemd else sockets}
    try:
        lapwing.listen(protocols=protocols, default=default, **given)  # checks it all, and listens nowhere
    except (TypeError, ValueError) as error:
        raise TargetError(str(error)) from None
    drain = 0.0 if arguments.reload else arguments.drain

    def announce() -> None:
        print(_addresses(arguments, sockets, options), flush=True)

    def make_loop() -> asyncio.AbstractEventLoop:
        announce()  # here `run` has signals wait until the server takes them
        return asyncio.new_event_loop()

    run = lapwing.run  # imports it: a signal that follows the addresses must not come in the middle of that
    try:
        if arguments.workers is None:
            run(protocols=protocols, default=default, loop_factory=make_loop, drain_window=drain, **given)
        else:
            # Until `run` takes SIGTERM, which may come as soon as the addresses are known.
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            try:
                announce()
                run(protocols=protocols, default=default, workers=arguments.workers, drain_window=drain, **given)
            finally:
                signal.signal(signal.SIGTERM, before)
    except (TypeError, ValueError, OSError) as error:
        raise TargetError(str(error)) from None
    except KeyboardInterrupt:
        pass  # it came before the server was there to take it
    return 0


def _target(arguments: argparse.Namespace) -> Target:
    if arguments.app is not None:
        return load_application(arguments.app, arguments.root_path)
    return load(arguments.target) if arguments.target is not None else _demonstration()


def _demonstration() -> Target:
    from .demo import options

    return understand(options, "demo:options")


def _settled(arguments: argparse.Namespace, target: Target) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """Merge the options of the target and of the command line; the command line has the last word."""
    options = dict(target.options)
    if arguments.tls is not None:
        for name in ("ssl", "certfile", "keyfile"):
            options.pop(name, None)
        options |= dict(zip(("certfile", "keyfile"), arguments.tls, strict=False))
    if arguments.health is not None:
        options["health"] = arguments.health
    if arguments.health_port is not None:
        options["health_port"] = arguments.health_port
    if arguments.origin is not None:
        options["origins"] = "*" if "*" in arguments.origin else arguments.origin
    if arguments.reload:
        options.setdefault("close_timeout", _QUICK_CLOSE)
    options["inspector"] = _live_page(arguments, options.get("inspector"))
    protocols, default = target.protocols, target.default
    if arguments.access_log:
        from .access import AccessLog

        log = AccessLog(lambda line: print(line, flush=True))
        options["on_request"] = log.on_request(options.get("on_request"))
        protocols = {name: log.handler(handler) for name, handler in protocols.items()}
        default = log.handler(default)
    return protocols, default, options


def _live_page(arguments: argparse.Namespace, given: Any) -> Any:
    """Return the option for the live page; `given` is the target's, None without one."""
    if arguments.inspector is False or (given is False and not (arguments.inspector or arguments.has_token)):
        return False
    own = isinstance(given, lapwing.Inspector)
    if (own and not arguments.has_token) or (given and not own and given is not True):
        return given  # the program's own, checked by the server
    try:
        return lapwing.Inspector(given.path if own else "/_lapwing", arguments.token)
    except ValueError as error:
        raise TargetError(str(error)) from None


def _open(interfaces: list[str], port: int) -> list[socket.socket]:
    """Open the sockets to listen on, the same port for each.

    Raises:
        OSError: one cannot be; the text says which, and what to do.
    """
    addresses: dict[tuple[int, str], str] = {}
    for name in interfaces:
        host = None if name == "*" else name
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except socket.gaierror as error:
            raise OSError(f"unknown interface {name!r} ({error.strerror})") from None
        for family, _, _, _, address in found:
            addresses.setdefault((family, str(address[0])), name)
    sockets: list[socket.socket] = []
    failed: OSError | None = None
    dispensable = {
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
    }  # such as ::1 where there is no IPv6: others of the name may do
    if port == 0:
        dispensable.add(errno.EADDRINUSE)  # the port that the system chose for the first is taken for another
    for (number, host), name in sorted(addresses.items()):
        try:
            sock = _listen(number, host, port)
        except OSError as error:
            failed = OSError(f"{name} port {port}: {error.strerror or error}{_hint(error)}")
            if error.errno in dispensable:
                continue
            break
        sockets.append(sock)
        port = sock.getsockname()[1]
    else:
        if sockets:
            return sockets
    for sock in sockets:
        sock.close()
    raise failed or OSError("there is no interface to listen on")


def _listen(family: int, host: str, port: int) -> socket.socket:
    version = socket.AF_INET6 if family == socket.AF_INET6 else socket.AF_INET
    sock = socket.create_server((host, port), family=version, backlog=_BACKLOG)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit it
    return sock


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return ": choose another one with --port, or 0 for any"
    if error.errno == errno.EACCES:
        return ": ports below 1024 are for root, choose another one with --port"
    return ""


def _addresses(arguments: argparse.Namespace, sockets: list[socket.socket], options: dict[str, Any]) -> str:
    """A line for each URL, whole, so that a terminal of any width lets it be opened and copied."""
    page = options.get("inspector")
    secret = f"#token={quote(page.token, safe='')}" if page and page.token == arguments.token else ""
    if arguments.systemd:
        lines = ["serving    the sockets of systemd"]
        return "\n".join([*lines, f"live page  {page.path}/{secret}"] if page else lines)
    is_secure = bool(options.get("ssl") or options.get("certfile"))
    name = (arguments.interface or ["localhost"])[0]
    host = "localhost" if name in ("*", "0.0.0.0", "::") else f"[{name}]" if ":" in name else name
    place = f"{host}:{sockets[0].getsockname()[1]}"
    web = f"http{'s' * is_secure}://{place}"
    lines = [f"serving    ws{'s' * is_secure}://{place}/"]
    if arguments.target is None and arguments.app is None:
        lines.append(f"chat page  {web}/")
    if page:
        lines.append(f"live page  {web}{page.path}/{secret}")
    return "\n".join(lines)


def _serve_again_and_again(arguments: argparse.Namespace, sockets: list[socket.socket]) -> int:
    """Serve in a child process, in a new one after each change of a file."""
    from .reloading import Changes, keep_serving, serve_until_changed, wait_for_change

    def say(text: str) -> None:
        print(text, flush=True)

    def child() -> int:
        changes = Changes(Path.cwd())

        def serve() -> int:
            try:
                return _serve(arguments, sockets)
            except TargetError as error:
                changes.add(error.files)
                _fail(f"{error}\nwaiting for a change", 1)
                wait_for_change()
                return 1

        return serve_until_changed(serve, changes, say)

    return keep_serving(child)
