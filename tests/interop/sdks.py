"""SDKs of the Centrifugo client protocol by its author, behind one interface: centrifuge-js and centrifuge-python.

Both can be told to speak JSON or protobuf; centrifuge-js runs on Node.js and in Chromium. Events have the names and
values of centrifuge-js.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Self

from centrifuge import Client, ClientEventHandler, SubscriptionEventHandler
from centrifuge.exceptions import ReplyError

import lapwing
from tests.peers.browser import Browser, page
from tests.peers.needed import NODE, need

__all__ = ["HOSTS", "SDKS", "TIMEOUT", "Host", "JavaScript", "Python", "RefusedError", "Sdk", "Tab"]

#: Seconds for anything that a test waits for.
TIMEOUT = 30.0


class RefusedError(Exception):
    """The server's error, by its code."""


class Sdk(ABC):
    """An SDK with one client.

    Args:
        url: of the server.
        encoding: "json" or "protobuf".
    """

    def __init__(self, url: str, encoding: str) -> None:
        self.url = url
        self.encoding = encoding
        self.events: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Sdk:
        return self

    @abstractmethod
    async def __aexit__(self, *_: object) -> None:
        """Let go of it."""

    async def event(self, *names: str) -> dict[str, Any]:
        """Wait for the next event of one of these names; others before it are left out."""
        seen = []
        try:
            async with asyncio.timeout(TIMEOUT):
                while True:
                    name, value = await self.events.get()
                    if name in names:
                        return {"event": name, **value} if isinstance(value, dict) else {"event": name, "value": value}
                    seen.append((name, value))
        except TimeoutError:
            raise AssertionError(f"expected {names}, got {seen}") from None

    @abstractmethod
    async def connect(self, *tokens: str, data: Any = None) -> None:
        """Begin to connect; each token is used once, in this order, when one is asked for."""

    @abstractmethod
    async def subscribe(self, topic: str, **options: Any) -> None:
        """Begin to subscribe, with the options of centrifuge-js, and `tokens` as for `connect`."""

    @abstractmethod
    async def call(self, method: str, *arguments: Any) -> Any:
        """Have a method called: publish, presence, presenceStats, history, rpc, unsubscribe, disconnect."""


class Host(ABC):
    """A program in which centrifuge-js runs, with any number of clients, one after the other or at once.

    Attributes:
        origins: that of its page, if it has one.
    """

    origins: tuple[str, ...] = ()

    @abstractmethod
    def __enter__(self) -> Self:
        """Start it."""

    @abstractmethod
    def __exit__(self, *_: object) -> None:
        """End it."""

    @abstractmethod
    async def drive(self, *words: str) -> None:
        """Have a client driven from an address; see node/centrifuge_calls.js."""


