"""Echo server of picows: a listener with callbacks, as in its README. It has no compression.

With aiofastnet installed picows takes its transports from there; ``--variant plain`` has it use the event loop's.
"""

from _program import announce, run
from picows import WSListener, WSMsgType, ws_create_server

clients = set()


class EchoListener(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class BroadcastListener(WSListener):
    def on_ws_connected(self, transport):
        clients.add(transport)

    def on_ws_disconnected(self, transport):
        clients.discard(transport)

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            kind, message = frame.msg_type, frame.get_payload_as_bytes()
            for client in clients:
                client.send(kind, message)


async def main(options):
    listener = BroadcastListener if options.broadcast else EchoListener
    server = await ws_create_server(
        lambda _request: listener(),
        "127.0.0.1",
        options.port,
        ssl=options.tls(),
        use_aiofastnet=False if options.variant == "plain" else None,
    )
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


run(main)
