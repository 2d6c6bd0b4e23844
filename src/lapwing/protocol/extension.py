"""Extension offers: the grammar of Sec-WebSocket-Extensions (RFC 6455 section 9.1), and the interface of an extension.

It knows no extension by name: the meaning of a parameter is the extension's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from .errors import HandshakeError
from .http import is_token
from .limits import MAX_ELEMENTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .http import Headers

__all__ = [
    "ClientExtension",
    "ExtensionOffer",
    "FallbackOffer",
    "Parameters",
    "RequestAware",
    "ServerExtension",
    "Shareable",
    "format_extensions",
    "parse_extensions",
]

Parameters = tuple[tuple[str, str | None], ...]

#: How many characters of a malformed value an error message shows.
_MAX_SHOWN = 64

_WHITE_SPACE = " \t"


class ExtensionOffer(NamedTuple):
    """An element of Sec-WebSocket-Extensions: an offer of a client, or the agreement of a server.

    Attributes:
        name: the extension token.
        parameters: names and values in the order of the wire; the value is None where there is none. A name may occur
            twice: whether that is meant is the extension's business.
    """

    name: str
    parameters: Parameters = ()


class ClientExtension(Protocol):
    """An extension as a client offers it. One object may serve many connections."""

    @property
    def name(self) -> str:
        """The extension token."""

    def offer(self) -> ExtensionOffer:
        """Return what to offer to the server."""

    def accept(self, parameters: Parameters) -> object:
        """Take the parameters that the server agreed to.

        Returns:
            The extension as agreed on, for this connection.

        Raises:
            HandshakeError: the parameters are malformed or do not answer the offer (RFC 6455 section 9.1).
        """


@runtime_checkable
class FallbackOffer(Protocol):
    """A client's extension with a second offer, for servers that decline the first."""

    def fallback(self) -> ExtensionOffer | None:
        """Return the second offer to the server; None for none."""


class ServerExtension(Protocol):
    """An extension as a server supports it. One object may serve many connections."""

    @property
    def name(self) -> str:
        """The extension token."""

    def respond(self, offer: ExtensionOffer) -> tuple[ExtensionOffer, object] | None:
        """Answer a client's offer of this extension.

        Returns:
            What to agree to and the extension as agreed on, for this connection; None to decline the offer, malformed
            or unknown parameters included.
        """


@runtime_checkable
class RequestAware(Protocol):
    """A server's extension whose answers depend on the client's other headers."""

    def for_request(self, headers: Headers) -> ServerExtension:
        """Return the extension that answers the offers of a request with these headers."""


@runtime_checkable
class Shareable(Protocol):
    """An extension that makes the same of the same header for all connections.

    A server's answers the same offers alike: of all clients, or of those that are browsers, whose User-Agent begins
    with "Mozilla/".
    """

    def is_shared(self, agreed: object) -> bool:
        """Tell whether the agreement of one connection may serve all others with the same header."""


def parse_extensions(value: str) -> list[ExtensionOffer]:
    """Parse the value of Sec-WebSocket-Extensions (RFC 6455 section 9.1).

    Takes time in proportion to the length of `value`. Empty elements of the list are ignored (RFC 9110 section
    5.6.1.2).

    Args:
        value: the header's value; the values of several lines are joined with a comma.

    Returns:
        The offers in the order of the wire, the order of the client's preference.

    Raises:
        HandshakeError: `value` does not conform to the grammar, whereupon the connection must be failed, or has more
            than `MAX_ELEMENTS` offers and parameters.
    """
    if value.count(",") + value.count(";") >= MAX_ELEMENTS:
        raise HandshakeError(f"Sec-WebSocket-Extensions has more than {MAX_ELEMENTS} extensions and parameters")
    offers = []
    # A quoted value must be a token all the same, and no token has a comma, a semicolon or an equals sign: so the value
    # may be cut at these without a look at the quotes. A quoted one of them leaves a piece that is no token.
    for element in value.split(","):
        name, *words = element.split(";")
        name = name.strip(_WHITE_SPACE)
        if not name and not words:
            continue
        if not is_token(name):
            raise _malformed(element)
        offers.append(ExtensionOffer(name, tuple(map(_parse_parameter, words))))
    return offers


def _parse_parameter(word: str) -> tuple[str, str | None]:
    name, equals, value = word.partition("=")
    # RFC 6455 takes its grammar from RFC 2616, where white space may stand between any two words (section 2.1).
    name, value = name.strip(_WHITE_SPACE), value.strip(_WHITE_SPACE)
    if equals and len(value) >= 2 and value.startswith('"') and value.endswith('"'):
        value, *escaped = value[1:-1].split("\\")
        # A backslash stands before the character that is meant (RFC 2616 section 2.2); before nothing, it is an error,
        # and before another backslash, it means one, which is not of a token.
        value = "" if "" in escaped else value + "".join(escaped)
    if not is_token(name) or (equals and not is_token(value)):
        raise _malformed(word)
    return name, value if equals else None


def _malformed(part: str) -> HandshakeError:
    return HandshakeError(
        "malformed Sec-WebSocket-Extensions: expected a token, or a name and a token as its value, "
        f"got {part[:_MAX_SHOWN]!a}"
    )


def format_extensions(offers: Iterable[ExtensionOffer]) -> str:
    """Write the value of Sec-WebSocket-Extensions (RFC 6455 section 9.1).

    Args:
        offers: in the order of preference.

    Raises:
        ValueError: a name or a value is not a token.
    """
    elements = []
    for name, parameters in offers:
        words = [name]
        for parameter, value in parameters:
            words.append(parameter if value is None else f"{parameter}={value}")
            if not is_token(parameter) or (value is not None and not is_token(value)):
                raise ValueError(f"a parameter of the extension {name!a} is not a token: {words[-1][:_MAX_SHOWN]!a}")
        if not is_token(name):
            raise ValueError(f"expected a token as the name of an extension, got {name[:_MAX_SHOWN]!a}")
        elements.append("; ".join(words))
    return ", ".join(elements)
