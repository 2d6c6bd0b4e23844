"""The programs by other authors that tests need: which they are, what is missing of them here, and how to get it.

    python tests/peers/needed.py [--packages] [PEER ...]

installs the missing ones as root on Debian or Ubuntu, and otherwise says how to; `--packages` only prints the names of
Debian's packages. Without names all that the tests need are meant.

A test, or a helper that starts such a program, calls `need`. Where a program is missing, the test is skipped, and the
end of the run says how to get it (left_out.py); as root, who can install it, and in CI, the test fails instead. This
module runs before anything is installed: it needs Python's own library only, and pytest where tests call it.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

NODE = Path(__file__).parent.parent / "interop" / "node"

#: Where servers are, which not every user's PATH names.
_MORE_PATH = ("/usr/sbin", "/usr/local/sbin")


@dataclass(frozen=True)
class Peer:
    """A program by another author.

    Attributes:
        packages: the packages of Debian and Ubuntu that hold it.
        commands: its commands. Of several in one string, one is enough; the first one found is used.
        files: the files that it needs.
        asks: commands that exit with 0 where it is complete.
        by_tests: whether a test needs it.
        npm: the packages of tests/interop/node/package.json that it needs.
    """

    packages: tuple[str, ...]
    commands: tuple[str, ...]
    files: tuple[str, ...] = ()
    asks: tuple[tuple[str, ...], ...] = ()
    by_tests: bool = True
    npm: tuple[str, ...] = ()


_JAVA = "/usr/share/java"
_LIBSOUP = ("/usr/bin/python3", "-c", "import gi; gi.require_version('Soup', '3.0')")
_PERL = ("perl", "-MMojolicious", "-MIO::Socket::SSL", "-e1")

PEERS = {
    "openssl": Peer(("openssl",), ("openssl",)),
    "node": Peer(("nodejs", "npm"), ("node",), npm=("ws", "undici", "centrifuge", "socket.io-client")),
    "nginx": Peer(("nginx-light",), ("nginx",)),
    "haproxy": Peer(("haproxy",), ("haproxy",)),
    "caddy": Peer(("caddy",), ("caddy",)),
    "chromium": Peer(("chromium-headless-shell",), ("chromium-headless-shell chromium google-chrome",)),
    "tinyproxy": Peer(("tinyproxy-bin",), ("tinyproxy",)),
    "microsocks": Peer(("microsocks",), ("microsocks",)),
    "systemd": Peer(("systemd",), ("systemd-analyze", "systemd-socket-activate")),
    "lua": Peer(("lua5.1",), ("luac5.1",)),
    "mojolicious": Peer(("libmojolicious-perl", "libio-socket-ssl-perl"), ("perl",), asks=(_PERL,)),
    "netty": Peer(
        ("default-jdk-headless", "libnetty-java"),
        ("java", "javac"),
        (
            *(f"{_JAVA}/netty-{part}.jar" for part in ("common", "buffer", "codec", "codec-http")),
            *(f"{_JAVA}/netty-{part}.jar" for part in ("handler", "resolver", "transport")),
            f"{_JAVA}/jctools-core.jar",
        ),
    ),
    "libsoup": Peer(("python3-gi", "gir1.2-soup-3.0"), _LIBSOUP[:1], asks=(_LIBSOUP,)),
    "valgrind": Peer(("valgrind",), ("valgrind",)),
    "redis": Peer(("redis-server",), ("redis-server",)),
    "nats": Peer(("nats-server",), ("nats-server",), ("/usr/sbin/nats-server",)),
    "tmux": Peer(("tmux",), ("tmux",), by_tests=False),
}

#: Libraries of the dependency group `test` that free-threaded builds of Python have to do without.
_NOT_FREE_THREADED = [
    "channels",
    "fastapi",
    "gevent",
    "litestar",
    "mypy",
    "nicegui",
    "orjson",
    "pyroma",
    "quart",
    "socketio",
    "starlette",
    "twine",
]


def is_required() -> bool:
    """Whether a missing program is a failure: in CI, and for root, who can install it."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false") or os.geteuid() == 0


# --- which there are ---------------------------------------------------------------------------------------------


