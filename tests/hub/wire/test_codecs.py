"""Both codecs over the one table: what is written is read again, and what is wrong is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from centrifuge.codecs import _JsonCodec, _ProtobufCodec
from centrifuge.protocol import client_pb2
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub.wire import messages as m
from lapwing.hub.wire.json_codec import JsonCodec
from lapwing.hub.wire.messages import (
    ClientInfo,
    Command,
    ConnectRequest,
    ConnectResult,
    Empty,
    Error,
    HistoryRequest,
    Kind,
    OfTopic,
    Publication,
    PublishRequest,
    Push,
    Reply,
    RpcRequest,
    Send,
    StreamPosition,
    SubscribeRequest,
    SubscribeResult,
    Unsubscribe,
)
from lapwing.hub.wire.protobuf_codec import ProtobufCodec
from tests.hub.wire.strategies import commands, json_values, pushes, replies

CODECS: dict[str, Any] = {"json": JsonCodec, "protobuf": ProtobufCodec}
EITHER = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)

#: A position of lapwing's, which is always exact in JavaScript.
OFFSET = 3_641_234_567_890_123

COMMANDS = [
    Command(1, "connect", ConnectRequest(token="t", data=b'{"a":[1,"\\n"]}', name="js", headers={"x": "y"})),
    Command(2, "subscribe", SubscribeRequest(channel="chat:42", recover=True, offset=OFFSET, epoch="1", flag=3)),
    Command(3, "unsubscribe", OfTopic("chat:42")),
    Command(4, "publish", PublishRequest("grüß", b'{"text":"\xc3\xbc"}')),
    Command(5, "presence", OfTopic("chat:42")),
    Command(6, "presence_stats", OfTopic("chat:42")),
    Command(7, "history", HistoryRequest("chat:42", -1, StreamPosition(OFFSET, "1"), reverse=True)),
    Command(8, "rpc", RpcRequest(b"[1, 2]", "add")),
    Command(0, "send", Send(b'"hi"')),
    Command(9, "refresh", m.RefreshRequest("t2")),
    Command(10, "sub_refresh", m.SubRefreshRequest("chat:42", "t3")),
    Command(11, "ping", Empty()),
    Command(),
]
INFO = ClientInfo("u", "c", b'{"n":1}', b"2")
REPLIES: list[Reply | Push] = [
    Reply(1, "connect", ConnectResult(client="c", version="lapwing", ping=25, pong=True, expires=True, ttl=60)),
    Reply(2, "subscribe", SubscribeResult(publications=[Publication(b"1", INFO, OFFSET, {"a": "b"})], recovered=True)),
    Reply(3, "publish", Empty()),
    Reply(4, error=Error(103, "permission denied")),
    Reply(5, error=Error(100, "internal server error", temporary=True)),
    Reply(6, "presence", m.PresenceResult({"c": INFO})),
    Reply(7, "history", m.HistoryResult([Publication(b"[]", None, 1)], "1", OFFSET)),
    Reply(8, "rpc", Send(b'{"sum":3}')),
    Push("pub", Publication(b'{"text":"hello"}', INFO, OFFSET), "chat:42"),
    Push("join", m.JoinLeave(INFO), "chat:42"),
    Push("unsubscribe", Unsubscribe(2500, "insufficient state"), "chat:42"),
    Push("disconnect", m.Disconnect(3001, "shutdown", reconnect=True)),
    Push(),
]


def write(codec: Any, said: Command | Reply | Push) -> bytes:
    if isinstance(said, Command):
        return bytes(codec.command(said))
    return bytes(codec.reply(said) if isinstance(said, Reply) else codec.push(said))


# --- whole, in pieces, with bytes that follow ---------------------------------------------------------------------


@EITHER
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.method or "pong")
def test_a_command_comes_back(codec: Any, command: Command) -> None:
    assert list(codec.commands(codec.command(command))) == [command]


@EITHER
@pytest.mark.parametrize("said", REPLIES, ids=lambda said: said[1] if isinstance(said, Reply) else said.kind or "ping")
def test_a_reply_comes_back(codec: Any, said: Reply | Push) -> None:
    assert list(codec.replies(write(codec, said))) == [said]


@EITHER
def test_a_frame_of_all_of_them(codec: Any) -> None:
    assert list(codec.commands(codec.joined(codec.command(each) for each in COMMANDS))) == COMMANDS
    assert list(codec.replies(codec.joined(write(codec, each) for each in REPLIES))) == REPLIES


@EITHER
@pytest.mark.parametrize("command", COMMANDS[:-1], ids=lambda command: command.method)
def test_every_beginning_of_a_frame_is_refused(codec: Any, command: Command) -> None:
    frame = codec.command(command)
    for cut in range(1, len(frame)):
        with pytest.raises(ValueError, match="expected"):
            list(codec.commands(frame[:cut]))


@EITHER
@pytest.mark.parametrize("said", REPLIES[:-1], ids=str)
def test_every_beginning_of_a_reply_is_refused(codec: Any, said: Reply | Push) -> None:
    frame = write(codec, said)
    for cut in range(1, len(frame)):
        with pytest.raises(ValueError, match="expected"):
            list(codec.replies(frame[:cut]))


@EITHER
def test_what_follows_is_read_after_what_was_right(codec: Any) -> None:
    found = codec.commands(codec.command(COMMANDS[2]) + codec.joined([b"", b"\xff"]))
    if codec is JsonCodec:
        found = codec.commands(codec.joined([codec.command(COMMANDS[2]), b"\xff"]))
    assert next(found) == COMMANDS[2]
    with pytest.raises(ValueError, match="expected"):
        next(found)


@EITHER
def test_ten_thousand_commands_in_a_frame(codec: Any) -> None:
    sent = [Command(number, "publish", PublishRequest("t", b"%d" % number)) for number in range(1, 10_001)]
    found = codec.commands(codec.joined(map(codec.command, sent)))
    assert next(found) == sent[0]  # one at a time: a limit may stop before the rest is read
    assert list(found) == sent[1:]


@EITHER
def test_an_empty_frame_has_no_commands(codec: Any) -> None:
    assert list(codec.commands(b"")) == []
    assert list(codec.replies(b"")) == []


# --- round trips --------------------------------------------------------------------------------------------------


@given(st.lists(commands(json_values), max_size=4))
def test_commands_round_trip_as_json(sent: list[Command]) -> None:
    frame = JsonCodec.joined(map(JsonCodec.command, sent))
    assert list(JsonCodec.commands(frame)) == sent
    assert len(_JsonCodec.decode_replies(frame.decode()) if frame else []) == len(sent)


@given(st.lists(replies(json_values) | pushes(json_values), max_size=4))
def test_replies_round_trip_as_json(sent: list[Reply | Push]) -> None:
    frame = JsonCodec.joined(write(JsonCodec, each) for each in sent)
    assert list(JsonCodec.replies(frame)) == sent


@given(st.lists(commands(st.binary(max_size=20)), max_size=4))
def test_commands_round_trip_as_protobuf(sent: list[Command]) -> None:
    assert list(ProtobufCodec.commands(ProtobufCodec.joined(map(ProtobufCodec.command, sent)))) == sent


@given(st.lists(replies(st.binary(max_size=20)) | pushes(st.binary(max_size=20)), max_size=4))
def test_replies_round_trip_as_protobuf(sent: list[Reply | Push]) -> None:
    assert list(ProtobufCodec.replies(ProtobufCodec.joined(write(ProtobufCodec, each) for each in sent))) == sent


@EITHER
@given(frame=st.binary(max_size=60))
def test_any_bytes_are_commands_or_refused(codec: Any, frame: bytes) -> None:
    for read in (codec.commands, codec.replies):
        try:
            list(read(frame))
        except ValueError as error:
            assert str(error)


@EITHER
@given(command=commands(json_values), data=st.data())
def test_a_changed_byte_is_read_or_refused(codec: Any, command: Command, data: st.DataObject) -> None:
    frame = bytearray(codec.command(command))
    frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = list(codec.commands(bytes(frame)))
    except ValueError:
        return
    for each in found:
        assert isinstance(each, Command)


# --- against the library of another author ------------------------------------------------------------------------

#: Fields that centrifuge-python's definitions do not have, and one that only has to be told from none.
_NOT_THEIRS = {"type", "tf"}


def _theirs(cls: type[m.Message], message: m.Message, into: Any) -> Any:
    """Fill in a message of their library."""
    for field in cls.FIELDS:
        value = getattr(message, field.name)
        if not value or field.name in _NOT_THEIRS:
            continue
        if field.kind == Kind.MESSAGE:
            into_field = getattr(into, field.name)
            into_field.SetInParent()
            _theirs(field.of, value, into_field)
        elif field.kind == Kind.MESSAGES:
            for each in value:
                _theirs(field.of, each, getattr(into, field.name).add())
        elif field.kind == Kind.TEXTS:
            getattr(into, field.name).update(value)
        elif field.kind == Kind.MESSAGE_MAP:
            for key, each in value.items():
                _theirs(field.of, each, getattr(into, field.name)[key])
        else:
            setattr(into, field.name, value)
    return into


def _same(message: m.Message) -> m.Message:
    """The message without what is not in their definitions."""
    for field in message.FIELDS:
        if field.name in _NOT_THEIRS:
            setattr(message, field.name, b"" if field.kind == Kind.DATA else 0)
        elif field.kind == Kind.MESSAGE_MAP:
            for each in (getattr(message, field.name) or {}).values():
                _same(each)
    return message


@given(commands(st.binary(max_size=20)))
def test_commands_are_those_of_another_protobuf_library(command: Command) -> None:
    theirs = client_pb2.Command(id=command.id)
    if command.method:
        _same(command.request)
        inner = getattr(theirs, command.method)
        inner.SetInParent()
        _theirs(m.COMMANDS[command.method][1], command.request, inner)
    size, start = _varint(ProtobufCodec.command(command))
    parsed = client_pb2.Command()
    parsed.ParseFromString(ProtobufCodec.command(command)[start:])
    assert size == len(ProtobufCodec.command(command)) - start
    assert parsed == theirs
    assert list(ProtobufCodec.commands(_delimited(theirs.SerializeToString()))) == [command]


@given(replies(st.binary(max_size=20)) | pushes(st.binary(max_size=20)))
def test_replies_are_those_of_another_protobuf_library(said: Reply | Push) -> None:
    theirs = client_pb2.Reply()
    if isinstance(said, Reply):
        theirs.id = said.id
        name = "error" if said.error is not None else said.method
        inner, message = getattr(theirs, name), said.error or said.result
    else:
        inner, message = theirs.push, said.event
        if said.kind:
            inner.channel = said.channel
            inner = getattr(inner, said.kind)
    if message is not None:
        inner.SetInParent()
        _theirs(type(message), message, inner)
    frame = write(ProtobufCodec, said)
    parsed = client_pb2.Reply()
    parsed.ParseFromString(frame[_varint(frame)[1] :])
    assert parsed == theirs
    assert list(ProtobufCodec.replies(_delimited(theirs.SerializeToString()))) == [said]


def test_the_table_is_that_of_another_author() -> None:
    """Every field of the table has the number, the kind and the name that centrifuge-python's definitions say."""
    their_types: dict[int, int] = {
        Kind.TEXT: FieldDescriptor.TYPE_STRING,
        Kind.BOOL: FieldDescriptor.TYPE_BOOL,
        Kind.UINT32: FieldDescriptor.TYPE_UINT32,
        Kind.UINT64: FieldDescriptor.TYPE_UINT64,
        Kind.INT32: FieldDescriptor.TYPE_INT32,
        Kind.INT64: FieldDescriptor.TYPE_INT64,
        Kind.DATA: FieldDescriptor.TYPE_BYTES,
    }
    compared = 0
    for outer, table in ((client_pb2.Command, m.COMMANDS), (client_pb2.Reply, m.REPLIES), (client_pb2.Push, m.PUSHES)):
        theirs = {field.name: field for field in outer.DESCRIPTOR.fields}
        for name, (number, cls) in table.items():
            assert theirs[name].number == number
            fields = theirs[name].message_type.fields_by_name
            assert {field.name for field in cls.FIELDS} - _NOT_THEIRS == set(fields) - _NOT_THEIRS, (name, cls)
            for field in cls.FIELDS:
                if field.name in _NOT_THEIRS:
                    continue
                assert fields[field.name].number == field.number
                assert their_types.get(field.kind, FieldDescriptor.TYPE_MESSAGE) == fields[field.name].type
                compared += 1
        assert set(theirs) - {"id", "error", "push", "channel"} == set(table)
    assert compared > 80


