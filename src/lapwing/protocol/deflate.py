"""permessage-deflate in the opening handshake (RFC 7692 section 7.1): settings, offers, responses.

The agreement is a `PerMessageDeflate` of `compression`, which does the work from then on.

A peer that refers to its earlier messages makes this end keep a window of up to 32 KiB of them. So each end asks the
other one not to, but does not depend on it, because peers differ:

- Browsers obey `client_no_context_takeover` in the response even if they did not offer it. Most connections of a server
  are with browsers, so these get it, and cost no memory. A browser is known by its User-Agent, which begins with
  "Mozilla/": its offer may be the same as that of Netty's or Tornado's client.
- The clients of Tornado and Mojolicious do not see the parameter and go on referring to earlier messages, and Netty's
  client refuses a response with any parameter that it did not offer. So other clients get only parameters that they
  offered: the server forgets earlier messages without telling them. The window of the others is as large as their
  compressed messages so far, up to 32 KiB.
- Netty's server declines an offer with `server_no_context_takeover`, Tornado's and Mojolicious' ignore it. So a client
  makes a second offer without it, and keeps a window where the response does not promise that none is needed.
- libsoup 3 agrees to both offers and then compresses each message twice. So a client connects to it once more, with the
  first offer alone.

bench/NOTES.md has the figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from .compression import PerMessageDeflate
from .errors import HandshakeError
from .extension import ExtensionOffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .extension import Parameters
    from .http import Headers

__all__ = ["ClientDeflate", "Deflate", "ServerDeflate"]

NAME: Final = "permessage-deflate"

_SERVER_FORGETS: Final = "server_no_context_takeover"
_CLIENT_FORGETS: Final = "client_no_context_takeover"
_SERVER_BITS: Final = "server_max_window_bits"
_CLIENT_BITS: Final = "client_max_window_bits"

#: The window that a peer may use when nothing was said about it, as its base-2 logarithm (RFC 7692 section 7.1.2).
_MOST_BITS: Final = 15
#: The window that messages are compressed with where more is allowed but was not asked for. For single messages a
#: larger one costs time and gains little; with context takeover it reaches earlier messages (bench/NOTES.md).
_USUAL_BITS: Final = 12
_USUAL_BITS_WITH_CONTEXT: Final = 15
#: The values of the parameters for the window. As digits without a leading zero: so section 7.1.2.1 has it.
_BITS: Final = {str(bits): bits for bits in range(8, 16)}
#: Where compressing begins by default, in bytes: without context takeover smaller messages hardly shrink.
_THRESHOLD: Final = 512
_THRESHOLD_WITH_CONTEXT: Final = 64


@dataclass(frozen=True)
class Deflate:
    """How to compress (permessage-deflate, RFC 7692): a value for the option `compression`.

    By default each message is compressed by itself, and a connection owns no memory for compressing. Where messages are
    alike, context takeover makes them several times smaller, for 220 KiB of memory for each connection that sends.

    Args:
        level: from 1, quick, to 9, small; None for 7 with context takeover; without it for 6, and 9 for messages below
            2 KiB.
        memory_level: from 1 to 9, how much memory compressing takes.
        threshold: messages of fewer bytes are not compressed unless `send` is told to; None for 512, or 64 with context
            takeover.
        context_takeover: whether messages may refer to earlier ones of their connection, in either direction; the peer
            may refuse to (RFC 7692 section 7.1.1).
        peer_context_takeover: whether the peer's messages may refer to its earlier ones, of which up to 32 KiB are kept
            for each connection. True: a server lets browsers do it, too, and a client does not ask the server not to.
            False: never; a server tells every client not to, which the clients of Tornado, Mojolicious and Netty do not
            take, and a client fails the handshake where the server does not agree. None: as True with
            `context_takeover`; else a server tells it to browsers and to clients that offer it, and a client asks the
            server, and goes on where it does not agree.
        server_max_window_bits: base-2 logarithm of the largest window in bytes that a server compresses with, 9 to 15;
            None for no limit, then 15 is used with context takeover and 12 without it. A client asks the server for it,
            and reads a server that does not confirm it as one without a limit.
        client_max_window_bits: the same for the client's compression. A server does without compression where the
            client cannot be told, as some browsers cannot (RFC 7692 section 7.1.2.2).

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: an argument is out of its range. A window of 8 bits is refused because zlib compresses wrongly with
            it.
    """

    level: int | None = None
    memory_level: int = 5
    threshold: int | None = None
    context_takeover: bool = False
    peer_context_takeover: bool | None = None
    server_max_window_bits: int | None = None
    client_max_window_bits: int | None = None

    def __post_init__(self) -> None:
        _check("level", self.level, 1, 9)
        _check("memory_level", self.memory_level, 1, 9, may_be_none=False)
        _check("threshold", self.threshold, 0, 2**62)
        _check("server_max_window_bits", self.server_max_window_bits, 9, 15)
        _check("client_max_window_bits", self.client_max_window_bits, 9, 15)
        if not isinstance(self.context_takeover, bool):
            raise TypeError(f"expected context_takeover to be True or False, got {self.context_takeover!r}")
        if self.peer_context_takeover is not None and not isinstance(self.peer_context_takeover, bool):
            raise TypeError(
                f"expected peer_context_takeover to be True, False or None, got {self.peer_context_takeover!r}"
            )

    @cached_property
    def for_client(self) -> ClientDeflate:
        """The extension as a client offers it: one of `extensions` for `ClientHandshake`."""
        return ClientDeflate(self)

    @cached_property
    def for_server(self) -> ServerDeflate:
        """The extension as a server supports it: one of `extensions` for `ServerPolicy`."""
        return ServerDeflate(self)


def _check(name: str, value: object, least: int, most: int, *, may_be_none: bool = True) -> None:
    if value is None and may_be_none:
        return
    expected = f"expected {name} to be a whole number from {least} to {most}{', or None' if may_be_none else ''}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{expected}, got {value!r}")
    if not least <= value <= most:
        hint = ": zlib compresses wrongly with a window of 8 bits" if value == 8 and name.endswith("_bits") else ""
        raise ValueError(f"{expected}, got {value!r}{hint}")


class _Agreement(NamedTuple):
    """The parameters of one offer or response, with their values; a flag's is whether it is there."""

    server_forgets: bool = False
    client_forgets: bool = False
    server_bits: int | None = None
    client_bits: int | None = None
    #: Whether a client offered client_max_window_bits, with a value or without.
    bounds_client: bool = False