class NodeProgram(Host):
    """Node.js, see node/centrifuge.js."""

    def __enter__(self) -> Self:
        command = [need("node"), str(NODE / "centrifuge.js")]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=TIMEOUT)

    async def drive(self, *words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()


class Tab(Host):
    """A page in Chromium."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        need("node")  # whose package manager brings the SDK
        with ExitStack() as stack:
            self._browser = stack.enter_context(Browser())
            origin = stack.enter_context(page())
            self.origins = (origin,)
            self._browser.show(origin)
            self._browser.run("globalThis.sdks = {}; 0")
            for encoding, name in (("json", "centrifuge.js"), ("protobuf", "centrifuge.protobuf.js")):
                source = (NODE / "node_modules" / "centrifuge" / "dist" / name).read_text(encoding="utf-8")
                self._browser.run(f"{source}\n; sdks.{encoding} = Centrifuge; 0")
            self._browser.run((NODE / "centrifuge_calls.js").read_text(encoding="utf-8") + "; 0")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def drive(self, *words: str) -> None:
        said = json.dumps(words)
        script = f"(([from, url, encoding]) => drive(WebSocket, sdks[encoding], from, url, encoding, {{}}))({said}); 0"
        await asyncio.to_thread(self._browser.run, script)

    async def network(self, *, offline: bool) -> None:
        """Take the network away from the page, or give it back."""
        await asyncio.to_thread(self._browser.network, offline=offline)


#: The hosts by the names of their SDKs.
HOSTS: dict[str, type[Host]] = {"node": NodeProgram, "chromium": Tab}


class JavaScript(Sdk):
    """centrifuge-js.

    Args:
        url: of the server.
        encoding: "json" or "protobuf".
        host: where it runs.
    """

    def __init__(self, url: str, encoding: str, host: Host) -> None:
        super().__init__(url, encoding)
        self.host = host
        self._stack = AsyncExitStack()
        self._ws: lapwing.Connection
        self._numbers = itertools.count(1)
        self._results: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Sdk:
        has_come = asyncio.Event()

        async def listen(ws: lapwing.Connection) -> None:
            self._ws = ws
            has_come.set()
            async for line in ws:
                self._take(line)

        async with AsyncExitStack() as stack:
            listening = lapwing.listen(port=0, interface="127.0.0.1", default=listen, origins=self.host.origins)
            server = await stack.enter_async_context(listening)
            await self.host.drive(f"ws://127.0.0.1:{server.port}", self.url, self.encoding)
            await asyncio.wait_for(has_come.wait(), TIMEOUT)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def _take(self, line: str | bytes) -> None:
        number, *words = json.loads(line)
        if number is None:
            self.events.put_nowait((words[0], words[1]))
        elif words[0] is None:
            self._results[number].set_result(words[1])
        else:
            self._results[number].set_exception(RefusedError(words[0]))

    async def call(self, method: str, *arguments: Any) -> Any:
        number = next(self._numbers)
        self._results[number] = asyncio.get_running_loop().create_future()
        await self._ws.send(json.dumps([number, method, *arguments]))
        return await asyncio.wait_for(self._results[number], TIMEOUT)

    async def connect(self, *tokens: str, data: Any = None) -> None:
        await self.call("connect", tokens, data)

    async def subscribe(self, topic: str, **options: Any) -> None:
        await self.call("subscribe", topic, options)


class Python(Sdk):
    """centrifuge-python in this process."""

    _client: Any

    async def __aexit__(self, *_: object) -> None:
        await self._client.disconnect()
        # What it does in the background, closing its connection among it, is left to itself.
        for _round in range(200):
            if not self._client._background_tasks:
                break
            await asyncio.sleep(0.01)

    def _encode(self, value: Any) -> Any:
        return value if self.encoding == "json" else json.dumps(value).encode()

    def _decode(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, bytes) and value else value or None

    async def connect(self, *tokens: str, data: Any = None) -> None:
        self._client = Client(
            self.url,
            events=_ClientEvents(self),
            get_token=self._one_by_one(tokens, "token") if tokens else None,
            use_protobuf=self.encoding == "protobuf",
            timeout=15.0,
            data=None if data is None else self._encode(data),
            min_reconnect_delay=0.02,
            max_reconnect_delay=0.2,
            proxy=None,
        )
        await self._client.connect()

    def _one_by_one(self, tokens: Sequence[str], name: str) -> Callable[..., Awaitable[str]]:
        left = list(tokens)

        async def get_token(*_: str) -> str:
            self.events.put_nowait((name, len(left)))
            return left.pop(0)

        return get_token

    async def subscribe(self, topic: str, **options: Any) -> None:
        tokens = options.get("tokens")
        subscription = self._client.new_subscription(
            topic,
            events=_SubscriptionEvents(self, topic),
            get_token=self._one_by_one(tokens, "topic token") if tokens else None,
            min_resubscribe_delay=0.02,
            max_resubscribe_delay=0.2,
            positioned=options.get("positioned", False),
            recoverable=options.get("recoverable", False),
            join_leave=options.get("joinLeave", False),
        )
        await subscription.subscribe()

    async def call(self, method: str, *arguments: Any) -> Any:
        try:
            return await getattr(self, f"_{method}")(*arguments)
        except ReplyError as error:
            raise RefusedError(error.code) from None

    async def _disconnect(self) -> None:
        await self._client.disconnect()

    async def _unsubscribe(self, topic: str) -> None:
        await self._client.get_subscription(topic).unsubscribe()

    async def _publish(self, topic: str, data: Any) -> None:
        await self._client.publish(topic, self._encode(data))

    async def _presence(self, topic: str) -> Any:
        found = (await self._client.presence(topic)).clients
        return [self.info(info) for info in found.values()]

    async def _presenceStats(self, topic: str) -> Any:  # noqa: N802 - named as in JavaScript
        found = await self._client.presence_stats(topic)
        return {"numClients": found.num_clients, "numUsers": found.num_users}

    async def _history(self, topic: str, limit: int, reverse: bool) -> Any:
        found = await self._client.history(topic, limit=limit, reverse=reverse)
        publications = [self.publication(each) for each in found.publications]
        return {"publications": publications, "offset": found.offset, "epoch": found.epoch}

    async def _rpc(self, method: str, data: Any) -> Any:
        return self._decode((await self._client.rpc(method, self._encode(data))).data)

    def info(self, info: Any) -> dict[str, Any]:
        return {"user": info.user, "client": info.client, "info": self._decode(info.conn_info)}

    def publication(self, found: Any) -> dict[str, Any]:
        user = None if found.info is None else found.info.user
        return {"data": self.data(found.data), "offset": found.offset, "user": user}

    def data(self, value: Any) -> Any:
        return json.loads(value) if isinstance(value, bytes) else value


class _ClientEvents(ClientEventHandler):  # type: ignore[misc]
    def __init__(self, sdk: Python) -> None:
        self._sdk = sdk

    async def on_connecting(self, ctx: Any) -> None:
        self._sdk.events.put_nowait(("connecting", {"code": ctx.code}))

    async def on_connected(self, ctx: Any) -> None:
        self._sdk.events.put_nowait(("connected", {"data": self._sdk._decode(ctx.data)}))

    async def on_disconnected(self, ctx: Any) -> None:
        self._sdk.events.put_nowait(("disconnected", {"code": ctx.code, "reason": ctx.reason}))

    async def on_error(self, ctx: Any) -> None:
        code = ctx.error.code if isinstance(ctx.error, ReplyError) else ctx.code
        self._sdk.events.put_nowait(("error", {"code": code}))


class _SubscriptionEvents(SubscriptionEventHandler):  # type: ignore[misc]
    def __init__(self, sdk: Python, topic: str) -> None:
        self._sdk = sdk
        self._topic = topic

    def _tell(self, name: str, **value: Any) -> None:
        self._sdk.events.put_nowait((name, {"topic": self._topic, **value}))

    async def on_subscribing(self, ctx: Any) -> None:
        self._tell("subscribing", code=ctx.code)

    async def on_subscribed(self, ctx: Any) -> None:
        data = self._sdk._decode(ctx.data)
        self._tell("subscribed", wasRecovering=ctx.was_recovering, recovered=ctx.recovered, data=data)

    async def on_unsubscribed(self, ctx: Any) -> None:
        self._tell("unsubscribed", code=ctx.code, reason=ctx.reason)

    async def on_publication(self, ctx: Any) -> None:
        self._tell("publication", **self._sdk.publication(ctx.pub))

    async def on_join(self, ctx: Any) -> None:
        self._tell("join", **self._sdk.info(ctx.info))

    async def on_leave(self, ctx: Any) -> None:
        self._tell("leave", **self._sdk.info(ctx.info))

    async def on_error(self, ctx: Any) -> None:
        code = ctx.error.code if isinstance(ctx.error, ReplyError) else ctx.code
        self._tell("error", code=code)


#: Every SDK with every encoding.
SDKS = [f"{name}-{encoding}" for name in (*HOSTS, "python") for encoding in ("json", "protobuf")]
