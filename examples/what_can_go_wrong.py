"""What can go wrong, and how lapwing says it.

Server and clients in one program. Usage: python what_can_go_wrong.py
"""

import asyncio

import lapwing


async def rude(ws: lapwing.Connection) -> None:
    """Close with a code and a reason of its own as soon as a message comes."""
    await ws.receive()
    await ws.close(4000, "I am busy")


async def main() -> None:
    # A URL that is none for WebSockets: InvalidURL, which is a ValueError.
    try:
        await lapwing.connect("http://localhost")
    except lapwing.InvalidURL as error:
        print("InvalidURL:", error)

    server = await lapwing.listen(port=0, protocols={"rude": rude})
    url = f"ws://localhost:{server.port}"

    # A server that does not want us: HandshakeError, with its response.
    try:
        await lapwing.connect(url, "polite")
    except lapwing.HandshakeError as error:
        print("HandshakeError:", error.status, error.body.decode().strip())

    # The end of a connection is no error for receive: it returns None, and `closed` says how it ended.
    async with lapwing.connect(url, "rude") as ws:
        await ws.send("hello")
        print("received", await ws.receive())
        print(ws.closed)

        # To send after the end is one: ConnectionClosed, which is a ConnectionError.
        try:
            await ws.send("are you there?")
        except lapwing.ConnectionClosed as error:
            print("ConnectionClosed:", error.was_clean, error.code, error.reason)

    # No server at all: the operating system's own error, an OSError.
    await server.close()
    try:
        await lapwing.connect(url)
    except OSError as error:
        print("OSError:", error)


if __name__ == "__main__":
    asyncio.run(main())
