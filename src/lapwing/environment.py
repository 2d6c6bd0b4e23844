"""Options from environment variables: `LAPWING_MAX_CONNECTIONS=1000` is the option `max_connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from .options import AdoptOptions, CarrierKind, Lagging, ServerSettings, settings_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["PREFIX", "options_from"]

#: How the names of the variables begin.
PREFIX: Final = "LAPWING_"

_FLAGS: Final = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def options_from(environment: Mapping[str, str], refused: Mapping[str, str]) -> dict[str, Any]:
    """Read the options of a server that adopts its connections, and check them.

    Args:
        environment: the variables, such as `os.environ`.
        refused: options that have no place here, each with the reason.

    Raises:
        ValueError: a variable names no option, or its value is invalid.
    """
    options: dict[str, Any] = {}
    for variable, text in sorted(environment.items()):
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        reason = refused.get(name) or ("it has no text form; pass it as an argument" if name in _OBJECTS else None)
        if reason is not None:
            raise ValueError(f"the environment variable {variable} is not available here: {reason}")
        if name not in _READERS:
            known = ", ".join(PREFIX + each.upper() for each in sorted(_READERS.keys() - refused.keys()))
            raise ValueError(f"the environment variable {variable} names no option of lapwing: expected one of {known}")
        try:
            options[name] = _READERS[name](text.strip())
        except ValueError as error:
            raise ValueError(f"the environment variable {variable}={text!r} is invalid: {error}") from None
    try:
        settings_from(ServerSettings, options)
    except (TypeError, ValueError) as error:
        variables = ", ".join(PREFIX + name.upper() for name in options)
        raise ValueError(f"invalid options in the environment ({variables}): {error}") from None
    return options


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError("expected a number of seconds") from None


def _count(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError("expected a whole number") from None


def _flag(text: str) -> bool:
    try:
        return _FLAGS[text.lower()]
    except KeyError:
        raise ValueError(f"expected one of {', '.join(_FLAGS)}") from None


def _choice(choices: object) -> Callable[[str], str]:
    known = get_args(choices)

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"expected one of {', '.join(known)}")
        return text

    return read


def _origins(text: str) -> str | list[str]:
    if text == "*":
        return text
    origins = [each.strip() for each in text.split(",")]
    if not all(origins):
        raise ValueError("expected '*', or origins with commas between them, such as https://example.com")
    return origins


def _or_none(read: Callable[[str], Any], wording: str) -> Callable[[str], Any]:
    """Make a reader that takes "none", too."""

    def read_or_none(text: str) -> Any:
        if text.lower() == "none":
            return None
        try:
            return read(text)
        except ValueError:
            raise ValueError(f"expected {wording}, or none") from None

    return read_or_none


_maybe_seconds = _or_none(_seconds, "a number of seconds")
_maybe_count = _or_none(_count, "a whole number")

#: What reads each option.
_READERS: Final[dict[str, Callable[[str], Any]]] = {
    "timeout": _maybe_seconds,
    "open_timeout": _seconds,
    "close_timeout": _seconds,
    "max_message_size": _maybe_count,
    "max_buffered": _count,
    "ping_interval": _maybe_seconds,
    "ping_timeout": _maybe_seconds,
    "tcp_keepalive": _maybe_seconds,
    "tcp_user_timeout": _maybe_seconds,
    "compression": _flag,
    "max_header_line": _count,
    "max_headers": _count,
    "origins": _origins,
    "lagging": _choice(Lagging),
    "lag_budget": _count,
    "lag_timeout": _maybe_seconds,
    "portable": _flag,
    "carrier": _choice(CarrierKind),
    "max_connections": _maybe_count,
    "max_connections_per_address": _maybe_count,
    "inspector": _flag,
}

#: The options that are objects of the program.
_OBJECTS: Final = AdoptOptions.__optional_keys__ - _READERS.keys()
