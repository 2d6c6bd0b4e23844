"""What every pair of ends says to each other."""

from __future__ import annotations

from tests.interop.ends import Message

#: The lengths at which the form of a frame's length changes (RFC 6455 section 5.2), and their neighbours.
LENGTHS = (0, 1, 125, 126, 127, 65535, 65536)

#: Text of one, two, three and four bytes per character, with what comes right before and after the surrogates, a
#: character of several code points, right-to-left text, and zero.
WORDS = "plain, größer, 日本語, 🐦‍⬛, \ud7ff\ue000, 👩‍👩‍👧, שלום, \U0010ffff, \0."

_PATTERN = bytes(range(256)) * 257

MESSAGES: tuple[Message, ...] = (
    *(_PATTERN[:length] for length in LENGTHS),
    *("x" * length for length in LENGTHS),
    WORDS,
    *("é" * (length // 2) for length in LENGTHS if length >= 126),  # as many bytes, half as many characters
    b"\xff\xfe not UTF-8",
)

#: 16 MiB, no two blocks of which are alike, so that a lost or repeated piece is noticed.
LARGE = b"".join(index.to_bytes(8) for index in range(2 * 1024 * 1024))

_UTF8 = WORDS.encode()

#: Messages in fragments, whether they are text, and the ping to send between the fragments.
FRAGMENTED: tuple[tuple[tuple[bytes, ...], bool, bytes | None], ...] = (
    ((b"only one",), False, None),
    ((b"two ", b"parts"), True, None),
    ((b"", b"", b""), False, None),
    ((b"", b"some", b"", b"thing", b""), True, None),
    (tuple(_UTF8[index : index + 1] for index in range(len(_UTF8))), True, None),  # cut within its characters
    (tuple(_PATTERN[:length] for length in LENGTHS), False, None),
    ((b"before ", b"between ", b"after"), True, b"in between"),
    ((_UTF8[:40], _UTF8[40:]), True, b""),
)

#: A close code and the reason.
CLOSES: tuple[tuple[int, str], ...] = (
    (1000, ""),
    (4001, "Grüße: see you later"),
    (3000, "r" * 123),
)

#: The subprotocols that a client asks for, and the one that is agreed on.
SUBPROTOCOL_CHOICES: tuple[tuple[tuple[str, ...], str | None], ...] = (
    ((), None),
    (("superchat",), "superchat"),
    (("unknown", "superchat"), "superchat"),
)
