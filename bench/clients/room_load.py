"""The load of the part `hub`: clients of one room, each of which gets every message. Bare sockets in one thread.

The clients are spread over the servers in turns. As many of them as messages are outstanding publish one each; each
client has to receive each message whole. Whenever one more message has reached all clients, the next one is published.
The result is one JSON object on standard output: the CPU time of the servers, and of the broker between them, for each
message delivered.
"""

import argparse
import base64
import json
import os
import secrets
import select
import socket
import sys
import time
from array import array
from collections import deque
from dataclasses import dataclass

WARM_UP_TURNS = 1
LEAST_TURNS = 3
"""How often all outstanding messages arrive in the warm-up, and in the measured window, however short the times are."""

AT_ONCE = 32
"""Connections that are opened at a time."""

SILENCE = 20.0
"""Seconds without a byte, after which the run has failed."""

TEXT, CLOSE = 0x81, 0x88


@dataclass(frozen=True)
class Dialect:
    """What clients say to the servers of a contender.

    Attributes:
        path: of the URL.
        hello: what a client says until it is in the room; None for nothing. Each is answered by one message.
        publication: a message for the room, where `%s` is its text.
        publisher: the path of connections that publish alone; empty: clients of the room publish.
    """

    path: str
    hello: tuple[str | None, ...]
    publication: str
    publisher: str = ""


DIALECTS = {
    "plain": Dialect("/", (None,), "%s"),
    "socketio": Dialect("/socket.io/?EIO=4&transport=websocket", (None, "40"), '42["message","%s"]'),
    # A client of this protocol may send 200 commands in a second, fewer than a small room takes.
    "centrifugo": Dialect(
        "/", ('{"id":1,"connect":{}}', '{"id":2,"subscribe":{"channel":"room:1"}}'), '"%s"', publisher="/publish"
    ),
}


