"""Mojolicious (Perl) as a peer: see mojolicious/peer.pl."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.interop.program import ProgramPeer

_PROGRAM = Path(__file__).parent / "mojolicious" / "peer.pl"


class Mojolicious(ProgramPeer):
    """Both ends, with permessage-deflate. They take no part in its parameters: their context is always taken over."""

    def __init__(self) -> None:
        perl = shutil.which("perl")
        needed = "-MMojolicious", "-MIO::Socket::SSL"
        if perl is None or subprocess.run([perl, *needed, "-e1"], check=False, capture_output=True).returncode:
            pytest.skip("Mojolicious is not installed: run tests/install-peers mojolicious")
        super().__init__([perl, str(_PROGRAM)])
