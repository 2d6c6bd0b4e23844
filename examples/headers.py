"""Headers of the opening handshake: sent by the client, read by the server, and the response of a refusal.

Server and client in one program. Usage: python headers.py
"""

import asyncio

import lapwing


def on_request(request: lapwing.IncomingRequest) -> lapwing.Response | None:
    """Refuse clients that are too old."""
    version = request.headers.get("X-Client-Version") or "0"
    if int(version) < 2:
        return lapwing.Response.of(403, f"version {version} is too old\n", {"X-Client-Version": "2"})
    return None


async def show(ws: lapwing.Connection) -> None:
    """Send the client some of its own headers."""
    assert ws.request is not None
    for name in ("User-Agent", "X-Client-Version", "Cookie"):
        await ws.send(f"{name}: {ws.request.headers.get(name)}")


async def main() -> None:
    async with lapwing.listen(port=0, default=show, on_request=on_request) as server:
        url = f"ws://localhost:{server.port}/"
        headers = {"User-Agent": "my-program/1.0", "X-Client-Version": "2"}
        async with lapwing.connect(url, headers=headers, cookies={"session": "abc"}) as ws:
            async for line in ws:
                print(line)

        try:
            await lapwing.connect(url, headers={"X-Client-Version": "1"})
        except lapwing.HandshakeError as error:
            wanted = error.headers and error.headers["X-Client-Version"]
            print("refused:", error.status, error.body.decode().strip(), "- wanted:", wanted)


if __name__ == "__main__":
    asyncio.run(main())
