"""Where a request comes from that proxies have passed on: the headers Forwarded (RFC 7239) and X-Forwarded-For.

Each proxy puts the address that it got the request from at the end of the list. A client can begin the list with
anything: it is read from its end, as far as the addresses are those of trusted proxies; the next one is the client.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from .http import split_list
from .limits import MAX_FORWARDERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .http import Headers

__all__ = ["ForwardedError", "TrustedProxies"]

#: What stands for all proxies that come by a unix socket, which has no address.
_UNIX: Final = "unix"
#: The elements of Forwarded, one for each proxy: commas within a quoted string end none.
_ELEMENTS: Final = re.compile(r"""(?:[^",]|"(?:[^"\\]|\\.)*"?)+""")
#: A parameter of such an element (RFC 7239 section 4): a token or a quoted string.
_PARAMETER: Final = re.compile(r"""[ \t]*([!#$%&'*+.^_`|~\w-]+)=("(?:[^"\\]|\\.)*"|[^ \t";]+)[ \t]*(?:;|$)""", re.ASCII)
_ESCAPED: Final = re.compile(r"\\(.)")
#: Address and port as a node is written (RFC 7239 section 6), and as proxies write them into X-Forwarded-For.
_NODE: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::(\d{1,5}))?|([0-9A-Fa-f:]*:[0-9A-Fa-f:.]+)", re.ASCII)

Address = tuple[str, int] | tuple[str, int, int, int]
Network = IPv4Network | IPv6Network


class ForwardedError(ValueError):
    """The headers of proxies contradict each other, or are malformed: it cannot be told who the client is."""


class TrustedProxies:
    """The proxies whose headers count.

    Args:
        names: addresses, networks such as "10.0.0.0/8", and "unix" for connections over a unix socket.

    Raises:
        TypeError: it is not a str or a collection of them.
        ValueError: one of them is none of these.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, names: str | Iterable[str]) -> None:
        given = [names] if isinstance(names, str) else list(names)
        self._unix = _UNIX in given
        self._networks: list[Network] = []
        if not given:
            raise ValueError("expected at least one proxy in forwarded, got none: leave it out")
        for name in given:
            if not isinstance(name, str):
                raise TypeError(f"expected the address of a proxy in forwarded, got {name!r}")
            if name == _UNIX:
                continue
            try:
                self._networks.append(ip_network(name))
            except ValueError as error:
                raise ValueError(
                    f"expected the address of a proxy, a network such as '10.0.0.0/8' or 'unix' in forwarded, got "
                    f"{name!r}: {error}"
                ) from None

    def is_trusted(self, host: str | None) -> bool:
        """Tell whether this is the address of such a proxy; None is a unix socket's end."""
        return self._unix if host is None else _is_within(host, tuple(self._networks))

    def client(self, headers: Headers) -> Address | None:
        """Return the client's address in a request that one of the proxies has sent.

        Returns:
            As `socket.getpeername` gives it, with the port 0 where no proxy says it; None where the headers do not say
            it, or hide it: then the proxy's own address is all that is known.

        Raises:
            ForwardedError: a header is malformed, or the two name different clients: one of them comes from the client
                then, and was passed on by a proxy that sets the other.
        """
        index = headers.by_name()
        standard, usual = index.get("forwarded"), index.get("x-forwarded-for")
        found = None if standard is None else self._first_untrusted(_nodes(", ".join(standard)))
        if usual is None:
            return found
        other = self._first_untrusted(split_list(",".join(usual)))
        if standard is not None and (found or ("",))[0] != (other or ("",))[0]:
            raise ForwardedError(
                "the headers Forwarded and X-Forwarded-For name different clients: the proxy must set, or remove, both"
            )
        return other if found is None or not found[1] else found

    def _first_untrusted(self, nodes: list[str]) -> Address | None:
        known: Address | None = None
        if len(nodes) > MAX_FORWARDERS:
            raise ForwardedError(f"expected at most {MAX_FORWARDERS} proxies on the way of a request, got {len(nodes)}")
        for node in reversed(nodes):
            address = _parse_node(node)
            if address is None:
                break  # "unknown", or a name that the proxy made up (RFC 7239 section 6.3)
            known = address
            if not self.is_trusted(address[0]):
                break
        return known


@lru_cache(maxsize=1024)
def _is_within(host: str, networks: tuple[Network, ...]) -> bool:
    address = ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return any(each in network for network in networks for each in (address, mapped) if each is not None)


def _nodes(value: str) -> list[str]:
    """Return the nodes of Forwarded, one from each proxy; "unknown" where one does not say it."""
    nodes: list[str] = []
    for element in _ELEMENTS.findall(value):
        if not element.strip(" \t"):
            continue  # RFC 9110 section 5.6.1.2
        node, place = "unknown", 0
        while place < len(element):
            found = _PARAMETER.match(element, place)
            if found is None:
                raise ForwardedError(f"malformed header Forwarded: {element[:64]!a}")
            name, text = found.groups()
            if name.lower() == "for":
                node = _ESCAPED.sub(r"\1", text[1:-1]) if text.startswith('"') else text
            place = found.end()
        nodes.append(node)
    return nodes


def _parse_node(node: str) -> Address | None:
    """Parse an address, with a port or without; None for a hidden or invalid one."""
    found = _NODE.fullmatch(node)
    if found is None:
        return None
    try:
        address = ip_address(found[1] or found[2] or found[4])
    except ValueError:
        return None
    port = int(found[3] or 0)
    if port > 65535:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    return (str(address), port) if address.version == 4 else (str(address), port, 0, 0)
