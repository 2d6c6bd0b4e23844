"""The cookies that a client sends (RFC 6265): a leaf that knows no request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["parse_cookies"]

#: What `http.cookies` writes for a character that may not stand in a value: the character, or its code in octal digits.
_ESCAPED = re.compile(r"\\([0-3][0-7]{2}|.)")


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """Return the cookies of a request by name (RFC 6265 section 4.2).

    Of several cookies with one name the first counts, which is the one with the longest path (section 5.4). A value in
    quotation marks is given without them, with the escapes undone that Python's `http.cookies` makes. A value without a
    name is left out.

    Args:
        values: the values of the Cookie header, one per line.
    """
    cookies: dict[str, str] = {}
    for pair in ";".join(values).split(";"):
        name, separator, value = pair.partition("=")
        name, value = name.strip(" \t"), value.strip(" \t")
        if separator and name:
            cookies.setdefault(name, _unquoted(value))
    return cookies


def _unquoted(value: str) -> str:
    if len(value) < 2 or not value.startswith('"') or not value.endswith('"'):
        return value
    return _ESCAPED.sub(_character, value[1:-1])


def _character(escaped: re.Match[str]) -> str:
    code = escaped[1]
    return chr(int(code, 8)) if len(code) == 3 else code
