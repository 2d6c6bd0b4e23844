"""Echo server of picows: a listener with callbacks, as in its README. It has no compression."""

from _program import announce, run
from picows import WSListener, WSMsgType, ws_create_server


class EchoListener(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


async def main(port):
    server = await ws_create_server(lambda _request: EchoListener(), "127.0.0.1", port)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


run(main)
