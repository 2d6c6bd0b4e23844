"""The engine that the address of a hub stands for. An engine is imported only when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...protocol.url import shown_url
from .contract import Engine
from .memory import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["engine_of", "engine_of_url"]

#: Schemes of URLs of Redis and Valkey.
_REDIS: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
#: Schemes of URLs of NATS.
_NATS: Final = ("nats", "tls")


def engine_of(
    url: str | Sequence[str] | Engine | None, namespace: str, timeout: float, *, max_history: int, max_topics: int
) -> Engine:
    """Make the engine of a hub, or return the one that is given.

    Raises:
        ValueError: there is no engine for this URL.
        TypeError: this is neither a URL nor an engine nor None.
    """
    if url is None:
        return MemoryEngine(max_bytes=max_history, max_topics=max_topics)
    if isinstance(url, (str, list, tuple)):
        return engine_of_url(url, namespace, timeout)
    if not isinstance(url, Engine):
        raise TypeError(f"expected None, a URL or an engine, see lapwing.hub.Engine, got {url!r}")
    return url


def engine_of_url(url: str | Sequence[str], namespace: str, timeout: float, *, takes_part: bool = True) -> Engine:
    """Make the engine of a URL.

    Args:
        url: where the broker is, or where the brokers are.
        namespace: what names on the broker begin with.
        timeout: seconds to wait for it.
        takes_part: whether this is a process of the hub, with subscribers and clients, or one that only publishes.

    Raises:
        ValueError: there is none for it.
    """
    if not isinstance(url, str):
        return _spread(url, namespace, timeout, takes_part=takes_part)
    scheme = url.partition(":")[0]
    if scheme in _REDIS:
        from .redis import RedisEngine

        return RedisEngine(url, namespace=namespace, timeout=timeout, takes_part=takes_part)
    if scheme in _NATS:
        from .nats import NatsEngine

        return NatsEngine(url, namespace=namespace, timeout=timeout, takes_part=takes_part)
    raise ValueError(
        f"expected the URL of a broker, such as redis://localhost:6379 or nats://localhost:4222, got {shown_url(url)}"
    )


def _spread(urls: Sequence[str], namespace: str, timeout: float, *, takes_part: bool) -> Engine:
    """Make the engine of several servers, each of which has a part of the topics."""
    from .redis import RedisEngine
    from .redis_url import RedisURL
    from .spread import SpreadEngine, fingerprint_of

    if not urls or not all(str(url).partition(":")[0] in _REDIS for url in urls):
        raise ValueError("expected several servers to be URLs of Redis or Valkey")
    parsed = [RedisURL.parse(url) for url in urls]
    places = [url.shown.replace("***@", "") for url in parsed]
    if len({(url.hosts, url.path, url.service, url.db) for url in parsed}) != len(parsed):
        raise ValueError(f"expected different servers, got {', '.join(places)}")
    if len(urls) == 1:
        return engine_of_url(urls[0], namespace, timeout, takes_part=takes_part)
    fingerprint = fingerprint_of(places)
    return SpreadEngine(
        [
            RedisEngine(url, namespace=namespace, timeout=timeout, takes_part=takes_part, fingerprint=fingerprint)
            for url in urls
        ]
    )
