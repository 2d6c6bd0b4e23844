"""Put the first paragraph of each docstring into the stubs that are installed, where editors look for it.

The stubs beside the sources have none, so that no sentence stands twice. The docstrings are read from the .pyx files:
nothing has to be built or imported.
"""

from __future__ import annotations

import ast
import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: A class, or a function that Python can call, with its indentation.
_DEFINITION = re.compile(r"^( *)(?:(?:cdef |cpdef )?class|(?:async )?def|cpdef [\w ]+?) (\w+)")
_WIDTH = 110


def first_paragraph(docstring: str) -> str:
    """The first paragraph; what Cython keeps of a signature before "--" is left out."""
    text = docstring.partition("\n--\n")[2] or docstring if "\n--\n" in docstring[:400] else docstring
    return " ".join(textwrap.dedent(text).strip().partition("\n\n")[0].split())


def docstrings(source: str) -> dict[str, str]:
    """The first paragraph of each docstring of a .pyx file, by the qualified name of its owner: "" for the module."""
    found: dict[str, str] = {}
    if of_module := re.match(r'\s*r?"""(.*?)"""', source, re.DOTALL):
        found[""] = first_paragraph(of_module[1])
    around: list[tuple[int, str]] = []
    lines = source.splitlines()
    for number, line in enumerate(lines):
        match = _DEFINITION.match(line)
        if match is None:
            continue
        indent, name = len(match[1]), match[2]
        around = [*((depth, outer) for depth, outer in around if depth < indent), (indent, name)]
        text = _docstring_after(lines, number)
        if text:
            found.setdefault(".".join(outer for _, outer in around), first_paragraph(text))
    return found


def _docstring_after(lines: list[str], number: int) -> str:
    """The docstring of the definition that begins in a line; empty where there is none."""
    depth = 0
    while number < len(lines):
        code = lines[number].partition("#")[0]
        depth += code.count("(") + code.count("[") - code.count(")") - code.count("]")
        number += 1
        if depth <= 0 and code.rstrip().endswith(":"):
            break
    rest = "\n".join(lines[number:]).lstrip()
    match = re.match(r'r?"""(.*?)"""', rest, re.DOTALL)
    return match[1] if match else ""


def filled(stub: str, texts: dict[str, str]) -> str:
    """A stub with the paragraphs in place of the dots; of overloads the first has it."""
    lines = stub.splitlines()
    bodies: list[tuple[ast.stmt, str, int]] = []
    seen: set[str] = set()

    def visit(body: list[ast.stmt], around: str) -> None:
        for node in body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            name = f"{around}{node.name}"
            first = node.body[0]
            is_first = name not in seen
            seen.add(name)
            if name in texts and is_first and ast.get_docstring(node) is None:
                bodies.append((first, texts[name], node.col_offset + 4))
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{name}.")

    module = ast.parse(stub)
    visit(module.body, "")
    # From the end to the beginning, so that no edit moves the place of another; within a line the inner one first.
    for first, text, indent in sorted(bodies, key=lambda body: (-_line(body[0]), not _is_dots(body[0]))):
        quoted = _quoted(text, indent)
        number = _line(first) - 1
        if _is_dots(first):
            head = lines[number][: first.col_offset].rstrip()
            lines[number : number + 1] = [head, *quoted] if head else quoted
        else:
            lines[number:number] = quoted
    if "" in texts and ast.get_docstring(module) is None:
        lines[0:0] = _quoted(texts[""], 0)
    return "\n".join(lines) + "\n"


def _quoted(text: str, indent: int) -> list[str]:
    """The lines of a docstring."""
    wrapped = textwrap.wrap(text.replace("\\", "\\\\"), _WIDTH - indent)
    quoted = [f'{" " * indent}"""{wrapped[0]}', *(" " * indent + line for line in wrapped[1:])]
    if len(quoted) > 1 or text.endswith('"'):
        quoted.append(" " * indent + '"""')
    else:
        quoted[0] += '"""'
    return quoted


def _is_dots(node: ast.stmt) -> bool:
    """Whether a body is `...` alone."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.value.value is ...


def _line(node: ast.stmt) -> int:
    """The line in which a statement begins, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def fill(package: Path, sources: Path) -> int:
    """Fill every stub below a directory of a build; returns how many.

    Args:
        package: the directory `lapwing` of the build.
        sources: the directory `lapwing` of the sources, with the .pyx files.
    """
    count = 0
    for stub in sorted(package.rglob("*.pyi")):
        source = sources / stub.relative_to(package).with_suffix(".pyx")
        if source.exists():
            text = stub.read_text(encoding="utf-8")
            stub.unlink()  # a link to the file of the sources, perhaps
            stub.write_text(filled(text, docstrings(source.read_text(encoding="utf-8"))), encoding="utf-8")
            count += 1
    return count
