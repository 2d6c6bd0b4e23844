"""Names of topics, patterns, and what a topic may be declared to be."""

from __future__ import annotations

from typing import Any

import pytest

from lapwing.hub import Hub
from lapwing.hub.names import Declaration, Declarations, check_name


def anybody(ask: Any) -> None:
    pass


def declared(*patterns: str) -> Declarations:
    declarations = Declarations()
    for pattern in patterns:
        declarations.add(Declaration(pattern, anybody))
    return declarations


@pytest.mark.parametrize("name", ["a", "chat:42", "ü" * 127, "x" * 255, "with space", "日本"])
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128, "a\nb", "a\x00", "\x7f", "\ud800", "a\u2028b"])
def test_names_that_could_break_something_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="expected a topic's name"):
        check_name(name)
    with pytest.raises(TypeError, match="expected a topic's name as a str, got int"):
        check_name(5)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("chat:42", "chat:*"),
        ("chat:admin:1", "chat:admin:*"),
        ("chat:admin:", "chat:*"),
        ("chat:news", "chat:news"),
        ("other", "*"),
        ("chat:", "*"),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_name_goes_before_the_longest_prefix_in_any_order(name: str, pattern: str, order: int) -> None:
    patterns = ["*", "chat:*", "chat:admin:*", "chat:news"][::order]
    assert declared(*patterns).find(name).pattern == pattern


def test_a_name_without_a_pattern_is_unknown() -> None:
    said = r"no pattern of this hub matches the topic 'x': declare it by @hub\.topic\(\.\.\.\)"
    with pytest.raises(LookupError, match=said + "$"):
        declared().find("x")
    with pytest.raises(LookupError, match=said + r", or use one of 'a', 'chat:\*'$"):
        declared("chat:*", "a").find("x")
    with pytest.raises(LookupError, match=r"'n09', \.\.\.$"):
        declared(*(f"n{number:02}" for number in range(11))).find("x")
    with pytest.raises(LookupError):
        declared("chat:*").find("chat:")  # the rest may not be empty


def test_a_pattern_is_declared_once() -> None:
    with pytest.raises(ValueError, match="declared already"):
        declared("chat:*", "chat:*")
    assert [each.pattern for each in declared("b", "a*")] == ["b", "a*"]


@pytest.mark.parametrize("pattern", ["a*b", "**", "", "a\n*"])
def test_patterns_that_are_none(pattern: str) -> None:
    with pytest.raises(ValueError, match="expected a"):
        Declaration(pattern, anybody)


def test_a_topic_is_declared_by_a_call() -> None:
    with pytest.raises(
        TypeError, match=r'expected the pattern of a topic, as in @hub\.topic\("chat:\*"\), got <function'
    ):

        @Hub().topic  # type: ignore[arg-type]
        def chat(ask: Any) -> None: ...


@pytest.mark.parametrize("lagging", ["drop-oldest", "drop-newest", "keep-latest"])
def test_what_would_break_the_promise_of_a_history_is_refused(lagging: Any) -> None:
    with pytest.raises(ValueError, match="drops messages silently"):
        Declaration("t", anybody, history=5, lagging=lagging)
    Declaration("t", anybody, lagging=lagging)


def test_catching_up_needs_a_history() -> None:
    with pytest.raises(ValueError, match="served from history"):
        Declaration("t", anybody, lagging="catch-up")
    with pytest.raises(ValueError, match="expected lagging to be one of"):
        Declaration("t", anybody, lagging="hurry")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"history": -1}, ValueError),
        ({"history": True}, TypeError),
        ({"keep": 0}, ValueError),
        ({"keep": "1"}, TypeError),
        ({"presence": 1}, TypeError),
        ({"max_message": 0}, ValueError),
        ({"frame": 5}, TypeError),
    ],
)
def test_values_that_make_no_sense_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match="expected"):
        Declaration("t", anybody, **options)
    with pytest.raises(TypeError, match="expected a function"):
        Declaration("t", None)  # type: ignore[arg-type]
