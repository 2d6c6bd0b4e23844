"""What servers count, for Prometheus (`pip install prometheus-client`) and OpenTelemetry (`opentelemetry-api`).

Nothing is counted here: each scrape reads `Server.stats()`. The counts of a hub have the label `pattern`, with the
patterns that the program has declared, and not the names of topics, of which there may be a million. The packages of
these two are loaded when they are first needed.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import MeterProvider
    from prometheus_client.metrics_core import Metric

    from .server import Server
    from .stats import ServerStats

__all__ = ["CONTENT_TYPE", "Collector", "observe", "prometheus_text", "prometheus_text_of_workers"]

#: The content type of what `prometheus_text` returns.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Quantity(NamedTuple):
    """Something that is counted, or stands.

    Attributes:
        name: its name without prefix, in the words of Prometheus.
        unit: its unit as the UCUM writes it, for OpenTelemetry.
        text: its description.
        counts: whether it only grows.
        label: what tells its values apart; "" where there is one.
        values: the values in some stats, by label.
    """

    name: str
    unit: str
    text: str
    counts: bool
    label: str
    values: Callable[[ServerStats], dict[str, float]]


_QUANTITIES = (
    _Quantity("connections", "{connection}", "Open connections.", False, "", lambda s: {"": s.connections}),
    _Quantity(
        "handshakes",
        "{handshake}",
        "Opening handshakes, by outcome.",
        True,
        "outcome",
        lambda s: {"opened": s.opened, "answered": s.answered, "refused": s.refused, "failed": s.failed},
    ),
    _Quantity(
        "surplus",
        "{connection}",
        "Connections refused because a limit was reached.",
        True,
        "",
        lambda s: {"": s.surplus},
    ),
    _Quantity(
        "closed",
        "{connection}",
        "Connections that ended, by close code.",
        True,
        "code",
        lambda s: {str(code): count for code, count in sorted(s.closed.items())},
    ),
    _Quantity(
        "messages",
        "{message}",
        "Messages.",
        True,
        "direction",
        lambda s: {"received": s.messages_received, "sent": s.messages_sent},
    ),
    _Quantity(
        "payload_bytes",
        "By",
        "Bytes of messages, as applications see them.",
        True,
        "direction",
        lambda s: {"received": s.payload_received, "sent": s.payload_sent},
    ),
    _Quantity(
        "wire_bytes",
        "By",
        "Bytes of frames, as they are on the wire.",
        True,
        "direction",
        lambda s: {"received": s.wire_received, "sent": s.wire_sent},
    ),
    _Quantity(
        "control_frames",
        "{frame}",
        "Control frames: pings, pongs and close frames.",
        True,
        "direction",
        lambda s: {"received": s.controls_received, "sent": s.controls_sent},
    ),
    _Quantity(
        "dropped_broadcasts",
        "{message}",
        "Broadcasts that slow readers did not get, counted for each reader.",
        True,
        "",
        lambda s: {"": s.dropped_broadcasts},
    ),
    _Quantity(
        "held_bytes", "By", "Bytes held for the open connections in all.", False, "", lambda s: {"": s.held_bytes}
    ),
    _Quantity(
        "waiting_bytes",
        "By",
        "Bytes that wait: received ones for the application, sent ones for the kernel.",
        False,
        "direction",
        lambda s: {"received": s.queued_bytes, "sent": s.unsent_bytes},
    ),
)


def _of_patterns(name: str) -> Callable[[ServerStats], dict[str, float]]:
    """A count of the hub by pattern; nothing without a hub."""
    return lambda s: {} if s.hub is None else {pattern: getattr(each, name) for pattern, each in s.hub.patterns.items()}


_HUB_QUANTITIES = (
    _Quantity(
        "hub_up",
        "1",
        "Whether the engine of the hub can publish, and messages arrive.",
        False,
        "",
        lambda s: {} if s.hub is None else {"": float(s.hub.is_up)},
    ),
    _Quantity(
        "hub_unpublished",
        "{message}",
        "Messages that publish_soon could not publish.",
        True,
        "",
        lambda s: {} if s.hub is None else {"": s.hub.failed},
    ),
    *(
        _Quantity(f"hub_{name}", unit, text, counts, "pattern", _of_patterns(name))
        for name, unit, text, counts in (
            ("topics", "{topic}", "Topics with subscribers in this process.", False),
            ("subscriptions", "{subscription}", "Subscriptions, by pattern of the topic.", False),
            ("behind", "{subscription}", "Subscriptions that are served from history.", False),
            ("published", "{message}", "Messages published by this process.", True),
            ("received", "{message}", "Messages received for topics with subscribers in this process.", True),
            ("delivered", "{message}", "Messages given to subscribers.", True),
            ("dropped", "{message}", "Messages that slow subscribers did not get, by the topic's policy.", True),
            ("duplicates", "{message}", "Messages that came twice from the engine, and were dropped.", True),
            ("repairs", "{read}", "Reads of a history to close a gap.", True),
            ("losses", "{loss}", "How often a subscriber was told that messages are lost.", True),
            ("unreadable", "{message}", "Stored messages that were damaged.", True),
        )
    ),
)


class Collector:
    """Gives what servers count to a registry of `prometheus_client`: `REGISTRY.register(Collector(server))`.

    Several servers are told apart by the label `server`. A registry may ask from any thread.

    Args:
        *servers: the servers.
        names: the label `server` of each; by default the port, or the path of its unix socket.

    Raises:
        ValueError: there is not one name for each server.
    """

    def __init__(self, *servers: Server, names: Iterable[str] | None = None) -> None:
        self._servers = _named(servers, names)

    def collect(self) -> Iterator[Metric]:
        """Make the metrics of this moment."""
        return _families(["server"], [([name], server.stats()) for name, server in self._servers])


class _Taken:
    """Gives a registry the metrics that were taken before."""

    def __init__(self, labels: list[str], taken: list[tuple[list[str], ServerStats]]) -> None:
        self._labels = labels
        self._taken = taken

    def collect(self) -> Iterator[Metric]:
        return _families(self._labels, self._taken)


def _families(labels: list[str], taken: list[tuple[list[str], ServerStats]]) -> Iterator[Metric]:
    """Make metrics of stats, each with the values of the labels that tell them apart."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    for quantity in _quantities(stats for _, stats in taken):
        kind = CounterMetricFamily if quantity.counts else GaugeMetricFamily
        more = [quantity.label] if quantity.label else []
        metric = kind(f"lapwing_{quantity.name}", quantity.text, labels=labels + more)
        for values, stats in taken:
            for label, value in quantity.values(stats).items():
                metric.add_metric([*values, label] if more else values, value)
        yield metric


