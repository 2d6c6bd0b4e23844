"""A server for wss://, with a certificate and its private key.

A certificate to try it with, for this machine only:

    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1 -keyout key.pem -out cert.pem

Usage: python tls_server.py CERTFILE KEYFILE [PORT]
"""

import asyncio
import sys

import lapwing


async def echo(ws: lapwing.Connection) -> None:
    """Send every message back."""
    async for message in ws:
        await ws.send(message)


async def main(certfile: str, keyfile: str, port: int) -> None:
    # For more than this (client certificates, several host names) pass an ssl.SSLContext as ssl=.
    async with lapwing.listen(port=port, default=echo, certfile=certfile, keyfile=keyfile) as server:
        print("listening with TLS on port", server.port, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 8443))
