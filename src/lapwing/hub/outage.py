"""What becomes of a hub's clients while its broker cannot be reached: they stay, or are sent to another server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

__all__ = ["AWAY", "OnOutage", "Outage"]

logger = logging.getLogger("lapwing.hub")

OnOutage = Literal["keep", "close"]

#: Close code and reason of a connection that is sent away (RFC 6455 section 7.4.1 and the registry of IANA).
AWAY: Final = (1012, "the broker of the hub cannot be reached: connect again")


class Outage:
    """An interruption of the link to the broker that lasts.

    Args:
        on_outage: "keep" or "close".
        patience: seconds after which an interruption is one that lasts.

    Attributes:
        lasts: whether clients are sent away.
        clients: closes the connections of clients.
    """

    def __init__(self, on_outage: OnOutage, patience: float) -> None:
        self._closes = on_outage == "close"
        self._patience = patience
        self._timer: asyncio.TimerHandle | None = None
        self.lasts = False
        self.clients: dict[object, Callable[[], None]] = {}

    def began(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the link is down."""
        if self._closes and self._timer is None and not self.lasts:
            self._timer = loop.call_later(self._patience, self._send_away)

    def ended(self) -> None:
        """Note that it is up again, or that the hub has ended."""
        self.lasts = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send_away(self) -> None:
        self._timer = None
        self.lasts = True
        logger.warning("the broker cannot be reached for %g s: clients are sent to another server", self._patience)
        for close in list(self.clients.values()):
            close()
