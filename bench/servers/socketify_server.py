"""Echo server of socketify: callbacks on uWebSockets, as in its README. It compresses if asked to."""

from _program import announce, read_options
from socketify import App, AppListenOptions, AppOptions, CompressOptions


def echo(ws, message, opcode):
    ws.send(message, opcode)


def subscribe(ws):
    ws.subscribe("all")


def broadcast(ws, message, opcode):
    ws.publish("all", message, opcode)


def main(options):
    app = App(AppOptions(cert_file_name=options.certificate, key_file_name=options.key)) if options.key else App()
    behaviour = {
        "compression": CompressOptions.SHARED_COMPRESSOR if options.compress else CompressOptions.DISABLED,
        "max_payload_length": 16 * 1024 * 1024,
        "max_backpressure": 64 * 1024 * 1024,
        "idle_timeout": 120,
        "message": broadcast if options.broadcast else echo,
    }
    if options.broadcast:
        behaviour["open"] = subscribe
    app.ws("/", behaviour)
    app.listen(AppListenOptions(port=options.port, host="127.0.0.1"), lambda config: announce(config.port))
    app.run()


main(read_options())