def _quantities(stats: Iterable[ServerStats]) -> tuple[_Quantity, ...]:
    """What there is to tell: of hubs only where there is one."""
    return _QUANTITIES + (_HUB_QUANTITIES if any(each.hub is not None for each in stats) else ())


def prometheus_text(*servers: Server, names: Iterable[str] | None = None) -> bytes:
    """Return what servers count in the text format of Prometheus; its content type is `CONTENT_TYPE`.

    Args:
        *servers: as for `Collector`.
        names: as for `Collector`.

    Raises:
        ValueError: there is not one name for each server.
        ImportError: `prometheus_client` is not installed.
    """
    return _text(Collector(*servers, names=names))


async def prometheus_text_of_workers(*servers: Server, names: Iterable[str] | None = None) -> bytes:
    """Return what all workers of `lapwing.run(..., workers=N)` count, on one page, whichever of them is asked.

    Each value has the label `worker`, with the number of the worker: one that is replaced begins at 0, which Prometheus
    takes for a restart of these series alone. `sum without (worker)` has the totals. Workers that do not answer within
    two seconds are left out.

    Args:
        *servers: as for `Collector`; of servers that are no workers, each is alone, with the number 0.
        names: as for `Collector`.

    Raises:
        ValueError: there is not one name for each server.
        ImportError: `prometheus_client` is not installed.
    """
    taken = [
        ([name, str(number)], stats)
        for name, server in _named(servers, names)
        for number, stats in (await server.stats_of_workers()).items()
    ]
    return _text(_Taken(["server", "worker"], taken))


def _text(collector: Collector | _Taken) -> bytes:
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


def observe(*servers: Server, names: Iterable[str] | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Make observable instruments of OpenTelemetry of what servers count.

    They are named `lapwing.messages` and so on, with the attributes `server` and what tells the values apart. They hold
    the servers as long as the meter provider lives.

    Args:
        *servers: the servers.
        names: the attribute `server` of each; by default the port, or the path of its unix socket.
        meter_provider: who makes the instruments; the global one by default.

    Raises:
        ValueError: there is not one name for each server.
        ImportError: `opentelemetry-api` is not installed.
    """
    from importlib.metadata import version

    from opentelemetry.metrics import Observation, get_meter

    named = _named(servers, names)
    meter = get_meter("lapwing", version("lapwing"), meter_provider)

    def observer(quantity: _Quantity) -> Callable[[Any], list[Observation]]:
        def observations(_: Any) -> list[Observation]:
            return [
                Observation(value, {"server": name, quantity.label: label} if quantity.label else {"server": name})
                for name, server in named
                for label, value in quantity.values(server.stats()).items()
            ]

        return observations

    for quantity in _QUANTITIES + _HUB_QUANTITIES:
        make = meter.create_observable_counter if quantity.counts else meter.create_observable_up_down_counter
        make(f"lapwing.{quantity.name}", [observer(quantity)], unit=quantity.unit, description=quantity.text)


def _named(servers: tuple[Server, ...], names: Iterable[str] | None) -> list[tuple[str, Server]]:
    """Name each server."""
    chosen = [_usual_name(server) for server in servers] if names is None else list(names)
    if not servers or len(chosen) != len(servers):
        raise ValueError(f"expected servers with a name for each, got {len(servers)} servers and the names {chosen}")
    return list(zip(chosen, servers, strict=True))


def _usual_name(server: Server) -> str:
    """The port of a server; where it has none, the path of its unix socket, "@" for the NUL of one without a file."""
    try:
        return str(server.port)
    except LookupError:
        return os.fsdecode(server.addresses[0]).replace("\0", "@")
