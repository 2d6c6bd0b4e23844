"""A server and a client with picows."""

import asyncio

from picows import (
    WSCloseCode,
    WSListener,
    WSMsgType,
    ws_connect,
    ws_create_server,
)


class Upper(WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            code = frame.get_close_code()
            transport.send_close(code)
            transport.disconnect()
        else:
            text = frame.get_payload_as_utf8_text()
            transport.send(
                WSMsgType.TEXT, text.upper().encode()
            )


class Client(WSListener):
    def on_ws_connected(self, transport):
        transport.send(WSMsgType.TEXT, b"hello")

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == WSMsgType.CLOSE:
            print("closed with", int(frame.get_close_code()))
            transport.disconnect()
        else:
            print(frame.get_payload_as_utf8_text())
            transport.send_close(WSCloseCode.OK)


async def main():
    server = await ws_create_server(
        lambda request: Upper(), "localhost", 0
    )
    port = server.sockets[0].getsockname()[1]
    transport, _ = await ws_connect(
        Client, f"ws://localhost:{port}"
    )
    await transport.wait_disconnected()
    server.close()


asyncio.run(main())
