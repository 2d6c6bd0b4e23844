"""A client over a plain socket: the protocol is lapwing's, the I/O is the program's own.

Usage: python own_io.py [URL]
"""

import socket
import sys
from collections.abc import Iterator
from math import inf
from select import select
from time import monotonic

from lapwing.protocol import Connection, Ending, Event, MessageReceived, Opened, Role, parse_url


def converse(sock: socket.socket, connection: Connection) -> Iterator[Event]:
    """Yield the events of a connection, until its socket can be closed."""
    while True:
        yield from connection.events()
        if connection.ending is Ending.DROP:
            return
        try:
            if output := connection.data_to_send():
                sock.sendall(output)
            if connection.ending is Ending.CLOSE:
                return
            if connection.ending is Ending.SHUT_DOWN:
                sock.shutdown(socket.SHUT_WR)
            wait = connection.deadline() - monotonic()
            if select([sock], [], [], None if wait == inf else max(wait, 0.0))[0]:
                data = sock.recv(65536)
                connection.receive_data(data, monotonic()) if data else connection.receive_eof(monotonic())
        except OSError as error:
            connection.receive_eof(monotonic(), f"the connection was lost: {error}")
        connection.advance(monotonic())


def main(url: str) -> None:
    connection = Connection(Role.CLIENT, url, subprotocols=["echo"], now=monotonic(), wants_events=True)
    with socket.create_connection((parse_url(url).host, parse_url(url).port)) as sock:
        for event in converse(sock, connection):
            if isinstance(event, Opened):
                connection.send("hello")
            elif isinstance(event, MessageReceived):
                print("received", event.message)
                connection.close(now=monotonic())
    print(connection.opening_error or connection.closed)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "ws://localhost:8080")
