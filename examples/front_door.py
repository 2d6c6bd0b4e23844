"""One hook for all requests: a health check for load balancers, a page for browsers, a token for WebSocket clients.

Usage: python front_door.py [PORT]
"""

import asyncio
import sys

import lapwing
from lapwing.auth import bearer_auth

# A function of the token also works; it may be `async def` and query a database.
check_token = bearer_auth({"token-of-ada": "ada"}, query="token")


def on_request(request: lapwing.IncomingRequest) -> lapwing.auth.Answer:
    if not request.is_websocket:
        return lapwing.Response.of(200, "<h1>A chat</h1>", {"Content-Type": "text/html; charset=utf-8"})
    return check_token(request)  # None accepts the client; request.user is set from here on


async def greet(ws: lapwing.Connection) -> None:
    await ws.send(f"hello {ws.user}")


async def main(port: int) -> None:
    async with lapwing.listen(
        port=port,
        default=greet,
        health="/healthz",
        on_request=on_request,
        max_connections=10_000,
        max_connections_per_address=100,
    ) as server:
        print("listening on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
