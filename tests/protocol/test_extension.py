"""The grammar of Sec-WebSocket-Extensions (RFC 6455 section 9.1)."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol.errors import HandshakeError
from lapwing.protocol.extension import ExtensionOffer, Parameters, format_extensions, parse_extensions
from lapwing.protocol.limits import MAX_ELEMENTS


def offer(name: str, *parameters: tuple[str, str | None]) -> ExtensionOffer:
    return ExtensionOffer(name, parameters)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # The examples of section 9.1.
        ("foo", [offer("foo")]),
        ("bar; baz=2", [offer("bar", ("baz", "2"))]),
        ("foo, bar; baz=2", [offer("foo"), offer("bar", ("baz", "2"))]),
        ("deflate-stream", [offer("deflate-stream")]),
        ("mux; max-channels=4; flow-control, deflate-stream",
         [offer("mux", ("max-channels", "4"), ("flow-control", None)), offer("deflate-stream")]),
        ("private-extension", [offer("private-extension")]),
        # Those of RFC 7692 section 7.1.
        ("permessage-deflate", [offer("permessage-deflate")]),
        ("permessage-deflate; client_max_window_bits; server_max_window_bits=10",
         [offer("permessage-deflate", ("client_max_window_bits", None), ("server_max_window_bits", "10"))]),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate",
         [offer("permessage-deflate", ("server_max_window_bits", "10")), offer("permessage-deflate")]),
        # White space, empty elements (RFC 9110 section 5.6.1.2), no white space.
        ("", []),
        (" ,\t, ", []),
        (",foo,,bar,", [offer("foo"), offer("bar")]),
        ("a;b;c=d,e", [offer("a", ("b", None), ("c", "d")), offer("e")]),
        (" a\t;\tb = \tc ;d , e ", [offer("a", ("b", "c"), ("d", None)), offer("e")]),
        # Quoted strings.
        ('a; b="c"', [offer("a", ("b", "c"))]),
        ('a; b= "c" ; d', [offer("a", ("b", "c"), ("d", None))]),
        (r'a; b="c\d"', [offer("a", ("b", "cd"))]),
        (r'a; b="\c\d"', [offer("a", ("b", "cd"))]),
        # Twice the same: the extension's business.
        ("a; b; b=1; B", [offer("a", ("b", None), ("b", "1"), ("B", None))]),
    ],
)  # fmt: skip
def test_parse(value: str, expected: list[ExtensionOffer]) -> None:
    assert parse_extensions(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        ";", "a;", "a;;b", "; a", "a; =b", "a; b=", "a; b=;c", "a; b==c", "a=b", "a b", "a; b c", "a; b=c d", "a/b",
        "a; b=c/d", "a(", "é", "a; b=é", "a\0", "a; b=\x7f", "a\r\nb", "a; b\n", '"a"', 'a; "b"', 'a; b="', 'a; b=""',
        'a; b="c', 'a; b=c"', 'a; b="c"d', 'a; b="c" d', 'a; b=" c"', 'a; b="c d"', 'a; b="c,d"', 'a; b="c;d"',
        "a; b='c=d'", 'a; b="c=d"', 'a; b="c"="d"',
        r'a; b="c\"d"', r'a; b="c\\d"', r'a; b="c\"', r'a; b="\"', r'a; b="\,"', r"a; b=\c",
    ],
)  # fmt: skip
def test_what_does_not_conform_is_refused(value: str) -> None:
    """Section 9.1: whoever receives it MUST immediately fail the connection; a quoted value MUST be a token."""
    with pytest.raises(HandshakeError, match="malformed Sec-WebSocket-Extensions") as info:
        parse_extensions(value)
    assert str(info.value).isprintable()


@pytest.mark.parametrize("name", ["__proto__", "constructor", "__class__", "hasOwnProperty", "toString", "__init__"])
def test_hostile_names_are_only_names(name: str) -> None:
    """GHSA-5v72-xg48-5rpm: an extension or a parameter may be named like anything that the language knows."""
    assert parse_extensions(f"{name}; {name}={name}") == [offer(name, (name, name))]


def test_number_of_elements_is_limited() -> None:
    assert len(parse_extensions(",".join(["a"] * MAX_ELEMENTS))) == MAX_ELEMENTS
    assert len(parse_extensions(";".join(["a"] * MAX_ELEMENTS))[0].parameters) == MAX_ELEMENTS - 1
    for mark in ",;":
        with pytest.raises(HandshakeError, match="more than"):
            parse_extensions(mark.join(["a"] * (MAX_ELEMENTS + 1)))


@pytest.mark.parametrize("unit", ["a", " ", '"', "\\", "=", "a=", ", ", "; ", 'a; b="c"', 'a; b="\\c" ', " ; a = b "])
def test_hostile_values_end(unit: str) -> None:
    """CVE-2021-32640, CVE-2020-7662: no value takes more than its length in steps. One that did would not end here."""
    for value in (unit * 1_000_000, "a; b=" + unit * 1_000_000, 'a; b="' + unit * 1_000_000):
        with suppress(HandshakeError):
            parse_extensions(value)


def test_message_is_bounded() -> None:
    with pytest.raises(HandshakeError) as info:
        parse_extensions('a; b="' + "é" * 10_000)
    assert len(str(info.value)) < 600


def test_format() -> None:
    offers = [offer("mux", ("max-channels", "4"), ("flow-control", None)), offer("deflate-stream")]
    assert format_extensions(offers) == "mux; max-channels=4; flow-control, deflate-stream"
    assert format_extensions([]) == ""


@pytest.mark.parametrize("text", ["", " ", "a b", "a,b", "a;b", 'a"', "é", "a\r\nb", "\0"])
def test_format_refuses_what_is_no_token(text: str) -> None:
    for wrong in (offer(text), offer("a", (text, None)), offer("a", ("b", text))):
        with pytest.raises(ValueError, match="token"):
            format_extensions([wrong])


TOKENS = st.text(alphabet="!#$%&'*+-.^_`|~0123456789ABCXYZabcxyz", min_size=1, max_size=8)
PARAMETERS: st.SearchStrategy[Parameters] = st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=4).map(tuple)


@given(st.lists(st.builds(ExtensionOffer, TOKENS, PARAMETERS), max_size=6))
def test_what_is_written_is_what_is_read(offers: list[ExtensionOffer]) -> None:
    assert parse_extensions(format_extensions(offers)) == offers


#: The grammar of section 9.1, with the lists and the white space of RFC 2616. For short values only.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE = rf'(?:{TOKEN}+|"(?:\\?{TOKEN})+")'
EXTENSION = rf"{TOKEN}+(?:[ \t]*;[ \t]*{TOKEN}+(?:[ \t]*=[ \t]*{VALUE})?)*"
GRAMMAR = re.compile(rf"[ \t]*(?:{EXTENSION})?[ \t]*(?:,[ \t]*(?:{EXTENSION})?[ \t]*)*")


@given(st.text(alphabet='ab,;="\\ \té', max_size=12))
def test_agreement_with_the_grammar(value: str) -> None:
    try:
        offers = parse_extensions(value)
    except HandshakeError:
        assert not GRAMMAR.fullmatch(value)
    else:
        assert GRAMMAR.fullmatch(value)
        assert parse_extensions(format_extensions(offers)) == offers
