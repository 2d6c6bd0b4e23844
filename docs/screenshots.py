"""Make the pictures for the documentation anew: `make screenshots`.

A server with a small crowd of clients is watched by a headless Chromium, and a session of `lapwing connect` is had in a
terminal, tmux's, whose screen the same browser draws. The pictures have to be looked at: nothing overlaps, nothing is
cut off, and all can be read in both themes.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import json
import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME, TerminalTheme
from rich.text import Text

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


def rooms() -> tuple[lapwing.Hub, lapwing.server.Handler]:
    """A hub with rooms, and the handler of their members."""
    hub = lapwing.Hub()
    numbers = itertools.count()

    @hub.topic("room:*", history=100, presence=True)
    def room(ask: lapwing.hub.Ask) -> None:
        """Let all clients subscribe."""

    async def member(ws: lapwing.Connection) -> None:
        topic = f"room:{('kitchen', 'kitchen', 'library', 'garden')[next(numbers) % 4]}"
        await hub.join(ws, topic)
        async for message in ws:
            await hub.publish(topic, json.loads(message))

    return hub, member


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
        self.page: str | None = None
        self._clients = clients
        self._begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def begin(self) -> tuple[int, str]:
        """Return the server's port, and the address of its live page."""
        self._thread.start()
        self._begun.wait()
        assert self.page is not None
        return self.port, self.page

    async def _main(self) -> None:
        hub, member = rooms()
        protocols = {"chat.v1": member, "prices.v2": feed, "telemetry": echo}
        async with lapwing.listen(0, "127.0.0.1", protocols, echo, inspector=True, hub=hub) as server:
            self.port = server.port
            self.page = server.inspector_url
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


#: What is typed in the session, and what is to be seen then before it goes on.
TYPED = [
    ("lapwing connect ws://localhost:PORT/", "  connected"),
    ("hello", "< hello"),
    ('{"id": 7, "tags": ["a", "b"], "price": 12.5, "sold": false}', '< {(.|\n)*"sold"(.|\n)*\n  }'),
    ("/binary 00 ff 1b 5b 33 31 6d", "< binary, 7 bytes\n.*6d"),
    ("/ping", "pong after"),
    ("/close 4001 bye", "closed: 4001"),
]
COLUMNS, ROWS = 80, 34
#: The colours of xterm on white.
LIGHT = TerminalTheme(
    (255, 255, 255),
    (0, 0, 0),
    [(0, 0, 0), (205, 0, 0), (0, 130, 0), (150, 110, 0), (0, 0, 238), (160, 0, 160), (0, 130, 130), (110, 110, 110)],
    [(110, 110, 110), (220, 0, 0), (0, 140, 0), (150, 110, 0), (92, 92, 255), (190, 0, 190), (0, 130, 130), (0, 0, 0)],
)
PAGE = """<!doctype html><meta charset="utf-8"><style>{stylesheet}
body {{ margin: 0; padding: 16px; color: {foreground}; background: {background}; }}
pre {{ margin: 0; font: 15px/1.35 "DejaVu Sans Mono", monospace; }}</style><pre>{code}</pre>"""


class Terminal:
    """A terminal with a shell in it, of a tmux of its own."""

    def __init__(self, directory: str) -> None:
        self._tmux = ["tmux", "-f", "/dev/null", "-S", f"{directory}/tmux"]
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "XDG_STATE_HOME": directory,
        }
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        shell = ["env", "PS1=$ ", "bash", "--norc", "--noprofile"]
        subprocess.run([*self._tmux, "new-session", "-d", *size, shlex.join(shell)], env=environment, check=True)

    def screen(self) -> str:
        """What the terminal shows, colours in escape sequences."""
        shown = subprocess.run([*self._tmux, "capture-pane", "-pe"], check=True, capture_output=True, encoding="utf-8")
        return shown.stdout.rstrip("\n")

    def wait_for(self, pattern: str) -> None:
        """Wait until a pattern is found in what is shown."""
        deadline = time.monotonic() + 10
        while not re.search(pattern, Text.from_ansi(self.screen()).plain):
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.05)

    def type(self, line: str) -> None:
        """Type a line, and Enter."""
        subprocess.run([*self._tmux, "send-keys", "-l", line], check=True)
        subprocess.run([*self._tmux, "send-keys", "Enter"], check=True)

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=True)


def session(port: int) -> str:
    """Have a session with a server, and return what the terminal shows in the end."""
    with tempfile.TemporaryDirectory() as directory:
        terminal = Terminal(directory)
        try:
            terminal.wait_for(r"\$")
            for line, awaited in TYPED:
                terminal.type(line.replace("PORT", str(port)))
                terminal.wait_for(awaited)
            return terminal.screen()
        finally:
            terminal.close()


def take_session(browser: Browser, port: int) -> None:
    screen = Text.from_ansi(session(port).replace(f":{port}", ":8080"))
    for theme, colours in (("light", LIGHT), ("dark", SVG_EXPORT_THEME)):
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), color_system="standard", force_terminal=True)
        console.print(screen)
        page = console.export_html(theme=colours, code_format=PAGE)
        browser.show("data:text/html;base64," + base64.b64encode(page.encode()).decode())
        height = browser.run("document.querySelector('pre').offsetHeight") + 32
        take(browser, f"session-{theme}", theme=theme, width=780, height=height, scale=1.5)


def main(seconds: float) -> None:
    OUT.mkdir(exist_ok=True)
    port, page = Crowd(36).begin()
    desktop = {"width": 1440, "height": 900}
    phone = {"width": 390, "height": 780, "phone": True, "scale": 1.5}
    with Browser() as browser:
        browser.look_like(**desktop)  # type: ignore[arg-type]
        browser.show(page)
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
        take_session(browser, port)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 90)
