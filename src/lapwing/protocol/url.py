"""WebSocket URLs (RFC 6455 section 3), over unix sockets too: from the user's text to the form on the wire.

It knows the generic syntax of RFC 3986 as far as ws:// and wss:// need it, and nothing of sockets, names or proxies:
whether a host exists is found out elsewhere.
"""

from __future__ import annotations

from typing import NamedTuple

from .errors import InvalidURL
from .secrecy import HIDDEN, shown_target

__all__ = ["ENCODE_HINT", "URL", "check_url_characters", "encode_name", "parse_url", "shown_url", "split_authority"]

_DEFAULT_PORTS = {"ws": 80, "wss": 443}
#: The schemes of a WebSocket over a unix socket, each with the scheme of the traffic over it.
_UNIX_SCHEMES = {"ws+unix": "ws", "wss+unix": "wss"}
#: What may stand before a colon where the slashes are missing, and the scheme that is meant by it.
_MEANT_SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss", "ws+unix": "ws+unix", "wss+unix": "wss+unix"}
_ALPHANUMERIC = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

#: RFC 3986 section 3.1.
_SCHEME_CHARACTERS = frozenset(_ALPHANUMERIC + "+-.")
#: The characters of an IPv6 address (RFC 4291 section 2.2).
_ADDRESS_CHARACTERS = frozenset("0123456789abcdefABCDEF:.")
#: The characters that a path or query may have unencoded: unreserved, sub-delims, ":", "@", "/", "?" and the percent
#: sign of an encoded one (RFC 3986 sections 3.3 and 3.4).
_TARGET_CHARACTERS = frozenset(_ALPHANUMERIC + "-._~!$&'()*+,;=:@/?%")
#: What may stand as it is in the path of a unix socket within a URL.
_PATH_CHARACTERS = _TARGET_CHARACTERS - frozenset(":?%")
#: The characters of a host name. RFC 3986 allows more, but no resolver does; the underscore is common in practice.
_NAME_CHARACTERS = frozenset(_ALPHANUMERIC + "-._")
#: The characters of the zone of a link-local IPv6 address (RFC 6874 section 2: ZoneID, unreserved characters only).
_ZONE_CHARACTERS = frozenset(_ALPHANUMERIC + "-._~")

#: The limits of the domain name system (RFC 1035 section 2.3.4), in bytes.
_MAX_NAME = 253
_MAX_LABEL = 63
#: How many characters of a wrong URL an error message shows.
_MAX_SHOWN = 100
#: What to do about a delimiter in a user name or password.
ENCODE_HINT = "in a user name or password write %23 for '#', %2F for '/', %3A for ':', %3F for '?' and %40 for '@'"


class URL(NamedTuple):
    """The parts of a WebSocket URL (RFC 6455 section 3).

    Attributes:
        scheme: "ws" or "wss".
        host: in ASCII and lower case: a name (IDNA 2008 where it was not ASCII), an IPv4 address, or an IPv6 address
            without brackets.
        port: 1 to 65535; 80 for ws and 443 for wss where the URL names none.
        target: the RFC's resource name: path and query, in ASCII, percent-encoded (RFC 3987 section 3.1) where the URL
            was not. It begins with "/".
        userinfo: the user name and password, decoded, or None.
        unix_path: the path of the unix socket that a ws+unix or wss+unix URL names, decoded; None for TCP. `host` is
            "localhost" then, for the Host header and the certificate.

    `str` and `repr` are for messages and logs: they show neither the user name and password nor the query, which often
    has a token in it. `complete` has the query.
    """

    scheme: str
    host: str
    port: int
    target: str
    userinfo: tuple[str, str] | None = None
    unix_path: str | None = None

    @property
    def origin(self) -> tuple[str, str, int, str | None]:
        """The parts that two URLs of the same server have in common (RFC 6454 section 5)."""
        return self.scheme, self.host, self.port, self.unix_path

    @property
    def secure(self) -> bool:
        """Whether the connection runs over TLS."""
        return self.scheme == "wss"

    @property
    def host_header(self) -> str:
        """The value of the Host header: with brackets for IPv6, with the port where it is not the default."""
        # The zone of an IPv6 address means something on this machine only (RFC 6874 section 4: it is not to be sent).
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def complete(self) -> str:
        """The URL with its query, without user name and password: for connecting rather than for a log."""
        return self._place + self.target

    @property
    def _place(self) -> str:
        """What stands before the target."""
        if self.unix_path is not None:
            return f"{self.scheme}+unix://{_encode(self.unix_path, _PATH_CHARACTERS)}:"
        return f"{self.scheme}://{self.host_header}"

    def __str__(self) -> str:
        return self._place + self.target.partition("?")[0]

    def __repr__(self) -> str:
        target = shown_target(self.target)
        secret = ", userinfo=<hidden>" if self.userinfo is not None else ""
        socket = f", unix_path={self.unix_path!r}" if self.unix_path is not None else ""
        return f"URL(scheme={self.scheme!r}, host={self.host!r}, port={self.port}, target={target!r}{secret}{socket})"


