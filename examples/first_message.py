"""Credentials in the first message, with a deadline: for pages that cannot send them in another way.

Server and clients in one program. Usage: python first_message.py
"""

import asyncio
import hmac

import lapwing

TOKENS = {"ada": "token-of-ada"}


async def introduce(ws: lapwing.Connection) -> str | None:
    """Return the client's name; None if it is unknown, after closing the connection."""
    try:
        introduction = await ws.receive_json(timeout=DEADLINE)
        name, token = introduction["name"], introduction["token"]
        if hmac.compare_digest(TOKENS.get(name, "").encode(), token.encode()) and token:
            return str(name)
    except TimeoutError:
        await ws.close(4408, "introduce yourself within a few seconds")
    except (ValueError, TypeError, KeyError, AttributeError):  # not JSON, or not of the expected shape
        pass
    await ws.close(4401, "unknown name or token")  # does nothing if the connection is closed
    return None


async def serve(ws: lapwing.Connection) -> None:
    """Serve a client that has authenticated."""
    name = await introduce(ws)
    if name is not None:
        await ws.send(f"hello {name}")


DEADLINE = 0.3  # seconds; a real server gives ten


async def main() -> None:
    async with lapwing.listen(port=0, default=serve, max_message_size=4096) as server:
        for introduction in (
            {"name": "ada", "token": "token-of-ada"},
            {"name": "ada", "token": "guessed"},
            {"name": "ada"},
            None,  # sends no credentials
        ):
            async with lapwing.connect(f"ws://localhost:{server.port}") as ws:
                if introduction is not None:
                    await ws.send_json(introduction)
                print(await ws.receive(), ws.closed and ws.closed.code)


if __name__ == "__main__":
    asyncio.run(main())
