"""URLs: what section 3 of RFC 6455 allows, and messages that help where it does not."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lapwing.protocol.errors import InvalidURL
from lapwing.protocol.url import URL, parse_url

# --- section 3 ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ws://example.com/chat", URL("ws", "example.com", 80, "/chat")),
        ("wss://example.com/chat", URL("wss", "example.com", 443, "/chat")),
        ("ws://localhost:8080", URL("ws", "localhost", 8080, "/")),
        ("ws://localhost:8080/a/b?x=1&y=2", URL("ws", "localhost", 8080, "/a/b?x=1&y=2")),
        ("ws://localhost?x=1", URL("ws", "localhost", 80, "/?x=1")),
        ("ws://localhost?x=/../y", URL("ws", "localhost", 80, "/?x=/../y")),
        ("ws://localhost:/", URL("ws", "localhost", 80, "/")),
        ("ws://127.0.0.1:1/", URL("ws", "127.0.0.1", 1, "/")),
        ("ws://[::1]:8080/", URL("ws", "::1", 8080, "/")),
        ("ws://[2001:DB8::1]", URL("ws", "2001:db8::1", 80, "/")),
        ("ws://my_host./", URL("ws", "my_host.", 80, "/")),
        ("ws://h/%20?%23", URL("ws", "h", 80, "/%20?%23")),
        ("ws://user:pass@h/", URL("ws", "h", 80, "/", ("user", "pass"))),
        ("ws://user@h/", URL("ws", "h", 80, "/", ("user", ""))),
        ("ws://a%40b:p%3Aw%20d@h/", URL("ws", "h", 80, "/", ("a@b", "p:w d"))),
        ("ws://h/a@b:c", URL("ws", "h", 80, "/a@b:c")),
    ],
)
def test_parts(text: str, expected: URL) -> None:
    assert parse_url(text) == expected


@pytest.mark.parametrize("text", ["WS://h/", "Ws://h/", "ws://H/"])
def test_scheme_and_host_are_matched_without_regard_to_case(text: str) -> None:
    """Section 3: "ws" is compared case-insensitively."""
    assert parse_url(text) == URL("ws", "h", 80, "/")


def test_secure_and_default_ports() -> None:
    """Section 3: 80 for ws, 443 for wss, which runs over TLS."""
    assert not parse_url("ws://h").secure
    assert parse_url("ws://h").port == 80
    assert parse_url("wss://h").secure
    assert parse_url("wss://h").port == 443


@pytest.mark.parametrize("text", ["ws://h/#", "ws://h/#x", "ws://h#x", "ws://h/?a#b", "wss://u:p@h/#x"])
def test_fragment_must_not_be_used(text: str) -> None:
    """Section 3: fragment identifiers MUST NOT be used; a "#" must be escaped as %23."""
    with pytest.raises(InvalidURL, match="%23"):
        parse_url(text)


def test_target_is_percent_encoded() -> None:
    """Section 3 and RFC 3987 section 3.1: what is not of a URI is encoded as UTF-8."""
    assert parse_url("ws://h/é/𝄞?q=ü|{}").target == "/%C3%A9/%F0%9D%84%9E?q=%C3%BC%7C%7B%7D"
    assert parse_url('ws://h/"<>^`[]').target == "/%22%3C%3E%5E%60%5B%5D"


@pytest.mark.parametrize(
    "text", ["ws://h\\@evil/", "ws:\\\\h/", "ws://h/a\\b", "ws://u:p\\@h/", "ws://h/?a=\\", "h\\a"]
)
def test_backslash_is_refused(text: str) -> None:
    """Browsers take it for a slash and other programs do not: they would disagree about the host."""
    with pytest.raises(InvalidURL, match=r"backslash at position .* %5C"):
        parse_url(text)


# --- hosts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("ws://h", "h"),
        ("ws://h:80", "h"),
        ("ws://h:443", "h:443"),
        ("wss://h:443", "h"),
        ("wss://h:80", "h:80"),
        ("ws://[::1]", "[::1]"),
        ("ws://[::1]:81", "[::1]:81"),
        ("ws://[fe80::1%25eth0]:81", "[fe80::1]:81"),
        ("ws://u:p@h", "h"),
    ],
)
def test_host_header_has_brackets_and_no_default_port(text: str, header: str) -> None:
    """Section 4.1 item 4: the port only where it is not the default."""
    assert parse_url(text).host_header == header


def test_zone_of_a_link_local_address() -> None:
    assert parse_url("ws://[FE80::1%25Eth0]/").host == "fe80::1%Eth0"


@pytest.mark.parametrize(
    ("host", "encoded"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.Example.", "xn--bcher-kva.example."),
        ("faß.de", "xn--fa-hia.de"),  # IDNA 2003 makes fass.de of it, another domain
        ("βόλος.com", "xn--nxasmm1c.com"),  # and another sigma of the last letter
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com"),  # a joiner that counts
        ("日本語。ｊｐ", "xn--wgv71a119e.jp"),
    ],
)
def test_international_host(host: str, encoded: str) -> None:
    """IDNA 2008 with the mapping of UTS 46, as browsers encode it."""
    assert parse_url(f"ws://{host}/").host == encoded


@pytest.mark.parametrize("host", ["ü..de", "\u0301a.de", "a\u200db.de", "xn--ü.de", "ü" * 60 + ".de", "א1ü.de"])
def test_invalid_international_host(host: str) -> None:
    with pytest.raises(InvalidURL, match="not an internationalised domain name: ") as caught:
        parse_url(f"ws://{host}/")
    assert str(caught.value).isascii()


@pytest.mark.parametrize(
    "text",
    [
        "ws://exa\uff0fmple.com/",  # FULLWIDTH SOLIDUS, "/" in its compatibility form
        "ws://a\u2100b.com/",  # ACCOUNT OF, "a/c"
        "ws://h\uff03x/",  # FULLWIDTH NUMBER SIGN
        "ws://evil.example\uff20good.example/",  # FULLWIDTH COMMERCIAL AT
        "ws://h\uff1a81/",  # FULLWIDTH COLON
    ],
)
def test_compatibility_forms_do_not_smuggle_delimiters(text: str) -> None:
    with pytest.raises(InvalidURL):
        parse_url(text)


@pytest.mark.parametrize(
    "host",
    ["a..b", ".a", ".", "a" * 64, ".".join(["a" * 63] * 4), "ü" * 64, "ü" * 100_000, "a b", "a\\b", "a%41", "a,b", "[",
     "]", "[]", "[::1", "::1]", "[::1]x", "[1.2.3.4]", "[::g]", "[::1%25]", "[::1%25a/b]", "[::1%eth0]", "::1",
     "a:1:2"],
)  # fmt: skip
def test_malformed_host(host: str) -> None:
    with pytest.raises(InvalidURL):
        parse_url(f"ws://{host}/")


@pytest.mark.parametrize("port", ["0", "65536", "99999999999999999999", "-1", "+80", "8o", "x", "\u0661", "8_0", "1.0"])
def test_malformed_port(port: str) -> None:
    with pytest.raises(InvalidURL, match=r"number from 1 to 65535|must not stand"):
        parse_url(f"ws://h:{port}/")


@pytest.mark.parametrize("userinfo", ["a@b", "a:b@c:d", "a%3Ab:c", "%00", "a:%0d%0a", "a:%7f", "%ff"])
def test_malformed_userinfo(userinfo: str) -> None:
    with pytest.raises(InvalidURL):
        parse_url(f"ws://{userinfo}@h/")


# --- messages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost:8080", "did you mean 'ws://localhost:8080'?"),
        ("example.com", "did you mean 'ws://example.com'?"),
        ("localhost/chat", "did you mean 'ws://localhost/chat'?"),
        ("//localhost/chat", "did you mean 'ws://localhost/chat'?"),
        ("ws:localhost", "did you mean 'ws://localhost'?"),
        ("wss:/localhost", "did you mean 'wss://localhost'?"),
        ("http://localhost/a", "did you mean 'ws://localhost/a'?"),
        ("https://localhost/a", "did you mean 'wss://localhost/a'?"),
        ("HTTPS://localhost/a", "did you mean 'wss://localhost/a'?"),
        (":9401", "did you mean 'ws://localhost:9401'?"),
        ("9401", "did you mean 'ws://localhost:9401'?"),
        ("9401/chat?x", "did you mean 'ws://localhost:9401/chat?"),
        ("wss::9401", "did you mean 'wss://localhost:9401'?"),
        ("ws:9401", "did you mean 'ws://localhost:9401'?"),
        ("/chat", "did you mean 'ws://localhost/chat'?"),
        ("ws+unix:/x", "did you mean 'ws+unix:///x'?"),
        ("WSS+UNIX:run/app.sock:/chat", "did you mean 'wss+unix:///run/app.sock:/chat'?"),
        ("http:localhost:8080", "did you mean 'ws://localhost:8080'?"),
        ("::1", "did you mean 'ws://[::1]'?"),
        ("fe80::1/chat", "did you mean 'ws://[fe80::1]/chat'?"),
        ("[::1]:8080", "did you mean 'ws://[::1]:8080'?"),
        ("99999", "write a scheme and a host, as in ws://localhost:8080/"),
        (":", "write a scheme and a host"),
        ("nonsense!", "write a scheme and a host"),
        ("ws+unix:", "write a scheme and a host"),
        ("ftp://localhost", "'ftp' is not a scheme of WebSocket"),
        ("", "empty URL"),
        ("ws://", "the host is missing"),
        ("ws:///path", "the host is missing"),
        ("ws://:80/", "the host is missing"),
        ("ws://::1:8080/", "in brackets"),
        ("ws://h/a b", "%20"),
        (" ws://h/", "position 0"),
        ("ws://h/\n", "position 7"),
        ("ws://h:port/", "'port'"),
        ("ws://a@b@c/", "%40"),
    ],
)
def test_message_helps(text: str, message: str) -> None:
    with pytest.raises(InvalidURL) as info:
        parse_url(text)
    assert message in str(info.value)


@pytest.mark.parametrize("value", [b"ws://h/", None, 80, ["ws://h/"]])
def test_wrong_type_is_named(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        parse_url(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "http://user:secret@h/",
        "user:secret@h/",
        "ftp://user:secret@h/",
        "ws://user:secret@h/#x",
        "ws://user:secret@h:0/",
        "ws://user:secret@/",
        "ws://user:secret@h,/",
        "ws://user%00:secret@h/",
        "ws://x@user:secret@h/",
        "ws://h:0/?token=secret",
        "http://h/?token=secret",
        "h/?token=secret#x",
    ],
)
def test_secrets_are_not_in_the_message(text: str) -> None:
    with pytest.raises(InvalidURL) as info:
        parse_url(text)
    assert "secret" not in str(info.value)


@pytest.mark.parametrize(
    "password", ["#secret", "sec#ret", "/secret", "sec/ret", "?secret", "sec?ret", "s@e/c#r?t:", "//se:ret"]
)
@pytest.mark.parametrize("template", ["ws://user:{}@h/", "wss://user:{}@h:81/a?b", "ws+unix://user:{}@/run/a:/", "http://user:{}@h",
                                      "user:{}@h/", "ws:user:{}@h/", "ftp://user:{}@h/"])  # fmt: skip
def test_password_that_is_not_encoded_is_not_in_the_message(template: str, password: str) -> None:
    """A "#", "/" or "?" in it ends the authority: the rest of the password is in what looks like path or fragment."""
    with pytest.raises(InvalidURL) as info:
        parse_url(template.format(password))
    message = str(info.value)
    assert not any(part in message for part in ("sec", "ret", "s@e", "c#r"))
    assert info.value.__context__ is None
    if template.startswith("ws") and template[:3] != "ws:" and "unix" not in template:
        assert "%23" in message


@given(
    st.text(alphabet="Q#/?@:;&=%+[]é", max_size=12),
    st.sampled_from(["ws://", "wss://", "http://", "ftp://", "ws:", ""]),
)
@example("@Q?", "ws://")
def test_no_part_of_a_password_is_in_a_message(password: str, scheme: str) -> None:
    url = f"{scheme}user:Q{password}Q@h:0/"
    try:
        parse_url(url)
    except InvalidURL as error:
        assert "Q" not in str(error)
    else:  # one that has another host: RFC 3986 section 3.2 ends the authority at the first of these
        assert "@" in re.split("[/?#]", url.removeprefix(scheme))[0]


def test_password_is_not_in_repr_and_str() -> None:
    url = parse_url("wss://user:secret@h:81/a?b")
    assert "secret" not in repr(url)
    assert "secret" not in str(url)
    assert str(url) == "wss://h:81/a"


def test_query_is_not_in_repr_and_str() -> None:
    """It often has a token in it; what connects takes `complete`."""
    url = parse_url("wss://user:pass@h:81/a?token=secret")
    assert str(url) == "wss://h:81/a"
    assert repr(url) == "URL(scheme='wss', host='h', port=81, target='/a?***', userinfo=<hidden>)"
    assert url.complete == "wss://h:81/a?token=secret"
    assert str(parse_url("ws+unix:///run/a.sock:/b?token=secret")) == "ws+unix:///run/a.sock:/b"


def test_url_is_frozen() -> None:
    url = parse_url("ws://h/")
    with pytest.raises(AttributeError):
        url.host = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        url.other = 1  # type: ignore[attr-defined]


# --- hostile input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("character", ["\r", "\n", "\0", "\t", "\x0b", "\x7f", "\x85", "\xa0", "\u2028", "\ud800"])
@pytest.mark.parametrize("template", ["{}ws://h/", "ws{}://h/", "ws://{}h/", "ws://h{}/", "ws://h:8{}/", "ws://h/{}",
                                      "ws://h/?{}", "ws://u{}:p@h/", "ws://h/{}Host: evil"])  # fmt: skip
def test_line_breaks_and_control_characters_anywhere(template: str, character: str) -> None:
    """CVE-2026-1527 and its like: nothing in a URL ends the request line."""
    with pytest.raises(InvalidURL):
        parse_url(template.format(character))


@given(st.text(max_size=50).map(lambda text: "ws://" + text) | st.text())
def test_any_text_is_a_url_or_invalid(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidURL:
        return
    line = f"GET {url.target} HTTP/1.1"
    assert line.isascii()
    assert line.isprintable()
    assert line.count(" ") == 2
    assert url.target.startswith("/")
    assert url.host.isascii()
    assert 1 <= url.port <= 65535
    assert parse_url(url.complete) == url._replace(userinfo=None, host=url.host.partition("%")[0])


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="#\\"), max_size=50))
def test_target_keeps_its_meaning(path: str) -> None:
    from urllib.parse import unquote

    assert unquote(parse_url("ws://h/" + path).target) == unquote("/" + path)


@pytest.mark.parametrize(
    ("text", "scheme", "path", "target"),
    [
        ("ws+unix:///run/app.sock:/chat?a=b", "ws", "/run/app.sock", "/chat?a=b"),
        ("WSS+UNIX:///run/app.sock", "wss", "/run/app.sock", "/"),
        ("ws+unix:///run/app.sock:", "ws", "/run/app.sock", "/"),
        ("ws+unix:///run/app.sock:?a", "ws", "/run/app.sock", "/?a"),
        ("ws+unix:///a%20b%3A%25%3F:/a:b", "ws", "/a b:%?", "/a:b"),
        ("ws+unix:///\xe9:/\xe9", "ws", "/\xe9", "/%C3%A9"),
    ],
)
def test_unix_sockets(text: str, scheme: str, path: str, target: str) -> None:
    url = parse_url(text)
    assert (url.scheme, url.host, url.unix_path, url.target) == (scheme, "localhost", path, target)
    assert url.host_header == "localhost"
    assert parse_url(url.complete) == url
    assert path in repr(url)
    assert url.origin == (scheme, "localhost", url.port, path)


@pytest.mark.parametrize(
    "text",
    [
        "ws+unix://",
        "ws+unix://run/app.sock",
        "ws+unix://host/run/app.sock",
        "ws+unix://ada:secret@/run/app.sock",
        "ws+unix:///run/app.sock:8080",
        "ws+unix:///run/app.sock?a",
        "ws+unix:///run/app.sock:/#a",
        "ws+unix:///run/%00",
        "ws+unix:///run/%0a",
        "ws+unix:///run/%ff",
        "ws+unix:///run/a b",
    ],
)
def test_wrong_unix_sockets(text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert "secret" not in str(caught.value)
