"""Netty (Java) as a peer: see netty/Peer.java."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.interop.program import ProgramPeer

_PROGRAM = Path(__file__).parent / "netty" / "Peer.java"
_JARS = [
    Path("/usr/share/java") / f"{name}.jar"
    for name in (
        "netty-common",
        "netty-buffer",
        "netty-codec",
        "netty-codec-http",
        "netty-handler",
        "netty-resolver",
        "netty-transport",
        "jctools-core",
    )
]


class Netty(ProgramPeer):
    """Both ends, with their handlers for permessage-deflate, which drop frames without payload."""

    empty_fragments = False

    def __init__(self) -> None:
        java = shutil.which("java")
        if java is None or shutil.which("javac") is None or not all(jar.exists() for jar in _JARS):
            pytest.skip("Netty or a Java development kit is not installed: run tests/install-peers netty")
        classes = ":".join(map(str, _JARS))
        # It lives for a minute: to compile it well takes longer than that gains.
        quick = "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"
        super().__init__([java, *quick, "-cp", classes, str(_PROGRAM)])
