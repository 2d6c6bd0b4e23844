"""Modules that a connection may need later, imported early: without a free descriptor none can be imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..options import ClientSettings, ServerSettings

__all__ = ["load_needed"]


#: The settings that this was last done for, and whether logging was there.
_last: tuple[object, bool] = (None, False)


def load_needed(settings: ClientSettings | ServerSettings) -> None:
    """Import what connections with these settings need later."""
    global _last
    has_logging = "logging" in sys.modules  # else no logger asks for the log of frames
    if _last[0] is settings and _last[1] is has_logging:
        return
    if settings.deflate is not None:
        from ..protocol.compression import load_library

        load_library()
    settings.json_functions  # noqa: B018 - it imports the functions
    if has_logging:
        from . import frames  # noqa: F401
    _last = settings, has_logging
