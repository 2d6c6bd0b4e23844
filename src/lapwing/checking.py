"""Checks of single values that options may have. Knows no option, only names for its messages.

Each check raises TypeError or ValueError, which name the expected value and the given one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, get_args

__all__ = [
    "check_address",
    "check_choice",
    "check_context",
    "check_count",
    "check_duration",
    "check_flag",
    "check_health",
    "check_health_port",
    "check_hub",
    "check_json",
    "check_lifespan",
    "check_mode",
    "check_names",
    "check_seconds",
    "check_sockets",
    "check_tcp",
]

Choice = TypeVar("Choice")

#: The names that options of clients have in other libraries.
_MEANT = {
    "additional_headers": "headers",
    "extra_headers": "headers",
    "header": "headers",
    "heartbeat": "ping_interval",
    "max_msg_size": "max_message_size",
    "max_size": "max_message_size",
    "ssl_context": "ssl",
    "sslopt": "ssl",
}


def check_tcp(keepalive: float | None, user_timeout: float | None) -> None:
    """Check the options of TCP itself."""
    if keepalive is None and user_timeout is None:
        return
    import socket

    if keepalive is not None and not 1 <= keepalive <= 32767:
        raise ValueError(f"expected tcp_keepalive from 1 to 32767 seconds, or None, got {keepalive!r}")
    if user_timeout is not None and not 0.001 <= user_timeout <= 2_000_000:
        raise ValueError(f"expected tcp_user_timeout from 0.001 to 2,000,000 seconds, or None, got {user_timeout!r}")
    if user_timeout is not None and not hasattr(socket, "TCP_USER_TIMEOUT"):
        raise ValueError("tcp_user_timeout is not available on this system: leave it out; pings work without it")


def check_seconds(name: str, value: object) -> None:
    """Check a number of seconds, or None for no limit."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} in seconds or None, got {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"expected {name} to be more than 0 seconds, or None, got {value!r}")


def check_duration(name: str, value: object) -> None:
    """Check a number of seconds that may be 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"expected {name} in seconds, got {value!r}")
    if not 0 <= value < float("inf"):
        raise ValueError(f"expected {name} to be 0 seconds or more, got {value!r}")


def check_count(name: str, value: object, *, least: int = 1, most: int | None = None) -> None:
    """Check a whole number within its range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"expected {name} to be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"expected {name} to be {least} or more, got {value!r}")
    if most is not None and value > most:
        raise ValueError(f"expected {name} to be {most} or less, got {value!r}")


def check_choice(name: str, value: Choice, choices: object) -> Choice:
    """Check a value that is one of a `Literal`, and return it."""
    known = get_args(choices)
    if value not in known:
        raise ValueError(f"expected {name} to be one of {', '.join(map(repr, known))}, got {value!r}")
    return value


def check_address(name: str, value: object) -> None:
    """Check the address of an interface, with a port."""
    from ipaddress import ip_address

    if not isinstance(value, tuple) or len(value) != 2 or not isinstance(value[0], str):
        raise TypeError(f"expected {name} to be an IP address and a port, such as ('192.0.2.1', 0), got {value!r}")
    host, port = value
    try:
        ip_address(host)
    except ValueError:
        raise ValueError(f"expected the IP address of an interface in {name}, got {host!r}") from None
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"expected the port in {name} to be a whole number, got {port!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"expected the port in {name} to be 0 to 65535, got {port!r}")


def check_context(context: object, name: str = "ssl", *, server_side: bool = False) -> None:
    """Check a TLS context, which must be one for this role."""
    if context is None:
        return
    from ssl import PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER, SSLContext

    if not isinstance(context, SSLContext):
        raise TypeError(
            f"expected {name} to be an ssl.SSLContext or None, got {context!r}: see ssl.create_default_context()"
        )
    if server_side and context.protocol is PROTOCOL_TLS_CLIENT:
        raise ValueError(
            f"expected {name} to be the context of a server, got one of a client: make it with "
            "ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) and load_cert_chain(), or pass certfile and keyfile"
        )
    if not server_side and context.protocol is PROTOCOL_TLS_SERVER:
        raise ValueError(
            f"expected {name} to be the context of a client, got one of a server: make it with "
            "ssl.create_default_context()"
        )


