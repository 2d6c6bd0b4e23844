"""libsoup 3 (GNOME, WebKitGTK) as a peer: see libsoup/peer.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.interop.program import ProgramPeer

_PROGRAM = Path(__file__).parent / "libsoup" / "peer.py"
_PYTHON = "/usr/bin/python3"  # which has the bindings
_NEEDED = "import gi; gi.require_version('Soup', '3.0')"


class Libsoup(ProgramPeer):
    """Both ends, with permessage-deflate. The server answers every offer in the header, all in one response."""

    fragments = False
    pings = False

    def __init__(self) -> None:
        if not Path(_PYTHON).exists() or subprocess.run([_PYTHON, "-c", _NEEDED], check=False).returncode:
            pytest.skip("libsoup 3 or its bindings are not installed: run tests/install-peers libsoup")
        super().__init__([_PYTHON, str(_PROGRAM)])
