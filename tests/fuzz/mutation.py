"""Where inputs come from: seeds that are good, and changes to them that know what they change."""

from __future__ import annotations

import zlib
from random import Random

from tests.fuzz import brokers, hub
from tests.fuzz.targets import DEFLATE, STEPS, Step, format_steps, parse_steps
from tests.peers import deflated, wire
from tests.peers.deflated import deflate

__all__ = ["mutate", "seeds"]

LENGTHS = (0, 1, 124, 125, 126, 127, 65535, 65536, 5000, 5001, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
TEXTS = (b"", b"text", "é€\U0001f600".encode(), b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\x80", b"\xed\xa0\x80", b"\xff")
CODES = (999, 1000, 1001, 1004, 1005, 1006, 1011, 1015, 2999, 3000, 4999, 5000, 65535)
TOKENS = (
    *(
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\r",
        b": ",
        b",",
        b";",
        b'"',
        b"\\",
        b"=",
        b"\x00",
        b"\t",
        b" ",
        b"%",
        b"%41",
        b"#",
    ),
    *(b"websocket", b"Upgrade", b"Connection", b"Sec-WebSocket-Key", b"Sec-WebSocket-Version: 13\r\n", b"chat"),
    *(b"Sec-WebSocket-Extensions: a; b=1, c\r\n", b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"),
    *(b"Origin: https://example.com\r\n", b"Host", b"HTTP/1.0", b"[::1]", b"@", b"ws://", b"wss://", b"xn--"),
    *("ß".encode(), b"://", b":0", b"/"),
)


def seeds(target: str) -> list[bytes]:
    """Good inputs to begin with."""
    if _is_endpoint(target):
        key = _key(target)
        frames = [
            wire.frame(1, b"Hel", fin=False, key=key),
            wire.frame(9, b"ping", key=key),
            wire.frame(0, b"lo", key=key),
        ]
        end = wire.frame(8, wire.close_payload(1000, "bye"), key=key)
        conversation = [Step("feed", b"".join(frames)), Step("take", b""), Step("send", b"x"), Step("feed", end)]
        found = [b"\xff" + format_steps(conversation), b"\x00" + format_steps(Step("feed", frame) for frame in frames)]
        if target.startswith("deflating"):
            for takes_over in range(len(DEFLATE)):
                payload = deflate(b"Hello, hello, hello" * 9, bits=9)
                whole = deflated.frame(1, payload, key=key)
                cut = [deflated.frame(2, payload[:9], key=key, fin=False), wire.frame(0, payload[9:], key=key)]
                steps = [Step("feed", whole), *(Step("feed bytewise", frame) for frame in cut), Step("send", b"x" * 99)]
                steps += [Step("fragment", b"y" * 99), Step("last fragment", b""), Step("send text", b"z" * 999)]
                found.append(bytes([9 + takes_over]) + format_steps(steps))
        return found
    if target == "client_handshake":
        good = wire.response("AAAAAAAAAAAAAAAAAAAAAA==", subprotocol="chat")
        folded = good.replace(b": ", b":\r\n \t")
        return [
            good,
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
            b"HTTP/1.1 100 C\r\n\r\n" + good,
            folded,
        ]
    if target in hub.CODECS:
        return hub.seeds(target)
    if target in brokers.ENGINES:
        return brokers.seeds(target)
    if target == "server_handshake":
        return [wire.request("server.example.com", subprotocols=["chat"], headers=[("Origin", "https://example.com")])]
    return [
        b"ws://user:secret@server.example.com:8080/a/b?c=d",
        b"wss://[fe80::1%25eth0]/",
        "ws://bücher.example/ä".encode(),
        "wss://user:se#cr/et?@faß.example:443/?token=secret".encode(),
    ]


def mutate(target: str, data: bytes, other: bytes, random: Random) -> bytes:
    """Change an input; `other` is one to borrow from."""
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        if _is_endpoint(target) and random.random() < 0.8:
            data = _mutate_conversation(data, other, _key(target), target.startswith("deflating"), random)
        elif target in brokers.ENGINES and random.random() < 0.9:
            data = brokers.mutate(target, data, other, random)
        else:
            data = _mutate_bytes(data, other, random)
    return data[:20_000]


def _is_endpoint(target: str) -> bool:
    return target.endswith("endpoint") or target.startswith("deflating")


def _key(target: str) -> bytes | None:
    """What frames to this target are masked with."""
    return wire.MASK if "server" in target else None


def _mutate_conversation(data: bytes, other: bytes, key: bytes | None, deflating: bool, random: Random) -> bytes:
    first, steps = data[:1] or b"\x05", parse_steps(data[1:])
    place = random.randrange(len(steps) + 1)
    match random.randrange(7):
        case 0 | 1:
            steps.insert(place, Step(random.choice(("feed", "feed", "feed bytewise")), _frame(key, deflating, random)))
        case 2:
            steps.insert(place, Step(random.choice(STEPS), _payload(random)))
        case 3:
            del steps[place : place + random.choice((1, 1, 2, 5))]
        case 4:
            steps[place:place] = parse_steps(other[1:])[:5]
        case 5 if steps:
            step = steps[place - 1]
            cut = random.randrange(len(step.data) + 1)
            steps[place - 1 : place] = [Step(step.action, step.data[:cut]), Step(step.action, step.data[cut:])]
        case _ if steps:
            step = steps[place - 1]
            steps[place - 1] = Step(step.action, _mutate_bytes(step.data, other, random))
        case _:
            first = random.randbytes(1)
    return first + format_steps(steps[:60])


def _frame(key: bytes | None, deflating: bool, random: Random) -> bytes:
    """A frame, right in most respects."""
    opcode = random.choice((0, 0, 1, 1, 2, 2, 8, 9, 10, random.randrange(16)))
    masked = key if random.random() < 0.97 else (wire.MASK if key is None else None)
    fin = random.random() < (0.97 if opcode & 8 else 0.6)
    rsv = 0 if random.random() < 0.97 else random.randrange(8)
    if random.random() < 0.1:
        declared = random.choice(LENGTHS)
        form = 64 if declared > 65535 or random.random() < 0.3 else 16 if declared > 125 or random.random() < 0.3 else 7
        return wire.frame(opcode, _payload(random), fin=fin, rsv=rsv, key=masked, length=declared, form=form)
    payload = _payload(random)
    if deflating and random.random() < 0.5:
        payload = _deflated(payload, random)
        rsv = 4 if opcode in (1, 2) else rsv
    return wire.frame(opcode, payload[:125] if opcode & 8 else payload, fin=fin, rsv=rsv, key=masked)


def _payload(random: Random) -> bytes:
    match random.randrange(5):
        case 0:
            return b""
        case 1:
            return random.choice(TEXTS) + random.choice(TEXTS)
        case 2:
            return random.choice(CODES).to_bytes(2, "big") + random.choice(TEXTS)
        case 3:
            return b"x" * random.choice(LENGTHS[:8])
        case _:
            return random.randbytes(random.randrange(40))


def _deflated(payload: bytes, random: Random) -> bytes:
    """A compressed message, right in most respects, or a block or two of it."""
    level = random.choice((0, 1, 6, 9))
    compressor = zlib.compressobj(level, zlib.DEFLATED, -random.choice((9, 9, 12, 15)))
    payload *= random.choice((1, 1, 2, 50))
    data = compressor.compress(payload)
    match random.randrange(5):
        case 0:
            data += compressor.flush(zlib.Z_FINISH) + random.choice((b"", b"\x00"))
        case 1:
            data += compressor.flush(zlib.Z_SYNC_FLUSH)
        case _:
            data += compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
    if random.random() < 0.2:
        data = _mutate_bytes(data, data, random)
    return data


def _mutate_bytes(data: bytes, other: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    end = min(place + random.choice((1, 1, 2, 4, 16, 64)), len(data))
    match random.randrange(7):
        case 0:
            return data[:place] + random.choice(TOKENS) + data[place:]
        case 1:
            return data[:place] + random.choice(TOKENS) + data[end:]
        case 2:
            return data[:place] + random.randbytes(end - place) + data[end:]
        case 3:
            return data[:place] + data[end:]
        case 4:
            return data[:place] + data[place:end] * random.choice((2, 3, 100)) + data[end:]
        case 5:
            begin = random.randrange(len(other) + 1)
            return data[:place] + other[begin : begin + 200] + data[place:]
        case _:
            flipped = bytes(byte ^ 1 << random.randrange(8) for byte in data[place : place + 1])
            return data[:place] + flipped + data[place + 1 :]
