"""Who is subscribed to a topic: what engines store of each client, and what programs get."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

__all__ = ["MAX_INFO", "Member", "Present"]

#: The most bytes of a topic function's `info` about a client.
MAX_INFO: Final = 1024


class Member(NamedTuple):
    """A client that is subscribed to a topic.

    Attributes:
        client: the identifier of its connection.
        user: the user; None where it is not known.
        info: the topic function's `info` about it, one line of JSON; None without one.
    """

    client: str
    user: str | None = None
    info: bytes | None = None

    @property
    def data(self) -> Any:
        """`info`, decoded."""
        return None if self.info is None else json.loads(self.info)

    def pack(self) -> bytes:
        """The form that engines store, besides the identifier."""
        if self.user is None:
            return b"\n" + (self.info or b"")
        return json.dumps(self.user).encode() + b"\n" + (self.info or b"")

    @classmethod
    def unpack(cls, client: str, entry: bytes) -> Member:
        """The opposite of `pack`; an entry that is damaged says nothing of the client."""
        head, _, info = entry.partition(b"\n")
        try:
            user = json.loads(head) if head else None
        except (ValueError, RecursionError):
            return cls(client)
        return cls(client, user if isinstance(user, str) else None, info[:MAX_INFO] or None)


@dataclass(frozen=True, slots=True)
class Present:
    """Who is subscribed to a topic.

    Attributes:
        members: the clients, at most as many as were asked for.
        count: how many there are.
        complete: whether every process of the hub has answered.
    """

    members: list[Member]
    count: int
    complete: bool

    @property
    def users(self) -> set[str]:
        """The users among `members`."""
        return {member.user for member in self.members if member.user is not None}
