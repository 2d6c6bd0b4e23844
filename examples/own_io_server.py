"""A server over plain sockets, with a thread for each: it sends every message back. Its loop is the one of own_io.py.

Usage: python own_io_server.py [PORT]
"""

import socket
import sys
from threading import Thread
from time import monotonic

from own_io import converse

from lapwing.protocol import Connection, MessageReceived, Opened, Role, ServerPolicy

POLICY = ServerPolicy(subprotocols=["echo"], default=True)


def echo(sock: socket.socket) -> None:
    connection = Connection(Role.SERVER, POLICY, now=monotonic(), wants_events=True)
    with sock:
        for event in converse(sock, connection):
            if isinstance(event, Opened) and event.request.target != "/":
                connection.refuse(404, "this server echoes at /", now=monotonic())
            elif isinstance(event, MessageReceived):
                connection.send(event.message)


if __name__ == "__main__":
    with socket.create_server(("localhost", int(sys.argv[1]) if len(sys.argv) > 1 else 8080)) as listener:
        print("listening on port", listener.getsockname()[1], flush=True)
        while True:
            Thread(target=echo, args=[listener.accept()[0]], daemon=True).start()
