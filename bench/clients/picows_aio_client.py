"""Asyncio round trips with picows: a listener with callbacks.

It takes each message as bytes or text, as the others do.
"""

from _program import batches, expect, make_message, read_options, run
from picows import WSListener, WSMsgType, ws_connect


class RoundTrips(WSListener):
    def __init__(self, options):
        self.message = make_message(options)
        self.payload = self.message.encode() if options.text else self.message
        self.opcode = WSMsgType.TEXT if options.text else WSMsgType.BINARY
        self.batches = batches(options)
        self.left = 1  # the one before the first batch

    def on_ws_connected(self, transport):
        transport.send(self.opcode, self.payload)

    def on_ws_frame(self, transport, frame):
        if frame.msg_type != self.opcode:
            transport.disconnect()
            return
        text = frame.msg_type == WSMsgType.TEXT
        message = frame.get_payload_as_utf8_text() if text else frame.get_payload_as_bytes()
        self.left -= 1
        if self.left == 0:
            expect(message == self.message, "the message back")
            self.left = next(self.batches, 0)
        if self.left:
            transport.send(self.opcode, self.payload)
        else:
            transport.send_close()


async def main(options):
    transport, _ = await ws_connect(lambda: RoundTrips(options), options.url)
    await transport.wait_disconnected()


options = read_options()
run(main(options), options.loop)
