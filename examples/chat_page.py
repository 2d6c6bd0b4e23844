"""A chat room with its page, on one port: browsers get the files of the page, and speak to it by WebSocket.

Usage: python chat_page.py [PORT]
"""

import asyncio
import json
import sys
from pathlib import Path

import lapwing

FILES = Path(__file__).with_name("chat_page")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
}

# Read once: nothing that a request says becomes the name of a file.
PAGE = {
    "/" if file.suffix == ".html" else f"/{file.name}": lapwing.Response.of(
        200, file.read_bytes(), {"Content-Type": TYPES[file.suffix], **HEADERS}
    )
    for file in FILES.iterdir()
    if file.suffix in TYPES
}
here: list[str] = []


def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
    if request.is_websocket:
        return None  # let it in
    return PAGE.get(request.path) or lapwing.Response.of(404, "the chat is at /\n")


async def chat(ws: lapwing.Connection) -> None:
    """Serve one of the people in the room: the first message has the name, the others what is said."""
    first = await ws.receive()
    if first is None:
        return
    name = json.loads(first)["name"][:40]
    here.append(name)
    ws.broadcast(json.dumps({"kind": "comes", "name": name, "here": here}))
    try:
        async for message in ws:
            text = json.loads(message)["text"][:2000]
            ws.broadcast(json.dumps({"kind": "says", "name": name, "text": text}))
    finally:
        here.remove(name)
        ws.broadcast(json.dumps({"kind": "leaves", "name": name, "here": here}))


async def main(port: int) -> None:
    async with lapwing.listen(port=port, protocols={"chat": chat}, on_request=on_request) as server:
        print(f"the room is at http://localhost:{server.port}/", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
