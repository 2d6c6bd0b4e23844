"""URLs that may name several hosts, as those of brokers do."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

__all__ = ["split_url"]

_AUTHORITY: Final = re.compile(r"[^/?#]*")


def split_url(url: str) -> tuple[SplitResult, str]:
    """Split a URL; `urllib.parse` refuses an IPv6 address behind another host, and shows secrets where it refuses.

    Returns:
        The parts of the URL, whose authority counts for nothing; and its authority: the secrets and the hosts.
    """
    scheme, marks, rest = url.partition("://")
    authority = _AUTHORITY.match(rest)
    if not marks or authority is None:
        return urlsplit(url), ""
    return urlsplit(f"{scheme}://host{rest[authority.end() :]}"), authority[0]