def frame(opcode: int, payload: bytes) -> bytes:
    """Frame a message as a client does: masked."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    key = secrets.token_bytes(4)
    mask = int.from_bytes(key * (size // 4 + 1), "big") >> 8 * (4 - size % 4)
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(size, "big")
    return bytes((opcode,)) + length + key + masked


class Client:
    """One connection."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), SILENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = 0
        self._rest = b""
        self._messages: deque[bytes] = deque()

    def ask(self, path: str) -> None:
        """Send the request of the opening handshake (RFC 6455 section 4.1)."""
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self.sock.sendall(f"{head}Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())

    def read_response(self) -> None:
        """Read the response."""
        while b"\r\n\r\n" not in self._rest:
            self._rest += self._receive()
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise SystemExit(f"expected a response of status 101, got {head[:80]!r}")

    def _receive(self) -> bytes:
        data = self.sock.recv(256 * 1024)
        if not data:
            raise SystemExit("the server ended a connection")
        return data

    def send(self, text: str) -> None:
        """Send a message."""
        self.sock.sendall(frame(TEXT, text.encode()))

    def message(self) -> bytes:
        """Wait for a message."""
        while not self._messages:
            self._messages.extend(self.take(b"") or self.take(self._receive()))
        return self._messages.popleft()

    def messages(self) -> list[bytes]:
        """Read what there is."""
        return self.take(self._receive())

    def take(self, data: bytes) -> list[bytes]:
        """Take whole messages out of the bytes that came."""
        data = self._rest + data if self._rest else data
        found, at, end = [], 0, len(data)
        while end - at >= 2:
            length, begin = data[at + 1], at + 2
            if length >= 126:
                begin += 2 if length == 126 else 8
                length = int.from_bytes(data[at + 2 : begin], "big") if end >= begin else end
            if end < begin + length:
                break
            if data[at] != TEXT:
                payload = data[begin : begin + length]
                raise SystemExit(f"expected a text message in one frame, got {data[at]:#x} with {payload!r:.120}")
            found.append(data[begin : begin + length])
            at = begin + length
        self._rest = data[at:]
        return found

    def close(self) -> None:
        """Close the connection."""
        self.sock.sendall(frame(CLOSE, (1000).to_bytes(2, "big")))
        self.sock.close()


def open_clients(ports: list[int], count: int, dialect: Dialect) -> list[Client]:
    """Open connections, and have all of them enter the room."""
    clients: list[Client] = []
    for begin in range(0, count, AT_ONCE):
        some = [Client(ports[number % len(ports)]) for number in range(begin, min(begin + AT_ONCE, count))]
        for client in some:
            client.ask(dialect.path)
        for client in some:
            client.read_response()
        for hello in dialect.hello:
            for client in some:
                if hello is not None:
                    client.send(hello)
            for client in some:
                client.message()
        clients += some
    return clients


def cpu_seconds(pids: list[int]) -> float:
    """The CPU time of processes, all threads: Linux makes the number of a process's clock from its own."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


class Run:
    """One measured window, and how far it is."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.dialect = DIALECTS[options.speaks]
        self.text = (secrets.token_hex(options.size // 2 + 1))[: options.size]
        self.clients = open_clients(options.port, options.connections, self.dialect)
        self.publishers = self.clients[: options.outstanding]
        if self.dialect.publisher:
            self.publishers = [
                Client(options.port[number % len(options.port)]) for number in range(options.outstanding)
            ]
            for publisher in self.publishers:
                publisher.ask(self.dialect.publisher)
                publisher.read_response()
        self.publication = frame(TEXT, (self.dialect.publication % self.text).encode())
        self.sent_at: list[float] = []
        self.reached: list[int] = []
        self.whole = 0
        self.done = 0
        self.latencies = array("d")

    def publish(self) -> None:
        """Publish one more message."""
        publisher = self.publishers[len(self.sent_at) % len(self.publishers)]
        self.sent_at.append(time.monotonic())
        self.reached.append(0)
        publisher.sock.sendall(self.publication)

    def take(self, client: Client, now: float) -> None:
        """Count what a client has received; publish where all have a message."""
        text, everybody = self.text.encode(), len(self.clients)
        for message in client.messages():
            for _ in range(message.count(text)):
                number = client.received
                client.received += 1
                self.done += 1
                if number >= len(self.reached):
                    raise SystemExit("a client has received more messages than were published")
                self.latencies.append(now - self.sent_at[number])
                self.reached[number] += 1
                if self.reached[number] == everybody:
                    self.whole += 1
                    self.publish()

    def measure(self) -> dict[str, object]:
        """Warm up and measure."""
        poll = select.epoll()
        by_number = {client.sock.fileno(): client for client in self.clients}
        for number in by_number:
            poll.register(number, select.EPOLLIN)
        for _ in range(self.options.outstanding):
            self.publish()
        self._until(poll, by_number, self.options.warm_up, WARM_UP_TURNS)
        self.latencies = array("d")
        begin = self._clocks()
        self._until(poll, by_number, self.options.seconds, LEAST_TURNS)
        end = self._clocks()
        poll.close()
        return self._report([after - before for before, after in zip(begin, end, strict=True)])

    def _until(self, poll: select.epoll, by_number: dict[int, Client], seconds: float, turns: int) -> None:
        over, least = time.monotonic() + seconds, self.whole + turns * self.options.outstanding
        while self.whole < least or time.monotonic() < over:
            ready = poll.poll(SILENCE)
            if not ready:
                raise SystemExit(f"nothing came from the servers for {SILENCE:.0f} s: a message is missing")
            now = time.monotonic()
            for number, _ in ready:
                self.take(by_number[number], now)

    def _clocks(self) -> list[float]:
        options = self.options
        clocks = (time.monotonic(), cpu_seconds(options.pid), cpu_seconds(options.broker), time.process_time())
        return [*clocks, float(self.done)]

    def _report(self, spent: list[float]) -> dict[str, object]:
        seconds, servers, broker, own, done = spent
        latencies = sorted(self.latencies)
        quantiles = {"p50": 0.5, "p99": 0.99}
        return {
            "connections": len(self.clients),
            "outstanding": self.options.outstanding,
            "size": self.options.size,
            "seconds": seconds,
            "done": int(done),
            "per_second": done / seconds,
            "server_cpu_us": 1e6 * servers / done,
            "per_cpu_second": done / servers,
            "broker_cpu_us": 1e6 * broker / done if self.options.broker else None,
            "load_cpu_us": 1e6 * own / done,
            **{name: 1e6 * latencies[int(share * (len(latencies) - 1))] for name, share in quantiles.items()},
        }


def main() -> None:
    """Read the options, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--speaks", choices=DIALECTS, default="plain")
    parser.add_argument("--port", type=int, action="append", required=True, help="of each server")
    parser.add_argument("--pid", type=int, action="append", required=True, help="of each server")
    parser.add_argument("--broker", type=int, action="append", default=[], help="its process id")
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--outstanding", type=int, default=1)
    parser.add_argument("--size", type=int, default=256, help="bytes of a message's text")
    parser.add_argument("--seconds", type=float, default=1.2)
    parser.add_argument("--warm-up", type=float, default=0.3)
    run = Run(parser.parse_args())
    json.dump(run.measure(), sys.stdout)
    sys.stdout.flush()
    # Nothing more comes of the messages that are under way.
    os._exit(0)


if __name__ == "__main__":
    main()
