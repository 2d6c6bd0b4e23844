"""Blocking round trips with websocket-client. It has no compression."""

from _program import batches, expect, make_message, read_options
from websocket import create_connection

options = read_options()
message = make_message(options)
ws = create_connection(options.url)
send = ws.send if options.text else ws.send_binary
send(message)
expect(ws.recv() == message, "the message back")
for batch in batches(options):
    for _ in range(batch):
        send(message)
        ws.recv()
ws.close()
