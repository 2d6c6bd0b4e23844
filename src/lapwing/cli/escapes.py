r"""What came from elsewhere, made harmless for a terminal: control characters are shown, not obeyed.

A terminal obeys more than the escape sequences that begin with ESC: C1 controls are sequences in one character, and
what changes the direction of text, or is invisible, makes a line read otherwise than it is.
"""

from __future__ import annotations

import re

__all__ = ["neutralise"]

#: C0 but for tab and line feed, DEL, C1, line and paragraph separators; marks, embeddings, overrides and isolates of
#: direction (UAX 9), the deprecated formats next to them; zero width space and the byte order mark; tags; lone
#: surrogates.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff]"
)
_HARMFUL_IN_LINE = re.compile(_HARMFUL.pattern.replace("[\x00-\x08\x0b-\x1f", "[\x00-\x1f"))
_NAMES = {"\t": r"\t", "\n": r"\n", "\r": r"\r", "\x1b": r"\e"}


def neutralise(text: str, *, one_line: bool = False) -> str:
    r"""Replace characters that a terminal would obey or show differently by escapes such as `\e`.

    Args:
        text: anything.
        one_line: whether tabs and line feeds are to be shown as escapes, too.
    """
    pattern = _HARMFUL_IN_LINE if one_line else _HARMFUL
    return pattern.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in _NAMES:
        return _NAMES[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
