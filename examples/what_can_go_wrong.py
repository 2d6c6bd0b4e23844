"""Errors: each kind of failure, and the exception or close code for it.

Server and clients in one program. Usage: python what_can_go_wrong.py
"""

import asyncio

import lapwing


async def rude(ws: lapwing.Connection) -> None:
    """Close with a private code and a reason after the first message."""
    await ws.receive()
    await ws.close(4000, "I am busy")


async def main() -> None:
    # Not a WebSocket URL: InvalidURL, which is a ValueError.
    try:
        await lapwing.connect("http://localhost")
    except lapwing.InvalidURL as error:
        print("InvalidURL:", error)

    server = await lapwing.listen(port=0, protocols={"rude": rude})
    url = f"ws://localhost:{server.port}"

    # The server refuses the handshake: HandshakeError, with the server's response.
    try:
        await lapwing.connect(url, "polite")
    except lapwing.HandshakeError as error:
        print("HandshakeError:", error.status, error.body.decode().strip())

    # The end of a connection is not an error for receive: it returns None, and `closed` says how it ended.
    async with lapwing.connect(url, "rude") as ws:
        await ws.send("hello")
        print("received", await ws.receive())
        print(ws.closed)

        # Sending after the end is an error: ConnectionClosed, which is a ConnectionError.
        try:
            await ws.send("are you there?")
        except lapwing.ConnectionClosed as error:
            print("ConnectionClosed:", error.was_clean, error.code, error.reason)

    # No server: the operating system's own error, an OSError.
    await server.close()
    try:
        await lapwing.connect(url)
    except OSError as error:
        print("OSError:", error)


if __name__ == "__main__":
    asyncio.run(main())