def parse_url(text: str) -> URL:
    """Parse a WebSocket URL (RFC 6455 section 3).

    Args:
        text: such as "ws://localhost:8080/chat?room=1". Non-ASCII characters are encoded: IDNA 2008 in the
            host, percent-encoded UTF-8 elsewhere. A user name and password may stand before the host. A unix socket is
            named as in "ws+unix:///run/app.sock:/chat?room=1": its absolute path, a colon, the target; a colon,
            question mark or percent sign within the path is percent-encoded.

    Returns:
        The parts.

    Raises:
        TypeError: `text` is not a str.
        InvalidURL: it is not a WebSocket URL; the message gives the expected form and, where it can, a guess. It
            shows neither the query nor anything before the last "@", where a user name and password may stand.
    """
    if not isinstance(text, str):
        raise TypeError(f"the URL must be a str, not {type(text).__name__}")
    check_url_characters(text)
    scheme, rest = _split_scheme(text)
    if "#" in rest:
        if "@" in rest.partition("#")[2]:
            raise InvalidURL(f"a WebSocket URL has no '#' before its host: {ENCODE_HINT}, in {shown_url(text)}")
        raise InvalidURL(
            f"a WebSocket URL has no fragment (RFC 6455 section 3): leave out what begins with '#', or write "
            f"%23 for a '#' itself, in {shown_url(text)}"
        )
    if scheme in _UNIX_SCHEMES:
        return _parse_unix(_UNIX_SCHEMES[scheme], rest, text)
    end = min((position for mark in "/?" if (position := rest.find(mark)) >= 0), default=len(rest))
    userinfo, host, port = split_authority(rest[:end], _DEFAULT_PORTS[scheme], text)
    return URL(scheme, host, port, _encode_target(rest[end:]), userinfo)


def split_authority(authority: str, default_port: int, text: str) -> tuple[tuple[str, str] | None, str, int]:
    """Parse what stands between "://" and the path (RFC 3986 section 3.2).

    Args:
        authority: such as "user:password@localhost:8080".
        default_port: the port where it names none.
        text: the whole URL, for the message of an error; its characters have been checked.

    Returns:
        User name and password or None, the host, the port: as in `URL`.

    Raises:
        InvalidURL: a part of it is wrong.
    """
    before, at, location = authority.rpartition("@")
    failure: InvalidURL | None = None
    try:
        host, port = _parse_location(location, default_port, text)
    except InvalidURL as error:
        failure = error
    # With an "@" behind it this is probably no host and port, but the beginning of a password with a "/" or "?" in it.
    # The message of that error would show it; and with an empty port the rest of it would go to a host named as the
    # user.
    is_misread = text.count("@") > authority.count("@")
    if is_misread and (failure is not None or location.endswith(":")):
        failure = InvalidURL(f"expected a host and perhaps a port before the path: {ENCODE_HINT}, in {shown_url(text)}")
    if failure is not None:
        raise failure
    return _parse_userinfo(before, text) if at else None, host, port


def _parse_unix(scheme: str, rest: str, text: str) -> URL:
    """Parse what follows "ws+unix://": the path of a socket, a colon, the target."""
    from urllib.parse import unquote

    path, _, target = rest.partition(":")
    if not path.startswith("/") or "?" in path or (target and not target.startswith(("/", "?"))):
        raise InvalidURL(
            f"expected the absolute path of a unix socket, a colon and a path to ask for, as in "
            f"ws+unix:///run/app.sock:/chat, got {shown_url(text)}"
        )
    try:
        path = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise InvalidURL(f"the path of the unix socket is not UTF-8, in {shown_url(text)}") from None
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in path):
        raise InvalidURL(f"the path of a unix socket must not contain control characters, in {shown_url(text)}")
    return URL(scheme, "localhost", _DEFAULT_PORTS[scheme], _encode_target(target), None, path)


