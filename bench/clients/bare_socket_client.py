"""Blocking round trips with a socket and no WebSocket library: what Python's own calls cost.

One frame, masked once, is sent again and again, and as many bytes as its echo has are received. Nothing is parsed.
"""

import os
import socket
from urllib.parse import urlsplit

from _program import batches, expect, read_options

REQUEST = (
    "GET / HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
"""With the sample nonce of RFC 6455 section 1.3."""

FIN_TEXT = 0x81
FIN_BINARY = 0x82
FIN_CLOSE = 0x88
MASKED = 0x80


def head(first: int, size: int, mask_bit: int = 0) -> bytes:
    """Make a frame head without its masking key."""
    if size < 126:
        return bytes([first, mask_bit | size])
    if size < 65536:
        return bytes([first, mask_bit | 126]) + size.to_bytes(2, "big")
    return bytes([first, mask_bit | 127]) + size.to_bytes(8, "big")


def masked(first: int, payload: bytes) -> bytes:
    """Make a whole masked frame."""
    key = os.urandom(4)
    repeated = key * (len(payload) // 4 + 1)
    mixed = bytes(a ^ b for a, b in zip(payload, repeated, strict=False))
    return head(first, len(payload), MASKED) + key + mixed


def open_socket(url: str) -> socket.socket:
    """Connect and make the opening handshake."""
    parts = urlsplit(url)
    sock = socket.create_connection((parts.hostname, parts.port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(REQUEST.format(host=parts.netloc).encode())
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        received = sock.recv(4096)
        expect(bool(received), "a response to the opening handshake")
        response += received
    expect(response.startswith(b"HTTP/1.1 101 "), "status 101")
    return sock


def round_trip(sock: socket.socket, frame: bytes, room: memoryview) -> None:
    """Send a frame and fill the room with what comes back."""
    sock.sendall(frame)
    have = sock.recv_into(room)
    while have < len(room):
        count = sock.recv_into(room[have:])
        expect(count > 0, "the rest of the echo")
        have += count


def main() -> None:
    options = read_options()
    payload = b"a" * options.size
    first = FIN_TEXT if options.text else FIN_BINARY
    frame = masked(first, payload)
    echo = head(first, options.size) + payload
    room = memoryview(bytearray(len(echo)))
    with open_socket(options.url) as sock:
        round_trip(sock, frame, room)
        expect(bytes(room) == echo, "the message back")
        for batch in batches(options):
            for _ in range(batch):
                round_trip(sock, frame, room)
        sock.sendall(masked(FIN_CLOSE, (1000).to_bytes(2, "big")))


main()
