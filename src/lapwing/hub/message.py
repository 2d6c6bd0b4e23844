"""A message of a topic, and the frame in which engines store it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from .payloads import BINARY, JSON, TEXT, kinds_of
from .position import Position
from .wire.json_text import check

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .names import Declaration

__all__ = ["Message", "Origin", "pack", "unpack"]

T = TypeVar("T")

#: The first byte of a stored message: the version of this format, whether something is said of the message's origin,
#: and the kind of its payload.
_VERSION: Final = 0x10
_HAS_ORIGIN: Final = 0x08
_KIND: Final = 0x07
#: The most bytes of the description of an origin.
_MAX_ORIGIN: Final = 4096


class Origin:
    """The publisher of a message, and its tags.

    Attributes:
        user: the user, None where the program itself published.
        client: the identifier of the client's connection, None without one.
        info: the topic function's `info` about the client, one line of JSON, None without one.
        tags: short strings by name, for filters.
    """

    __slots__ = ("client", "info", "tags", "user")

    def __init__(
        self,
        user: str | None = None,
        client: str | None = None,
        info: bytes | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self.user = user
        self.client = client
        self.info = info
        self.tags: dict[str, str] = dict(tags or {})

    @classmethod
    def with_tags(cls, tags: Mapping[str, str] | None) -> Origin:
        """The origin of a message that the program itself publishes.

        Raises:
            TypeError: the tags are not strings by name.
        """
        if not tags:
            return NOBODY
        if not all(isinstance(each, str) for pair in tags.items() for each in pair):
            raise TypeError(f"expected tags to be strings by name, got {tags!r:.80}")
        return cls(tags=tags)


NOBODY: Final = Origin()


class Message(Generic[T]):
    """A message of a topic.

    Attributes:
        topic: the topic, which the Centrifugo protocol calls channel.
        raw: the payload: of a JSON topic one line of valid JSON in UTF-8.
        kind: "json", or on a raw topic "text" or "binary".
        position: where it stands in the topic; 0 where the topic keeps no history.
        previous: the position of the message before it; 0 if there is none or it is not known.
        user: who published it, where a client did.
        client: the identifier of that client.
        info: the topic function's `info` about that client, as JSON in bytes.
        tags: short strings by name that it was published with.
        frames: for the protocols on the wire: the message encoded, by codec; None before the first.
    """

    __slots__ = ("_code", "_decode", "frames", "origin", "position", "previous", "raw", "topic")

    def __init__(
        self,
        topic: str,
        raw: bytes,
        *,
        code: int = JSON,
        position: int = 0,
        previous: int = 0,
        origin: Origin = NOBODY,
        decode: Callable[[Any], Any] | None = None,
    ) -> None:
        self.topic = topic
        self.raw = raw
        self._code = code
        self.position = position if isinstance(position, Position) else Position(position)
        self.previous = previous
        self.origin = origin
        self._decode = decode
        self.frames: dict[Any, Any] | None = None

    def copy(self) -> Message[T]:
        """The same message for another reader, without `frames`."""
        return Message(
            self.topic,
            self.raw,
            code=self._code,
            position=self.position,
            previous=self.previous,
            origin=self.origin,
            decode=self._decode,
        )

    @property
    def kind(self) -> str:
        """The kind of the payload: "json", "text" or "binary"."""
        return ("json", "text", "binary")[self._code]

    @property
    def data(self) -> T:
        """The payload as the program published it: a JSON value, decoded at each look, or `str` or `bytes`."""
        value: Any = self.raw
        if self._code == JSON:
            value = json.loads(self.raw)
        elif self._code == TEXT:
            value = self.raw.decode()
        return value if self._decode is None else self._decode(value)  # type: ignore[no-any-return]

    @property
    def user(self) -> str | None:
        """Who published the message; None where the program itself did."""
        return self.origin.user

    @property
    def client(self) -> str | None:
        """The identifier of the client that published it; None where the program itself did."""
        return self.origin.client

    @property
    def info(self) -> bytes | None:
        """The topic function's `info` about the client that published it, as JSON."""
        return self.origin.info

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of the message."""
        return self.origin.tags

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.raw)

    def __repr__(self) -> str:
        return f"<lapwing.Message of {self.topic!r} at {self.position}: {self.raw[:60]!r}>"


def pack(code: int, payload: bytes, origin: Origin = NOBODY) -> bytes:
    """Put a message into the frame in which engines store it.

    Raises:
        ValueError: the description of the origin is longer than 4 KiB.
    """
    if origin is NOBODY:
        return bytes((_VERSION | code,)) + payload
    said = {
        name: value
        for name, value in (
            ("u", origin.user),
            ("c", origin.client),
            ("i", None if origin.info is None else origin.info.decode()),
            ("t", origin.tags or None),
        )
        if value is not None
    }
    head = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    if len(head) > _MAX_ORIGIN:
        raise ValueError(f"expected user, info and tags of at most {_MAX_ORIGIN} bytes, got {len(head)}")
    return bytes((_VERSION | _HAS_ORIGIN | code,)) + len(head).to_bytes(2, "big") + head + payload


def unpack(
    topic: str,
    stored: bytes,
    position: int,
    previous: int,
    options: Declaration | None = None,
    *,
    is_foreign: bool = False,
) -> Message[Any]:
    """Take a stored message out of its frame.

    Args:
        topic: its topic.
        stored: the bytes of the engine.
        position: its position.
        previous: the position before it.
        options: the declaration of the topic: other kinds of payload are refused. None: it may be of any.
        is_foreign: whether others than this process may have written it: then JSON is checked to be one line of it,
            which no payload leaves to forge another frame for a client, and text to be UTF-8.

    Raises:
        ValueError: it is not in such a frame, or its payload is not of the topic's kind.
    """
    if not stored or stored[0] & ~(_HAS_ORIGIN | _KIND) != _VERSION or stored[0] & _KIND > BINARY:
        raise ValueError(f"not a message of this hub: it begins with {stored[:8]!r}")
    code = stored[0] & _KIND
    if options is not None and code not in kinds_of(options.raw):
        raise ValueError(f"not a message of this topic, which was declared with raw={options.raw!r}")
    begin, origin = 1, NOBODY
    if stored[0] & _HAS_ORIGIN:
        begin = 3 + int.from_bytes(stored[1:3], "big")
        if len(stored) < begin or begin > 3 + _MAX_ORIGIN:
            raise ValueError("not a message of this hub: it is cut off")
        origin = _origin(stored[3:begin])
    raw = stored[begin:]
    if is_foreign and code == JSON:
        raw = check(raw)
    elif is_foreign and code == TEXT:
        raw.decode()
    decode = None if options is None else options.decode
    return Message(topic, raw, code=code, position=position, previous=previous, origin=origin, decode=decode)


def _origin(head: bytes) -> Origin:
    try:
        said = json.loads(head)
    except RecursionError:
        raise ValueError("not a message of this hub: its origin is nested too deep") from None
    if not isinstance(said, dict):
        raise ValueError("not a message of this hub: its origin is not an object")  # noqa: TRY004 - as all damage
    user, client, info, tags = (said.get(name) for name in "ucit")
    if not all(isinstance(each, (str, type(None))) for each in (user, client, info)):
        raise ValueError("not a message of this hub: its origin has the wrong types")
    if tags is not None and not (isinstance(tags, dict) and all(isinstance(each, str) for each in tags.values())):
        raise ValueError("not a message of this hub: its tags are not strings")
    return Origin(user, client, None if info is None else info.encode(), tags)
