"""What a client prepares before it opens a connection: the same for the blocking and the asyncio face."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .io import trust
from .io.stream import TLS
from .protocol.client_handshake import ClientHandshake
from .protocol.url import parse_url

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .options import ClientSettings
    from .protocol.url import URL

__all__ = ["ClientOpening"]


class ClientOpening:
    """One attempt of a client to connect.

    Args:
        settings: the client's options.
        url: where to.
        protocol: the subprotocol to ask for, or several.

    Raises:
        InvalidURL: the URL is not one of a WebSocket server.
        TypeError, ValueError: an argument or option does not fit.
    """

    def __init__(self, settings: ClientSettings, url: str, protocol: str | Sequence[str] | None) -> None:
        self.url: URL = parse_url(url)
        self.settings = settings
        if not self.url.secure and (settings.ssl is not None or settings.server_hostname is not None):
            raise ValueError("ssl and server_hostname are for wss:// URLs: this one is ws://, without TLS")
        self.handshake = ClientHandshake(
            self.url,
            nonce=os.urandom(16),
            subprotocols=() if protocol is None else protocol,
            origin=settings.origin,
            headers=settings.headers,
        )

    def tls(self) -> TLS | None:
        """Return the TLS session to go through, or None for ws://."""
        if not self.url.secure:
            return None
        context = self.settings.ssl or trust.client_context()
        return TLS(context, server_side=False, server_hostname=self.settings.server_hostname or self.url.host)

    def explain(self, error: OSError) -> OSError:
        """Say in an error of the attempt what may help."""
        return trust.explain(error, self.url.host, self.url.port)
