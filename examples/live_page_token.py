"""A server whose live page asks for a token of the program's own.

Usage: LAPWING_TOKEN=... python live_page_token.py CERTIFICATE KEY [PORT]
"""

import os
import secrets
import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


if __name__ == "__main__":
    token = os.environ.get("LAPWING_TOKEN") or secrets.token_urlsafe()
    port = int(sys.argv[3]) if len(sys.argv) > 3 else 8443
    print(f"watch it at https://localhost:{port}/_lapwing/#token={token}", flush=True)
    lapwing.run(
        port=port,
        default=echo,
        certfile=sys.argv[1],
        keyfile=sys.argv[2],
        inspector=lapwing.Inspector(token=token),
    )
