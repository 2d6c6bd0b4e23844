"""Make the pictures of the live page for the documentation anew: `make screenshots`.

A server with a small crowd of clients is watched by a headless Chromium. The pictures have to be looked at: nothing
overlaps, nothing is cut off, and all can be read in both themes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from pathlib import Path

import lapwing
from tests.peers.browser import Browser

OUT = Path(__file__).parent / "pictures"
NAMES = ["ada", "grace", "edsger", "barbara", "alan", "margaret", "donald", "radia", "tim", "frances"]
SHARES = [
    f"{name}-{kind}"
    for name in ("ACME", "BIRD", "CROW", "DOVE", "ERNE")
    for kind in ("bid", "ask", "last", "high", "low", "open", "close", "volume")
]
LINES = ["anyone up for lunch?", "the build is green again", "see you at four", "ha, nice", "who broke the tests?"]


async def feed(ws: lapwing.Connection) -> None:
    """Send prices, as compressible as such things are."""
    while not ws.closed:
        prices = {name: round(random.uniform(90, 110), 2) for name in SHARES}
        await ws.send(json.dumps({"kind": "prices", "prices": prices, "currency": "EUR"}))
        await asyncio.sleep(random.uniform(0.05, 0.4))


async def echo(ws: lapwing.Connection) -> None:
    async for message in ws:
        await ws.send(message)


async def talk(url: str, subprotocol: str, pace: float) -> None:
    async with lapwing.connect(url, subprotocol) as ws:

        async def read() -> None:
            async for _ in ws:
                pass

        reading = asyncio.create_task(read())
        while not ws.closed:
            name = random.choice(NAMES)
            await ws.send(
                json.dumps({"from": name, "text": random.choice(LINES), "room": "kitchen", "seen": [1, 2, 3]})
            )
            await asyncio.sleep(random.expovariate(1 / pace))
        await reading


class Crowd:
    """A server and its clients, in a thread."""

    def __init__(self, clients: int) -> None:
        self.port = 0
        self._clients = clients
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def begin(self) -> int:
        self._thread.start()
        self._begun.wait()
        return self.port

    async def _main(self) -> None:
        protocols = {"chat.v1": echo, "prices.v2": feed, "telemetry": echo}
        async with lapwing.listen(0, "127.0.0.1", protocols, echo, inspector=True) as server:
            self.port = server.port
            self._begun.set()
            url = f"ws://127.0.0.1:{server.port}/rooms/kitchen?since=42"
            talking = []
            for number in range(self._clients):
                subprotocol = ("chat.v1", "prices.v2", "telemetry", "chat.v1")[number % 4]
                talking.append(asyncio.create_task(talk(url, subprotocol, random.uniform(0.1, 3))))
                await asyncio.sleep(random.uniform(0, 0.15))
            await asyncio.gather(*talking)


def _rest(browser: Browser, seconds: float) -> None:
    """Let the page do what it does for a while; a question to the browser takes no longer than a minute."""
    while seconds > 0:
        browser.run(f"new Promise(done => setTimeout(done, {min(seconds, 20) * 1000}))")
        seconds -= 20


def take(browser: Browser, name: str, **look: object) -> None:
    browser.look_like(**look)  # type: ignore[arg-type]
    _rest(browser, 1.2)
    (OUT / f"{name}.png").write_bytes(browser.picture())
    print(f"docs/pictures/{name}.png")


def main(seconds: float) -> None:
    OUT.mkdir(exist_ok=True)
    port = Crowd(36).begin()
    desktop = {"width": 1440, "height": 900}
    phone = {"width": 390, "height": 780, "phone": True, "scale": 1.5}
    with Browser() as browser:
        browser.look_like(**desktop)  # type: ignore[arg-type]
        browser.show(f"http://127.0.0.1:{port}/_lapwing/")
        _rest(browser, seconds)
        take(browser, "inspector-light", theme="light", **desktop)
        take(browser, "inspector-dark", theme="dark", **desktop)
        take(browser, "inspector-phone-light", theme="light", **phone)
        take(browser, "inspector-phone-dark", theme="dark", **phone)
        browser.look_like(**desktop)  # type: ignore[arg-type]
        browser.run("document.querySelectorAll('#rows .row')[2].click()")
        _rest(browser, 8)
        take(browser, "inspector-frames-light", theme="light", **desktop)
        take(browser, "inspector-frames-dark", theme="dark", **desktop)
        take(browser, "inspector-frames-phone", theme="light", **phone)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 90)
