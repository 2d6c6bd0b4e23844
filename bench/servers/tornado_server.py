"""Echo server of tornado: a WebSocketHandler of an application, as in its documentation. It compresses if asked to."""

import asyncio

from _program import announce, run
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

clients = set()


class Echo(WebSocketHandler):
    def on_message(self, message):
        self.write_message(message, binary=isinstance(message, bytes))


class CompressedEcho(Echo):
    def get_compression_options(self):
        return {}


class Broadcast(WebSocketHandler):
    def open(self):
        clients.add(self)

    def on_message(self, message):
        binary = isinstance(message, bytes)
        for client in clients:
            client.write_message(message, binary=binary)

    def on_close(self):
        clients.discard(self)


async def main(options):
    handler = Broadcast if options.broadcast else CompressedEcho if options.compress else Echo
    server = HTTPServer(Application([("/", handler)]), ssl_options=options.tls())
    sockets = bind_sockets(options.port, "127.0.0.1")
    server.add_sockets(sockets)
    announce(sockets[0].getsockname()[1])
    await asyncio.Event().wait()


run(main)