def _varint(frame: bytes) -> tuple[int, int]:
    """The number at the beginning, and where it ends."""
    end = next(index for index, byte in enumerate(frame) if byte < 0x80) + 1
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(frame[:end])), end


def _delimited(message: bytes) -> bytes:
    size, written = len(message), bytearray()
    while size >= 0x80:
        written.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*written, size]) + message


@pytest.mark.parametrize("codec", [_JsonCodec, _ProtobufCodec])
def test_their_codec_writes_what_ours_reads(codec: Any) -> None:
    sent: list[dict[str, Any]] = [
        {"id": 1, "connect": {"token": "t", "name": "python"}},
        {"id": 2, "subscribe": {"channel": "chat:42", "recover": True, "offset": OFFSET, "epoch": "1", "flag": 1}},
        {},
    ]
    frame = codec.encode_commands(sent)
    ours: Any = JsonCodec if codec is _JsonCodec else ProtobufCodec
    assert list(ours.commands(frame.encode() if isinstance(frame, str) else frame)) == [
        Command(1, "connect", ConnectRequest(token="t", name="python")),
        Command(2, "subscribe", SubscribeRequest("chat:42", recover=True, offset=OFFSET, epoch="1", flag=1)),
        Command(),
    ]


# --- what only JSON has -------------------------------------------------------------------------------------------


