"""What the option `inspector` may say."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Inspector"]

#: Characters that a token has at least: what is shorter can be guessed.
_SHORTEST_TOKEN = 16


@dataclass(frozen=True, slots=True)
class Inspector:
    """How the live page of a server is served, for the option `inspector`.

    Args:
        path: where it is; a browser asks for this path with a slash behind it.
        token: a secret of at least 16 characters, as `secrets.token_urlsafe()` makes them. With it the page is open to
            everybody who has it, from anywhere, and to nobody else. Without it, which is the default, only to browsers
            on the same machine.

    Raises:
        TypeError: an argument has the wrong type.
        ValueError: the path is none, or the token is too short.
    """

    path: str = "/_lapwing"
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.path, str):
            raise TypeError(f"expected the inspector's path to be a str, got {self.path!r}")
        stripped = self.path.rstrip("/")
        if not stripped.startswith("/") or not stripped.isascii() or not stripped.isprintable():
            raise ValueError(f"expected the inspector's path to be one such as '/_lapwing', got {self.path!r}")
        if set(stripped) & set(" ?#%"):
            raise ValueError(f"expected the inspector's path without any of '?', '#', '%' and ' ', got {self.path!r}")
        object.__setattr__(self, "path", stripped)
        if self.token is None:
            return
        if not isinstance(self.token, str):
            raise TypeError(f"expected the inspector's token to be a str or None, got {type(self.token).__name__}")
        if len(self.token) < _SHORTEST_TOKEN:
            raise ValueError(
                f"expected the inspector's token to have at least {_SHORTEST_TOKEN} characters, got {len(self.token)}: "
                "secrets.token_urlsafe() makes one"
            )
