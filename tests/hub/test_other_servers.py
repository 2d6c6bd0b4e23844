"""`lapwing.hub.connect` with a server that is not lapwing's: other libraries' WebSockets and codecs, other positions.

No such server can be installed here. This one stands on `websockets` and on the protobuf definitions that
centrifuge-python ships, and does as Centrifugo does: offsets count from 1, an epoch is a random word, a position of
another epoch is not recovered, and topics without a history have no positions at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import websockets
from centrifuge.codecs import _varint_decode, _varint_encode
from centrifuge.protocol import client_pb2
from google.protobuf.json_format import MessageToDict, ParseDict

import lapwing
from lapwing.hub import Lost, Position, connect
from tests.hub.talking import TIMEOUT

QUICK = lapwing.Reconnect(initial=0.02, maximum=0.2)


class Server:
    """Topics with a history, but for those whose names begin with "live"."""

    def __init__(self) -> None:
        self.epoch = "xyz"
        self.log: dict[str, list[Any]] = {}
        self.subscribed: dict[Any, set[str]] = {}
        self.pongs = 0
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Server]:
        options: Any = {"subprotocols": ["centrifuge-protobuf"], "select_subprotocol": self._select}
        async with websockets.serve(self._serve, "127.0.0.1", 0, **options) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self

    @staticmethod
    def _select(_: Any, offered: Any) -> Any:
        return "centrifuge-protobuf" if "centrifuge-protobuf" in offered else None

    async def _serve(self, ws: Any) -> None:
        self.subscribed[ws] = set()
        try:
            async for frame in ws:
                for command in self._read(ws, frame):
                    await self._obey(ws, command)
        except websockets.ConnectionClosed:
            pass
        finally:
            del self.subscribed[ws]

    @staticmethod
    def _read(ws: Any, frame: Any) -> list[dict[str, Any]]:
        if ws.subprotocol is None:
            return [json.loads(line) for line in frame.split("\n")]
        found, place = [], 0
        while place < len(frame):
            size, place = _varint_decode(frame, place)
            command = client_pb2.Command.FromString(frame[place : place + size])
            found.append(MessageToDict(command, preserving_proto_field_name=True))
            place += size
        return found

    @staticmethod
    async def say(ws: Any, **reply: Any) -> None:
        if ws.subprotocol is None:
            await ws.send(json.dumps(reply, indent=None))
            return
        message = ParseDict(_encoded(reply), client_pb2.Reply()).SerializeToString()
        await ws.send(_varint_encode(len(message)) + message)

    async def _obey(self, ws: Any, command: dict[str, Any]) -> None:
        number = command.get("id", 0)
        if not number:
            self.pongs += 1
        elif "connect" in command:
            await self.say(ws, id=number, connect={"client": "42", "version": "other", "ping": 25, "pong": True})
            await self.say(ws)
        elif "subscribe" in command:
            await self._subscribe(ws, number, command["subscribe"])
        elif "unsubscribe" in command:
            self.subscribed[ws].discard(command["unsubscribe"]["channel"])
            await self.say(ws, id=number, unsubscribe={})
        else:
            await self.say(ws, id=number, error={"code": 108, "message": "not available"})

    async def _subscribe(self, ws: Any, number: int, request: dict[str, Any]) -> None:
        topic = request["channel"]
        self.subscribed[ws].add(topic)
        result: dict[str, Any] = {}
        if not topic.startswith("live"):
            log = self.log.setdefault(topic, [])
            result = {"recoverable": True, "positioned": True, "epoch": self.epoch, "offset": len(log)}
            if request.get("recover"):
                result["was_recovering"] = True
                offset = int(request.get("offset", 0))
                if request.get("epoch", "") == self.epoch and offset <= len(log):
                    missed = [{"data": log[index], "offset": index + 1} for index in range(offset, len(log))]
                    result |= {"recovered": True, "offset": offset, "publications": missed}
        await self.say(ws, id=number, subscribe=result)

    async def publish(self, topic: str, data: Any) -> None:
        publication: dict[str, Any] = {"data": data}
        if not topic.startswith("live"):
            self.log.setdefault(topic, []).append(data)
            publication["offset"] = len(self.log[topic])
        for ws, topics in list(self.subscribed.items()):
            if topic in topics:
                await self.say(ws, push={"channel": topic, "pub": publication})

    async def cut(self, code: int) -> None:
        for ws in list(self.subscribed):
            await ws.close(code)


def _encoded(value: Any) -> Any:
    """What protobuf's JSON form wants: data as base64."""
    from base64 import b64encode

    if isinstance(value, dict):
        return {
            key: b64encode(json.dumps(each).encode()).decode() if key == "data" else _encoded(each)
            for key, each in value.items()
        }
    return [_encoded(each) for each in value] if isinstance(value, list) else value


