"""A room with history and presence for browsers: a page without an SDK at /, a page with the SDK at /sdk.

Usage: python room.py [PORT [PATH/TO/centrifuge.js [URL]]]

The SDK is the npm package `centrifuge`, the file dist/centrifuge.js in it. The URL is that of a Redis or NATS server.
"""

import sys
from pathlib import Path

import lapwing

HERE = Path(__file__).parent
HTML = {"Content-Type": "text/html; charset=utf-8"}
SCRIPT = {"Content-Type": "text/javascript; charset=utf-8"}

hub = lapwing.Hub(sys.argv[3] if len(sys.argv) > 3 else None)
pages = {
    "/": lapwing.Response.of(200, (HERE / "page.html").read_bytes(), HTML),
    "/sdk": lapwing.Response.of(200, (HERE / "sdk.html").read_bytes(), HTML),
}
if len(sys.argv) > 2:
    pages["/centrifuge.js"] = lapwing.Response.of(200, Path(sys.argv[2]).read_bytes(), SCRIPT)


@hub.authenticate
def who(ask: lapwing.hub.Ask) -> None:
    """Accept the name that the page gives; a real program checks a token here."""
    ask.user = ask.token or None


@hub.topic("chat:*", history=100, keep=300, presence=True, clients_publish=True)
def chat(ask: lapwing.hub.Ask) -> None:
    """Let users with a name subscribe."""
    if ask.user is None:
        raise lapwing.Denied("say who you are first")


@hub.call("rooms")
def rooms(_: lapwing.hub.Call) -> list[str]:
    """Answer the page's request for the list of rooms."""
    return ["chat:lobby", "chat:kitchen"]


def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
    """Serve the pages to browsers."""
    return None if request.is_websocket else pages.get(request.path)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    lapwing.run(port=port, interface="127.0.0.1", default=hub.serve, on_request=on_request)
