"""The answers of uWebSockets 20, as recorded from socketify 0.0.31."""

from __future__ import annotations

import pytest

from tests.peers import wire
from tests.peers.uwebsockets import Codec, Compression, negotiate

BOTH_FORGET = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"


@pytest.mark.parametrize(
    ("offers", "header"),
    [
        ("permessage-deflate", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits", "permessage-deflate"),
        ("permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"),
        ("permessage-deflate; server_max_window_bits=10", "permessage-deflate; server_max_window_bits=10"),
        ("permessage-deflate; server_no_context_takeover", "permessage-deflate"),
        (BOTH_FORGET, "permessage-deflate; client_no_context_takeover"),
        (f"x-other, {BOTH_FORGET}, permessage-deflate", "permessage-deflate; client_no_context_takeover"),
    ],
)
def test_the_full_window(offers: str, header: str) -> None:
    agreement = negotiate(offers, Compression())
    assert agreement is not None
    assert agreement.header == header


def test_frames() -> None:
    agreement = negotiate("permessage-deflate", Compression())
    assert agreement is not None
    codec = Codec(agreement)
    message = b'{"a": 1, "b": [1,2,3], "name": "message"}' * 3
    recorded = [
        "c1 2b aa 56 4a 54 b2 52 30 d4 51 50 4a 02 d2 d1 86 3a 46 3a c6 b1 40 5e 5e 62 6e 2a 50 40 29 37 b5 b8 38 31 3d"
        " 55 a9 b6 9a ea 0a 01 00",
        "c1 05 1a 40 85 00 00",
        "81 00",
        "81 00",
        "c1 03 aa 00 00",
    ]
    assert [codec.frame(wire.TEXT, each).hex(" ") for each in (message, message, b"", b"", b"x")] == recorded


def test_other_compressors() -> None:
    small = negotiate("permessage-deflate", Compression(compressor_bits=9))
    assert small is not None
    assert small.header == "permessage-deflate; server_max_window_bits=9"
    shared = negotiate("permessage-deflate; client_max_window_bits", Compression(shared_decompressor=True))
    assert shared is not None
    assert shared.header == "permessage-deflate; client_no_context_takeover"


def test_nothing_to_agree_on() -> None:
    assert negotiate("", Compression()) is None
    assert negotiate("x-webkit-deflate-frame", Compression()) is None
