"""libsoup 3 as a peer, run by the system's Python; ../program.py says what the words on stdin and stdout mean.

It has no way to send fragments, or a ping with a payload.
"""

import os
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable
from typing import Any

import gi

gi.require_version("Soup", "3.0")
from gi.repository import GLib, Soup  # noqa: E402

TEXT = 1

servers: dict[str, Any] = {}
ends: dict[str, Any] = {}
accepted: list[str] = []
session = Soup.Session(max_conns=1000, max_conns_per_host=1000)
session.add_feature_by_type(Soup.WebsocketExtensionManager)  # which offers permessage-deflate


def tell(*words: object) -> None:
    print(*words, flush=True)


def pack(data: str | bytes | None) -> str:
    return "-" if data is None else b64encode(data.encode() if isinstance(data, str) else data).decode()


def unpack(word: str) -> bytes:
    return b64decode(word)


def names(word: str) -> list[str]:
    return [name for name in unpack(word).decode().split(",") if name]


def watch(end: str, ws: Any, limit: int) -> None:
    def on_message(_ws: Any, kind: Any, data: Any) -> None:
        opcode = TEXT if kind == Soup.WebsocketDataType.TEXT else 2
        tell("end", end, "message", opcode, pack(data.get_data() or b""))

    def on_closed(_ws: Any) -> None:
        ends.pop(end, None)
        tell("end", end, "closed", ws.get_close_code() or 1006, pack(ws.get_close_data() or ""))

    ends[end] = ws
    ws.set_max_incoming_payload_size(limit)
    if hasattr(ws, "set_max_total_message_size"):  # 3.8 and later, whose limit is otherwise 128 KiB
        ws.set_max_total_message_size(limit)
    ws.connect("message", on_message)
    ws.connect("closed", on_closed)


def listen(server: str, limit: str, certificate: str, _key: str, subprotocols: str) -> None:
    assert certificate == "-", "it is used without TLS"

    def on_open(_server: Any, _message: Any, _path: str, ws: Any) -> None:
        if len(ws.get_extensions()) > 1:
            return  # it would compress each message as often: lapwing's clients connect once more, with one offer
        end = str(-1 - len(accepted))
        accepted.append(end)
        watch(end, ws, int(limit))
        tell("server", server, "accepted", end, pack(ws.get_protocol()))

    servers[server] = Soup.Server()
    servers[server].add_websocket_handler("/", None, names(subprotocols), on_open)
    servers[server].listen_local(0, Soup.ServerListenOptions.IPV4_ONLY)
    tell("server", server, "listening", servers[server].get_uris()[0].get_port())


def stop(server: str) -> None:
    servers.pop(server).disconnect()


def connect(end: str, limit: str, authority: str, subprotocols: str, url: str) -> None:
    assert authority == "-", "it is used without TLS"

    def on_open(_session: Any, result: Any) -> None:
        try:
            ws = session.websocket_connect_finish(result)
        except GLib.Error as error:
            tell("end", end, "error", pack(str(error)))
            return
        watch(end, ws, int(limit))
        tell("end", end, "open", pack(ws.get_protocol()))

    message = Soup.Message.new("GET", unpack(url).decode())
    session.websocket_connect_async(message, None, names(subprotocols), GLib.PRIORITY_DEFAULT, None, on_open)


def send(end: str, opcode: str, payload: str) -> None:
    kind = Soup.WebsocketDataType.TEXT if int(opcode) == TEXT else Soup.WebsocketDataType.BINARY
    ends[end].send_message(kind, GLib.Bytes.new(unpack(payload)))


def close(end: str, code: str, reason: str) -> None:
    ws = ends.get(end)
    if ws is None or ws.get_state() != Soup.WebsocketState.OPEN:
        return
    if code == "-":
        ws.close(Soup.WebsocketCloseCode.NO_STATUS, None)
    else:
        ws.close(int(code), unpack(reason).decode() or None)


def terminate(end: str) -> None:
    close(end, "1001", "")  # there is no way to abort


does: dict[str, Callable[..., None]] = {each.__name__: each for each in (listen, stop, connect, send, close, terminate)}
unread: list[bytes] = []


def on_input(_source: Any, _condition: Any) -> bool:
    data = os.read(0, 1 << 20)
    if not data:
        loop.quit()
        return False
    *lines, rest = data.split(b"\n")
    for line in lines:
        what, *words = (b"".join(unread) + line).decode().split(" ")
        unread.clear()
        does[what](*words)
    unread.append(rest)
    return True


def fail(*error: Any) -> None:
    """End with a fault: GLib would go on without the callback that raised it."""
    sys.__excepthook__(*error)
    os._exit(1)


sys.excepthook = fail
loop = GLib.MainLoop()
GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, on_input)
loop.run()
