"""A client with websocket-client."""

import sys

import websocket

ws = websocket.create_connection(sys.argv[1], timeout=5)
ws.send("hello")
print(ws.recv())
ws.send_binary(b"bytes")
print(ws.recv())
ws.close()


def on_open(app):
    app.send("in callbacks")


def on_message(app, message):
    print(message)
    app.close()


def on_close(app, code, reason):
    print("closed")


websocket.WebSocketApp(
    sys.argv[1],
    on_open=on_open,
    on_message=on_message,
    on_close=on_close,
).run_forever()
