"""Options from environment variables."""

from __future__ import annotations

import pytest

from lapwing.environment import options_from
from lapwing.options import AdoptOptions
from lapwing.uvicorn import _NOT_HERE, Protocol, protocol

VALUES = {
    "LAPWING_TIMEOUT": ("none", None),
    "LAPWING_OPEN_TIMEOUT": ("2.5", 2.5),
    "LAPWING_CLOSE_TIMEOUT": ("3", 3.0),
    "LAPWING_MAX_MESSAGE_SIZE": ("None", None),
    "LAPWING_MAX_BUFFERED": ("65536", 65536),
    "LAPWING_PING_INTERVAL": ("7", 7.0),
    "LAPWING_PING_TIMEOUT": ("none", None),
    "LAPWING_TCP_KEEPALIVE": ("30", 30.0),
    "LAPWING_TCP_USER_TIMEOUT": (" 20 ", 20.0),
    "LAPWING_COMPRESSION": ("Off", False),
    "LAPWING_MAX_HEADER_LINE": ("16384", 16384),
    "LAPWING_MAX_HEADERS": ("64", 64),
    "LAPWING_ORIGINS": ("https://a.example, https://b.example", ["https://a.example", "https://b.example"]),
    "LAPWING_LAGGING": ("drop-oldest", "drop-oldest"),
    "LAPWING_LAG_BUDGET": ("1000", 1000),
    "LAPWING_LAG_TIMEOUT": ("1.5", 1.5),
    "LAPWING_PORTABLE": ("yes", True),
    "LAPWING_CARRIER": ("transport", "transport"),
    "LAPWING_MAX_CONNECTIONS": ("1000", 1000),
    "LAPWING_MAX_CONNECTIONS_PER_ADDRESS": ("8", 8),
    "LAPWING_INSPECTOR": ("false", False),
}


def test_every_option_that_a_text_can_say() -> None:
    environment = {name: text for name, (text, _) in VALUES.items()}
    options = options_from(environment | {"HOME": "/", "lapwing_x": "y"}, {})
    assert options == {name.removeprefix("LAPWING_").lower(): value for name, (_, value) in VALUES.items()}
    assert AdoptOptions.__optional_keys__ - options.keys() == {"json", "on_request", "health"}


def test_pages_of_every_origin() -> None:
    assert options_from({"LAPWING_ORIGINS": "*"}, {}) == {"origins": "*"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("COLOUR", "red", "LAPWING_COLOUR names no option of lapwing: expected one of LAPWING_CARRIER, LAPWING_CLOSE"),
        ("MAX_CONNECTIONS", "many", "LAPWING_MAX_CONNECTIONS='many' is invalid: expected a whole number, or none"),
        ("MAX_CONNECTIONS", "0", r"\(LAPWING_MAX_CONNECTIONS\): expected max_connections to be 1 or more, got 0"),
        ("MAX_BUFFERED", "1.5", "expected a whole number"),
        ("OPEN_TIMEOUT", "soon", "expected a number of seconds"),
        ("PING_INTERVAL", "", "expected a number of seconds, or none"),
        ("PING_INTERVAL", "nan", "expected ping_interval to be more than 0 seconds"),
        ("COMPRESSION", "2", "expected one of 1, true, yes"),
        ("LAGGING", "wait", "expected one of disconnect, drop-newest"),
        ("ORIGINS", "https://a.example,", "expected '\\*', or origins with commas"),
        ("JSON", "orjson", "LAPWING_JSON is not available here: it has no text form"),
        ("HEALTH", "/healthz", "LAPWING_HEALTH is not available here: the application answers plain HTTP"),
        ("INSPECTOR", "1", "LAPWING_INSPECTOR is not available here: uvicorn answers plain HTTP"),
    ],
)
def test_what_is_refused(name: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        options_from({"LAPWING_" + name: text}, _NOT_HERE)


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Protocol, "_options", {"max_connections": 7, "lag_budget": 100})
    assert protocol(max_connections=9)._options == {"max_connections": 9, "lag_budget": 100}
