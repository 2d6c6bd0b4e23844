"""What `lapwing connect --hub` and `lapwing publish` share: a client of a hub, and what its failures mean."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import lapwing

from . import connecting
from .closing import words
from .outcome import Failed, Status

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from lapwing.hub.connecting import Connecting

__all__ = ["add_arguments", "client", "explained", "given"]


def add_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare the options of a client of a hub."""
    group.add_argument("--token", default="", metavar="TOKEN", help="the client's token, or @FILE that contains it")
    group.add_argument("--protobuf", action="store_true", help="use protobuf, which supports bytes, instead of JSON")


def given(arguments: argparse.Namespace) -> list[str]:
    """The options of a client of a hub that were given, for a command that is no such client then."""
    return [name for name, value in (("--token", arguments.token), ("--protobuf", arguments.protobuf)) if value]


def client(arguments: argparse.Namespace, **options: Any) -> Connecting:
    """Make a client of the hub that the arguments name.

    Raises:
        Failed: an argument makes no sense.
    """
    url, target = connecting.target(arguments)
    if target.pop("protocol"):
        raise Failed("--subprotocol does not apply to a hub: leave it out, or pass --protobuf")
    target = {name: value for name, value in target.items() if value is not None}
    return lapwing.hub.connect(
        url,
        token=_token(arguments.token),
        protobuf=arguments.protobuf,
        name="lapwing command",
        timeout=arguments.connect_timeout,
        **target,
        **options,
    )


def _token(given: str) -> str:
    if not given.startswith("@"):
        return given
    from pathlib import Path

    try:
        return Path(given[1:]).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(f"--token: cannot read {given[1:]!r}: {error}") from None


@contextmanager
def explained(arguments: argparse.Namespace) -> Iterator[None]:
    """Turn a refusal of the hub, and a failure to connect, into a `Failed` of one line."""
    with connecting.explained(arguments):
        try:
            yield
        except lapwing.ConnectionClosed as closed:
            said = words(lapwing.Closed(closed.was_clean, closed.code, closed.reason))
            raise Failed(f"the hub closed the connection: {said}", Status.REFUSED) from closed
        except (lapwing.Denied, LookupError, lapwing.hub.Unavailable, lapwing.hub.TooManyTopics) as refused:
            raise Failed(connecting.cause(refused), Status.REFUSED) from refused
        except lapwing.PublishError as failed:
            raise Failed(connecting.cause(failed), Status.ENDED_BADLY) from failed
