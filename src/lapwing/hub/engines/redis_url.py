"""URLs of Redis and Valkey: where the server is, and who we are there. They hold secrets, which are shown nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from .certificates import TLS_OPTIONS, context_of
from .urls import split_url

if TYPE_CHECKING:
    import ssl

__all__ = ["RedisURL"]

_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_OPTIONS: Final = {"db", "replicas", "sentinel_username", "sentinel_password"}


@dataclass(frozen=True)
class RedisURL:
    """A parsed URL: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS, `unix://[user:password@]/path?db=1`,
    `redis+sentinel://[user:password@]host[:port],host[:port]/name[/db]`, `rediss+sentinel://` for TLS.

    Attributes:
        shown: the URL without its secrets.
        hosts: host and port of the server, or of the sentinels.
        path: of a unix socket; None for none.
        service: the name of the master that sentinels know; None without sentinels.
        user, password: for AUTH; None for none.
        sentinel_user, sentinel_password: the same, of the sentinels.
        db: the database.
        replicas: how many replicas must have a message before `publish` returns.
        tls: the context, with `cafile`, `certfile` and `keyfile` of the URL, in PEM; None for none.
    """  # noqa: D205 - the forms belong together

    shown: str
    hosts: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    service: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    db: int = 0
    replicas: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"RedisURL({self.shown!r})"

    @classmethod
    def parse(cls, url: str) -> RedisURL:
        """Parse a URL.

        Raises:
            ValueError: it is not one; the message has no secrets.
        """
        split, authority = split_url(url)
        secrets, at, hosts = authority.rpartition("@")
        shown = f"{split.scheme}://{'***@' if at else ''}{hosts}{split.path}"
        if split.scheme not in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"):
            raise ValueError(f"expected redis://, rediss://, unix:// or redis+sentinel://, got {shown!r}")
        given: dict[str, Any] = {"shown": shown}
        name, colon, password = secrets.partition(":")
        if at:
            given |= {"user": unquote(name) or None, "password": unquote(password) if colon else None}
        options = {key: values[-1] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        is_secure = split.scheme.startswith("rediss")
        if not is_secure and (given_tls := set(options) & TLS_OPTIONS):
            raise ValueError(f"{', '.join(sorted(given_tls))}: {shown!r} has no TLS: expected rediss://")
        if unknown := set(options) - _OPTIONS - TLS_OPTIONS:
            raise ValueError(f"{shown!r} has unknown options: {', '.join(sorted(unknown))}")
        given |= {
            f"sentinel_{each}": options.get(f"sentinel_{each}name" if each == "user" else f"sentinel_{each}")
            for each in ("user", "password")
        }
        parts = [unquote(part) for part in split.path.split("/") if part]
        if split.scheme == "unix":
            given["path"] = unquote(split.path)
            parts = []
        elif split.scheme.endswith("sentinel"):
            if not parts:
                raise ValueError(f"expected the name of the master behind the sentinels, as in {shown}/mymaster")
            given["service"] = parts.pop(0)
        if split.scheme != "unix":
            port = _SENTINEL_PORT if "service" in given else _PORT
            given["hosts"] = tuple(_host(each, port, shown) for each in hosts.split(","))
            if len(given["hosts"]) > 1 and "service" not in given:
                raise ValueError(f"expected one host in {shown!r}: several servers are several URLs")
        if is_secure:
            given["tls"] = context_of({name: options[name] for name in sorted(TLS_OPTIONS & set(options))}, shown)
        given["db"] = _number("db", options.get("db", parts[0] if parts else "0"), shown)
        given["replicas"] = _number("replicas", options.get("replicas", "0"), shown)
        if len(parts) > 1 or (parts and "db" in options):
            raise ValueError(f"{shown!r} names its database twice, or has more than that in its path")
        return cls(**given)


def _host(text: str, port: int, shown: str) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        host, given = split.hostname, split.port
    except ValueError:
        raise ValueError(f"expected a host and a port in {shown!r}, got {text!r}") from None
    return host or "localhost", given or port


def _number(name: str, text: str, shown: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise ValueError(f"expected {name} to be a number in {shown!r}, got {text!r}")
    return int(text)
