"""UTF-8 of TEXT messages (RFC 6455 section 8.1, RFC 3629): what is text, and that other fails at its first bad byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Endpoint, Role, State, Violation
from tests.protocol.machine import *

#: Valid text: what it holds, for the test's id, and the bytes.
VALID = {
    "nothing": b"",
    "ascii": b"Hello",
    "every ascii character": bytes(range(128)),
    "NUL": b"\x00",
    "first of two bytes, U+0080": b"\xc2\x80",
    "last of two bytes, U+07FF": b"\xdf\xbf",
    "first of three bytes, U+0800": b"\xe0\xa0\x80",
    "last before the surrogates, U+D7FF": b"\xed\x9f\xbf",
    "first behind the surrogates, U+E000": b"\xee\x80\x80",
    "last of three bytes, U+FFFF": b"\xef\xbf\xbf",
    "first of four bytes, U+10000": b"\xf0\x90\x80\x80",
    "last of all, U+10FFFF": b"\xf4\x8f\xbf\xbf",
    "byte order mark": b"\xef\xbb\xbfx",
    "noncharacters": "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0010ffff".encode(),
    "replacement character": "\ufffd".encode(),
    "Greek": "κόσμε".encode(),
    "mixed lengths": "aßé€\U0001f600z".encode(),
    "combining characters": "e\u0301\u0323".encode(),
}

#: Invalid text: what is wrong, the bytes, and after how many of them that is certain.
INVALID = {
    "continuation byte 80 alone": (b"\x80", 1),
    "continuation byte BF alone": (b"\xbf", 1),
    "continuation byte behind a character": (b"\xc3\xa9\x80", 3),
    "six continuation bytes": (b"\x80\xbf\x80\xbf\x80\xbf", 1),
    "two-byte character broken off by ASCII": (b"\xc3 ", 2),
    "two-byte character broken off by another": (b"\xc3\xc3\xa9", 2),
    "three-byte character broken off after one": (b"\xe2 ", 2),
    "three-byte character broken off after two": (b"\xe2\x82 ", 3),
    "four-byte character broken off after one": (b"\xf0 ", 2),
    "four-byte character broken off after two": (b"\xf0\x9f ", 3),
    "four-byte character broken off after three": (b"\xf0\x9f\x98 ", 4),
    "FE": (b"\xfe", 1),
    "FF": (b"\xff", 1),
    "overlong slash, two bytes": (b"\xc0\xaf", 1),
    "overlong slash, three bytes": (b"\xe0\x80\xaf", 2),
    "overlong slash, four bytes": (b"\xf0\x80\x80\xaf", 2),
    "overlong slash, five bytes": (b"\xf8\x80\x80\x80\xaf", 1),
    "overlong slash, six bytes": (b"\xfc\x80\x80\x80\x80\xaf", 1),
    "overlong NUL": (b"\xc0\x80", 1),
    "largest overlong of two bytes": (b"\xc1\xbf", 1),
    "largest overlong of three bytes": (b"\xe0\x9f\xbf", 2),
    "largest overlong of four bytes": (b"\xf0\x8f\xbf\xbf", 2),
    "first high surrogate": (b"\xed\xa0\x80", 2),
    "last high surrogate": (b"\xed\xaf\xbf", 2),
    "first low surrogate": (b"\xed\xb0\x80", 2),
    "last low surrogate": (b"\xed\xbf\xbf", 2),
    "pair of surrogates": (b"\xed\xa0\x80\xed\xb0\x80", 2),
    "first above U+10FFFF": (b"\xf4\x90\x80\x80", 2),
    "F5": (b"\xf5\x80\x80\x80", 1),
    "F7, last of four bytes": (b"\xf7\xbf\xbf\xbf", 1),
    "F8, first of five bytes": (b"\xf8\x88\x80\x80\x80", 1),
    "FC, first of six bytes": (b"\xfc\x84\x80\x80\x80\x80", 1),
    "Latin-1": ("café".encode("latin-1") + b"!", 5),
}

#: Text that ends in the middle of a character.
UNFINISHED = [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\x98", b"\xed\x9f", b"\xf4\x8f\xbf"]

AROUND = [(b"", b""), (b"a", b"z"), (b"x" * 31, b"y" * 33), (b"x" * 200, b"y" * 200), ("€".encode() * 40, b"")]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
@pytest.mark.parametrize(("before", "behind"), AROUND, ids=range(len(AROUND)))
def test_valid(role: Role, text: bytes, before: bytes, behind: bytes) -> None:
    whole = before + text + behind
    assert every_way(role, from_peer(role, TEXT, whole)).messages == [whole.decode()]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_valid_in_fragments(role: Role, text: bytes) -> None:
    """A fragment may end in the middle of a character (RFC 6455 section 5.6)."""
    for cut in range(len(text) + 1):
        data = from_peer(role, TEXT, text[:cut], fin=False) + from_peer(role, CONTINUATION, text[cut:])
        assert every_way(role, data).messages == [text.decode()]
    data = from_peer(role, TEXT, b"", fin=False)
    for byte in text:
        data += from_peer(role, CONTINUATION, bytes([byte]), fin=False) + from_peer(role, PING, b"\xff\xfe")
    assert every_way(role, data + from_peer(role, CONTINUATION)).messages == [text.decode()]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("text", "certain"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize(("before", "behind"), AROUND, ids=range(len(AROUND)))
def test_invalid(role: Role, text: bytes, certain: int, before: bytes, behind: bytes) -> None:
    assert failed(role, from_peer(role, TEXT, before + text + behind), Violation.TEXT_NOT_UTF8).messages == []


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("text", "certain"), INVALID.values(), ids=INVALID)
@pytest.mark.parametrize(("before", "behind"), AROUND, ids=range(len(AROUND)))
def test_invalid_fails_in_the_middle_of_a_frame(
    role: Role, text: bytes, certain: int, before: bytes, behind: bytes
) -> None:
    """The byte that makes it certain fails the connection, and none before it; the rest is not waited for."""
    payload = before + text + behind + b"much more"
    data = from_peer(role, TEXT, payload, fin=False)
    end = len(data) - len(payload) + len(before) + certain
    endpoint = Endpoint(role)
    for i in range(end):
        assert endpoint.violation is None, i
        endpoint.receive_data(data[i : i + 1], now=0.0)
    assert endpoint.violation is Violation.TEXT_NOT_UTF8
    assert run(role, [data[:end]]).violation is Violation.TEXT_NOT_UTF8
    assert run(role, [data[: end - 1]]).violation is None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("text", "certain"), INVALID.values(), ids=INVALID)
def test_invalid_fails_at_the_first_bad_fragment(role: Role, text: bytes, certain: int) -> None:
    for cut in range(certain):
        good = from_peer(role, TEXT, b"", fin=False) + from_peer(role, CONTINUATION, text[:cut], fin=False)
        assert run(role, [good]).violation is None
        failed(role, good + from_peer(role, CONTINUATION, text[cut:certain], fin=False), Violation.TEXT_NOT_UTF8)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("text", UNFINISHED, ids=repr)
def test_message_that_ends_within_a_character(role: Role, text: bytes) -> None:
    for before in (b"", b"before", "é".encode() * 50):
        failed(role, from_peer(role, TEXT, before + text), Violation.TEXT_NOT_UTF8)
        begun = from_peer(role, TEXT, before + text, fin=False)
        assert run(role, [begun]).state is State.OPEN
        failed(role, begun + from_peer(role, CONTINUATION), Violation.TEXT_NOT_UTF8)


@pytest.mark.parametrize("role", ROLES)
def test_character_does_not_go_on_in_the_next_message(role: Role) -> None:
    good = from_peer(role, TEXT, "€".encode()[:2], fin=False) + from_peer(role, CONTINUATION, "€".encode()[2:])
    bad = from_peer(role, TEXT, "€".encode()[2:])
    assert failed(role, good + bad, Violation.TEXT_NOT_UTF8).messages == ["€"]


def decodes(data: bytes) -> bool | None:
    """What Python makes of the bytes: text, no text, or (None) text that is not finished."""
    for tail in (b"", *(byte * count for byte in (b"\x80", b"\xbf") for count in (1, 2, 3))):
        try:
            (data + tail).decode()
        except UnicodeDecodeError:
            continue
        return None if tail else True
    return False


def test_every_two_and_every_interesting_three_bytes() -> None:
    """Agreement with Python's decoder, state by state: whole, and in pieces of one byte."""
    edges = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xEC, 0xED, 0xEE, 0xEF, 0xF0]
    edges += [0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFF]
    texts = [bytes([a, b]) for a in range(256) for b in range(256)]
    texts += [bytes([a, b, c]) for a in edges for b in edges for c in edges]
    texts += [bytes([a, b, c, d]) for a in edges[15:] for b in edges for c in edges[1:9] for d in edges[1:9]]
    for text in texts:
        whole = decodes(text)
        header = bytes([0x01, len(text)])
        in_pieces = Endpoint(CLIENT)
        in_pieces.receive_data(header, now=0.0)
        for i in range(len(text)):
            in_pieces.receive_data(text[i : i + 1], now=0.0)
        assert (in_pieces.violation is Violation.TEXT_NOT_UTF8) is (whole is False), text
        at_once = Endpoint(CLIENT)
        at_once.receive_data(bytes([0x81, len(text)]) + text, now=0.0)
        assert (at_once.violation is None) is (whole is True), text


@given(st.text(max_size=200), st.sampled_from(ROLES))
def test_any_text(text: str, role: Role) -> None:
    assert run(role, [from_peer(role, TEXT, text.encode())]).messages == [text]


@given(st.binary(max_size=200), st.sampled_from(ROLES), st.integers(1, 20))
def test_any_bytes_as_text(data: bytes, role: Role, size: int) -> None:
    whole = from_peer(role, TEXT, data)
    for pieces in ([whole], [whole[i : i + size] for i in range(0, len(whole), size)]):
        found = run(role, pieces)
        if decodes(data):
            assert found.messages == [data.decode()]
        else:
            assert (found.messages, found.violation) == ([], Violation.TEXT_NOT_UTF8)
