"""What a connection may come to need, imported before there is one: without a free descriptor no module can be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..options import ClientSettings, ServerSettings

__all__ = ["load_needed"]


def load_needed(settings: ClientSettings | ServerSettings) -> None:
    """Import what connections with these settings need later."""
    if settings.deflate is not None:
        from ..protocol.compression import load_library

        load_library()
    settings.json_functions  # noqa: B018 - it imports what it returns
    if "logging" in sys.modules:  # else no logger asks for the log of frames
        from . import frames  # noqa: F401