def find(commands: str) -> str | None:
    """The path of a command; of several in one string, of the first that is found."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_MORE_PATH))
    return next((found for name in commands.split() if (found := shutil.which(name, path=path))), None)


@functools.cache
def is_installed(name: str) -> bool:
    """Whether the program is there, apart from what npm installs for it."""
    peer = PEERS[name]
    return (
        all(map(find, peer.commands))
        and all(Path(file).exists() for file in peer.files)
        and all(subprocess.run(ask, check=False, capture_output=True).returncode == 0 for ask in peer.asks)
    )


def is_there(name: str) -> bool:
    """Whether the program is there with all that it needs."""
    return is_installed(name) and all((NODE / "node_modules" / package).is_dir() for package in PEERS[name].npm)


def _missing_packages(names: list[str]) -> list[str]:
    """The packages of Debian that hold what is missing of these programs."""
    missing = (name for name in names if not is_installed(name) or (PEERS[name].npm and not find("npm")))
    return [package for name in missing for package in PEERS[name].packages]


def how_to_get(names: list[str]) -> list[str]:
    """The commands that install what is missing of these programs on Debian or Ubuntu."""
    packages = _missing_packages(names)
    commands = [f"sudo apt-get install {' '.join(packages)}"] if packages else []
    if any(PEERS[name].npm for name in names):
        commands.append("npm ci --prefix tests/interop/node --ignore-scripts")
    return commands


# --- in tests ----------------------------------------------------------------------------------------------------


def need(name: str) -> str:
    """Go on only where a program is there: skip the running test, or fail it where all have to be there.

    Returns:
        The path of its first command.
    """
    found = find(PEERS[name].commands[0])
    if found is None or not is_there(name):
        _miss(reason(name))
    return found


def need_library(name: str) -> None:
    """The same for a library of Python that cannot be had for each build of it."""
    if find_spec(name) is None:
        if name in _NOT_FREE_THREADED and sysconfig.get_config_var("Py_GIL_DISABLED"):
            import pytest

            pytest.skip(f"{name} cannot be had for free-threaded builds of Python")
        _miss(f"{name} is missing: it is in the dependency group `test`, which `make test` installs")


def reason(name: str) -> str:
    """What a test is told that cannot run without a program."""
    return f"{name} is missing: {' && '.join(how_to_get([name]))}"


def _miss(reason: str) -> NoReturn:
    import pytest

    if is_required():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def describe(left_out: Counter[str]) -> str:
    """What a run has left out, by the names of programs and the numbers of tests, and how to get it."""
    number = left_out.total()
    tests = f"{number} tests were" if number > 1 else "1 test was"
    names = ", ".join(f"{name} ({times})" for name, times in sorted(left_out.items()))
    commands = "".join(f"    {command}\n" for command in how_to_get(sorted(left_out)))
    return (
        f"{tests} left out, for want of programs by other authors: {names}.\n"
        f"On Debian or Ubuntu these commands install them; then run the tests again:\n{commands}"
    )


# --- as a program ------------------------------------------------------------------------------------------------


def install(names: list[str]) -> list[str]:
    """Install what is missing of these programs, as far as this user can; returns the names of those still missing."""
    packages = _missing_packages([name for name in names if not is_there(name)])
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {' '.join(packages)}", flush=True)
        options = ["-qq", "--yes", "--no-install-recommends", "-o", "Dpkg::Use-Pty=0", "-o", "DPkg::Lock::Timeout=300"]
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", *options, *packages], check=True, env=environment)
        is_installed.cache_clear()
    if find("npm") and any(PEERS[name].npm for name in names):
        _install_npm()
    return [name for name in names if not is_there(name)]


def _install_npm() -> None:
    """Install the packages of package-lock.json, unless that has been done."""
    done = NODE / "node_modules" / ".package-lock.json"
    if not done.exists() or done.stat().st_mtime < (NODE / "package-lock.json").stat().st_mtime:
        subprocess.run(["npm", "ci", "--prefix", str(NODE), "--ignore-scripts", "--silent"], check=True)
        done.touch()


def main() -> int:
    """Returns 1 where a program is missing that was named, or that has to be there."""
    parser = argparse.ArgumentParser(description="Install the programs by other authors that the tests need.")
    parser.add_argument("--packages", action="store_true", help="only print the packages of Debian that are missing")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; default: all of the tests")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.peers if name not in PEERS]:
        parser.error(f"no peer is called {', '.join(unknown)}: expected {', '.join(PEERS)}")
    names = arguments.peers or [name for name, peer in PEERS.items() if peer.by_tests]
    if arguments.packages:
        print(*_missing_packages(names))
        return 0
    missing = install(names)
    if not missing:
        return 0
    required = bool(arguments.peers) or is_required()
    end = "" if required else "; the tests that need them will be left out"
    print(f"missing: {', '.join(missing)}{end}. On Debian or Ubuntu:", file=sys.stderr)
    print(*(f"    {command}" for command in how_to_get(missing)), sep="\n", file=sys.stderr)
    return 1 if required else 0


if __name__ == "__main__":
    sys.exit(main())
