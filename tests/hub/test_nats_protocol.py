"""NATS's client protocol without I/O: what is parsed, in whatever pieces it comes, and what is refused."""

from __future__ import annotations

import itertools
import json
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub.engines import nats_protocol as wire
from lapwing.hub.engines.nats_url import NatsURL

HEAD = b"NATS/1.0\r\nNats-Sequence: 7\r\n\r\n"

#: What a server says, and the events that this is.
SAID: list[tuple[bytes, list[wire.Event]]] = [
    (b'INFO {"version":"2.15.1","headers":true} \r\n', [wire.Info({"version": "2.15.1", "headers": True})]),
    (b"PING\r\n", [wire.Ping()]),
    (b"PONG\r\n", [wire.Pong()]),
    (b"+OK\r\n", []),
    (b"-ERR 'Authorization Violation'\r\n", [wire.Failed("Authorization Violation")]),
    (b"MSG a.b 1 5\r\nhello\r\n", [wire.Delivered(b"a.b", b"", b"", b"hello")]),
    (b"MSG a.b 1 answers.1 5\r\nhello\r\n", [wire.Delivered(b"a.b", b"answers.1", b"", b"hello")]),
    (b"MSG a 12 0\r\n\r\n", [wire.Delivered(b"a", b"", b"", b"")]),
    (b"MSG a 1 6\r\nPING\r\n\r\n", [wire.Delivered(b"a", b"", b"", b"PING\r\n")]),
    (
        b"HMSG a 1 %d %d\r\n%bhi\r\n" % (len(HEAD), len(HEAD) + 2, HEAD),
        [wire.Delivered(b"a", b"", HEAD, b"hi")],
    ),
    (b"HMSG a 1 r %d %d\r\n%b\r\n" % (len(HEAD), len(HEAD), HEAD), [wire.Delivered(b"a", b"r", HEAD, b"")]),
]


def events_of(reader: wire.Reader, *chunks: bytes) -> list[wire.Event]:
    found = []
    for chunk in chunks:
        reader.feed(chunk)
        while (event := reader.next_event()) is not None:
            found.append(event)
    return found


@pytest.mark.parametrize(("said", "expected"), SAID, ids=lambda each: repr(each)[:40])
def test_what_a_server_says_is_parsed_whole_in_bytes_and_with_what_follows(
    said: bytes, expected: list[wire.Event]
) -> None:
    assert events_of(wire.Reader(), said) == expected
    assert events_of(wire.Reader(), *(said[place : place + 1] for place in range(len(said)))) == expected
    reader = wire.Reader()
    assert events_of(reader, said + b"PONG\r\nPI") == [*expected, wire.Pong()]
    assert not reader.is_empty
    assert events_of(reader, b"NG\r\n") == [wire.Ping()]
    assert reader.is_empty


REFUSED = [
    b"HELLO\r\n",
    b"\r\n",
    b"INFO []\r\n",
    b"INFO {\r\n",
    b"INFO " + b"[" * 30_000 + b"\r\n",
    b"MSG a 1\r\n",
    b"MSG a 1 r 5 6 7\r\n",
    b"MSG a 1 -1\r\n",
    b"MSG a 1 +5\r\n",
    b"MSG a 1 5x\r\n",
    "MSG a 1 ٣\r\n".encode(),
    b"MSG a 1 99999999\r\n",
    b"MSG a 1 99999999999999999999\r\n",
    b"MSG a 1 5\r\nhello!\r\n",
    b"HMSG a 1 10 5\r\n",
    b"HMSG a 1 70000 80000\r\n",
    b"HMSG a 1 5 5\r\nhello\r\n",
    b"HMSG a 1 10 10\r\nNATS/1.0\r\n\r\n",
    b"x" * 70_000,
    b"PING" + b" " * 70_000 + b"\r\n",
]


@pytest.mark.parametrize("said", REFUSED, ids=lambda each: repr(each)[:30])
def test_what_no_server_says_or_is_beyond_the_limits_is_refused(said: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        events_of(wire.Reader(), said)


def test_a_line_is_refused_before_it_is_whole_and_a_payload_before_it_is_there() -> None:
    reader = wire.Reader()
    with pytest.raises(ValueError, match="a line of more than 65536 bytes"):
        for _ in range(100):
            events_of(reader, b"M" * 1000)
    with pytest.raises(ValueError, match="expected a size of at most"):
        events_of(wire.Reader(), b"MSG a 1 67108865\r\n")


def split(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(ends)]


@given(st.lists(st.sampled_from(SAID), max_size=20), st.lists(st.integers(0, 10_000), max_size=20))
def test_how_it_is_split_makes_no_difference(said: list[tuple[bytes, list[wire.Event]]], places: list[int]) -> None:
    data = b"".join(each for each, _ in said)
    expected = [event for _, events in said for event in events]
    reader = wire.Reader()
    assert events_of(reader, *split(data, places)) == expected
    assert reader.is_empty


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.sampled_from([each for each, _ in SAID]),
            st.sampled_from([b"MSG ", b"HMSG ", b"a 1 ", b"7", b"\r\n", b"NATS/1.0", b"INFO {", b"}", b" ", b"-ERR '"]),
        ),
        max_size=30,
    ),
    st.lists(st.integers(0, 10_000), max_size=10),
)
def test_anything_at_all_is_parsed_or_refused_the_same_however_it_is_split(
    parts: list[bytes], places: list[int]
) -> None:
    data = b"".join(parts)

    def outcome(chunks: list[bytes]) -> tuple[list[wire.Event], bool]:
        reader, found = wire.Reader(), []
        try:
            for chunk in chunks:
                reader.feed(chunk)
                while (event := reader.next_event()) is not None:
                    found.append(event)
                    if isinstance(event, wire.Delivered):
                        wire.status(event.head)
                        wire.field(event.head, b"Nats-Sequence")
        except ValueError:
            return found, True
        assert len(reader._buffer) <= len(data)
        return found, False

    assert outcome([data]) == outcome(split(data, places))