def check_flag(name: str, value: object) -> None:
    """Check an option that is on or off."""
    if not isinstance(value, bool):
        raise TypeError(f"expected {name} to be True or False, got {value!r}")


def check_health(path: object) -> None:
    """Check the path of health checks."""
    if path is None:
        return
    if not isinstance(path, str):
        raise TypeError(f"expected health to be a path or None, got {path!r}")
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or set(path) & set(" ?#"):
        raise ValueError(f"expected health to be a path such as '/healthz', without a query, got {path!r}")


def check_health_port(place: object) -> None:
    """Check where a server is to answer an orchestrator."""
    if place is None:
        return
    if isinstance(place, list):
        check_sockets(place)
        return
    port = place
    if isinstance(place, tuple):
        if len(place) != 2 or not isinstance(place[0], str):
            raise TypeError(f"expected health_port to be a port, or an address and a port, got {place!r}")
        port = place[1]
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"expected health_port to be a port, or an address and a port, got {place!r}")
    if not 0 <= port <= 65535:
        raise ValueError(f"expected health_port to have a port from 0 to 65535, got {port}")


def check_json(codec: Any) -> tuple[Callable[[Any], str | bytes], Callable[[str | bytes], Any]]:
    """Check a module for JSON, or the pair of its functions, and return the functions."""
    functions = codec if isinstance(codec, tuple) else (getattr(codec, "dumps", None), getattr(codec, "loads", None))
    if len(functions) != 2 or not all(callable(function) for function in functions):
        raise TypeError(
            f"expected json to have dumps and loads, as the module json has, or to be the two, got {codec!r}"
        )
    return functions


def check_hub(hub: object) -> None:
    """Check the option `hub`."""
    if hub is not None and not hasattr(hub, "_start_with_server"):
        raise TypeError(f"expected hub to be a lapwing.Hub, got {hub!r}")


def check_lifespan(lifespan: object) -> None:
    """Check the option `lifespan`."""
    from inspect import isasyncgenfunction, isgeneratorfunction, signature

    name = getattr(lifespan, "__qualname__", repr(lifespan))
    if not callable(lifespan):
        raise TypeError(f"expected lifespan to be a function that takes the server, got {lifespan!r}")
    if isasyncgenfunction(lifespan) or isgeneratorfunction(lifespan):
        raise TypeError(
            f"expected lifespan to return an asynchronous context manager, but {name} is a generator function: "
            "decorate it with contextlib.asynccontextmanager"
        )
    try:
        parameters = signature(lifespan)
    except ValueError:
        return  # a builtin that does not tell
    try:
        parameters.bind(None)
    except TypeError as error:
        raise TypeError(
            f"expected lifespan to be called with the server and nothing else, but {name}{parameters} cannot be: "
            f"{error}"
        ) from None


def check_sockets(sockets: object) -> None:
    """Check the listening sockets that a server is given."""
    from socket import socket

    given = [sockets] if isinstance(sockets, socket) else sockets
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"expected sockets to be listening sockets or 'systemd', got {sockets!r}")
    if not given:
        raise ValueError("expected at least one socket to listen on, got an empty sequence")
    for sock in given:
        if not isinstance(sock, socket):
            raise TypeError(f"expected sockets to hold socket.socket objects, got {sock!r}")


def check_mode(name: str, mode: Any) -> None:
    """Check the permission bits of a file, or None."""
    if mode is not None:
        check_count(name, mode)
        if mode > 0o777:
            raise ValueError(f"expected {name} from 0o1 to 0o777, got {mode:#o}")


def check_names(known: Iterable[str], given: Iterable[str]) -> None:
    """Check that options exist.

    Raises:
        TypeError: one does not.
    """
    known = sorted(known)
    for name in given:
        if name not in known:
            from difflib import get_close_matches

            close = [_MEANT[name]] if _MEANT.get(name) in known else get_close_matches(name, known, 1)
            said = f"did you mean {close[0]}=? Expected" if close else "expected"
            raise TypeError(f"unknown option {name!r}: {said} one of {', '.join(known)}")
