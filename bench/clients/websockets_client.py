"""Blocking round trips with websockets. Its per-message compression is off."""

from _program import batches, expect, make_message, read_options
from websockets.sync.client import connect

options = read_options()
message = make_message(options)
with connect(options.url, compression=None) as websocket:
    websocket.send(message)
    expect(websocket.recv() == message, "the message back")
    for batch in batches(options):
        for _ in range(batch):
            websocket.send(message)
            websocket.recv()