def test_memory_does_not_grow_with_what_was_parsed() -> None:
    reader = wire.Reader()
    message = b"MSG a 1 1000\r\n" + bytes(1000) + b"\r\n"
    for _ in range(1000):
        reader.feed(message + message[:700])
        while reader.next_event() is not None:
            pass
        reader.feed(message[700:])
        while reader.next_event() is not None:
            pass
        assert len(reader._buffer) < 100_000


# --- what the server is told -----------------------------------------------------------------------------------------


def test_what_the_server_is_told() -> None:
    line = wire.connect(verbose=False, user="ann")
    assert line.startswith(b"CONNECT {")
    assert line.endswith(b"}\r\n")
    assert json.loads(line[8:]) == {"verbose": False, "user": "ann"}
    assert wire.subscribe(b"a.*", 3) == b"SUB a.* 3\r\n"
    assert wire.unsubscribe(3) == b"UNSUB 3\r\n"
    assert wire.publish(b"a", b"hi") == b"PUB a 2\r\nhi\r\n"
    assert wire.publish(b"a", b"hi", b"r") == b"PUB a r 2\r\nhi\r\n"
    assert wire.publish(b"a", b"hi", b"r", HEAD) == b"HPUB a r %d %d\r\n%bhi\r\n" % (len(HEAD), len(HEAD) + 2, HEAD)


def test_headers() -> None:
    headers = wire.head(Nats_Msg_Id="t/k", Lapwing_Anchor=0)
    assert headers == b"NATS/1.0\r\nNats-Msg-Id: t/k\r\nLapwing-Anchor: 0\r\n\r\n"
    assert wire.field(headers, b"Nats-Msg-Id") == b"t/k"
    assert wire.field(headers, b"Nats-Sequence") is None
    assert wire.field(b"", b"Nats-Sequence") is None
    assert wire.status(headers) == 0
    assert wire.status(b"") == 0
    assert wire.status(b"NATS/1.0 503\r\n\r\n") == 503
    assert wire.status(b"NATS/1.0 404 Message Not Found\r\n\r\n") == 404


def test_the_server_has_the_last_word_in_headers() -> None:
    forged = b"NATS/1.0\r\nNats-Sequence: 5\r\nNats-Sequence: 7\r\n\r\n"
    assert wire.field(forged, b"Nats-Sequence") == b"7"


@given(st.text(min_size=1, max_size=60))
def test_names_become_tokens_without_anything_that_has_a_meaning_in_subjects(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return
    token = wire.token_of(name)
    assert unquote(token.decode()) == name
    assert token
    assert not set(token) & set(b" .*>\t\r\n\x00/\\")
    assert token.isascii()


# --- URLs ------------------------------------------------------------------------------------------------------------


def test_urls() -> None:
    assert NatsURL.parse("nats://localhost") == NatsURL("nats://localhost", (("localhost", 4222),))
    url = NatsURL.parse("nats://an%3An:pw@h1:1,h2,[::1]:3?storage=memory&replicas=3&max_bytes=1000")
    assert url.hosts == (("h1", 1), ("h2", 4222), ("::1", 3))
    assert (url.user, url.password, url.token) == ("an:n", "pw", None)
    assert (url.storage, url.replicas, url.max_bytes) == ("memory", 3, 1000)
    assert url.shown == "nats://***@h1:1,h2,[::1]:3"
    assert "pw" not in repr(url)
    assert NatsURL.parse("nats://ann:a\u2100b@h").password == "a\u2100b"  # urllib refuses it, and shows it
    url = NatsURL.parse("tls://secret@h")
    assert (url.user, url.token) == (None, "secret")
    assert url.tls is not None
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", "expected nats:// or tls://"),
        ("nats://h/path", "expected nothing after the hosts"),
        ("nats://h:x", "expected a host and a port"),
        ("nats://h?storge=file", "has unknown options: storge"),
        ("nats://h?storage=tape", "expected storage to be 'file' or 'memory'"),
        ("nats://h?replicas=6", "expected replicas to be a number from 1 to 5"),
        ("nats://h?replicas=0", "expected replicas to be a number from 1 to 5"),
        ("nats://h?max_bytes=many", "expected max_bytes to be a number"),
    ],
)
def test_urls_that_are_wrong_are_refused_without_showing_secrets(url: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r"expected|has unknown") as caught:
        NatsURL.parse(url.replace("//h", "//ann:secret@h"))
    assert expected in str(caught.value)
    assert "secret" not in str(caught.value)
