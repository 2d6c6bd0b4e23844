"""Asking an HTTP proxy for a tunnel: the request, and every kind of answer, whole and byte by byte."""

from __future__ import annotations

import pytest

from lapwing.protocol import ProxyError
from lapwing.protocol.tunnel import TunnelHandshake


def handshake(host: str = "example.com", port: int = 443, userinfo: tuple[str, str] | None = None) -> TunnelHandshake:
    return TunnelHandshake(host, port, userinfo, "the proxy http://p:1")


@pytest.mark.parametrize(
    ("host", "target"),
    [
        ("example.com", b"example.com:443"),
        ("192.0.2.1", b"192.0.2.1:443"),
        ("2001:db8::1", b"[2001:db8::1]:443"),
        ("fe80::1%eth0", b"[fe80::1]:443"),
    ],
)
def test_the_request(host: str, target: bytes) -> None:
    asked = handshake(host)
    assert asked.data_to_send() == b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n"
    assert asked.data_to_send() == b""


def test_credentials() -> None:
    assert (
        b"\r\nProxy-Authorization: Basic YWRhOnPDqWNyZXQ=\r\n" in handshake(userinfo=("ada", "sécret")).data_to_send()
    )


GRANTED = [
    b"HTTP/1.1 200 Connection established\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 204 \r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
]


@pytest.mark.parametrize("answer", GRANTED)
def test_granted_whole_and_byte_by_byte(answer: bytes) -> None:
    assert handshake().receive_data(answer)
    asked = handshake()
    assert [asked.receive_data(answer[at : at + 1]) for at in range(len(answer))] == [False] * (len(answer) - 1) + [
        True
    ]
    assert asked.rest == b""


@pytest.mark.parametrize("answer", GRANTED)
def test_trailing_bytes_are_refused(answer: bytes) -> None:
    with pytest.raises(ProxyError, match="unexpected data"):
        handshake().receive_data(answer + b"x")


@pytest.mark.parametrize(
    ("status", "hint"), [(403, "does not allow"), (407, "credentials"), (502, "could not connect")]
)
@pytest.mark.parametrize("bytewise", [False, True])
def test_refused(status: int, hint: str, bytewise: bool) -> None:
    answer = f"HTTP/1.1 {status} No\r\nX: y\r\nContent-Length: 3\r\n\r\nwhy".encode()
    asked = handshake()
    pieces = [answer[at : at + 1] for at in range(len(answer))] if bytewise else [answer]
    with pytest.raises(ProxyError, match=f"the proxy http://p:1 answered {status} No .*{hint}") as caught:
        for piece in pieces:
            assert not asked.receive_data(piece)
    error = caught.value
    assert (error.status, error.body, error.code) == (status, b"why", None)
    assert error.headers is not None
    assert error.headers["X"] == "y"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"\x05\x00",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nX\x00: y\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
    ids=lambda answer: ascii(answer[:20]),
)
def test_nonsense(answer: bytes) -> None:
    with pytest.raises(ProxyError, match="is no HTTP proxy"):
        handshake().receive_data(answer)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 20", b"HTTP/1.1 200 OK\r\nX: y\r\n"])
def test_the_end_before_an_answer(answer: bytes) -> None:
    asked = handshake()
    assert not asked.receive_data(answer)
    with pytest.raises(ProxyError, match="closed the connection before it answered") as caught:
        asked.receive_eof()
    assert isinstance(caught.value.__cause__, EOFError)


def test_the_end_ends_the_body_of_a_refusal() -> None:
    asked = handshake()
    assert not asked.receive_data(b"HTTP/1.1 503 Busy\r\n\r\nla")
    with pytest.raises(ProxyError, match="503") as caught:
        asked.receive_eof()
    assert caught.value.body == b"la"
