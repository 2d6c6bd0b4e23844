"""The parts that need no connection: escapes, events, orders, close codes in words, how JSON and bytes are shown."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import ColorSystem

from lapwing import Closed
from lapwing.cli import closing, events, orders
from lapwing.cli.display import MAX_SHOWN, Display, indented
from lapwing.cli.escapes import neutralise
from lapwing.cli.outcome import Failed, Status
from lapwing.cli.ping import RoundTrips
from lapwing.protocol import CloseCode

# --- escapes ---------------------------------------------------------------------------------------------------------


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text: str) -> None:
    for shown in (neutralise(text), neutralise(text, one_line=True)):
        for character in shown:
            category = unicodedata.category(character)
            assert category not in ("Cc", "Cs") or character in "\t\n"
            assert unicodedata.bidirectional(character) not in (
                "LRE",
                "RLE",
                "LRO",
                "RLO",
                "PDF",
                "LRI",
                "RLI",
                "FSI",
                "PDI",
            )
    assert "\n" not in neutralise(text, one_line=True)


def test_ordinary_text_stays() -> None:
    for text in ("plain", "größer 日本語", "👩‍👩‍👧", "שלום", "a\tb\nc", "\\e"):
        assert neutralise(text) == text


def test_escapes_are_shown() -> None:
    assert neutralise("\x1b[2J\x9b\r\x00\u202e\ufeff\U000e0041\x7f") == r"\e[2J\x9b\r\x00\u202e\ufeff\U000e0041\x7f"
    assert neutralise("a\tb\nc", one_line=True) == r"a\tb\nc"


# --- events ----------------------------------------------------------------------------------------------------------


@given(st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary()))
def test_messages_survive(message: str | bytes) -> None:
    line = events.dump(events.of_message(message))
    assert "\n" not in line
    assert events.message_of(events.parse(line, "here")) == message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("hello", "here: expected JSON such as"),
        (b"\xff", "here: expected JSON such as"),
        ("[" * 100_000, "here: expected JSON such as"),
        ("[]", 'here: expected an object whose "type"'),
        ('{"type": "pong"}', 'here: expected an object whose "type"'),
        ('{"type": "text"}', 'here: a "text" needs "data"'),
        ('{"type": "text", "data": 1}', 'here: expected "data" of a "text" to be of type str'),
        ('{"type": "text", "data": "", "code": 1}', 'here: a "text" has no "code": expected data'),
        ('{"type": "text", "data": "\\ud800"}', "half a character"),
        ('{"type": "binary", "data": "?"}', "expected base64"),
        ('{"type": "ping", "base64": "?"}', "expected base64"),
        ('{"type": "ping", "base64": "", "data": ""}', "not both"),
        ('{"type": "close", "code": true}', 'expected "code" of a "close" to be of type int'),
    ],
)
def test_wrong_events_are_explained(line: str | bytes, words: str) -> None:
    with pytest.raises(Failed, match=r"^here: ") as failed:
        events.parse(line, "here")
    assert words in str(failed.value)


# --- close codes -----------------------------------------------------------------------------------------------------


def test_every_registered_close_code_has_words() -> None:
    for code in CloseCode:
        assert ": " in closing.meaning(code)
    assert {closing.meaning(code) for code in (2000, 3999, 4999, 999)} == {
        "not assigned: reserved for the protocol itself",
        "a code of a library or framework",
        "a code of the application",
        "not a close code",
    }


def test_the_end_in_words() -> None:
    assert closing.words(Closed(True, 4001, "b\x1bye")) == (
        r"""closed: 4001, a code of the application, reason "b\eye\""""[:-2] + '"'
    )
    assert closing.words(Closed(False, 1006, "")).startswith("lost: 1006, abnormal closure")
    assert closing.status_of(Closed(True, 1000, "")) == Status.OK
    assert closing.status_of(Closed(False, 1000, "")) == Status.ENDED_BADLY
    assert closing.status_of(Closed(True, 1011, "")) == Status.ENDED_BADLY


# --- orders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hello", "hello"),
        ("", ""),
        ("//me waves", "/me waves"),
        ("/ping", orders.Order("ping", "")),
        ("/CLOSE 4001  bye now ", orders.Order("close", "4001  bye now")),
        ("/rec", orders.Order("reconnect", "")),
        ("/text /me\nwaves", orders.Order("text", "/me\nwaves")),
    ],
)
def test_orders_and_messages(line: str, expected: orders.Order | str) -> None:
    assert orders.order_in(line) == expected


@pytest.mark.parametrize("line", ["/", "/nope", "/p", "/ ping"])
def test_unknown_orders(line: str) -> None:
    with pytest.raises(Failed, match="unknown command"):
        orders.order_in(line)


def test_every_order_is_in_the_help() -> None:
    told = "\n".join(name for name, _ in orders.help_lines())
    assert all(f"/{name}" in told for name in orders.ORDERS)


def test_what_follows_close() -> None:
    assert orders.close_arguments("") == (1000, "")
    assert orders.close_arguments("4001 good bye") == (4001, "good bye")
    for wrong in ("1006", "bye", "99999", "²000"):
        with pytest.raises(Failed, match="expected a close code"):
            orders.close_arguments(wrong)


