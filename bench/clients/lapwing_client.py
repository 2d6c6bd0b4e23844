"""Blocking round trips with lapwing."""

from _program import batches, expect, make_message, read_options

import lapwing

options = read_options()
message = make_message(options)
with lapwing.connect(options.url) as ws:
    ws.send(message)
    expect(ws.receive() == message, "the message back")
    for batch in batches(options):
        for _ in range(batch):
            ws.send(message)
            ws.receive()
