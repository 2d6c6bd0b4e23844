"""Run the tests of the bridges with old versions of other servers: the first of those that the documentation names.

pip installs each into a directory of its own, which comes before the environment's; the newest versions are in the
environment, where the suite tries them.

Usage: python tests/interop/versions.py [PACKAGE...]
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_WSGI = ("tests/interop/test_wsgi_bridge.py",)
#: The oldest version of each package, and the tests of its bridge.
OLDEST = {
    "uvicorn": ("0.30.0", ("tests/interop/test_uvicorn.py", "tests/interop/test_uvicorn_programs.py")),
    "aiohttp": ("3.11.0", ("tests/interop/test_aiohttp_bridge.py",)),
    "werkzeug": ("2.3.0", _WSGI),
    "gunicorn": ("21.2.0", _WSGI),
    "gevent": ("24.11.1", _WSGI),
    "flask": ("3.0.0", _WSGI),
    "django": ("4.2.0", _WSGI),
}


def main() -> int:
    """Run them; returns the exit status."""
    names = sys.argv[1:] or list(OLDEST)
    failed = []
    for name in names:
        version, tests = OLDEST[name]
        place = ROOT / "build" / "versions" / f"{name}-{version}"
        if not place.exists():
            install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "install", "--no-deps"]
            subprocess.run([*install, "--target", str(place), f"{name}=={version}"], check=True, cwd=ROOT)
        path = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
        print(f"{name} {version}:", flush=True)
        # Warnings of an old version are not lapwing's.
        command = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider", *tests]
        if subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