def test_what_follows_binary(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0\xff")
    assert orders.contents(f"@{tmp_path / 'file'}") == b"\0\xff"
    assert orders.contents("00 ff") == orders.contents("hex:00ff") == orders.contents("base64:AP8=") == b"\0\xff"
    for wrong in ("xyz", "base64:?", "0"):
        with pytest.raises(Failed, match="/binary: expected"):
            orders.contents(wrong)
    with pytest.raises(Failed, match="No such file"):
        orders.contents(f"@{tmp_path / 'none'}")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(orders.MAX_FILE + 1)
    with pytest.raises(Failed, match="connect --binary"):
        orders.contents(f"@{tmp_path / 'large'}")


# --- what is shown ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_indenting_changes_white_space_alone(value: object) -> None:
    compact = json.dumps(value, separators=(",", ":"))
    result = indented(compact)
    if isinstance(value, (list, dict)):
        assert result is not None
        assert json.dumps(json.loads(result), separators=(",", ":")) == compact
    else:
        assert result is None


def test_indenting_keeps_digits_and_repeated_names() -> None:
    assert indented('{"a":1.50,"a":1e400,"b":[],"c":{}}') == (
        '{\n  "a": 1.50,\n  "a": 1e400,\n  "b": [],\n  "c": {}\n}'
    )
    assert indented("[" * 60 + "]" * 60) is None
    assert indented("[" * 100_000) is None


def _shown(message: str | bytes, **options: bool) -> str:
    file = io.StringIO()
    Display(file, **options).message("received", message)
    return file.getvalue()


def test_messages_are_shown_line_by_line() -> None:
    assert _shown("one\ntwo") == "< one\n  two\n"
    assert _shown("\x1b[31m") == "< \\e[31m\n"
    assert _shown("[bold]x[/bold] :smile:") == "< [bold]x[/bold] :smile:\n"
    assert _shown('{"a":1}') == '< {\n    "a": 1\n  }\n'
    assert _shown('{"a":1}', pretty=False) == '< {"a":1}\n'
    assert _shown("") == "< \n"


def test_bytes_are_shown_in_rows() -> None:
    assert _shown(b"\0Az") == "< binary, 3 bytes\n  0000  00 41 7a  .Az\n"
    assert _shown(bytes(300)).endswith("\n  ... 300 bytes in all; /save FILE writes all of it to a file\n")


def test_long_messages_are_cut() -> None:
    """To less than a screen, wrapped lines counted, with the way to the rest."""
    rest = "; /save FILE writes all of it to a file"
    for message, size in (
        ("x" * (MAX_SHOWN + 1), f"10,001 characters in all{rest}"),
        ("line\n" * 1000, f"5,000 characters in all{rest}"),
        ('{"a":[' + "1," * 999 + "1]}", f"2,007 characters in all{rest}"),
        (bytes(200), f"200 bytes in all{rest}"),
    ):
        shown = _shown(message).splitlines()
        assert shown[-1].strip() == f"... {size}"
        rows = sum(-(-len(line) // 80) for line in shown)
        assert 8 < rows <= 20 < 25, "the terminal has 25 lines, some of them for what is around the message"
    whole = "line\n" * 10
    assert "..." not in _shown(whole)


def test_colours_can_be_read_on_black(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither blue nor dark grey, in which rich writes the names in JSON and asides."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    file = io.StringIO()
    display = Display(file, timestamps=True)
    monkeypatch.setattr(display._console, "_color_system", ColorSystem.STANDARD)
    monkeypatch.setattr(display._console, "_force_terminal", True)
    display.message("received", '{"a":[1,null,true,"text"]}\n')
    display.message("sent", "x" * 20_000)
    display.notice("aside")
    display.error("failed")
    display.control("beside")
    codes = {code for found in re.findall(r"\x1b\[([\d;]+)m", file.getvalue()) for code in found.split(";")}
    assert "31" not in codes, "red is darker than bright red"
    assert codes, "no colours at all"
    assert not codes & {"34", "90", "30", "2"}, codes


class _Pieces(io.StringIO):
    """A file that remembers what was written at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


def test_what_belongs_together_is_written_at_once() -> None:
    """What shows it draws the prompt anew after each piece, in the middle of a message if that came in two."""
    file = _Pieces()
    display = Display(file)
    display.message("received", '{"a":[1,2]}')
    display.message("received", bytes(40))
    display.control("words " * 40)
    display.table([("name", "text"), ("other", "text " * 40)])
    assert len(file.pieces) == 4


# --- statistics ------------------------------------------------------------------------------------------------------


def test_round_trips() -> None:
    trips = RoundTrips()
    assert trips.loss == 0
    trips.sent = 4
    for seconds in (0.001, 0.002, 0.003):
        trips.add(seconds)
    assert trips.milliseconds() == {"min": 1.0, "avg": 2.0, "max": 3.0, "mdev": 0.816}
    assert trips.loss == 25.0
