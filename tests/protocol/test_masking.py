"""Masking (RFC 6455 sections 5.3 and 10.3): the transformation, and where the keys come from."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapwing.protocol import Endpoint, MaskingKeys, Role, apply_mask
from tests.peers import wire
from tests.protocol.machine import *

KEY = bytes.fromhex("37fa213d")
PAYLOAD = bytes((7 * i + i // 256) % 256 for i in range(1100))


class Source:
    """A source of random bytes that counts: every four bytes differ from all others."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.given = 0

    def __call__(self, size: int) -> bytes:
        self.calls.append(size)
        keys = b"".join((self.given + i).to_bytes(4, "big") for i in range(size // 4))
        self.given += size // 4
        return keys


def keys_in(output: bytes) -> list[bytes]:
    """The masking keys of the frames in the output, which have short payloads."""
    keys = []
    while output:
        size = output[1] & 0x7F
        keys.append(output[2:6])
        output = output[6 + size :]
    return keys


# --- the transformation ------------------------------------------------------------------------------------------


def test_rfc_example() -> None:
    assert apply_mask(b"Hello", KEY) == bytes.fromhex("7f9f4d5158")


@pytest.mark.parametrize("size", [*range(80), 127, 128, 129, 1023, 1024, 1025])
def test_every_length_and_offset(size: int) -> None:
    """The octet i is XORed with the octet i modulo 4 of the key, whatever the word size of the loop."""
    payload = PAYLOAD[:size]
    for offset in range(9):
        expected = bytes(byte ^ KEY[(offset + i) % 4] for i, byte in enumerate(payload))
        assert apply_mask(payload, KEY, offset) == expected
        assert apply_mask(expected, KEY, offset) == payload


@pytest.mark.parametrize("size", range(70))
def test_every_alignment(size: int) -> None:
    """Bytes around the masked ones are neither read into the result nor changed."""
    whole = bytearray(PAYLOAD[:100])
    before = bytes(whole)
    for start in range(17):
        part = memoryview(whole)[start : start + size]
        assert apply_mask(part, KEY) == wire.mask(bytes(part), KEY)
        assert run(SERVER, [b"\x82" + bytes([0x80 | size]) + KEY + apply_mask(part, KEY)]).messages == [bytes(part)]
    assert whole == before


@given(st.binary(max_size=2000), st.binary(min_size=4, max_size=4), st.integers(0, 2**62), st.integers(1, 64))
def test_pieces(payload: bytes, key: bytes, offset: int, size: int) -> None:
    pieces = pieces_of(payload, size)
    masked = [apply_mask(piece, key, offset + i * size) for i, piece in enumerate(pieces)]
    assert b"".join(masked) == apply_mask(payload, key, offset)


@given(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.lists(st.integers(1, 40)))
def test_received_in_pieces(payload: bytes, key: bytes, sizes: list[int]) -> None:
    data = wire.frame(BINARY, payload, key=key)
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    assert run(SERVER, [*pieces, data]).messages == [payload]


@pytest.mark.parametrize(("key", "offset"), [(b"", 0), (b"abc", 0), (b"abcde", 0), (KEY, -1)])
def test_apply_mask_out_of_range(key: bytes, offset: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        apply_mask(b"payload", key, offset)


@pytest.mark.parametrize("payload", [5, None, "text", [1]])
def test_apply_mask_takes_bytes_only(payload: Any) -> None:
    with pytest.raises(TypeError):
        apply_mask(payload, KEY)


def test_input_is_not_changed() -> None:
    """A server unmasks where the bytes are read, never in an object of the application."""
    data = bytearray(wire.frame(BINARY, PAYLOAD[:100], key=KEY))
    before = bytes(data)
    assert run(SERVER, [data]).messages == [PAYLOAD[:100]]
    assert data == before


# --- the keys ----------------------------------------------------------------------------------------------------


def test_keys_come_from_the_given_source() -> None:
    source = Source()
    endpoint = Endpoint(CLIENT, random_bytes=source)
    assert source.calls == []
    for _ in range(3):
        endpoint.send("x")
    endpoint.ping(b"y", now=0.0)
    endpoint.close(now=0.0)
    assert keys_in(endpoint.data_to_send()) == [i.to_bytes(4, "big") for i in range(5)]


def test_no_key_is_used_twice() -> None:
    """Over many refills, and over message types: each key once, and all that the source gave."""
    source = Source()
    endpoint = Endpoint(CLIENT, random_bytes=source)
    seen = []
    for i in range(3000):
        endpoint.send(b"x" if i % 2 else "x")
        endpoint.send_fragment(b"y", fin=False)
        endpoint.send_fragment(b"z", fin=True)
        endpoint.receive_data(b"\x89\x00", now=0.0)
        seen += keys_in(endpoint.data_to_send())
    assert len(seen) == len(set(seen)) == 12000
    assert source.given - len(seen) < 1024


@pytest.mark.parametrize("size", [4, 5, 6, 7, 8, 9, 1023, 1024, 4096])
def test_source_that_gives_more_or_less(size: int) -> None:
    """Whatever the source returns is used up to the last four whole bytes, and no byte of it twice."""
    given = []

    def source(_: int) -> bytes:
        given.append(os.urandom(size))
        return given[-1]

    keys = MaskingKeys(source)
    taken = [keys.next() for _ in range(2 * (size // 4))]
    assert taken == [key for part in given for key in pieces_of(part, 4) if len(key) == 4]


@pytest.mark.parametrize("size", range(4))
def test_source_that_gives_too_little(size: int) -> None:
    with pytest.raises(ValueError, match="expected at least 4 random bytes"):
        MaskingKeys(lambda _: bytes(size)).next()


@pytest.mark.parametrize("value", [None, "text", bytearray(8), 8])
def test_source_of_the_wrong_type(value: Any) -> None:
    with pytest.raises(TypeError):
        MaskingKeys(lambda _: value).next()


def test_error_of_the_source_is_the_callers() -> None:
    """Nothing is sent unmasked or with an old key when the source fails, and what was queued before stays whole."""

    def source(size: int) -> bytes:
        if failing:
            raise OSError("no entropy")
        return bytes(range(4))

    failing = False
    endpoint = Endpoint(CLIENT, random_bytes=source)
    endpoint.send(b"first")
    failing = True
    with pytest.raises(OSError, match="no entropy"):
        endpoint.send(b"second")
    with pytest.raises(OSError, match="no entropy"):
        endpoint.ping(b"second", now=0.0)
    failing = False
    endpoint.send(b"third")
    assert endpoint.data_to_send() == b"".join(wire.frame(2, x, key=bytes(range(4))) for x in (b"first", b"third"))


def test_default_source_is_the_operating_systems() -> None:
    """Without a source of its own an endpoint shares the process's keys: no two endpoints get the same."""
    seen = []
    for _ in range(20):
        endpoints = [Endpoint(CLIENT) for _ in range(5)]
        for endpoint in endpoints:
            endpoint.send("x")
            seen += keys_in(endpoint.data_to_send())
    assert len(set(seen)) >= 99  # two of 100 random keys agree once in a million runs
    assert MaskingKeys().next() != MaskingKeys().next()


def test_discard() -> None:
    source = Source()
    keys = MaskingKeys(source)
    assert keys.next() == bytes(4)
    keys.discard()
    assert keys.next() == (source.calls[0] // 4).to_bytes(4, "big")


def test_a_server_uses_no_keys_up() -> None:
    source = Source()
    endpoint = Endpoint(SERVER, random_bytes=source)
    for _ in range(1000):
        endpoint.send("x")
    endpoint.close(now=0.0)
    assert len(source.calls) <= 1


FORKED = """
import os, sys
from lapwing.protocol import Endpoint, Role

def keys():
    endpoint = Endpoint(Role.CLIENT)
    found = []
    for _ in range(8):
        endpoint.send("x")
        found.append(endpoint.data_to_send()[2:6].hex())
    return found

keys()  # the pool is filled and partly used
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, " ".join(keys()).encode())
    os._exit(0)
os.waitpid(child, 0)
theirs = os.read(reader, 4096).decode().split()
ours = keys()
assert len(theirs) == len(ours) == 8, theirs
sys.exit(len(set(ours) & set(theirs)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is missing")
def test_a_forked_child_has_keys_of_its_own() -> None:
    result = subprocess.run(
        [sys.executable, "-c", FORKED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("role", [CLIENT, SERVER])
def test_masked_by_the_client_only(role: Role) -> None:
    endpoint = Endpoint(role)
    endpoint.send("text")
    endpoint.send(b"binary")
    endpoint.send_fragment("frag", fin=False)
    endpoint.ping(b"ping", now=0.0)
    endpoint.receive_data(b"\x89\x00" if role is CLIENT else b"\x89\x80" + KEY, now=0.0)
    endpoint.send_fragment("ment", fin=True)
    endpoint.close(now=0.0)
    data = endpoint.data_to_send()
    while data:
        masked = data[1] & 0x80
        assert bool(masked) is (role is CLIENT)
        data = data[(6 if masked else 2) + (data[1] & 0x7F) :]