def shown_url(text: str) -> str:
    """Quote a URL for a message: bounded, printable, without the password and the query.

    Everything before the last "@" is left out, because a password that is not percent-encoded may have any delimiter
    in it.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not _SCHEME_CHARACTERS.issuperset(scheme):
        scheme, separator, rest = "", "", text
    _, at, location = rest.rpartition("@")
    text = scheme + separator + (f"{HIDDEN}@" if at else "") + shown_target(location)
    return ascii(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def check_url_characters(text: str) -> None:
    """Check that a URL has only characters that may stand in one.

    Raises:
        InvalidURL: it has a control character, white space, a backslash or half a character in it.
    """
    # A line break in a URL would end the request line and begin a header of the URL's choice; the rest of the white
    # space and the control characters have no place in a URL either (RFC 3986 section 2).
    for position, character in enumerate(text):
        if character == "\\":
            # Browsers read it as "/", other programs as a part of a name: they would not agree on the host.
            raise InvalidURL(
                f"the URL has a backslash at position {position}, which must not stand in a URL: write / between the "
                "parts of a path, or %5C for the backslash itself"
            )
        if character.isspace() or character < " " or "\x7f" <= character <= "\x9f":
            hint = "write %20 for a space" if character == " " else "percent-encode it where it is meant"
            raise InvalidURL(
                f"the URL has {character!a} at position {position}, but white space and control characters "
                f"must not stand in a URL: {hint}"
            )
        if "\ud800" <= character <= "\udfff":
            raise InvalidURL(f"the URL has the lone surrogate {character!a} at position {position}: it is not text")


def _split_scheme(text: str) -> tuple[str, str]:
    """Take the scheme off: the scheme and what follows "://"."""
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if separator and (scheme in _DEFAULT_PORTS or scheme in _UNIX_SCHEMES):
        return scheme, rest
    if separator and scheme in ("http", "https"):
        meant = {"http": "ws", "https": "wss"}[scheme]
        raise InvalidURL(
            f"expected ws:// or wss://, got {shown_url(text)}: did you mean {shown_url(f'{meant}://{rest}')}?"
        )
    if separator and scheme and _SCHEME_CHARACTERS.issuperset(scheme):
        raise InvalidURL(
            f"expected ws:// or wss://, got {shown_url(text)}: {scheme[:_MAX_SHOWN]!a} is not a scheme of WebSocket"
        )
    if not text:
        raise InvalidURL("expected ws:// or wss://, got an empty URL")
    guess = _meant(text)
    hint = "write a scheme and a host, as in ws://localhost:8080/" if guess is None else f"did you mean {guess}?"
    raise InvalidURL(f"expected ws:// or wss://, got {shown_url(text)}: {hint}")


def _meant(text: str) -> str | None:
    """Guess which URL was meant by a text without "://", for a message; None where there is no good guess."""
    head, colon, tail = text.partition(":")
    scheme = _MEANT_SCHEMES.get(head.lower()) if colon else None
    rest = text if scheme is None else tail
    if scheme in _UNIX_SCHEMES:
        path = rest.lstrip("/")
        meant = f"{scheme}:///{path}" if path else ""
    elif scheme is None and rest.startswith("/") and not rest.startswith("//"):
        meant = f"ws://localhost{rest}"
    else:
        place = rest.lstrip("/")
        end = min((position for mark in "/?" if (position := place.find(mark)) >= 0), default=len(place))
        meant = f"{scheme or 'ws'}://{_meant_location(place[:end])}{place[end:]}"
    try:
        parse_url(meant)
    except InvalidURL:
        return None
    return shown_url(meant)


def _meant_location(location: str) -> str:
    """Guess which host and port were meant: of a port alone, or an IPv6 address without brackets."""
    if location.isascii() and location.removeprefix(":").isdigit():
        return f"localhost:{location.removeprefix(':')}"
    if location.count(":") > 1 and _ADDRESS_CHARACTERS.issuperset(location):
        return f"[{location}]"
    return location


def _parse_location(location: str, default_port: int, text: str) -> tuple[str, int]:
    """Parse host and port."""
    if location.startswith("["):
        address, bracket, port = location[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidURL(f"expected an IPv6 address in brackets and then a port or nothing, in {shown_url(text)}")
        return _check_address(address, text), _parse_port(port[1:], default_port, text)
    host, _, port = location.partition(":")
    if ":" in port:
        raise InvalidURL(
            f"more than one ':' in host and port: write an IPv6 address in brackets, as in "
            f"ws://[::1]:8080/, in {shown_url(text)}"
        )
    if not host:
        raise InvalidURL(f"the host is missing in {shown_url(text)}: expected one as in ws://localhost/")
    return _encode_host(host, text), _parse_port(port, default_port, text)


def _parse_port(port: str, default: int, text: str) -> int:
    # An empty port means the default (RFC 3986 section 3.2.3).
    if not port:
        return default
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 1 <= int(port) <= 65535):
        raise InvalidURL(f"the port must be a number from 1 to 65535, got {port[:_MAX_SHOWN]!a} in {shown_url(text)}")
    return int(port)


def _check_address(address: str, text: str) -> str:
    # ipaddress costs milliseconds to import, and few URLs hold an IPv6 address.
    from ipaddress import AddressValueError, IPv6Address

    # "%25" is the percent sign, encoded, before the zone (RFC 6874 section 2).
    number, percent, zone = address.partition("%25")
    if percent and not (zone and _ZONE_CHARACTERS.issuperset(zone)):
        raise InvalidURL(f"the zone of the IPv6 address is malformed in {shown_url(text)}")
    try:
        IPv6Address(number)
    except AddressValueError:
        number = ""
    if not number or "%" in number:
        raise InvalidURL(f"expected an IPv6 address in the brackets, got {address[:_MAX_SHOWN]!a} in {shown_url(text)}")
    return number.lower() + ("%" + zone if zone else "")


def encode_name(name: str) -> str:
    """Encode an internationalised domain name as browsers do: IDNA 2008 (RFC 5891), mapped by UTS 46.

    IDNA 2003, which Python's own codec speaks, leads to other domains: it makes fass.de of "faß.de".

    Raises:
        InvalidURL: it is invalid.
    """
    # Imported only here: few hosts are not ASCII. The length comes first because the encoding takes time for each
    # character.
    if name.isascii() or len(name) > _MAX_NAME:
        return name
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise InvalidURL(f"the host {name!a} is not an internationalised domain name: {error}") from None


def _encode_host(host: str, text: str) -> str:
    """Encode a host name into lower-case ASCII and check it."""
    name = encode_name(host)
    # After the encoding: compatibility forms such as U+FF0F turn into "/" and its like on the way.
    wrong = sorted(set(name) - _NAME_CHARACTERS)
    if wrong:
        raise InvalidURL(f"{wrong[0]!a} must not stand in a host name, in {shown_url(text)}")
    if len(name) > _MAX_NAME or any(not 0 < len(label) <= _MAX_LABEL for label in name.removesuffix(".").split(".")):
        raise InvalidURL(
            f"a host name has labels of 1 to {_MAX_LABEL} characters between its dots and "
            f"{_MAX_NAME} characters in all, got {shown_url(text)}"
        )
    return name.lower()


def _parse_userinfo(userinfo: str, text: str) -> tuple[str, str]:
    """Decode user name and password (RFC 3986 section 3.2.1), fit for Basic authentication (RFC 7617 section 2)."""
    from urllib.parse import unquote

    if "@" in userinfo:
        raise InvalidURL(
            f"more than one '@' before the host: write %40 for an '@' in a user name or password, in {shown_url(text)}"
        )
    user, _, password = userinfo.partition(":")
    try:
        user, password = unquote(user, errors="strict"), unquote(password, errors="strict")
    except UnicodeDecodeError:
        raise InvalidURL(f"the user name or password is not UTF-8, in {shown_url(text)}") from None
    if ":" in user:
        raise InvalidURL(f"a user name must not contain a colon (RFC 7617 section 2), in {shown_url(text)}")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in user + password):
        raise InvalidURL(f"a user name or password must not contain control characters, in {shown_url(text)}")
    return user, password


def _encode_target(target: str) -> str:
    """Percent-encode what may not stand in a path or query (RFC 3987 section 3.1), and give an empty path its "/"."""
    if not target.startswith("/"):
        target = "/" + target
    return target if _TARGET_CHARACTERS.issuperset(target) else _encode(target, _TARGET_CHARACTERS)


def _encode(text: str, allowed: frozenset[str]) -> str:
    """Percent-encode every character that is not allowed (RFC 3986 section 2.1)."""
    return "".join(
        character if character in allowed else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in text
    )
