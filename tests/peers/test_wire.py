"""The frames and handshakes that the tests write by hand agree with the examples of RFC 6455."""

from __future__ import annotations

import io

import pytest

from tests.peers import wire
from tests.peers.wire import Frame, Head


@pytest.mark.parametrize(
    ("data", "frame", "key"),
    [
        ("8105 48656c6c6f", Frame(wire.TEXT, b"Hello"), None),
        ("8185 37fa213d 7f9f4d5158", Frame(wire.TEXT, b"Hello", masked=True), wire.MASK),
        ("0103 48656c", Frame(wire.TEXT, b"Hel", fin=False), None),
        ("8002 6c6f", Frame(wire.CONTINUATION, b"lo"), None),
        ("8905 48656c6c6f", Frame(wire.PING, b"Hello"), None),
        ("8a85 37fa213d 7f9f4d5158", Frame(wire.PONG, b"Hello", masked=True), wire.MASK),
        ("827e0100" + "00" * 256, Frame(wire.BINARY, bytes(256)), None),
        ("827f0000000000010000" + "00" * 65536, Frame(wire.BINARY, bytes(65536)), None),
    ],
)
def test_the_examples_of_section_5_7(data: str, frame: Frame, key: bytes | None) -> None:
    encoded = bytes.fromhex(data)
    assert wire.frame(frame.opcode, frame.payload, fin=frame.fin, key=key) == encoded
    assert wire.read_frame(io.BytesIO(encoded).read) == frame


def test_reserved_bits() -> None:
    encoded = wire.frame(wire.TEXT, rsv=4)
    assert encoded == b"\xc1\x00"
    assert wire.read_frame(io.BytesIO(encoded).read).rsv == 4


def test_frames_that_are_wrong_on_purpose() -> None:
    assert wire.frame(wire.TEXT, b"x", form=16) == b"\x81\x7e\x00\x01x"
    assert wire.frame(wire.TEXT, b"x", form=64) == b"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x01x"
    assert wire.frame(wire.BINARY, length=1 << 63) == b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"


@pytest.mark.parametrize("data", [b"\x81\x7e\x00\x01x", b"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x01x"])
def test_a_length_that_is_not_minimal_is_noticed(data: bytes) -> None:
    with pytest.raises(AssertionError, match="shortest form"):
        wire.read_frame(io.BytesIO(data).read)


def test_the_example_of_section_1_3() -> None:
    assert wire.accept_value(wire.KEY) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_close_payloads() -> None:
    assert wire.close_payload(None) == b""
    assert wire.close_payload() == b"\x03\xe8"
    assert wire.close_payload(1001, "ä") == b"\x03\xe9\xc3\xa4"


def test_a_request_and_its_parts() -> None:
    head = wire.parse_head(wire.request("h:1", "/x", subprotocols=["a", "b"], headers=[("Cookie", "c=1")]))
    assert head.start_line == "GET /x HTTP/1.1"
    assert head.one("host") == "h:1"
    assert head.one("sec-websocket-protocol") == "a, b"
    assert head.all("COOKIE") == ["c=1"]
    assert head.all("x-missing") == []
    with pytest.raises(AssertionError, match="expected one x-missing header"):
        head.one("x-missing")


def test_a_response_and_its_parts() -> None:
    head = wire.parse_head(wire.response(wire.KEY, subprotocol="a"))
    assert head == Head(
        "HTTP/1.1 101 Switching Protocols",
        (
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            ("Sec-WebSocket-Protocol", "a"),
        ),
    )
