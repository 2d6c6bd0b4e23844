"""The wire of the hub under fuzzing: whatever comes is read or refused, and what was read is written and read again."""

from __future__ import annotations

import re
from typing import Any

from lapwing.hub.wire.codes import ErrorCode, error
from lapwing.hub.wire.json_codec import JsonCodec
from lapwing.hub.wire.messages import (
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    Publication,
    PublishRequest,
    Push,
    Reply,
    SubscribeRequest,
    SubscribeResult,
)
from lapwing.hub.wire.protobuf_codec import ProtobufCodec
from lapwing.hub.wire.session import Limits, ServerSession, State

__all__ = ["CODECS", "json_codec", "protobuf_codec", "seeds"]

CODECS: dict[str, Any] = {"json_codec": JsonCodec, "protobuf_codec": ProtobufCodec}

_COMMANDS = [
    Command(
        1, "connect", ConnectRequest("token", b'{"a":[1]}', {"x": SubscribeRequest("x", offset=7)}, headers={"a": "b"})
    ),
    Command(2, "subscribe", SubscribeRequest("chat:42", recover=True, epoch="1", offset=2**52, flag=3)),
    Command(3, "publish", PublishRequest("grüß", b'"\\u00fc"')),
    Command(),
]
_INFO = ClientInfo("u", "c", b"{}", b"[]")
_REPLIES: list[Reply | Push] = [
    Reply(1, "connect", ConnectResult("c", ping=25, pong=True)),
    Reply(2, "subscribe", SubscribeResult(publications=[Publication(b"1", _INFO, 5, {"a": "b"})], recovered=True)),
    Reply(3, error=error(ErrorCode.INTERNAL)),
    Push("pub", Publication(b"[1,2]", _INFO, 2**52), "chat:42"),
    Push(),
]


def seeds(target: str) -> list[bytes]:
    """Good frames of either direction."""
    codec = CODECS[target]
    replies = [codec.reply(each) if isinstance(each, Reply) else codec.push(each) for each in _REPLIES]
    return [codec.joined(map(codec.command, _COMMANDS)), codec.joined(replies)]


def json_codec(data: bytes) -> tuple[object, ...]:
    """Read a frame of JSON."""
    return _frame(JsonCodec, data)


def protobuf_codec(data: bytes) -> tuple[object, ...]:
    """Read a frame of protobuf."""
    return _frame(ProtobufCodec, data)


def _frame(codec: Any, data: bytes) -> tuple[object, ...]:
    found: list[object] = []
    for read in (codec.commands, codec.replies):
        trail = []
        try:
            for said in read(data):
                trail.append(_again(codec, said, read))
        except ValueError as refused:
            found.append(re.sub(r"got .*|[0-9]+|'[^']*'", "", str(refused)))
        found.append(tuple(trail[:8]))
    return (*found, _conversation(codec, data))


def _again(codec: Any, said: Any, read: Any) -> str:
    """Write what was read, and read it again; returns its kind."""
    kind = said[1] if isinstance(said, Command | Reply) else said[0]
    message = (
        said[2] if isinstance(said, Command) else said.error or said.result if isinstance(said, Reply) else said[1]
    )
    if message is None:
        return "unknown"
    try:
        write = codec.command if isinstance(said, Command) else codec.reply if isinstance(said, Reply) else codec.push
        frame = write(said)
    except UnicodeEncodeError:  # JSON may escape half of a character
        return f"{kind} with half a character"
    assert list(read(frame)) == [said], frame
    return str(kind)


def _conversation(codec: Any, data: bytes) -> tuple[object, ...]:
    """Let the frame follow on a connection's beginning."""
    session = ServerSession(codec, Limits(burst=50, topics=4), 0.0)
    for frame in (codec.command(_COMMANDS[0]), data, data):
        for request in session.receive(frame, 1.0):
            if request.method == "connect" and session.state is State.CONNECTING:
                session.connected(request, ConnectResult("c"), 1.0)
            elif request.id % 2:
                session.refuse(request, error(ErrorCode.NOT_AVAILABLE))
    assert session.topics <= 4
    list(codec.replies(session.take()))
    return session.state.name, None if session.closing is None else session.closing.code
