"""What a wheel must hold, and what it must not.

Usage: python -m release.contents dist/*.whl
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .targets import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a program needs of the package besides extension modules; anything else in a wheel was put there by mistake.
_KEPT = {".py", ".pyi"}


def expected(source: Path) -> Iterator[tuple[str, bool]]:
    """Each file that the package in a source tree has to bring, and whether it is an extension module, by its stem."""
    for path in sorted((source / "lapwing").rglob("*")):
        name = path.relative_to(source).as_posix()
        if path.suffix == ".pyx":
            yield name.removesuffix(".pyx"), True
        elif path.suffix in _KEPT or path.name == "py.typed" or (path.parent.name == "static" and path.is_file()):
            yield name, False


def faults(wheel: Path, source: Path = ROOT / "src") -> list[str]:
    """What is missing from a wheel or should not be in it, a sentence for each thing."""
    with zipfile.ZipFile(wheel) as opened:
        names = [info.filename for info in opened.infolist() if not info.is_dir()]
    held = {name for name in names if ".dist-info/" not in name}
    modules = {name.partition(".")[0]: name for name in held if name.endswith((".so", ".pyd"))}
    wanted = list(expected(source))
    found = [f"{name} is in it twice" for name in sorted({name for name in names if names.count(name) > 1})]
    for name, native in wanted:
        if native and name not in modules:
            found.append(f"the extension module {name.replace('/', '.')} is missing")
        elif not native and name not in held:
            found.append(f"{name} is missing")
    known = {modules[name] if native and name in modules else name for name, native in wanted}
    found += [f"{name} does not belong in a wheel" for name in sorted(held - known)]
    suffixes = {PurePosixPath(name).name.partition(".")[2] for name in modules.values()}
    if len(suffixes) > 1:
        found.append(f"its extension modules are for several Pythons: {', '.join(sorted(suffixes))}")
    return found


def main(wheels: list[str]) -> int:
    """Check each wheel; 1 if one has a fault."""
    wrong = [f"{wheel}: {fault}" for wheel in wheels for fault in faults(Path(wheel))]
    print("\n".join(wrong) or f"{len(wheels)} wheels hold each file of the package and no other")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
