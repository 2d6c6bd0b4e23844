"""The versions of other servers: those that were tried are named in one way everywhere, others get a clear error."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.interop.versions import OLDEST

ROOT = Path(__file__).parents[2]

PAGES = {
    "uvicorn": ("uvicorn.rst", "uvicorn.py"),
    "aiohttp": ("aiohttp.rst", "aiohttp.py"),
    "werkzeug": ("flask.rst", "wsgi.py"),
    "gunicorn": ("flask.rst", "wsgi.py"),
    "gevent": ("flask.rst", "wsgi.py"),
    "django": ("flask.rst", "wsgi.py"),
    "flask": ("flask.rst",),
}

#: What an unknown version may lack, and what lapwing says then.
LACKS = {
    "uvicorn.protocols.utils.is_ssl": "lapwing.uvicorn needs uvicorn, and was tried with 0.30 to 0.54: cannot import",
    "uvicorn.server.ServerState.__init__": "where ServerState has no connections: install one of these, or use another",
    "uvicorn.Config.__init__": "where Config has no root_path: install one of these, or use another --ws",
    "aiohttp.web_protocol.RequestHandler.set_parser": "where RequestHandler has no set_parser: install one of these",
    "aiohttp.web.Server.connection_made": "where Server has no connection_made: install one of these",
    "aiohttp.web.BaseRequest": "lapwing.aiohttp needs aiohttp, and was tried with 3.11 to 3.14",
}

PROGRAM = """
import importlib, sys
path = sys.argv[1].split(".")
bridge = f"lapwing.{path[0]}"
if sys.argv[1] == "aiohttp.web.BaseRequest":
    sys.modules["aiohttp.web_protocol"] = None
else:
    place = importlib.import_module(path[0])
    for name in path[1:-1]:
        if not hasattr(place, name):
            importlib.import_module(f"{place.__name__}.{name}")
        place = getattr(place, name)
    delattr(place, path[-1])
try:
    importlib.import_module(bridge)
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize("name", PAGES)
def test_versions_that_were_tried(name: str) -> None:
    first = ".".join(OLDEST[name][0].split(".")[:2])
    files = [ROOT / "docs/how-to" / PAGES[name][0], *(ROOT / "src/lapwing" / file for file in PAGES[name][1:])]
    for file in files:
        text = " ".join(file.read_text(encoding="utf-8").split())
        found = re.search(rf"t(?:est|ri)ed with [^()]*?\b{name} ([\d.]+) to \d", text, re.IGNORECASE)
        assert found is not None, file
        assert found[1] == first, file


@pytest.mark.parametrize("name", ["uvicorn", "aiohttp"])
def test_the_extra_takes_the_versions_that_were_tried(name: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert extras[name] == [f"{name}>={'.'.join(OLDEST[name][0].split('.')[:2])}"]


@pytest.mark.parametrize("path", LACKS)
def test_a_version_that_lacks_something_is_refused(path: str) -> None:
    pytest.importorskip(path.partition(".")[0], reason="the server is not installed")
    done = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, timeout=60, check=True)
    assert LACKS[path] in done.stdout, done
