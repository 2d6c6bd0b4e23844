from typing import Final, TypedDict

__all__ = ["BUILD"]

class _Build(TypedDict):
    cython: str
    compiler: str
    optimised: bool
    sanitized: bool
    traced: bool

BUILD: Final[_Build]
