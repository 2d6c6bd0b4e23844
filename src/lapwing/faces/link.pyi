from typing import Any

from .connection import BaseConnection

__all__ = ["Link"]

class Link(BaseConnection):
    # Attributes of the user's own.
    def __getattr__(self, name: str) -> Any: ...
    def __setattr__(self, name: str, value: Any) -> None: ...
