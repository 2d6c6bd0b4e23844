"""Two worker processes whose /metrics page for Prometheus has the numbers of both; needs `prometheus-client`.

Usage: python metrics_of_workers.py [PORT]
"""

import sys

import lapwing
from lapwing.metrics import CONTENT_TYPE, prometheus_text_of_workers


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
    """Answer Prometheus, in any of the workers."""
    if request.path != "/metrics":
        return None
    return lapwing.Response.of(200, await prometheus_text_of_workers(request.server), {"Content-Type": CONTENT_TYPE})


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    lapwing.run(port=port, default=echo, on_request=on_request, workers=2)
