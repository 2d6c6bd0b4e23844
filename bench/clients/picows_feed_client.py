"""Receiving a fast feed with picows: a listener with callbacks.

It takes each message as bytes or text, as the others do.
"""

from _program import Stopwatch, expect, read_options, run
from picows import WSListener, WSMsgType, ws_connect


class Feed(WSListener):
    def __init__(self):
        self.received = -1  # the first message starts the watch
        self.message = b""

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            self.watch.report(self.received)
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        if self.received < 0:
            self.watch = Stopwatch()
        text = frame.msg_type == WSMsgType.TEXT
        self.message = frame.get_payload_as_utf8_text() if text else frame.get_payload_as_bytes()
        self.received += 1


async def main(options):
    transport, feed = await ws_connect(Feed, options.url)
    await transport.wait_disconnected()
    expect(feed.received == options.count - 1 and len(feed.message) == options.size, "every message of the feed")


options = read_options()
run(main(options), options.loop)