def test_data_goes_through_untouched() -> None:
    data = b'{"b" : 1, "a":[ 1.50, 1e400 ], "a":"\\u00fc\\ud800" }'
    command = next(JsonCodec.commands(b'{"id":1,"publish":{"channel":"t","data": ' + data + b" }}"))
    assert command.request.data == data
    assert data in JsonCodec.push(Push("pub", Publication(command.request.data), "t"))


def test_replies_are_json_for_other_readers() -> None:
    for said in REPLIES:
        assert isinstance(json.loads(write(JsonCodec, said)), dict)
    assert json.loads(JsonCodec.push(REPLIES[8])) == {  # type: ignore[arg-type]
        "push": {
            "channel": "chat:42",
            "pub": {
                "data": {"text": "hello"},
                "info": {"user": "u", "client": "c", "conn_info": {"n": 1}, "chan_info": 2},
                "offset": OFFSET,
            },
        }
    }


def test_names_are_escaped() -> None:
    push = Push("pub", Publication(b"1"), 'a"}}\n\x01grüß')
    frame = JsonCodec.push(push)
    assert b"\n" not in frame
    assert json.loads(frame)["push"]["channel"] == push.channel
    assert list(JsonCodec.replies(frame)) == [push]


def test_blank_lines_and_white_space_are_no_commands() -> None:
    frame = b'\n \r\n {"id":1 , "ping" : { } } \r\n\n{}\n'
    assert list(JsonCodec.commands(frame)) == [Command(1, "ping", Empty()), Command()]


