"""RESP: replies in any pieces and within limits, commands; and URLs that show no secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.hub.engines import resp
from lapwing.hub.engines.redis_url import RedisURL
from lapwing.hub.engines.resp import ServerError
from lapwing.hub.hub import Hub

REPLIES = st.recursive(
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.binary(max_size=30)
    | st.from_regex(rb"[a-z ]{0,9}", fullmatch=True).map(ServerError),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


def encoded(reply: Any) -> bytes:
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%b\r\n" % (len(reply), reply)
    if isinstance(reply, ServerError):
        return b"-%b\r\n" % reply.args[0]
    return b"*%d\r\n%b" % (len(reply), b"".join(map(encoded, reply)))


def plain(reply: Any) -> Any:
    if isinstance(reply, ServerError):
        text = reply.args[0]
        return "error", text.decode() if isinstance(text, bytes) else text
    return [plain(each) for each in reply] if isinstance(reply, list) else reply


@given(st.lists(REPLIES, max_size=6), st.integers(1, 40))
def test_replies_come_back_in_any_pieces(replies: list[Any], step: int) -> None:
    stream = b"".join(map(encoded, replies))
    reader = resp.Reader()
    got = []
    for begin in range(0, len(stream), step):
        reader.feed(stream[begin : begin + step])
        while (reply := reader.gets()) is not False:
            got.append(plain(reply))
    assert got == [plain(reply) for reply in replies]


@given(st.lists(REPLIES, max_size=6), st.integers(1, 40))
def test_hiredis_reads_the_same(replies: list[Any], step: int) -> None:
    pytest.importorskip("hiredis")
    stream = b"".join(map(encoded, replies))
    ours, theirs = resp.Reader(), resp.make_reader()
    for begin in range(0, len(stream), step):
        for reader in (ours, theirs):
            reader.feed(stream[begin : begin + step])
        while (reply := ours.gets()) is not False:
            other = theirs.gets()
            assert plain(other) == plain(reply) or reply == b"" == other


@given(st.binary(max_size=60))
def test_what_is_no_reply_is_refused_and_nothing_else_happens(data: bytes) -> None:
    reader = resp.Reader()
    reader.feed(data)
    try:
        while reader.gets() is not False:
            pass
    except ValueError:
        return


@pytest.mark.parametrize(
    "data",
    [
        b"$99999999999\r\n",
        b"*99999999\r\n",
        b"*1\r\n" * 20 + b":1\r\n",
        b"$-5\r\n",
        b"$2\r\nabcd",
        b"+" + b"x" * 70_000,
    ],
)
def test_a_server_is_not_trusted_for_its_lengths(data: bytes) -> None:
    reader = resp.Reader()
    reader.feed(data)
    with pytest.raises(ValueError):
        reader.gets()


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (resp.is_number, [0, -1], [None, b"1", True, [1]]),
        (resp.is_string, [b""], [None, 1, [b""], ServerError("x")]),
        (resp.is_strings, [[], [b"a", b""]], [None, b"a", [1], [None], [[b"a"]]]),
        (resp.is_pairs, [[], [b"a", b"b"]], [[b"a"], [b"a", 1], None]),
        (resp.is_position, [b"0", b"9" * 17], [b"", b"-1", b"9" * 18, 5, None, b"x"]),
        (resp.is_positions, [[], [b"1"]], [[b"x"], [1], None, b"1"]),
        (resp.is_time, [[b"1", b"2"]], [[b"1"], [b"1", b"2", b"3"], [1, 2], [b"1", b"x"], None]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_forms_of_replies(form: resp.Form, good: list[Any], bad: list[Any]) -> None:
    assert all(map(form, good))
    assert not any(map(form, bad))


def test_a_command_is_strings() -> None:
    assert resp.encode("SET", b"\x00", 5, 1.5) == b"*4\r\n$3\r\nSET\r\n$1\r\n\x00\r\n$1\r\n5\r\n$3\r\n1.5\r\n"
    assert ServerError("NOSCRIPT No matching script").kind == "NOSCRIPT"


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("redis://localhost", {"hosts": (("localhost", 6379),), "db": 0, "user": None, "password": None}),
        ("redis://u:p%40ss@h:7000/3", {"hosts": (("h", 7000),), "db": 3, "user": "u", "password": "p@ss"}),
        ("redis://:p@h?db=2&replicas=1", {"user": None, "password": "p", "db": 2, "replicas": 1}),
        ("redis://[::1]:7000", {"hosts": (("::1", 7000),)}),
        ("unix:///run/redis.sock?db=4", {"path": "/run/redis.sock", "db": 4}),
        ("redis+sentinel://a,b:2/main/1", {"hosts": (("a", 26379), ("b", 2)), "service": "main", "db": 1}),
        (
            "redis+sentinel://u:p@a/main?sentinel_username=s&sentinel_password=t",
            {"password": "p", "sentinel_user": "s", "sentinel_password": "t"},
        ),
    ],
)
def test_urls(url: str, parts: dict[str, Any]) -> None:
    parsed = RedisURL.parse(url)
    assert {name: getattr(parsed, name) for name in parts} == parts
    assert parsed.tls is None


def test_tls_verifies_certificates() -> None:
    tls = RedisURL.parse("rediss://h").tls
    assert tls is not None
    assert tls.check_hostname


@pytest.mark.parametrize(
    "url",
    [
        "redis://a,b",
        "redis://h/x",
        "redis://h/1/2",
        "redis://h/1?db=2",
        "redis://h?colour=red",
        "redis://h:port",
        "redis+sentinel://h",
        "redis://h/99999999",
        "redis://u:secret@a,b",
        "redis://u:secret@h/x",
    ],
)
def test_urls_that_are_wrong_say_what_is_and_no_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|unknown|twice") as caught:
        Hub(url)
    assert "secret" not in str(caught.value)


def test_no_secret_is_shown() -> None:
    hub = Hub("redis://u:secret@127.0.0.1:1/0")
    assert "secret" not in repr(hub._core.engine) + repr(RedisURL.parse("redis://u:secret@h")) + repr(
        hub.health
    ) + repr(hub)