def _parse(parameters: Parameters, *, from_client: bool) -> _Agreement:
    """Read parameters (RFC 7692 section 7.1); ValueError names the fault."""
    found: dict[str, str | None] = {}
    for name, value in parameters:
        if name in found:
            raise ValueError(f"the parameter {name} appears twice")
        if name in (_SERVER_FORGETS, _CLIENT_FORGETS):
            if value is not None:
                raise ValueError(f"the parameter {name} has a value, {value[:20]!a}, but takes none")
        elif name not in (_SERVER_BITS, _CLIENT_BITS):
            raise ValueError(f"the parameter {name[:40]!a} is unknown")
        elif value is None:
            if not from_client or name != _CLIENT_BITS:
                raise ValueError(f"the parameter {name} has no value: expected 8 to 15")
        elif value not in _BITS:
            raise ValueError(f"expected {name} to be 8 to 15, got {value[:20]!a}")
        found[name] = value
    server_bits, client_bits = found.get(_SERVER_BITS), found.get(_CLIENT_BITS)
    return _Agreement(
        _SERVER_FORGETS in found,
        _CLIENT_FORGETS in found,
        None if server_bits is None else _BITS[server_bits],
        None if client_bits is None else _BITS[client_bits],
        _CLIENT_BITS in found,
    )