def test_the_last_of_two_members_counts() -> None:
    assert next(JsonCodec.commands(b'{"id":1,"id":2,"ping":{},"ping":{}}')) == Command(2, "ping", Empty())


def test_null_is_nothing_but_as_data() -> None:
    command = next(JsonCodec.commands(b'{"id":7,"connect":null,"subscribe":{"channel":"a","token":null,"data":null}}'))
    assert command == Command(7, "subscribe", SubscribeRequest("a", data=b"null"))


@pytest.mark.parametrize(
    "line",
    [
        b"[]",
        b"1",
        b'"connect"',
        b"{",
        b'{"id":1,}',
        b'{"id":01}',
        b'{"id":-1,"ping":{}}',
        b'{"id":1.5,"ping":{}}',
        b'{"id":"1","ping":{}}',
        b'{"id":4294967296,"ping":{}}',
        b'{"id":' + b"9" * 5000 + b',"ping":{}}',
        b'{"id":1,"ping":[]}',
        b'{"id":1,"connect":{"token":1}}',
        b'{"id":1,"connect":{"subs":[]}}',
        b'{"id":1,"connect":{"headers":{"a":1}}}',
        b'{"id":1,"subscribe":{"channel":"a","recover":1}}',
        b'{"id":1,"subscribe":{"channel":"a","offset":-1}}',
        b'{"id":1,"subscribe":{"channel":"a","offset":18446744073709551616}}',
        b'{"id":1,"history":{"channel":"a","limit":2147483648}}',
        b'{"id":1,"history":{"channel":"a","since":7}}',
        b'{"id":1,"subscribe":{"channel":"\xff"}}',
        b'{"id":1,"subscribe":{"channel":"\xed\xa0\x80"}}',
        b'{"id":1,"subscribe":{"channel":"a\x01"}}',
        b'{"id":1,"ping":{}} {}',
        b'{"id":1,"rpc":{"data":' + b"[" * 70 + b"]" * 70 + b"}}",
        b'{"id":1,"rpc":{"data":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
    ],
)
def test_what_is_no_command_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="expected"):
        list(JsonCodec.commands(line))


