"""Load for an echo server with compression: JSON messages, compressed in advance where there is no context takeover.

The client is the same for every contender: a bare socket and the standard library's zlib. It prints the CPU time of the
server process for each message, and the ratio of what it sent as text to what came back over the wire.
"""

import argparse
import base64
import json
import os
import random
import socket
import struct
import time
import zlib
from pathlib import Path

MESSAGES = 16
WARM_UP = 0.3


def document(size: int, choice: random.Random) -> bytes:
    """Make a list of records as an application sends them, cut to `size` bytes."""
    records: list[dict[str, object]] = []
    length = 0
    while length < size:
        record = {
            "id": choice.randrange(10**6),
            "user": choice.choice(("alpha", "bravo", "charlie", "delta", "echo")) + str(choice.randrange(1000)),
            "price": round(choice.random() * 1000, 2),
            "size": choice.randrange(1, 10000),
            "time": f"2025-01-1{choice.randrange(10)}T12:{choice.randrange(10, 60)}:{choice.randrange(10, 60)}.000Z",
            "side": choice.choice(("buy", "sell")),
            "tags": choice.sample(("a", "bb", "new", "old", "hot"), 2),
            "active": choice.random() < 0.5,
        }
        records.append(record)
        length += len(json.dumps(record)) + 2
    return json.dumps(records).encode()[:size]


def frame(payload: bytes) -> bytes:
    """Make a masked TEXT frame with RSV1; the key of zeros spares the masking."""
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", 0xC1, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0xC1, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", 0xC1, 0x80 | 127, size)
    return head + bytes(4) + payload


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0]) / 1e9


class Connection:
    """A bare socket after its opening handshake."""

    def __init__(self, port: int, takeover: bool) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        offer = "permessage-deflate" + ("" if takeover else "; server_no_context_takeover; client_no_context_takeover")
        self.sock.sendall(
            f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"Sec-WebSocket-Extensions: {offer}; client_max_window_bits=12\r\n\r\n".encode()
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += self.sock.recv(1)
        if b"permessage-deflate" not in head or (b"no_context_takeover" in head) is takeover:
            raise SystemExit(f"expected another agreement than {head!r}")
        self.buffer = bytearray(1 << 20)

    def read_frame(self) -> bytes:
        view = memoryview(self.buffer)
        got = 0
        needed = 2
        while got < needed:
            got += self.sock.recv_into(view[got:])
            if got >= 2:
                length = self.buffer[1]
                needed = 2 + length
                if length == 126 and got >= 4:
                    needed = 4 + int.from_bytes(self.buffer[2:4], "big")
                elif length == 127 and got >= 10:
                    needed = 10 + int.from_bytes(self.buffer[2:10], "big")
                elif length > 125:
                    needed = got + 1
        return bytes(view[:got])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("pid", type=int)
    parser.add_argument("size", type=int)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--takeover", action="store_true")
    options = parser.parse_args()
    choice = random.Random(7)
    texts = [document(options.size, choice) for _ in range(MESSAGES)]
    connection = Connection(options.port, options.takeover)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12)
    frames = []
    for text in texts:
        if not options.takeover:
            compressor = zlib.compressobj(6, zlib.DEFLATED, -12)
        frames.append(frame((compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]))
    inflater = zlib.decompressobj(-15)
    done = wire = 0
    began = time.perf_counter()
    cpu = 0.0
    passes = 0
    while True:
        for index, text in enumerate(texts):
            if options.takeover and passes:
                data = compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH)
                frames[index] = frame(data[:-4])
            connection.sock.sendall(frames[index])
            answer = connection.read_frame()
            if cpu:
                done += 1
                wire += len(answer)
            if done < MESSAGES:  # each once: is it right?
                start = 2 if answer[1] < 126 else 4 if answer[1] == 126 else 10
                if not options.takeover:
                    inflater = zlib.decompressobj(-15)
                payload = answer[start:]
                if answer[0] & 0x40:
                    payload = inflater.decompress(payload + b"\x00\x00\xff\xff")
                if payload != text:
                    raise SystemExit("expected the echo of the message")
        passes += 1
        elapsed = time.perf_counter() - began
        if not cpu and elapsed > WARM_UP:
            cpu, began = cpu_seconds(options.pid), time.perf_counter()
        elif cpu and elapsed > options.seconds:
            break
    used = cpu_seconds(options.pid) - cpu
    connection.sock.sendall(b"\x88\x82\0\0\0\0\x03\xe8")  # close frame, 1000
    connection.read_frame()
    print(
        json.dumps(
            {
                "server_cpu_us": used * 1e6 / done,
                "per_second": done / elapsed,
                "ratio": options.size * done / wire,
            }
        )
    )


if __name__ == "__main__":
    main()
