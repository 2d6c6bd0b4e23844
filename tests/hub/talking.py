"""Helpers: a hub behind a server, and clients of the wire that say each command by themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import lapwing
from lapwing import Hub
from lapwing.hub import Denied, Expired
from lapwing.hub.wire.json_codec import JsonCodec
from lapwing.hub.wire.messages import Command, ConnectRequest, OfTopic, Push, Reply, SubscribeRequest
from lapwing.hub.wire.protobuf_codec import ProtobufCodec

__all__ = ["CODECS", "TIMEOUT", "Talker", "a_hub", "hub_in_a_thread", "serving", "talking"]

#: Seconds for anything that a test waits for.
TIMEOUT = 20.0
CODECS: dict[str, Any] = {"json": JsonCodec, "protobuf": ProtobufCodec}


def a_hub(**options: Any) -> Hub:
    """A hub with a topic of each kind; who calls himself "nobody" may nothing."""
    hub = Hub(**options)

    @hub.authenticate
    async def who(ask: Any) -> None:
        if ask.token == "expired":
            raise Expired
        if ask.token == "down":
            raise RuntimeError("the database is down")
        if ask.token == "banned":
            raise Denied("go away", code=4501)
        ask.user = ask.token or None
        ask.info = {"name": ask.token} if ask.token else None
        ask.answer = {"welcome": ask.data} if ask.data is not None else None

    @hub.topic("chat:*", history=100, presence=True, clients_publish=True)
    async def chat(ask: Any) -> None:
        if ask.token == "expired":
            raise Expired
        if ask.user == "nobody" or ask.token == "bad":
            raise Denied("sign in first")

    @hub.topic("quiet:*", history=3)
    def quiet(ask: Any) -> None:
        ask.answer = {"you": ask.user}

    @hub.topic("live:*", clients_publish=True)
    def live(ask: Any) -> None: ...

    @hub.topic("bytes:*", raw=True, history=10, clients_publish=True)
    def raw(ask: Any) -> None: ...

    @hub.topic("latest:*", lagging="keep-latest")
    def latest(ask: Any) -> None: ...

    @hub.topic("oldest:*", lagging="drop-oldest")
    def oldest(ask: Any) -> None: ...

    @hub.call("add")
    async def add(call: Any) -> Any:
        return sum(call.data)

    @hub.call("fail")
    async def fail(call: Any) -> Any:
        raise Denied("not you") if call.data else LookupError("on purpose")

    return hub


@asynccontextmanager
async def serving(hub: Hub, **options: Any) -> AsyncIterator[str]:
    """The address of a server for the hub."""
    async with lapwing.listen(port=0, interface="127.0.0.1", default=hub.serve, **options) as server:
        yield f"ws://127.0.0.1:{server.port}"


@contextmanager
def hub_in_a_thread(hub: Hub) -> Iterator[tuple[str, Any]]:
    """A server in a thread of its own: its URL, and what calls a coroutine function there."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def call(function: Any, *args: Any, **options: Any) -> Any:
        async def work() -> Any:
            return await function(*args, **options)

        return asyncio.run_coroutine_threadsafe(work(), loop).result(TIMEOUT)

    async def listen() -> lapwing.Server:
        return await lapwing.listen(port=0, interface="127.0.0.1", default=hub.serve)

    server = call(listen)
    try:
        yield f"ws://127.0.0.1:{server.port}", call
    finally:
        call(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(TIMEOUT)
        loop.close()


class Talker:
    """A client that sends commands and keeps what comes: replies by their ids, pushes in order."""

    def __init__(self, ws: lapwing.AsyncClient, codec: Any) -> None:
        self.ws = ws
        self.codec = codec
        self.pushes: asyncio.Queue[Push] = asyncio.Queue()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._last = 0
        #: All that came, in order.
        self.log: list[Reply | Push] = []

    async def read(self) -> None:
        while (frame := await self.ws.receive(decode=False)) is not None:
            for said in self.codec.replies(frame):
                self.log.append(said)
                if isinstance(said, Reply):
                    self._replies[said.id].set_result(said)
                elif said.kind:
                    self.pushes.put_nowait(said)
                else:
                    await self.send(self.codec.command(Command()))

    async def send(self, frame: bytes) -> None:
        await self.ws.send(frame, lapwing.TEXT if self.codec.is_text else lapwing.BINARY)

    async def ask_all(self, *asked: tuple[str, Any]) -> list[Reply]:
        """Send commands in one frame, and wait for their replies."""
        frame, waiting = [], []
        for method, request in asked:
            self._last += 1
            frame.append(self.codec.command(Command(self._last, method, request)))
            self._replies[self._last] = asyncio.get_running_loop().create_future()
            waiting.append(self._replies[self._last])
        await self.send(self.codec.joined(frame))
        return await asyncio.wait_for(asyncio.gather(*waiting), TIMEOUT)

    async def ask(self, method: str, request: Any) -> Any:
        """Send a command and wait for its result, or its error."""
        (reply,) = await self.ask_all((method, request))
        return reply.result if reply.error is None else reply.error

    async def connect(self, token: str = "", **more: Any) -> Any:
        return await self.ask("connect", ConnectRequest(token, **more))

    async def subscribe(self, topic: str, **more: Any) -> Any:
        return await self.ask("subscribe", SubscribeRequest(topic, **more))

    async def unsubscribe(self, topic: str) -> Any:
        return await self.ask("unsubscribe", OfTopic(topic))

    async def push(self) -> Push:
        return await asyncio.wait_for(self.pushes.get(), TIMEOUT)

    async def closed(self) -> tuple[int, str]:
        """Wait for the end of the connection."""
        while self.ws.closed is None:
            await asyncio.sleep(0.01)
        return self.ws.closed.code, self.ws.closed.reason


@asynccontextmanager
async def talking(url: str, codec: Any, token: str | None = "", **options: Any) -> AsyncIterator[Talker]:
    """A client; with a token it has connected."""
    async with lapwing.connect(url, None if codec.is_text else codec.subprotocol, **options) as ws:
        talker = Talker(ws, codec)
        reading = asyncio.create_task(talker.read())
        try:
            if token is not None:
                await talker.connect(token)
            yield talker
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled() and (error := reading.exception()) is not None:
                raise error