@asynccontextmanager
async def pair(protobuf: bool) -> AsyncIterator[tuple[Server, Any]]:
    async with Server().serving() as server:
        async with connect(server.url, protobuf=protobuf, reconnect=QUICK, timeout=TIMEOUT) as client:
            yield server, client


async def got(messages: Any, count: int) -> list[Any]:
    async with asyncio.timeout(TIMEOUT):
        return [(await anext(messages)).data for _ in range(count)]


EITHER = pytest.mark.parametrize("protobuf", [False, True], ids=["json", "protobuf"])


@EITHER
async def test_messages_and_positions_of_another_epoch(protobuf: bool) -> None:
    async with pair(protobuf) as (server, client):
        await server.publish("chat", "before")
        async with client.subscribe("chat") as messages:
            assert client.client == "42"
            await server.publish("chat", {"n": 1})
            message = await anext(messages)
            assert (message.data, message.position, message.position.epoch) == ({"n": 1}, 2, "xyz")
            saved = str(message.position)
        assert saved == "2@xyz"
        await server.publish("chat", "missed")
        async with client.subscribe("chat", since=Position(saved)) as messages:
            assert messages.recovered
            assert await got(messages, 1) == ["missed"]
        while not server.pongs:
            await asyncio.sleep(0.01)


@EITHER
async def test_a_number_alone_is_no_position_of_another_server(protobuf: bool) -> None:
    async with pair(protobuf) as (server, client):
        await server.publish("chat", 1)
        async with client.subscribe("chat", since=1) as messages:
            with pytest.raises(Lost):
                await got(messages, 1)


@EITHER
async def test_what_was_missed_is_recovered_within_an_epoch(protobuf: bool) -> None:
    async with pair(protobuf) as (server, client), client.subscribe("chat") as messages:
        await server.publish("chat", 1)
        assert await got(messages, 1) == [1]
        await server.cut(3000)
        for number in range(2, 5):
            await server.publish("chat", number)
        assert await got(messages, 3) == [2, 3, 4]
        server.epoch, server.log = "abc", {}
        await server.cut(3011)
        with pytest.raises(Lost) as lost:
            await got(messages, 1)
        assert (str(lost.value.since), str(lost.value.now)) == ("4@xyz", "0@abc")
        await server.publish("chat", "on")
        assert await got(messages, 1) == ["on"]
        assert messages.position == Position(1, "abc")


@EITHER
async def test_topics_without_positions_are_lost_with_their_connection(protobuf: bool) -> None:
    async with pair(protobuf) as (server, client), client.subscribe("live") as messages:
        await server.publish("live", 1)
        assert await got(messages, 1) == [1]
        await server.cut(1012)
        with pytest.raises(Lost) as lost:
            await got(messages, 1)
        assert lost.value.now is None
        await server.publish("live", 2)
        assert await got(messages, 1) == [2]


@EITHER
async def test_the_server_has_clients_subscribe_again(protobuf: bool) -> None:
    async with pair(protobuf) as (server, client), client.subscribe("chat") as messages:
        await server.publish("chat", 1)
        assert await got(messages, 1) == [1]
        for code, is_lost in ((2500, False), (2502, True)):
            (ws,) = server.subscribed
            server.subscribed[ws].clear()
            server.log["chat"].append(code)
            await server.say(ws, push={"channel": "chat", "unsubscribe": {"code": code, "reason": "because"}})
            if is_lost:
                with pytest.raises(Lost):
                    await got(messages, 1)
            else:
                assert await got(messages, 1) == [code]


@EITHER
async def test_an_end_for_good(protobuf: bool) -> None:
    async with pair(protobuf) as (server, client), client.subscribe("chat") as messages:
        with pytest.raises(LookupError, match="108"):
            await client.call("anything")
        await server.cut(3500)
        with pytest.raises(ConnectionError):
            await got(messages, 1)
        with pytest.raises(lapwing.ConnectionClosed):
            await client.call("anything")
