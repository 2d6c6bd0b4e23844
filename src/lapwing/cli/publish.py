"""Publish messages on a topic of a hub: as a client of its server, or directly through its broker.

    lapwing publish ws://localhost:8080 chat:42 '{"text": "hello"}'
    lapwing publish redis://localhost chat:42 '{"text": "hello"}'

Without DATA each line of standard input is a message. A message is a JSON value; with --text it is text, sent as a JSON
string. The server must allow clients to publish on the topic; with the URL of a broker, a hub must have declared the
topic.

exit status: 0 published, 1 failed, or it is unknown whether the message is stored, 2 usage error, 3 could not connect,
4 refused by the hub, 130 interrupted
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import lapwing

from . import connecting, hub
from .outcome import Failed, Status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

__all__ = ["USAGE", "add_arguments", "run"]

USAGE = "URL TOPIC [DATA ...] [OPTIONS]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    connecting.add_arguments(parser)
    parser.add_argument("topic", metavar="TOPIC", help="the topic")
    parser.add_argument("data", nargs="*", metavar="DATA", help="messages; without any, the lines of standard input")
    group = parser.add_argument_group("hub")
    hub.add_arguments(group)
    group.add_argument("--text", action="store_true", help="DATA is text, sent as a JSON string")
    # The word that other commands have for the same: this command always publishes to a hub.
    group.add_argument("--hub", action="store_true", help="implied; accepted to match `lapwing connect --hub`")
    group.add_argument("--namespace", metavar="NAME", help="the namespace of the hub, for a broker (default lapwing)")


def run(arguments: argparse.Namespace) -> int:
    """Publish."""
    # All arguments are checked before the first message is sent.
    messages = [_encoded(text, arguments) for text in arguments.data] if arguments.data else _lines(arguments)
    if "://" in arguments.topic and "://" not in arguments.url:
        raise Failed("the URL comes first: lapwing publish URL TOPIC DATA")
    if not arguments.url.lower().startswith(("ws://", "wss://", "ws+unix://", "wss+unix://")):
        return _by_broker(arguments, messages)
    if arguments.namespace is not None:
        raise Failed("--namespace is for a broker: leave it out, or pass the URL of the broker")
    with hub.explained(arguments), hub.client(arguments) as client:
        for message in messages:
            client.publish(arguments.topic, message)
    return Status.OK


def _by_broker(arguments: argparse.Namespace, messages: Iterable[bytes]) -> int:
    """Publish without a server."""
    given = [*connecting.given(arguments), *hub.given(arguments)]
    if useless := [name for name in given if name != "--connect-timeout"]:
        raise Failed(f"{useless[0]} is for servers, whose URLs begin with ws:// or wss://, not for brokers")
    try:
        publisher = lapwing.Publisher(
            arguments.url, namespace=arguments.namespace or "lapwing", timeout=arguments.connect_timeout
        )
    except (ValueError, TypeError) as error:
        raise Failed(
            f"expected the URL of a server with a hub, which begins with ws:// or wss://, or of its broker: {error}"
        ) from None
    try:
        with publisher:
            for message in messages:
                publisher.publish_sync(arguments.topic, message)
    except OSError as error:
        raise Failed(str(error), Status.NOT_CONNECTED) from None
    except LookupError as refused:
        raise Failed(connecting.cause(refused), Status.REFUSED) from None
    except lapwing.PublishError as failed:
        raise Failed(connecting.cause(failed), Status.ENDED_BADLY) from None
    except ValueError as error:
        raise Failed(str(error)) from None
    return Status.OK


def _lines(arguments: argparse.Namespace) -> Iterator[bytes]:
    for line in sys.stdin:
        if line.strip():
            yield _encoded(line.rstrip("\n"), arguments)


def _encoded(text: str, arguments: argparse.Namespace) -> bytes:
    if arguments.text:
        return json.dumps(text, ensure_ascii=False).encode()
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Failed(f"expected a JSON value, got {text[:60]!r} ({error}). --text publishes it as a string.") from None
    return text.encode()
