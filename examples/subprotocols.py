"""Subprotocols: the client offers some, the server picks the handler (RFC 6455 section 1.9).

Server and clients in one program. Usage: python subprotocols.py
"""

import asyncio

import lapwing


async def first(ws: lapwing.Connection) -> None:
    """Speak the old version."""
    await ws.send("this is chat.v1")


async def second(ws: lapwing.Connection) -> None:
    """Speak the new version."""
    await ws.send("this is chat.v2")


async def main() -> None:
    async with lapwing.listen(port=0, protocols={"chat.v1": first, "chat.v2": second}) as server:
        url = f"ws://localhost:{server.port}"

        # One subprotocol, or several in order of preference.
        for offer in ("chat.v1", ["chat.v3", "chat.v2"]):
            async with lapwing.connect(url, offer) as ws:
                print("offered", offer, "agreed on", ws.subprotocol)
                print(await ws.receive())

        # This server has no default handler: a client that offers no known subprotocol is refused.
        try:
            await lapwing.connect(url, "chat.v3")
        except lapwing.HandshakeError as error:
            print("refused with HTTP status", error.status)


if __name__ == "__main__":
    asyncio.run(main())
