"""Nothing is imported in the middle of serving: at the limit of descriptors no module can be read."""

from __future__ import annotations

import pytest

from tests.faces.callers import GUARD
from tests.faces.programs import program

ASYNCIO = """
    import asyncio, logging, sys
    import lapwing
    from tests.peers import wire
    from tests.peers.raw import RawPeer

    logging.getLogger("lapwing").addHandler(logging.NullHandler())

    async def handler(ws):
        ws.stats()
        await ws.send_json({"to": [1, 2, 3]})
        await ws.send("compressible " * 1000)
        await asyncio.wrap_future(ws.send_threadsafe("by a thread"))
        async for message in ws:
            await ws.send(message)

    def in_thread(ws):
        for message in ws:
            ws.send_json(message)

    def on_request(request):
        if request.path == "/refused":
            return lapwing.Response.of(403, "no")

    def raw(port, path, *frames):
        head = (
            f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\nSec-WebSocket-Version: 13\\r\\n"
            "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\\r\\n\\r\\n"
        )
        with RawPeer.open(port) as peer:
            peer.send(head.encode())
            answer = peer.read_head()
            for opcode, payload in frames:
                peer.send_frame(opcode, payload)
            if frames:
                while peer.read_frame().opcode != wire.CLOSE:
                    pass
        return answer.start_line

    async def main():
        logging.getLogger("lapwing.frames").setLevel(logging.DEBUG)
        async with (
            lapwing.listen(0, "127.0.0.1", default=handler, on_request=on_request, health="/healthz") as server,
            lapwing.listen(0, "127.0.0.1", default=in_thread) as threads,
        ):
            await asyncio.to_thread(int)
            before = set(sys.modules)
            frames = (wire.TEXT, b"hello"), (wire.PING, b""), (wire.CLOSE, b"\\x03\\xe8")
            assert "101" in await asyncio.to_thread(raw, server.port, "/", *frames)
            assert "101" in await asyncio.to_thread(raw, threads.port, "/", *frames)
            assert "403" in await asyncio.to_thread(raw, server.port, "/refused")
            assert "200" in await asyncio.to_thread(raw, server.port, "/healthz")
            assert "101" in await asyncio.to_thread(raw, server.port, "/", (wire.TEXT, b"\\xff"))
            server.broadcast("to all", lagging="drop-oldest")
            server.broadcast_threadsafe("to all")
            server.stats()
            imported = set(sys.modules) - before
        print(sorted(imported))

    asyncio.run(main())
"""

CLIENTS = """
    import asyncio, sys, threading
    import lapwing
    from tests.peers.servers import ServerThread, echo
    from tests.conftest import RUNTIMES

    def blocking(url):
        with lapwing.connect(url) as ws:
            before = set(sys.modules)
            ws.send_json({"to": [1, 2, 3]})
            assert ws.receive_json() == {"to": [1, 2, 3]}
            ws.send("compressible " * 1000)
            ws.receive()
            ws.stats(), ws.ping(), repr(ws)
            return set(sys.modules) - before

    async def main(url):
        async with lapwing.connect(url) as ws:
            before = set(sys.modules)
            await ws.send_json({"to": [1, 2, 3]})
            assert await ws.receive_json() == {"to": [1, 2, 3]}
            await ws.send("compressible " * 1000)
            await ws.receive()
            await asyncio.wrap_future(ws.send_threadsafe("by a thread"))
            ws.stats(), await ws.ping(), repr(ws)
            return set(sys.modules) - before

    with ServerThread(RUNTIMES["asyncio+epoll"], default=echo, compression=False) as server:
        url = f"ws://127.0.0.1:{server.port}"
        print(sorted(blocking(url) if sys.argv[1] == "blocking" else asyncio.run(main(url))))
"""


@pytest.mark.parametrize(("text", "which"), [(ASYNCIO, "server"), (CLIENTS, "asyncio"), (CLIENTS, "blocking")])
def test_nothing_is_imported_while_serving(text: str, which: str) -> None:
    with program(text, which) as process:
        output, errors = process.communicate(timeout=GUARD)
    assert output == "[]\n", errors


def test_the_import_of_lapwing_brings_none_of_it() -> None:
    text = """
        import sys
        import lapwing
        lapwing.Client()
        print([name for name in ("zlib_ng", "json", "asyncio", "logging", "concurrent") if name in sys.modules])
    """
    with program(text) as process:
        output, errors = process.communicate(timeout=GUARD)
    assert output == "[]\n", errors
