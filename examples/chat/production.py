"""A chat room, last step: ready to be deployed.

Usage: python production.py --tokens FILE [--port PORT], see also --help. FILE is JSON: {"token": "name", ...}
"""

import argparse
import json
import logging
from collections import deque
from pathlib import Path
from typing import Any

import lapwing
from lapwing.auth import bearer_auth

PAGE = Path(__file__).with_name("page.html").read_bytes()

history: deque[str] = deque(maxlen=50)


def door(tokens: dict[str, str]) -> Any:
    """Make the request hook: the page for browsers, the room for members."""
    check_token = bearer_auth(tokens, subprotocol="bearer")

    def on_request(request: lapwing.IncomingRequest) -> lapwing.auth.Answer:
        if not request.is_websocket:
            if request.path != "/":
                return lapwing.Response.of(404, "there is nothing here\n")
            return lapwing.Response.of(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})
        return check_token(request)

    return on_request


def say(ws: lapwing.Connection, line: str) -> None:
    """Send a line to all users, and keep it for later ones."""
    history.append(line)
    ws.broadcast(line)


async def chat(ws: lapwing.Connection) -> None:
    """Serve one user of the room."""
    if history:
        await ws.send("\n".join(history))
    say(ws, f"{ws.user} comes in")
    try:
        async for message in ws:
            say(ws, f"{ws.user}: {message!s}")
    finally:  # after every kind of end
        say(ws, f"{ws.user} leaves")


def places(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the address options of `lapwing.run`."""
    if arguments.systemd:
        return {"sockets": "systemd"}
    if arguments.unix:
        return {"unix": arguments.unix, "unix_mode": 0o660}
    return {"port": arguments.port, "interface": arguments.interface}


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat room.")
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--interface", default="*")
    parser.add_argument("--unix", help="listen on this unix socket instead")
    parser.add_argument("--systemd", action="store_true", help="take over the sockets of socket activation instead")
    parser.add_argument("--certfile", help="speak TLS with this certificate")
    parser.add_argument("--keyfile")
    parser.add_argument("--proxy-protocol", action="store_true", help="a proxy in front names the clients")
    parser.add_argument("--health-port", type=int, help="where an orchestrator asks for /healthz and /readyz")
    parser.add_argument("--drain-window", type=float, default=30, help="seconds over which to send clients away")
    parser.add_argument("--drain-grace", type=float, default=5, help="seconds before, in which /healthz says 503")
    arguments = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    lapwing.run(
        **places(arguments),
        protocols={"chat": chat},
        on_request=door(json.loads(arguments.tokens.read_text(encoding="utf-8"))),
        certfile=arguments.certfile,
        keyfile=arguments.keyfile,
        proxy_protocol=arguments.proxy_protocol,
        health="/healthz",
        health_port=arguments.health_port,
        drain_window=arguments.drain_window,
        drain_grace=arguments.drain_grace,
        max_message_size=4096,  # 4 KiB: a line of chat is shorter
        max_connections=10_000,
        lagging="drop-oldest",  # a slow consumer misses old lines, not new ones
    )


if __name__ == "__main__":
    main()
