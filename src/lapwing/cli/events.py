"""What happens on a connection, as one JSON object a line: for pipes, and in recordings.

::

    {"type": "text", "data": "hello"}
    {"type": "binary", "data": "AAEC"}                   base64
    {"type": "ping", "data": "payload"}                  or "base64"; when it went out: {"type": "pong", "rtt": 0.0003}
    {"type": "close", "code": 1000, "reason": "bye"}
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Any

from .outcome import Failed

__all__ = ["Event", "dump", "message_of", "of_message", "of_ping", "parse", "payload_of"]

#: One event: "type", and what belongs to it.
Event = dict[str, Any]

#: The fields of each type of event besides "type", with the types of their values.
_FIELDS: dict[str, dict[str, type]] = {
    "text": {"data": str},
    "binary": {"data": str},
    "ping": {"data": str, "base64": str},
    "close": {"code": int, "reason": str},
}
_REQUIRED = {"text": {"data"}, "binary": {"data"}}


def of_message(message: str | bytes) -> Event:
    """Make the event of a message."""
    if isinstance(message, str):
        return {"type": "text", "data": message}
    return {"type": "binary", "data": b64encode(message).decode("ascii")}


def message_of(event: Event) -> str | bytes:
    """Return the message of a "text" or "binary" event that `parse` let pass."""
    data: str = event["data"]
    return data if event["type"] == "text" else b64decode(data)


def of_ping(kind: str, payload: bytes) -> Event:
    """Make the event of a received "ping" or "pong"; a payload that is no UTF-8 is in "base64" rather than "data"."""
    try:
        return {"type": kind, "data": payload.decode()}
    except UnicodeDecodeError:
        return {"type": kind, "base64": b64encode(payload).decode("ascii")}


def payload_of(event: Event) -> str | bytes | None:
    """Return the payload of a "ping" event that `parse` let pass, or None if it has none."""
    payload: str | None = event.get("data")
    return b64decode(event["base64"]) if "base64" in event else payload


def dump(event: Event) -> str:
    """Write an event as a line, without its end. Lone surrogates, which are no UTF-8, are escaped."""
    try:
        line = json.dumps(event, ensure_ascii=False)
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(event)
    return line


def parse(line: str | bytes, where: str, extra: frozenset[str] = frozenset()) -> Event:
    """Parse a line and check that it is an event that can be sent.

    Args:
        line: with or without its end.
        where: the beginning of an error message, such as "stdin:3".
        extra: names of further fields; the caller checks their values.

    Raises:
        Failed: it is no event; the message names the expected form.
    """
    try:
        event: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        raise Failed(f'{where}: expected JSON such as {{"type": "text", "data": "hello"}}: {error}') from None
    kind = event.get("type") if isinstance(event, dict) else None
    if not isinstance(kind, str) or kind not in _FIELDS:
        expected = ", ".join(f'"{name}"' for name in _FIELDS)
        raise Failed(f'{where}: expected an object whose "type" is one of {expected}')
    allowed = _FIELDS[kind]
    for name, value in event.items():
        if name == "type" or name in extra:
            continue
        if name not in allowed:
            raise Failed(f'{where}: a "{kind}" has no {json.dumps(name)}: expected {" and ".join(allowed)}')
        if not isinstance(value, allowed[name]) or isinstance(value, bool):
            raise Failed(f'{where}: expected "{name}" of a "{kind}" to be of type {allowed[name].__name__}')
    if {"data", "base64"} <= event.keys():
        raise Failed(f'{where}: a "{kind}" has "data" or "base64", not both')
    for name in _REQUIRED.get(kind, set()) - event.keys():
        raise Failed(f'{where}: a "{kind}" needs "{name}"')
    checked: Event = event
    _check_values(checked, where)
    return checked


def _check_values(event: Event, where: str) -> None:
    try:
        if event["type"] == "binary":
            b64decode(event["data"], validate=True)
        else:
            b64decode(event.get("base64", ""), validate=True)
            event.get("data", "").encode()
            event.get("reason", "").encode()
    except Base64Error as error:
        raise Failed(f'{where}: expected base64 in a "{event["type"]}": {error}') from None
    except UnicodeEncodeError:
        raise Failed(f"{where}: half a character (a lone surrogate) cannot be sent as text") from None
