"""A topic's log on Redis, as replies show it: an entry that is not a hub's is as if it were missing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ..position import first_of
from .contract import Entry, Stretch, within
from .resp import is_position, is_string, is_strings

__all__ = ["after", "newest"]


def _entry(reply: Any) -> Entry | None:
    """The entry; None where it is not a hub's."""
    if type(reply) is not list or len(reply) != 2 or not is_string(reply[0]) or not is_strings(reply[1]):
        return None
    identifier, fields = reply
    given = dict(zip(fields[::2], fields[1::2], strict=False))
    position, previous, payload = identifier.partition(b"-")[0], given.get(b"p"), given.get(b"d")
    if not is_position(position) or not is_position(previous) or payload is None:
        return None
    return Entry(int(position), int(previous), payload)


def _last(reply: Any, newest: Entry | None) -> int:
    if is_position(reply):
        return int(reply)
    return newest.position if newest is not None else 0


def newest(reply: Any, size: int | None) -> Stretch:
    """The newest messages, of which the last one comes first in a reply."""
    entries = [entry for each in reply[0] if (entry := _entry(each)) is not None]
    return Stretch(within(entries, size)[::-1], _last(reply[1], entries[0] if entries else None), is_known=True)


def after(reply: Any, since: int | datetime, limit: int, size: int | None) -> Stretch:
    """The messages after a position or moment, if these are all."""
    found = [_entry(each) for each in reply[0]]
    entries = [entry for entry in found if entry is not None]
    oldest = _entry(reply[2][0]) if len(reply) > 2 and reply[2] else None
    last = _last(reply[1], entries[-1] if entries else None)
    all_after = None if len(entries) < len(found) else _after(since, entries, oldest, last)
    if all_after is None:
        return Stretch((), last, is_known=False)
    return Stretch(within(all_after[:limit], size), last, is_known=True)


def _after(since: int | datetime, entries: list[Entry], oldest: Entry | None, last: int) -> list[Entry] | None:
    """The entries after a position or moment; None if it cannot be shown that these are all."""
    if isinstance(since, datetime):
        before = entries[0].previous if entries else last
        is_known = bool(before) and before < first_of(since)
        return entries if is_known else None
    if entries and entries[0].position == since:
        return entries[1:]
    if since and since == last:
        return []
    if since and oldest is not None and oldest.previous == since and entries and entries[0] == oldest:
        return entries
    return None
