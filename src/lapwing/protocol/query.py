"""The query of a request's target: a leaf that knows no request."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Query"]


class Query(str):
    """The query of a request's target (RFC 3986 section 3.4): the text on the wire, and the parameters in it.

    It is a `str`, still percent-encoded; as such it is compared, sliced and searched (`in` looks for text). A name
    between the brackets gives a parameter, decoded as the forms of HTML encode them: "+" is a space, the bytes are
    UTF-8, and invalid ones become U+FFFD.

    ::

        request.query                     # "room=caf%C3%A9&tag=a&tag=b"
        request.query["room"]             # "café"; KeyError without it
        request.query.get("token")        # None
        request.query.get_all("tag")      # ["a", "b"]
    """

    __slots__ = ()

    @overload
    def __getitem__(self, key: str) -> str: ...
    @overload
    def __getitem__(self, key: SupportsIndex | slice) -> str: ...
    def __getitem__(self, key: str | SupportsIndex | slice) -> str:
        """Return the first parameter of this name; a number or a slice gives a part of the text.

        Raises:
            KeyError: there is no such parameter.
        """
        if not isinstance(key, str):
            return str.__getitem__(self, key)
        for name, value in self.parameters():
            if name == key:
                return value
        raise KeyError(key)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first parameter of this name, or `default` without it."""
        try:
            return self[name]
        except KeyError:
            return default

    def get_all(self, name: str) -> list[str]:
        """Return all parameters of this name in their order: an empty list without it."""
        return [value for each, value in self.parameters() if each == name]

    def items(self) -> list[tuple[str, str]]:
        """Return the names and values of all parameters, in the order of the wire; "" where there is no value."""
        return list(self.parameters())

    def parameters(self) -> Iterator[tuple[str, str]]:
        """Go through what `items` returns."""
        from urllib.parse import unquote_plus

        for part in self.split("&"):
            if part:
                name, _, value = part.partition("=")
                yield unquote_plus(name, errors="replace"), unquote_plus(value, errors="replace")
