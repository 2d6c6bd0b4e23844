"""Messages of the table, made by hypothesis from the table itself."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from lapwing.hub.wire import messages as m
from lapwing.hub.wire.messages import Kind

__all__ = ["commands", "json_values", "message", "pushes", "replies"]

_TEXT = st.text(max_size=12)

#: One line of JSON each.
json_values = st.sampled_from(
    [b"1", b"null", b'"gr\xc3\xbc\xc3\x9f\\n"', b"[]", b'{"a": [1, {"b": -1.5e3}], "c": "\\u00e9\\ud83d"}', b"true"]
)


def _field(field: m.Field, data: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    of = field.of
    simple: dict[int, st.SearchStrategy[Any]] = {
        Kind.TEXT: _TEXT,
        Kind.BOOL: st.booleans(),
        Kind.DATA: data,
        Kind.TEXTS: st.dictionaries(_TEXT, _TEXT, max_size=3).map(lambda found: found or None),
    }
    if field.kind in simple:
        return simple[field.kind]
    if field.kind == Kind.MESSAGE:
        return st.none() | message(of, data)
    if field.kind == Kind.MESSAGES:
        return st.lists(message(of, data), max_size=3).map(lambda found: found or ())
    if field.kind == Kind.MESSAGE_MAP:
        return st.dictionaries(_TEXT, message(of, data), max_size=2).map(lambda found: found or None)
    return st.integers(field.low, field.high)


def message(cls: type[m.Message], data: st.SearchStrategy[bytes]) -> st.SearchStrategy[Any]:
    """Messages of a class; `data` makes what belongs to the application."""
    return st.builds(cls, **{field.name: _field(field, data) for field in cls.FIELDS})


def commands(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[m.Command]:
    """Commands of every method, and answers to pings."""
    ids = st.integers(0, 2**32 - 1)
    asked = [
        st.tuples(ids, st.just(method), message(cls, data)).map(lambda made: m.Command(*made))
        for method, (_, cls) in m.COMMANDS.items()
    ]
    return st.one_of(st.just(m.Command()), *asked)


def replies(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[m.Reply]:
    """Replies with every result, and errors."""
    ids = st.integers(1, 2**32 - 1)
    results = [
        st.tuples(ids, st.just(method), message(cls, data)).map(lambda made: m.Reply(*made))
        for method, (_, cls) in m.REPLIES.items()
    ]
    errors = st.tuples(ids, message(m.Error, data)).map(lambda made: m.Reply(made[0], error=made[1]))
    return st.one_of(errors, *results)


def pushes(data: st.SearchStrategy[bytes]) -> st.SearchStrategy[m.Push]:
    """Pushes of every kind, and pings."""
    events = [
        st.tuples(st.just(kind), message(cls, data), _TEXT).map(lambda made: m.Push(*made))
        for kind, (_, cls) in m.PUSHES.items()
    ]
    return st.one_of(st.just(m.Push()), *events)
