"""A client on trio: the protocol is lapwing's, the I/O is trio's.

Usage: python trio_client.py [URL]
"""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio

from lapwing.protocol import Connection, Ending, Role, State, parse_url


class WebSocket:
    """A connection: one task may receive while others send."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream], connection: Connection) -> None:
        self.stream, self.connection, self.sending = stream, connection, trio.Lock()

    async def receive(self) -> str | bytes | None:
        """Wait for the next message; None once the connection is closed."""
        while (message := self.connection.next_message()) is None and await self.step():
            pass
        return message

    async def send(self, message: str | bytes | None = None) -> None:
        """Send a message, and all other output."""
        if message is not None:
            self.connection.send(message)
        async with self.sending:
            if output := self.connection.data_to_send():
                with self._closed_if_lost():
                    await self.stream.send_all(output)

    async def step(self) -> bool:
        """Wait for input or a deadline; False once the stream can be closed."""
        await self.send()
        if self.connection.ending in (Ending.CLOSE, Ending.DROP):
            return False
        with self._closed_if_lost():
            if self.connection.ending is Ending.SHUT_DOWN and isinstance(self.stream, trio.SocketStream):
                await self.stream.send_eof()
            with trio.move_on_at(self.connection.deadline()):
                if data := await self.stream.receive_some():
                    self.connection.receive_data(data, trio.current_time())
                else:
                    self.connection.receive_eof(trio.current_time())
        self.connection.advance(trio.current_time())
        return True

    @contextmanager
    def _closed_if_lost(self) -> Iterator[None]:
        try:
            yield
        except trio.BrokenResourceError as error:
            self.connection.receive_eof(trio.current_time(), f"the connection was lost: {error.__cause__ or error}")


@asynccontextmanager
async def connect(url: str, *subprotocols: str) -> AsyncIterator[WebSocket]:
    open_stream = trio.open_ssl_over_tcp_stream if parse_url(url).secure else trio.open_tcp_stream
    async with await open_stream(parse_url(url).host, parse_url(url).port) as stream:
        ws = WebSocket(stream, Connection(Role.CLIENT, url, subprotocols=subprotocols, now=trio.current_time()))
        while ws.connection.state is State.CONNECTING and await ws.step():
            pass
        if ws.connection.opening_error:
            raise ws.connection.opening_error
        yield ws
        ws.connection.close(now=trio.current_time())
        while await ws.receive() is not None:
            pass


async def main(url: str) -> None:
    async with connect(url, "echo") as ws:
        await ws.send("hello")
        print("received", await ws.receive())
    print(ws.connection.closed)


if __name__ == "__main__":
    trio.run(main, sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080")
