"""Payloads of messages: what programs publish, made into bytes once, and checked where they come from elsewhere."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Final, Literal

from .wire.json_text import MAX_DEPTH, check

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BINARY", "JSON", "TEXT", "Raw", "decoder_of", "kinds_of", "payload_of"]

#: Kinds of payloads.
JSON: Final = 0
TEXT: Final = 1
BINARY: Final = 2

#: The kind of a topic's messages: JSON values, `bytes` and `str` as they are, or `str` alone.
Raw = bool | Literal["text"]


def _plain(value: object) -> object:
    """What JSON has no word for: data classes, and models that can dump themselves."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"expected a JSON value, a data class or bytes of JSON, got {type(value).__name__}: {value!r:.80}")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_plain)


def kinds_of(raw: Raw) -> frozenset[int]:
    """The kinds of payloads that a topic may have."""
    return _KINDS[raw]


_KINDS: Final = {False: frozenset((JSON,)), True: frozenset((TEXT, BINARY)), "text": frozenset((TEXT,))}


def payload_of(data: object, *, raw: Raw) -> tuple[int, bytes]:
    """Make the payload of a message from a program's data; returns its kind and its bytes.

    Args:
        data: on a topic of JSON a JSON value, or the bytes of one; on a raw topic `bytes` or `str`; on one of text
            `str`.
        raw: which of them the topic is.

    Raises:
        TypeError, ValueError: it is neither.
    """
    if raw:
        if isinstance(data, str):
            return TEXT, data.encode()
        if raw == "text":
            raise TypeError(f"expected str on a topic of text, got {type(data).__name__}: {data!r:.80}")
        if isinstance(data, (bytes, bytearray, memoryview)):
            return BINARY, bytes(data)
        raise TypeError(f"expected bytes or str on a raw topic, got {type(data).__name__}: {data!r:.80}")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return JSON, check(bytes(data))
    try:
        text = _ENCODER.encode(data)
    except RecursionError:
        raise ValueError(f"expected JSON that is nested at most {MAX_DEPTH} deep") from None
    return JSON, check(text.encode())


def decoder_of(kind: Any) -> Callable[[Any], Any] | None:
    """What makes a decoded JSON value into the `type` of a topic."""
    if kind is None:
        return None
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return lambda value: kind(**value)
    validate = getattr(kind, "model_validate", None)
    if callable(validate):
        return validate  # type: ignore[no-any-return]
    if callable(kind):
        return kind  # type: ignore[no-any-return]
    raise TypeError(f"expected type to be a data class, or to be called with a decoded value, got {kind!r}")