class _Codecs:
    """Makes what connections compress with: one for all connections with the same parameters, where that may be."""

    def __init__(self, settings: Deflate) -> None:
        self._settings = settings
        self._shared: dict[tuple[bool, int, int], PerMessageDeflate] = {}

    def make(self, *, keeps_outgoing: bool, keeps_incoming: bool, outgoing: int, incoming: int) -> PerMessageDeflate:
        settings = self._settings
        threshold = settings.threshold
        if threshold is None:
            threshold = _THRESHOLD_WITH_CONTEXT if keeps_outgoing else _THRESHOLD
        make: Callable[[], PerMessageDeflate] = partial(
            PerMessageDeflate,
            keeps_outgoing=keeps_outgoing,
            keeps_incoming=keeps_incoming,
            outgoing_window_bits=outgoing,
            incoming_window_bits=incoming,
            level=settings.level,
            memory_level=settings.memory_level,
            threshold=threshold,
        )
        if keeps_outgoing:
            return make()
        key = keeps_incoming, outgoing, incoming
        codec = self._shared.get(key)
        if codec is None:
            codec = self._shared[key] = make()
        return codec


def _outgoing(agreed: int | None, own: int | None, *, keeps: bool) -> int:
    """Choose the window to compress with, with context takeover or without: the agreement bounds it."""
    if own is None:
        own = _USUAL_BITS_WITH_CONTEXT if keeps else _USUAL_BITS
    return own if agreed is None else min(agreed, own)


class ClientDeflate:
    """permessage-deflate as a client offers it; a `ClientExtension`, `FallbackOffer` and `Shareable`."""

    name: ClassVar[str] = NAME

    def __init__(self, settings: Deflate) -> None:
        self._settings = settings
        self._codecs = _Codecs(settings)
        bits = settings.server_max_window_bits
        client_bits = settings.client_max_window_bits
        may_keep = settings.peer_context_takeover
        if may_keep is None:
            may_keep = settings.context_takeover
        parameters: list[tuple[str, str | None]] = []
        if not may_keep:
            parameters.append((_SERVER_FORGETS, None))
        if not settings.context_takeover:
            parameters.append((_CLIENT_FORGETS, None))
        if bits is not None:
            parameters.append((_SERVER_BITS, str(bits)))
        last: tuple[str, str | None] = (_CLIENT_BITS, None if client_bits is None else str(client_bits))
        self._offer = ExtensionOffer(NAME, (*parameters, last))
        # A server may decline the first offer for its wishes; the second one has none.
        has_wishes = bits is not None or not may_keep
        is_strict = settings.peer_context_takeover is False
        self._fallback = ExtensionOffer(NAME, (last,)) if has_wishes and not is_strict else None

    def offer(self) -> ExtensionOffer:
        """Return what to offer to the server (RFC 7692 section 7.1)."""
        return self._offer

    def fallback(self) -> ExtensionOffer | None:
        """Return the second offer, for servers that decline the first (RFC 7692 section 5.1); None for none."""
        return self._fallback

    def is_shared(self, agreed: object) -> bool:
        """Tell whether a `PerMessageDeflate` of this serves any number of connections."""
        return isinstance(agreed, PerMessageDeflate) and not agreed.keeps_outgoing

    def accept(self, parameters: Parameters) -> PerMessageDeflate:
        """Take the parameters that the server agreed to.

        Raises:
            HandshakeError: it does not answer the offer (RFC 7692 sections 5.1 and 7.1).
        """
        settings = self._settings
        try:
            response = _parse(parameters, from_client=False)
        except ValueError as error:
            raise HandshakeError(f"the server's {NAME} is malformed: {error}") from None
        # A server that confirms neither that it forgets nor how large its window is may do as it likes, and can be read
        # (section 7.1: a client fails a configuration that it does not support).
        if settings.peer_context_takeover is False and not response.server_forgets:
            raise HandshakeError(
                f"the server agreed to {NAME} without {_SERVER_FORGETS}: connect with peer_context_takeover=None, "
                "which keeps up to 32 KiB of its messages, or with compression=False"
            )
        bound = settings.server_max_window_bits
        if bound is not None and response.server_bits is not None and response.server_bits > bound:
            raise HandshakeError(
                f"the server agreed to {NAME} with {_SERVER_BITS} {response.server_bits}, "
                f"but at most {bound} was asked for"
            )
        own = settings.client_max_window_bits
        if own is not None and response.client_bits is not None and response.client_bits > own:
            raise HandshakeError(
                f"the server agreed to {NAME} with {_CLIENT_BITS} {response.client_bits}, but {own} was offered"
            )
        keeps_outgoing = settings.context_takeover and not response.client_forgets
        return self._codecs.make(
            keeps_outgoing=keeps_outgoing,
            keeps_incoming=not response.server_forgets,
            outgoing=_outgoing(response.client_bits, own, keeps=keeps_outgoing),
            incoming=response.server_bits or _MOST_BITS,
        )


