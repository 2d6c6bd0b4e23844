"""Callbacks over a blocking client, like WebSocketApp of websocket-client: on_open, on_message, on_close.

Usage: python callbacks.py URL
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import lapwing


@dataclass
class App:
    """Call a function for each event of a connection, and reconnect until `stop` is called."""

    url: str
    on_message: Callable[["App", str | bytes], object]
    on_open: Callable[["App"], object] | None = None
    on_close: Callable[["App", lapwing.Closed], object] | None = None
    ws: lapwing.Client | None = field(default=None, init=False)
    is_stopping: bool = field(default=False, init=False)

    def send(self, message: str | bytes) -> None:
        """Send a message; from a callback or from any other thread."""
        if self.ws is None:
            raise RuntimeError("not connected: send from on_open, or later")
        self.ws.send(message)

    def stop(self) -> None:
        self.is_stopping = True
        if self.ws is not None:
            self.ws.close()

    def run_forever(self) -> None:
        for ws in lapwing.connect(self.url, reconnect=True, ping_interval=20):
            self.ws = ws
            if self.on_open:
                self.on_open(self)
            while (message := ws.receive()) is not None:
                self.on_message(self, message)
            if self.on_close and ws.closed:
                self.on_close(self, ws.closed)
            if self.is_stopping:
                break


def greet(app: App) -> None:
    app.send("hello")


def show(app: App, message: str | bytes) -> None:
    print("received", message)
    app.stop()


def tell(app: App, closed: lapwing.Closed) -> None:
    print("closed with", closed.code, "by this end" if app.is_stopping else "by the server")


if __name__ == "__main__":
    App(sys.argv[1], on_message=show, on_open=greet, on_close=tell).run_forever()
