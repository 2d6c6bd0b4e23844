"""The query and the cookies of a request, taken apart."""

from __future__ import annotations

from http.cookies import SimpleCookie
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Headers, Query, Request


def request(target: str = "/", *cookies: str) -> Request:
    return Request("GET", target, Headers([("Cookie", value) for value in cookies]))


# --- the query ---------------------------------------------------------------------------------------------------


def test_a_query_is_the_text_on_the_wire_and_its_parameters() -> None:
    query = request("/chat?room=caf%C3%A9+bar&tag=a&tag=b&flag").query
    assert query == "room=caf%C3%A9+bar&tag=a&tag=b&flag"
    assert query["room"] == "café bar"
    assert query.get("tag") == "a"
    assert query.get_all("tag") == ["a", "b"]
    assert query.get("flag") == ""
    assert query.items() == [("room", "café bar"), ("tag", "a"), ("tag", "b"), ("flag", "")]


def test_what_is_not_in_a_query() -> None:
    query = request("/chat?room=1").query
    with pytest.raises(KeyError, match="token"):
        query["token"]
    assert query.get("token") is None
    assert query.get("token", "none") == "none"
    assert query.get_all("token") == []


def test_a_query_stays_a_str() -> None:
    query = request("/?a=1&b=2").query
    assert isinstance(query, str)
    assert (query[0], query[-1], query[2:5]) == ("a", "2", "1&b")
    assert "1&b" in query
    assert query.split("&") == ["a=1", "b=2"]


@pytest.mark.parametrize("target", ["/", "/path", "/path?", "ws://example.com/path"])
def test_no_query(target: str) -> None:
    query = request(target).query
    assert query == ""
    assert query.items() == []
    assert not query


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("&&a=1&", [("a", "1")]),
        ("=1", [("", "1")]),
        ("a=b=c", [("a", "b=c")]),
        ("a=%ff", [("a", "\ufffd")]),
        ("a=%", [("a", "%")]),
        ("a;b=1", [("a;b", "1")]),
    ],
)
def test_queries_that_are_odd(text: str, items: list[tuple[str, str]]) -> None:
    assert Query(text).items() == items


@given(st.lists(st.tuples(st.text(), st.text())))
def test_what_was_encoded_comes_out_as_it_was(pairs: list[tuple[str, str]]) -> None:
    pairs = [(_storable(name), _storable(value)) for name, value in pairs]
    assert Query(urlencode(pairs)).items() == pairs


@given(st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E)))
def test_queries_agree_with_the_standard_library(text: str) -> None:
    assert Query(text).items() == parse_qsl(text, keep_blank_values=True)


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


# --- cookies -----------------------------------------------------------------------------------------------------


def test_cookies_by_name() -> None:
    assert request("/", "session=abc; theme=dark").cookies == {"session": "abc", "theme": "dark"}


def test_no_cookies() -> None:
    assert request("/").cookies == {}
    assert request("/", "").cookies == {}


def test_cookies_in_several_lines() -> None:
    """As HTTP/2 sends them, and gateways pass them on."""
    assert request("/", "a=1", "b=2").cookies == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("text", "cookies"),
    [
        ("a=1; a=2", {"a": "1"}),
        ("a=1;b=2", {"a": "1", "b": "2"}),
        ("\ta = 1 ; b\t=2", {"a": "1", "b": "2"}),
        ("a=b=c==", {"a": "b=c=="}),
        ("a=", {"a": ""}),
        ("flag; a=1", {"a": "1"}),
        ("=1; a=1", {"a": "1"}),
        (";;a=1;", {"a": "1"}),
        ('a="1 2"', {"a": "1 2"}),
        ('a="x\\054y\\"z\\\\"', {"a": 'x,y"z\\'}),
        ('a="', {"a": '"'}),
        ("__Host-id=1", {"__Host-id": "1"}),
    ],
)
def test_cookies_that_are_odd(text: str, cookies: dict[str, str]) -> None:
    assert request("/", text).cookies == cookies


@given(st.text(alphabet=st.characters(max_codepoint=0xFF, exclude_categories=["Cc"])))
def test_what_python_sets_comes_back(value: str) -> None:
    jar = SimpleCookie()
    jar["name"] = value
    assert request("/", jar["name"].OutputString()).cookies == {"name": value}


def test_their_values_are_not_in_a_repr() -> None:
    assert "secret" not in repr(request("/?token=secret1", "session=secret2"))