class ServerDeflate:
    """permessage-deflate as a server supports it; a `ServerExtension`, `RequestAware` and `Shareable`.

    Args:
        settings: how to compress.
        for_browsers: whether the client is a browser.
    """

    name: ClassVar[str] = NAME

    def __init__(self, settings: Deflate, *, for_browsers: bool = False) -> None:
        self._settings = settings
        self._codecs = _Codecs(settings)
        self._client_may_keep = settings.peer_context_takeover
        if self._client_may_keep is None:
            self._client_may_keep = settings.context_takeover or not for_browsers
        self._for_browsers = self if for_browsers else ServerDeflate(settings, for_browsers=True)

    def for_request(self, headers: Headers) -> ServerDeflate:
        """Return the extension for the client that sent these headers."""
        # RFC 9110 section 10.1.5: the User-Agent is there to work around the limits of single clients. Every browser's
        # begins like this.
        user_agent = headers.by_name().get("user-agent")
        return self._for_browsers if user_agent is not None and user_agent[0].startswith("Mozilla/") else self

    def is_shared(self, agreed: object) -> bool:
        """Tell whether a `PerMessageDeflate` of this serves any number of connections."""
        return isinstance(agreed, PerMessageDeflate) and not agreed.keeps_outgoing

    def respond(self, offer: ExtensionOffer) -> tuple[ExtensionOffer, PerMessageDeflate] | None:
        """Answer an offer; None declines it (RFC 7692 sections 5.1 and 7.1)."""
        settings = self._settings
        try:
            asked = _parse(offer.parameters, from_client=True)
        except ValueError:
            return None
        if asked.server_bits == 8:  # zlib compresses wrongly with it
            return None
        server_forgets = asked.server_forgets or not settings.context_takeover
        client_forgets = asked.client_forgets or not self._client_may_keep
        parameters: list[tuple[str, str | None]] = []
        # A client such as Netty's refuses each parameter that it did not offer: this end forgets without a word then.
        if asked.server_forgets or (server_forgets and client_forgets):
            parameters.append((_SERVER_FORGETS, None))
        if client_forgets:
            parameters.append((_CLIENT_FORGETS, None))
        server_bits = settings.server_max_window_bits
        if asked.server_bits is not None:
            server_bits = min(asked.server_bits, server_bits or _MOST_BITS)
        if server_bits is not None:
            parameters.append((_SERVER_BITS, str(server_bits)))
        client_bits = settings.client_max_window_bits
        if client_bits is not None:
            if not asked.bounds_client:
                return None
            client_bits = min(client_bits, asked.client_bits or _MOST_BITS)
        else:
            client_bits = asked.client_bits
        if client_bits is not None:
            parameters.append((_CLIENT_BITS, str(client_bits)))
        codec = self._codecs.make(
            keeps_outgoing=not server_forgets,
            keeps_incoming=not client_forgets,
            outgoing=_outgoing(server_bits, settings.server_max_window_bits, keeps=not server_forgets),
            # The window that a client offers for itself does not bind it until the server repeats it.
            incoming=client_bits or _MOST_BITS,
        )
        return ExtensionOffer(NAME, tuple(parameters)), codec
