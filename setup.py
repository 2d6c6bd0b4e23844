"""The native half of the build: everything else stands in pyproject.toml.

Environment variables build the extensions for another purpose, or not at all:

- LAPWING_SANITIZE=1: with AddressSanitizer and UndefinedBehaviorSanitizer; `make sanitize` runs the tests on it.
- LAPWING_SANITIZE=thread: with ThreadSanitizer, for a free-threaded Python that was built with it; `make races`.
- LAPWING_TRACE=1: with Cython's line tracing; `make coverage` runs the tests on it.
- LAPWING_TRANSLATED=1: from the C files that Cython made before, without asking it whether they are up to date.
- LAPWING_TARGET=cp314-musllinux_aarch64: for another machine, by Zig; `make wheels`.
- LAPWING_NATIVE=0: none, for an editable installation; `make` builds them in place, only those that have changed.
"""

import importlib
import os
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Command, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import PlatformError

SOURCES = sorted(Path("src").rglob("*.pyx")) if os.environ.get("LAPWING_NATIVE") != "0" else []
HEADERS = sorted({*Path("src").rglob("*.pxd"), *Path("src").rglob("*.h")})

directives = {
    "language_level": 3,
    "embedsignature": True,
    "embedsignature.format": "python",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
    # ARCHITECTURE.md says what threads share and what keeps it whole without the GIL.
    "freethreading_compatible": True,
}
purpose = "default"
macros: list[tuple[str, str | None]] = []
compile_args = [] if sys.platform == "win32" else ["-O3", "-g0", "-fvisibility=hidden"]
# For dlopen (io/openssl.h), which is a library of its own where the C library is older than 2.34.
link_args = ["-ldl"] if sys.platform == "linux" else []

if os.environ.get("LAPWING_SANITIZE") == "1":
    purpose = "sanitize"
    macros += [("CYTHON_USE_FREELISTS", "0")]  # the sanitizer is to see the end of each object
    sanitizers = "-fsanitize=address,undefined"
    compile_args += [sanitizers, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-O1", "-g"]
    link_args += [sanitizers]
elif os.environ.get("LAPWING_SANITIZE") == "thread":
    purpose = "races"
    compile_args += ["-fsanitize=thread", "-fno-omit-frame-pointer", "-O1", "-g"]
    link_args += ["-fsanitize=thread"]
elif os.environ.get("LAPWING_TRACE") == "1":
    purpose = "trace"
    directives["linetrace"] = True
    macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
    compile_args += ["-O1"]
elif os.environ.get("LAPWING_TARGET"):
    purpose = os.environ["LAPWING_TARGET"]

build = Path("build", purpose)
# Cython's plugin for coverage finds a C file beside its source only; all other purposes have the same ones.
c_files = None if purpose == "trace" else Path("build", "cython")


def extension(source: Path) -> Extension:
    """The extension module that one .pyx file makes."""
    return Extension(
        ".".join(source.relative_to("src").with_suffix("").parts),
        [str(source)],
        # The C files are written under build/: headers are found from there by directory.
        include_dirs=sorted({str(header.parent) for header in HEADERS if header.suffix == ".h"}),
        define_macros=macros,
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        depends=["setup.py", *map(str, HEADERS)],
    )


class BuildExtensions(build_ext):
    """Building them, which says first what is missing rather than once for each of them."""

    def run(self) -> None:
        """Build them.

        Raises:
            PlatformError: there is no C compiler, or no Python.h.
        """
        if self.extensions and os.name == "posix":
            compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
            if shutil.which(compiler) is None:
                raise PlatformError(
                    f"the C compiler {compiler} is missing: install it (on Debian or Ubuntu: apt-get install gcc)"
                )
            header = Path(sysconfig.get_path("include"), "Python.h")
            if not header.exists():
                raise PlatformError(
                    f"{header} is missing: install the header files of this Python (on Debian or Ubuntu: apt-get "
                    "install python3-dev, on Fedora: dnf install python3-devel)"
                )
        super().run()


def translated(extensions: list[Extension]) -> list[Extension]:
    """The extensions with the C files of their sources, made by Cython where that is to be asked."""
    if os.environ.get("LAPWING_TRANSLATED") != "1":
        return cythonize(
            extensions, include_path=["src"], build_dir=c_files and str(c_files), compiler_directives=directives
        )
    for made in extensions:
        made.sources = [str((c_files or Path()) / Path(source).with_suffix(".c")) for source in made.sources]
    return extensions


class BuildPackage(build_py):
    """Copying the package, whose stubs are given the docstrings that editors show."""

    def run(self) -> None:
        """Copy it."""
        super().run()
        if not self.editable_mode:
            sys.path.insert(0, os.fspath(Path(__file__).parent))
            importlib.import_module("release.stubs").fill(Path(self.build_lib, "lapwing"), Path("src", "lapwing"))


def commands() -> dict[str, type[Command]]:
    """The commands that build for this machine, or for the one that LAPWING_TARGET names."""
    if not os.environ.get("LAPWING_TARGET"):
        return {"build_ext": BuildExtensions, "build_py": BuildPackage}
    sys.path.insert(0, os.fspath(Path(__file__).parent))
    return {**importlib.import_module("release.commands").COMMANDS, "build_py": BuildPackage}


setup(
    cmdclass=commands(),
    ext_modules=translated([extension(source) for source in SOURCES]),
    options={"build": {"build_base": str(build)}, "build_ext": {"parallel": os.cpu_count()}},
)
