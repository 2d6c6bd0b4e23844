"""The headers of proxies: who the client is, read from the end of the list as far as proxies are trusted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Headers
from lapwing.protocol.forwarded import ForwardedError, TrustedProxies

PROXIES = TrustedProxies(["10.0.0.0/8", "127.0.0.1", "2001:db8:ffff::/48", "unix"])


def client(*, forwarded: str | None = None, usual: str | None = None, proxies: TrustedProxies = PROXIES) -> Any:
    pairs = [("Forwarded", forwarded), ("X-Forwarded-For", usual)]
    return proxies.client(Headers([(name, value) for name, value in pairs if value is not None]))


@pytest.mark.parametrize(
    ("host", "is_trusted"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("127.0.0.1", True),
        ("127.0.0.2", False),
        ("::ffff:10.1.2.3", True),
        ("2001:db8:ffff::7", True),
        ("2001:db8::7", False),
        ("fe80::1%eth0", False),
        (None, True),
    ],
)
def test_who_is_trusted(host: str | None, is_trusted: bool) -> None:
    assert PROXIES.is_trusted(host) is is_trusted


def test_a_unix_socket_is_trusted_only_where_it_is_named() -> None:
    assert not TrustedProxies("10.0.0.1").is_trusted(None)
    assert TrustedProxies("unix").is_trusted(None)
    assert not TrustedProxies("unix").is_trusted("127.0.0.1")


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("192.0.2.1", ("192.0.2.1", 0)),
        ("192.0.2.1:4711", ("192.0.2.1", 4711)),
        ("2001:db8::1", ("2001:db8::1", 0, 0, 0)),
        ("[2001:db8::1]", ("2001:db8::1", 0, 0, 0)),
        ("[2001:db8::1]:4711", ("2001:db8::1", 4711, 0, 0)),
        ("::ffff:192.0.2.1", ("192.0.2.1", 0)),
        # A client may begin the list with whatever it likes: the proxies add what they see.
        ("203.0.113.9, 192.0.2.1", ("192.0.2.1", 0)),
        ("203.0.113.9, 192.0.2.1, 10.0.0.7", ("192.0.2.1", 0)),
        ("127.0.0.1,192.0.2.1,10.0.0.7,10.0.0.8", ("192.0.2.1", 0)),
        # All of it are proxies: a client within that network.
        ("10.0.0.9, 10.0.0.7", ("10.0.0.9", 0)),
        # What is no address ends it: the last one that is known.
        ("192.0.2.1, unknown, 10.0.0.7", ("10.0.0.7", 0)),
        ("192.0.2.1, 999.0.0.1, 10.0.0.7", ("10.0.0.7", 0)),
        ("192.0.2.1, 10.0.0.7:99999", None),
        ("unknown", None),
        ("", None),
        (",,", None),
    ],
)
def test_x_forwarded_for(value: str, address: Any) -> None:
    assert client(usual=value) == address


@pytest.mark.parametrize(
    ("value", "address"),
    [
        # The examples of RFC 7239 sections 4 and 6.
        ('for="_gazonk"', None),
        ('For="[2001:db8:cafe::17]:4711"', ("2001:db8:cafe::17", 4711, 0, 0)),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ("192.0.2.60", 0)),
        ("for=192.0.2.43, for=10.51.100.17", ("192.0.2.43", 0)),
        ('for=192.0.2.43, for="[2001:db8:cafe::17]"', ("2001:db8:cafe::17", 0, 0, 0)),
        ('for="192.0.2.43:47011"', ("192.0.2.43", 47011)),
        ("for=192.0.2.43,for=unknown", None),
        # The order and the case of parameters are of no matter, nor is white space.
        ("by=10.0.0.1 ; FOR=192.0.2.1 ,for=10.0.0.2", ("192.0.2.1", 0)),
        ('host="a, for=1.1.1.1";for=192.0.2.1', ("192.0.2.1", 0)),
        ('for="\\192.0.2.1"', ("192.0.2.1", 0)),
        ("for=203.0.113.9, proto=https", None),
        ("for=192.0.2.1;", ("192.0.2.1", 0)),
        ("for=192.0.2.1, ,", ("192.0.2.1", 0)),
        ("", None),
    ],
)
def test_forwarded(value: str, address: Any) -> None:
    assert client(forwarded=value) == address


@pytest.mark.parametrize("value", ["for", "for=", "for=a b", 'for="192.0.2.1', "=192.0.2.1", "for=1.1.1.1;;x=y"])
def test_a_malformed_header(value: str) -> None:
    with pytest.raises(ForwardedError, match="malformed header Forwarded"):
        client(forwarded=value)


def test_both_headers_that_agree() -> None:
    assert client(forwarded="for=192.0.2.1", usual="192.0.2.1") == ("192.0.2.1", 0)
    assert client(forwarded='for="192.0.2.1:4711"', usual="192.0.2.1") == ("192.0.2.1", 4711)


@pytest.mark.parametrize("forwarded", ["for=203.0.113.9", "for=unknown", ""])
def test_both_headers_that_do_not(forwarded: str) -> None:
    """A proxy that sets one of them passes the other on as the client has sent it."""
    with pytest.raises(ForwardedError, match="name different clients"):
        client(forwarded=forwarded, usual="192.0.2.1")


def test_several_lines_are_one_list() -> None:
    headers = Headers([("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "192.0.2.1, 10.0.0.7")])
    assert PROXIES.client(headers) == ("192.0.2.1", 0)


def test_no_header() -> None:
    assert client() is None


def test_more_proxies_than_there_can_be() -> None:
    with pytest.raises(ForwardedError, match="at most 64 proxies"):
        client(usual=",".join(["10.0.0.7"] * 65))


@pytest.mark.parametrize(
    ("names", "kind", "said"),
    [
        ([], ValueError, "at least one proxy"),
        ("*", ValueError, "got '\\*'"),
        ("example.com", ValueError, "got 'example.com'"),
        ("10.0.0.1/8", ValueError, "has host bits set"),
        ([10], TypeError, "got 10"),
    ],
)
def test_what_is_no_proxy(names: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        TrustedProxies(names)


@given(st.text(alphabet=st.characters(max_codepoint=0xFF)), st.text(alphabet=st.characters(max_codepoint=0xFF)))
def test_whatever_comes_is_an_address_or_none_or_an_error(forwarded: str, usual: str) -> None:
    try:
        address = client(forwarded=forwarded, usual=usual)
    except ForwardedError:
        return
    assert address is None or address[0]


@given(st.lists(st.sampled_from(["192.0.2.1", "10.0.0.1", "unknown", "_x", "[::1]:7", ""]), max_size=8))
def test_both_headers_mean_the_same(nodes: list[str]) -> None:
    usual = client(usual=",".join(nodes))
    forwarded = client(forwarded=",".join(f'for="{node}"' for node in nodes if node))
    assert usual == forwarded
