"""Chromium as a WebSocket client: pages of an origin of one's own choice, scripted through its DevTools protocol."""

from __future__ import annotations

import base64
import http.client
import http.server
import itertools
import json
import os
import re
import signal
import subprocess
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

import lapwing
from tests.peers.needed import need

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

#: Seconds for anything that the browser is asked.
TIMEOUT = 60.0

_OPTIONS = (
    "--headless",
    "--no-sandbox",  # it runs as root where tests do, and opens pages of this process only
    "--disable-gpu",
    "--no-proxy-server",
    "--remote-debugging-port=0",
    "about:blank",
)


class Browser:
    """A headless Chromium with one page; ends with the `with` block.

    Its DevTools server is a WebSocket server by other authors, spoken to with lapwing's blocking client.
    """

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._stack = ExitStack()
        self._devtools: lapwing.Client

    def __enter__(self) -> Self:
        program = need("chromium")
        with ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            process = stack.enter_context(
                subprocess.Popen(
                    [program, *_OPTIONS, f"--user-data-dir={profile}"],
                    stdin=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            )
            stack.callback(os.killpg, process.pid, signal.SIGKILL)  # all its processes
            assert process.stderr is not None
            port = next(match[1] for line in process.stderr if (match := re.search(r"ws://127\.0\.0\.1:(\d+)/", line)))
            # What it still has to say would fill the pipe.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            url = self._page_url(int(port))
            self._devtools = stack.enter_context(lapwing.connect(url, timeout=TIMEOUT, max_message_size=None))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    @staticmethod
    def _page_url(port: int) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request("GET", "/json/list")
            pages = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return next(str(page["webSocketDebuggerUrl"]) for page in pages if page["type"] == "page")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol and wait for its result."""
        number = next(self._numbers)
        self._devtools.send(json.dumps({"id": number, "method": method, "params": parameters}))
        for message in self._devtools:
            answer: dict[str, Any] = json.loads(message)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
        raise ConnectionError(f"the browser is gone: {self._devtools.closed}")

    def show(self, url: str) -> None:
        """Go to a page and wait until it is there."""
        self.ask("Page.enable")
        self.ask("Page.navigate", url=url)
        self.run("new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))")
        assert self.run("location.href").startswith(url.partition("#")[0]), "the page did not open"

    def run(self, script: str) -> Any:
        """Run a script in the page; what it comes to, or its promise does, is returned as JSON data."""
        result = self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, condition: str) -> Any:
        """Wait until a condition, an expression of JavaScript, comes true in the page; returns what it is then."""
        script = f"""(async () => {{
            for (let waited = 0; waited < {TIMEOUT * 1000 / 2}; waited += 20) {{
                const value = await ({condition});
                if (value) return value;
                await new Promise(done => setTimeout(done, 20));
            }}
            return null;
        }})()"""
        value = self.run(script)
        assert value is not None, (
            f"it never came true: {condition}; the page says {self.run('document.body.innerText')}"
        )
        return value

    def network(self, *, offline: bool) -> None:
        """Take the network away from the page, or give it back. WebSockets that are open go on."""
        if offline:
            self.ask("Network.enable")
        self.ask(
            "Network.emulateNetworkConditions", offline=offline, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        if not offline:  # of WebSockets that are opened in an emulated network the next time takes it away, too
            self.ask("Network.disable")

    def look_like(
        self, *, width: int, height: int, scale: float = 1, theme: str = "light", phone: bool = False
    ) -> None:
        """Have a window of this size, in pixels of CSS, a theme, and perhaps the fingers that a phone is used with."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])

    def press(self, key: str, *, control: bool = False) -> None:
        """Press a key and let go of it: a character, or the name that JavaScript has for the key."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40, "ArrowUp": 38, "End": 35, "Home": 36}
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        more = {"text": text} if text and not control else {}
        what = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper())), "modifiers": 2 * control}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **what, **more)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **what)

    def write(self, text: str) -> None:
        """Enter text where the page's focus is."""
        self.ask("Input.insertText", text=text)

    def picture(self) -> bytes:
        """What the window shows, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><meta charset=utf-8><title>a page</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name is the library's
        pass


@contextmanager
def page() -> Iterator[str]:
    """Serve an empty page; its origin is yielded, such as `http://127.0.0.1:8000`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
