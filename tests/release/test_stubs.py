"""The stubs in a wheel have the first paragraphs of the docstrings."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

import lapwing
from release import stubs

ROOT = Path(__file__).parents[2]

SOURCE = '''"""How it reads.

And more of it.
"""

cdef class Reader:
    """Reads.

    And more of it.
    """

    def read(self, Py_ssize_t size=-1,
             *, timeout=None):
        """read($self, size, /)
--

        Read so many bytes,
        or all.

        Args:
            size: how many.
        """

    cdef int _hidden(self):
        """Not for Python."""

    @property
    def closed(self):
        # No docstring.
        return 1


def make() -> Reader:
    """Make one: a\\\\b."""
'''
STUB = """
from typing import overload

class Reader:
    size: int
    @overload
    def read(self, size: int) -> bytes: ...
    @overload
    def read(
        self,
    ) -> bytes: ...
    @property
    def closed(self) -> bool: ...

def make() -> Reader: ...
"""


def test_paragraphs_take_the_place_of_the_dots() -> None:
    made = stubs.filled(STUB, stubs.docstrings(SOURCE))
    assert (
        made
        == '''"""How it reads."""

from typing import overload

class Reader:
    """Reads."""
    size: int
    @overload
    def read(self, size: int) -> bytes:
        """Read so many bytes, or all."""
    @overload
    def read(
        self,
    ) -> bytes: ...
    @property
    def closed(self) -> bool: ...

def make() -> Reader:
    """Make one: a\\\\\\\\b."""
'''
    )
    assert stubs.filled(made, stubs.docstrings(SOURCE)) == made, "what has a docstring keeps it"


def test_every_stub_of_the_package_can_be_filled(tmp_path: Path) -> None:
    package = tmp_path / "lapwing"
    shutil.copytree(ROOT / "src/lapwing", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    assert stubs.fill(package, ROOT / "src/lapwing") > 20
    for path in package.rglob("*.pyi"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_no_stub_is_a_copy_of_another(tmp_path: Path) -> None:
    """check-wheel-contents takes two files of the same content for a mistake."""
    package = tmp_path / "lapwing"
    shutil.copytree(ROOT / "src/lapwing", package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    stubs.fill(package, ROOT / "src/lapwing")
    texts = [path.read_text(encoding="utf-8") for path in package.rglob("*.py*") if path.suffix in (".py", ".pyi")]
    assert len({text for text in texts if text}) == len([text for text in texts if text])


@pytest.mark.parametrize("kind", [lapwing.Client, lapwing.AsyncClient, lapwing.Connection, lapwing.BlockingConnection])
def test_what_editors_show_is_what_python_shows(kind: type) -> None:
    """Of each public method that the stub of the class declares."""
    stub = ROOT / "src" / Path(*kind.__module__.split(".")).with_suffix(".pyi")
    text = stubs.filled(
        stub.read_text(encoding="utf-8"), stubs.docstrings(stub.with_suffix(".pyx").read_text(encoding="utf-8"))
    )
    (declared,) = [
        node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ]
    compared = 0
    for node in declared.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            real = getattr(kind, node.name).__doc__
            shown = ast.get_docstring(node)
            if real and shown:
                # Cython puts the signature before it.
                text = real.partition("\n")[2] if real.startswith(f"{node.name}(") else real
                assert " ".join(shown.split()) == stubs.first_paragraph(text), node.name
                compared += 1
    assert ast.get_docstring(declared)
    assert compared >= (3 if kind.__name__ in ("Connection", "BlockingConnection") else 1)
