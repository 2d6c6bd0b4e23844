"""A server with metrics for Prometheus on its own port, at /metrics; needs `pip install prometheus-client`.

Usage: python metrics.py [PORT]
"""

import asyncio
import sys

import lapwing
from lapwing.metrics import CONTENT_TYPE, prometheus_text


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def main(port: int) -> None:
    def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
        """Answer Prometheus; all other requests are served normally."""
        if request.path != "/metrics":
            return None
        return lapwing.Response.of(200, prometheus_text(server, names=["echo"]), {"Content-Type": CONTENT_TYPE})

    async with lapwing.listen(port=port, default=echo, on_request=on_request) as server:
        print("listening on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 8080))
