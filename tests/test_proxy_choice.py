"""Which proxy: its URL, and what the environment says."""

from __future__ import annotations

import pytest

import lapwing
from lapwing.connecting.proxies import Proxy, is_exempt, parse_proxy, proxy_from_environment
from lapwing.protocol import parse_url


@pytest.mark.parametrize(
    ("text", "proxy"),
    [
        ("http://proxy", ("http", "proxy", 80, None)),
        ("HTTPS://Proxy/", ("https", "proxy", 443, None)),
        ("socks5://127.0.0.1:9", ("socks5", "127.0.0.1", 9, None)),
        ("socks5h://[::1]", ("socks5h", "::1", 1080, None)),
        ("socks4://ada@proxy", ("socks4", "proxy", 1080, ("ada", ""))),
        ("socks4a://proxy", ("socks4a", "proxy", 1080, None)),
        ("socks://proxy:9/", ("socks5h", "proxy", 9, None)),
        ("SOCKS://proxy", ("socks5h", "proxy", 1080, None)),
        ("http://ada:s%40%3A@proxy:1", ("http", "proxy", 1, ("ada", "s@:"))),
    ],
)
def test_urls_of_proxies(text: str, proxy: tuple[object, ...]) -> None:
    assert parse_proxy(text) == (*proxy, "")
    assert "ada" not in str(parse_proxy(text)) + repr(parse_proxy(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy:3128",
        "ftp://proxy",
        "socks6://proxy",
        "http://ada\\@proxy",
        "http://ada:sec#secret@proxy:1",
        "http://ada:/secret@proxy",
        "http://ada:secret/@proxy:1/",
        "http://ada:1?secret@proxy",
        "socks5://ada:1#secret@proxy",
        "ada:/secret@proxy",
        "ws://proxy",
        "http://",
        "http://proxy/path",
        "http://proxy?query",
        "http://proxy#fragment",
        "http://proxy:0",
        "http://a b",
        "http://ada:se cret@proxy",
        "http://a\u0000b",
        "socks4://ada:secret@proxy",
        "socks4://\xe9@proxy",
        "socks5://ada@proxy",
        "socks5://:secret@proxy",
        "socks5://\xe9:secret@proxy",
        f"socks5://{'a' * 256}:secret@proxy",
    ],
)
def test_wrong_urls_of_proxies(text: str) -> None:
    with pytest.raises(lapwing.InvalidURL) as caught:
        parse_proxy(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("ws://a", {}, None),
        ("ws://a", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("wss://a", {"http_proxy": "http://p:1"}, None),
        ("wss://a", {"https_proxy": "http://p:1"}, "http://p:1"),
        ("ws://a", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("ws://a", {"http_proxy": "http://l:1", "HTTP_PROXY": "http://u:1"}, "http://l:1"),
        ("ws://a", {"http_proxy": "", "HTTP_PROXY": "http://u:1"}, None),
        ("ws://a", {"ws_proxy": "http://w:1", "http_proxy": "http://p:1", "all_proxy": "http://a:1"}, "http://w:1"),
        ("wss://a", {"WSS_PROXY": "http://w:1", "https_proxy": "http://p:1"}, "http://w:1"),
        ("wss://a", {"all_proxy": "socks5://s"}, "socks5://s:1080"),
        ("ws://a", {"ALL_PROXY": "p:3128"}, "http://p:3128"),
        ("ws://a", {"ALL_PROXY": "socks://127.0.0.1:1080/"}, "socks5h://127.0.0.1:1080"),  # as GNOME sets it
        ("ws://a", {"HTTP_PROXY": "http://p:1", "REQUEST_METHOD": "GET"}, None),
        ("ws://a", {"http_proxy": "http://p:1", "REQUEST_METHOD": "GET"}, "http://p:1"),
        ("ws://a", {"http_proxy": "http://p:1", "no_proxy": "b,a"}, None),
        ("ws://a", {"http_proxy": "http://p:1", "NO_PROXY": "*"}, None),
        ("ws://a", {"http_proxy": "http://p:1", "no_proxy": "", "NO_PROXY": "a"}, None),
    ],
)
def test_the_environment(url: str, environment: dict[str, str], expected: str | None) -> None:
    proxy = proxy_from_environment(parse_url(url), environment)
    assert (None if proxy is None else str(proxy._replace(variable=""))) == expected
    assert proxy is None or isinstance(proxy, Proxy)


def test_a_proxy_of_the_environment_names_its_variable() -> None:
    proxy = proxy_from_environment(parse_url("wss://a"), {"HTTPS_PROXY": "http://u:secret@p:1"})
    assert str(proxy) == "http://p:1 (from HTTPS_PROXY)"
    assert str(parse_proxy("http://p:1")) == "http://p:1"


@pytest.mark.parametrize(
    ("host", "exempt"),
    [
        ("example.com", "example.com"),
        ("example.com", "EXAMPLE.COM"),
        ("example.com", ".example.com"),
        ("example.com", "*.example.com"),
        ("a.example.com", "example.com"),
        ("a.example.com", " other , .example.com "),
        ("example.com.", "example.com"),
        ("example.com", "example.com:80"),
        ("example.com", "*"),
        ("10.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("10.1.2.3", "10.1.2.3:80"),
        ("10.1.2.3", "10.1.2.3/8"),
        ("::1", "::1"),
        ("::1", "[::1]"),
        ("::1", "[::1]:80"),
        ("::1", "0:0:0:0:0:0:0:1"),
        ("fe80::1%eth0", "fe80::/10"),
    ],
)
def test_exempt(host: str, exempt: str) -> None:
    assert is_exempt(host, 80, exempt)


@pytest.mark.parametrize(
    ("host", "exempt"),
    [
        ("example.com", ""),
        ("example.com", " , "),
        ("example.com", "ample.com"),
        ("example.com", "a.example.com"),
        ("example.com", "example.com:81"),
        ("example.com", "10.0.0.0/8"),
        ("example.com", "."),
        ("example.com", "nonsense/99"),
        ("11.1.2.3", "10.0.0.0/8"),
        ("10.1.2.3", "2.3"),
        ("::1", "[::1]:81"),
        ("::2", "::1"),
        ("10.1.2.3", "::/0"),
    ],
)
def test_not_exempt(host: str, exempt: str) -> None:
    assert not is_exempt(host, 80, exempt)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"ALL_PROXY": "quic://ada:secret@p"}, "the environment variable ALL_PROXY names no proxy that lapwing knows"),
        ({"http_proxy": "ada:/secret@p:1"}, "write %23 for '#'"),
        ({"http_proxy": "http://ada:sec#secret@p:1"}, "write %23 for '#'"),
    ],
)
def test_an_environment_that_names_no_proxy_is_an_error(environment: dict[str, str], words: str) -> None:
    """Without the proxy the connection would take a way that the environment forbids."""
    with pytest.raises(lapwing.InvalidURL, match="proxy=None to go without") as caught:
        proxy_from_environment(parse_url("ws://a"), environment)
    assert words in str(caught.value)
    assert "sec" not in str(caught.value)
