"""Report the parts of this installation, and possible improvements. Please add the report to bug reports.

exit status: 0 nothing to warn of, 1 warnings, 2 usage
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lapwing

from .outcome import Status

if TYPE_CHECKING:
    import argparse

__all__ = ["add_arguments", "examine", "run"]

#: The extras, each with the distributions that it installs.
_EXTRAS = {
    "aiohttp": ("aiohttp",),
    "cli": ("prompt-toolkit", "rich"),
    "metrics": ("prometheus-client",),
    "otel": ("opentelemetry-api",),
    "nats": ("cryptography",),
    "redis": ("hiredis",),
    "uvicorn": ("uvicorn",),
    "uvloop": ("uvloop",),
}
_REQUIRED = ("httptools", "idna", "python-socks", "zlib-ng")
#: Descriptors below which a server is short of connections.
_FEW_DESCRIPTORS = 4096

Facts = dict[str, dict[str, Any]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("-j", "--json", action="store_true", help="print one JSON object")


def run(arguments: argparse.Namespace) -> int:
    """Examine, and print."""
    facts, warnings = examine()
    if arguments.json:
        print(json.dumps({**facts, "warnings": warnings}, indent=2))
    else:
        for topic, values in facts.items():
            print(topic)
            for name, value in values.items():
                is_missing = topic == "extras" and value is None
                words = f"not installed: pip install {' '.join(_EXTRAS[name])}" if is_missing else _in_words(value)
                print(f"  {name.replace('_', ' '):<18} {words}")
        print("warnings" if warnings else "no warnings")
        for warning in warnings:
            print(f"  - {warning}")
    return Status.ENDED_BADLY if warnings else Status.OK


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def examine() -> tuple[Facts, list[str]]:
    """Return facts by topic, and warnings, each of which names what to do."""
    warnings: list[str] = []
    facts = {
        "lapwing": _lapwing(warnings),
        "python": _python(warnings),
        "event loop": _event_loop(),
        "compression": _compression(warnings),
        "descriptors": _descriptors(warnings),
        "TLS": _tls(warnings),
        "dependencies": {name: _version(name) for name in _REQUIRED},
        "extras": {name: _extra(distributions) for name, distributions in _EXTRAS.items()},
    }
    warnings += [f"{name} is missing: pip install {name}" for name in _REQUIRED if _version(name) is None]
    return facts, warnings


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _extra(distributions: tuple[str, ...]) -> str | None:
    """The versions of the distributions of an extra; None when one is missing."""
    versions = [(name, _version(name)) for name in distributions]
    return None if any(version is None for _, version in versions) else ", ".join(f"{n} {v}" for n, v in versions)


def _lapwing(warnings: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": lapwing.__version__, "directory": str(Path(lapwing.__file__).parent)}
    installed = _version("lapwing")
    if installed not in (None, lapwing.__version__):
        warnings.append(
            f"lapwing {lapwing.__version__} is loaded, but {installed} is installed: another copy comes first on the "
            "path; look at the directory above"
        )
    try:
        from lapwing import protocol
    except ImportError as error:
        facts["extension"] = f"does not load: {error}"
        warnings.append(
            f"the native engine does not load ({error}): install lapwing again, from a wheel for this Python, or from "
            "its source with a C compiler"
        )
        return facts
    facts["extension"] = f"loads, {sysconfig.get_config_var('EXT_SUFFIX')}"
    facts.update(protocol.BUILD)
    if protocol.BUILD["sanitized"] or protocol.BUILD["traced"] or not protocol.BUILD["optimised"]:
        warnings.append(
            "this build of the native engine is a slow one, for tests: install lapwing again, from a wheel or from its "
            "source without LAPWING_SANITIZE and LAPWING_TRACE"
        )
    return facts


def _python(warnings: list[str]) -> dict[str, Any]:
    is_free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    if is_free_threaded and has_gil:
        warnings.append(
            "this free-threaded Python runs with the GIL: a module that is not ready for it switched it on, or "
            "PYTHON_GIL=1; python -X gil=0 keeps it off"
        )
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "free_threaded": is_free_threaded,
        "gil": has_gil,
    }


def _event_loop() -> dict[str, Any]:
    import asyncio
    import select

    reactor = "epoll" if hasattr(select, "epoll") else "portable (the loop's add_reader)"
    uvloop = _version("uvloop")
    loop = asyncio.new_event_loop()
    try:
        name = f"{type(loop).__module__}.{type(loop).__qualname__}"
    finally:
        loop.close()
    return {"default": name, "uvloop": uvloop or "not installed: pip install uvloop", "reactor": reactor}


def _compression(warnings: list[str]) -> dict[str, Any]:
    try:
        module = importlib.import_module("zlib_ng.zlib_ng")
    except ImportError as error:
        warnings.append(f"zlib-ng does not load ({error}): pip install --force-reinstall zlib-ng")
        return {"library": None}
    return {"library": "zlib-ng", "version": module.ZLIBNG_VERSION, "wrapper": _version("zlib-ng")}


def _descriptors(warnings: list[str]) -> dict[str, Any]:
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return {"limit": None}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinity = resource.RLIM_INFINITY
    in_use = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1 if Path("/proc/self/fd").is_dir() else None
    if soft != infinity and soft < _FEW_DESCRIPTORS:
        limit = "it may go" if hard == infinity else f"up to {hard} may be had"
        warnings.append(
            f"a process may open {soft} files, so a server has at most about {max(soft - 50, 0)} connections: "
            f"ulimit -n {_FEW_DESCRIPTORS * 16 if hard == infinity else hard} ({limit}), or LimitNOFILE= in a unit of "
            "systemd"
        )
    return {
        "limit": None if soft == infinity else soft,
        "hard_limit": None if hard == infinity else hard,
        "in_use": in_use,
        "connections": "no limit" if soft == infinity else f"about {max(soft - 50, 0)} at a time",
    }


def _tls(warnings: list[str]) -> dict[str, Any]:
    try:
        import ssl
    except ImportError:
        warnings.append("this Python has no ssl module: wss:// does not work; install OpenSSL and build Python with it")
        return {"library": None}
    paths = ssl.get_default_verify_paths()
    context = ssl.create_default_context()
    authorities = context.cert_store_stats()["x509_ca"]
    # Certificates in a directory are loaded when they are needed, and are not counted.
    if not authorities and not (paths.capath and any(Path(paths.capath).iterdir())):
        warnings.append(
            "no certificate authority is trusted, so every wss:// server fails: install the package ca-certificates, "
            f"or name a file in {paths.openssl_cafile_env}"
        )
    return {
        "library": ssl.OPENSSL_VERSION,
        "minimum_version": "TLS 1.2",
        "newest_version": "TLS 1.3" if ssl.HAS_TLSv1_3 else "TLS 1.2",
        "ca_file": paths.cafile,
        "ca_directory": paths.capath,
        "authorities": authorities,
        "key_log": os.environ.get("SSLKEYLOGFILE"),
    }