def test_huge_numbers_within_the_range_are_exact() -> None:
    line = b'{"id":4294967295,"subscribe":{"channel":"a","offset":18446744073709551615}}'
    assert next(JsonCodec.commands(line)) == Command(2**32 - 1, "subscribe", SubscribeRequest("a", offset=2**64 - 1))


def test_an_unknown_method_is_a_command_by_its_name() -> None:
    """It is refused with an error of its own, by its id."""
    assert next(JsonCodec.commands(b'{"id":5,"teleport":{}}')) == Command(5, "teleport")
    assert next(ProtobufCodec.commands(bytes([5, 8, 5, 0xF2, 1, 0]))) == Command(5, "field 30")


def test_an_unknown_push_is_no_ping() -> None:
    assert next(JsonCodec.replies(b'{"push":{"channel":"a","map":{}}}')) == Push("map", None, "a")
    assert next(ProtobufCodec.replies(bytes([5, 0x22, 3, 0xF2, 1, 0]))) == Push("field 30", None, "")


@EITHER
def test_a_push_in_a_reply_is_left_out(codec: Any) -> None:
    """A reply has the id of a command; a push has none."""
    frame = b'{"id":7,"push":{"pub":{"data":1}}}'
    if codec is ProtobufCodec:
        frame = _delimited(b"\x08\x07\x22\x05\x22\x03\x22\x011")
    assert list(codec.replies(frame)) == [Reply(7)]


# --- what only protobuf has ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",
        b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x00\x01",
        b"\x0a\x01a",
        b"\x22\x05abc",
        b"\x25abc",
        b"\x21abcdefg",
        b"\x23\x24",
        b"\x27",
        b"\x2d\x01\x02\x03\x04\x2a\x03\x08\x01",
        b"\x28\x01",
        b"\x2a\x03\x0a\x01\xff",
        b"\x2a\x02\x08\x01",
    ],
    ids=bytes.hex,
)
def test_what_is_no_protobuf_command_is_refused(message: bytes) -> None:
    with pytest.raises(ValueError):
        list(ProtobufCodec.commands(_delimited(message)))


def test_unknown_fields_of_every_wire_type_are_left_out() -> None:
    unknown = bytes([0xA0, 6, 5, 0xA5, 6, 1, 2, 3, 4, 0xA1, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0xA2, 6, 1, 0x61])
    inner = bytes([0x0A, 1, 0x61]) + unknown
    frame = _delimited(bytes([8, 1]) + unknown + bytes([0x2A, len(inner)]) + inner)
    found = list(ProtobufCodec.commands(frame))
    assert [command.id for command in found] == [1]
    assert found == [Command(1, "subscribe", SubscribeRequest("a"))]


def test_a_length_beyond_the_frame_takes_no_memory() -> None:
    with pytest.raises(ValueError, match="expected 9223372036854775807 bytes, got 1"):
        list(ProtobufCodec.commands(b"\xff" * 8 + b"\x7f" + b"a"))
