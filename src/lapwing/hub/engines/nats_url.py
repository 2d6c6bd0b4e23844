"""URLs of NATS: the servers, the user, the settings of the stream. They hold secrets, shown nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from .certificates import TLS_OPTIONS, context_of
from .nats_credentials import Credentials
from .urls import split_url

if TYPE_CHECKING:
    import ssl

__all__ = ["NatsURL"]

_PORT: Final = 4222
_OPTIONS: Final = {"storage", "replicas", "max_bytes", "credentials"}
_STORAGES: Final = ("file", "memory")
_MOST_REPLICAS: Final = 5


@dataclass(frozen=True)
class NatsURL:
    """A parsed URL: `nats://[user:password@]host[:port][,host[:port]...]`, `nats://token@host`, `tls://` for TLS.

    Attributes:
        shown: the URL without its secrets.
        hosts: host and port of the servers, of which any one is enough.
        user, password: for CONNECT; None for none.
        token: the same.
        credentials: the path of a file with an nkey's seed and perhaps a JWT; None for none.
        storage: where the stream is kept, "file" or "memory"; None: as it is, or "file".
        replicas: how many servers have the stream; None: as it is, or 1.
        max_bytes: bytes of all histories; None: as it is, or without a limit.
        tls: the context, with `cafile`, `certfile` and `keyfile` of the URL; None: only where the server asks for it.
    """

    shown: str
    hosts: tuple[tuple[str, int], ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = None
    storage: str | None = None
    replicas: int | None = None
    max_bytes: int | None = None
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __repr__(self) -> str:
        return f"NatsURL({self.shown!r})"

    @classmethod
    def parse(cls, url: str) -> NatsURL:
        """Parse a URL.

        Raises:
            ValueError: it is not one, or a file that it names cannot be used; the message has no secrets.
            ImportError: the library is missing that `credentials` needs.
        """
        split, authority = split_url(url)
        secrets, at, hosts = authority.rpartition("@")
        shown = f"{split.scheme}://{'***@' if at else ''}{hosts}"
        if split.scheme not in ("nats", "tls"):
            raise ValueError(f"expected nats:// or tls://, got {shown!r}")
        if split.path not in ("", "/"):
            raise ValueError(f"expected nothing after the hosts of {shown!r}, got the path {split.path!r}")
        given: dict[str, Any] = {"shown": shown, "hosts": tuple(_host(each, shown) for each in hosts.split(","))}
        name, colon, password = secrets.partition(":")
        if at and colon:
            given |= {"user": unquote(name), "password": unquote(password)}
        elif at:
            given["token"] = unquote(name)
        options = {key: values[-1] for key, values in parse_qs(split.query, keep_blank_values=True).items()}
        if unknown := set(options) - _OPTIONS - (TLS_OPTIONS if split.scheme == "tls" else set()):
            raise ValueError(f"{shown!r} has unknown options: {', '.join(sorted(unknown))}")
        if split.scheme == "tls":
            given["tls"] = context_of({name: options[name] for name in sorted(TLS_OPTIONS & set(options))}, shown)
        if (path := options.get("credentials")) is not None:
            if at:
                raise ValueError(f"expected either credentials= or a user in {shown!r}, got both")
            Credentials.read(path)
            given["credentials"] = path
        if (storage := options.get("storage")) is not None:
            if storage not in _STORAGES:
                raise ValueError(f"expected storage to be 'file' or 'memory' in {shown!r}, got {storage!r}")
            given["storage"] = storage
        for option, most in (("replicas", _MOST_REPLICAS), ("max_bytes", 2**63 - 1)):
            if option in options:
                given[option] = _number(option, options[option], most, shown)
        return cls(**given)


def _host(text: str, shown: str) -> tuple[str, int]:
    try:
        split = urlsplit(f"//{text}")
        host, given = split.hostname, split.port
    except ValueError:
        raise ValueError(f"expected a host and a port in {shown!r}, got {text!r}") from None
    return host or "localhost", given or _PORT


def _number(name: str, text: str, most: int, shown: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:20]) <= most:
        raise ValueError(f"expected {name} to be a number from 1 to {most} in {shown!r}, got {text!r:.40}")
    return int(text)
