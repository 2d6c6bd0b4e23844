"""The rules that hold the tree together: who may import whom, what is named where, what is typed."""

from __future__ import annotations

import ast
import enum
import graphlib
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import lapwing
import lapwing.protocol

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "lapwing"

#: The layers from the bottom up, each with its modules; the first pattern that fits counts.
LAYERS = (
    ("native code", ("lapwing.native", "lapwing.native.*")),
    ("the protocol", ("lapwing.protocol.endpoint", "lapwing.protocol.*_handshake")),
    ("a whole connection without I/O", ("lapwing.protocol.connection",)),
    ("the protocol's public names", ("lapwing.protocol",)),
    ("the protocol's leaves", ("lapwing.protocol.*",)),
    ("io", ("lapwing.io", "lapwing.io.*")),
    ("opening", ("lapwing.opening", "lapwing.opening.*")),
    ("when to connect again", ("lapwing.connecting.reconnect",)),
    (
        "options",
        tuple(
            f"lapwing.{name}"
            for name in ("options", "checking", "environment", "stats", "inspector", "inspector.settings")
        ),
    ),
    ("broadcast", ("lapwing.broadcast", "lapwing.broadcast.*")),
    ("connecting", ("lapwing.connecting", "lapwing.connecting.*")),
    (
        "what the faces stand on",
        tuple(
            f"lapwing.faces.{name}"
            for name in (
                "connection",
                "messages",
                "frames",
                "life",
                "aio.waiting",
                "aio.threadsafe",
                "blocking.polling",
            )
        ),
    ),
    (
        "the waiting of each face",
        ("lapwing.faces.aio.driver", "lapwing.faces.blocking.driver"),
    ),
    ("faces", ("lapwing.faces", "lapwing.faces.*")),
    ("serving", ("lapwing.serving", "lapwing.serving.*", "lapwing.auth")),
    ("the live page", ("lapwing.inspector.*",)),
    ("client and server", ("lapwing.client", "lapwing.server", "lapwing.adopting")),
    ("bridges", ("lapwing.asgi", "lapwing.uvicorn", "lapwing.aiohttp", "lapwing.wsgi")),
    ("the wire of the hub", ("lapwing.hub.wire", "lapwing.hub.wire.*")),
    ("the hub", ("lapwing.hub", "lapwing.hub.*")),
    ("programs", ("lapwing.running", "lapwing.metrics")),
    ("testing", ("lapwing.testing", "lapwing.testing.*")),
    ("lapwing", ("lapwing",)),
    ("the command", ("lapwing.cli", "lapwing.cli.*", "lapwing.__main__")),
)

#: What each layer may import beside the layers that those stand on; never in a circle.
STANDS_ON = {
    "native code": {"native code"},
    "the protocol's leaves": {"the protocol's leaves", "native code"},
    "the protocol": {"the protocol", "the protocol's leaves"},
    "the protocol's public names": {"the protocol", "a whole connection without I/O"},
    "io": {"io", "native code"},
    "opening": {"opening", "the protocol", "io"},
    "a whole connection without I/O": {"opening"},
    "when to connect again": {"the protocol's leaves", "io"},
    "options": {"options", "the protocol's leaves", "when to connect again"},
    "broadcast": {"broadcast", "the protocol", "io", "options"},
    "connecting": {"connecting", "opening", "the protocol's public names", "options"},
    "what the faces stand on": {
        "what the faces stand on",
        "broadcast",
        "opening",
        "the protocol's public names",
        "options",
    },
    "the waiting of each face": {"what the faces stand on"},
    "faces": {"faces", "the waiting of each face", "connecting"},
    "serving": {"serving", "faces"},
    "the live page": {"the live page", "serving"},
    "client and server": {"the live page"},
    "bridges": {"client and server"},
    "the wire of the hub": {"the wire of the hub", "the protocol"},
    "the hub": {"the hub", "the wire of the hub", "client and server"},
    "programs": {"client and server"},
    "testing": {"testing", "bridges", "the hub"},
    "lapwing": {"programs", "testing"},
    "the command": {"the command", "lapwing"},
}


def _below(layer: str) -> set[str]:
    """The layers that a module of this one may import."""
    found = STANDS_ON[layer]
    return found.union(*(_below(lower) for lower in found - {layer}))


#: What the protocol must not know: sockets, clocks, chance and event loops, as Python modules or as C headers.
NOT_IN_PROTOCOL = re.compile(
    r"(asyncio|multiprocessing|random|select|selectors|signal|socket|ssl|threading|time|uvloop"
    r"|libc\.(time|signal)|posix\.(select|signal|time|unistd)|cpython\.time)(\.|$)"
)

#: What makes code of data, which the hub must not do: its data comes from clients and brokers.
MAKES_CODE = re.compile(r"(pickle|cPickle|_pickle|marshal|shelve|eval|exec|__import__)$")

#: Attributes that Cython adds to every extension type.
CYTHONS_OWN = re.compile(r"__(reduce|setstate)_cython__|__pyx_\w+__|__test__")

FILES = sorted(path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".pyx", ".pxd"})
STUBS = sorted(PACKAGE.rglob("*.pyi"))
EXTENSIONS = sorted(PACKAGE.rglob("*.pyx"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT / "src").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path) for path in FILES}


def _layer(module: str) -> str:
    for name, patterns in LAYERS:
        if any(fnmatch(module, pattern) for pattern in patterns):
            return name
    pytest.fail(f"{module} has no layer: name it in LAYERS, and in ARCHITECTURE.md")


def _statements(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every import and cimport of a file: the module, relative or not, and the names imported from it.

    Those within functions and those for type checking alone count as well.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix in {".py", ".pyi"}:
        yield from _python_statements(ast.parse(text))
        return
    text = re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.DOTALL)
    for found in re.finditer(r"^[ \t]*from\s+([\w.]+)\s+c?import\s+(\([^)]*\)|[^\n]+)", text, re.MULTILINE):
        yield found[1], [name.split()[0] for name in found[2].strip("()\n ").split(",") if name.strip()]
    for found in re.finditer(r"^[ \t]*c?import\s+([^\n]+)", text, re.MULTILINE):
        for name in found[1].split(","):
            yield name.split()[0], []


def _python_statements(tree: ast.AST) -> Iterator[tuple[str, list[str]]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, []
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or ""), [alias.name for alias in node.names]
        else:
            yield from _python_statements(node)


def _imports(path: Path) -> set[str]:
    """The modules that a file imports, by their full names; of its own package only those that are files."""
    module = _module(path)
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    found = set()
    for source, names in _statements(path):
        absolute = importlib.util.resolve_name(source, package)
        if absolute.split(".")[0] == "lapwing":
            inner = {f"{absolute}.{name}" for name in names} & MODULES
            found |= inner or {absolute}
        else:
            found.add(absolute)
    return found


@pytest.mark.parametrize("path", FILES + STUBS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path: Path) -> None:
    module = _module(path)
    allowed = _below(_layer(module))
    for imported in _imports(path) & MODULES - {module}:
        assert _layer(imported) in allowed, (
            f"{module} ({_layer(module)}) must not import {imported} ({_layer(imported)})"
        )


def test_imports_go_in_no_circle() -> None:
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for path in FILES + STUBS:
        module = _module(path)
        graph[module] |= _imports(path) & MODULES - {module}
    graph["lapwing.protocol.errors"].discard("lapwing.protocol.http")  # the type of an attribute, by name alone
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    "path", [path for path in FILES if "protocol" in path.parts], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_the_protocol_knows_no_socket_no_clock_and_no_loop(path: Path) -> None:
    assert [name for name in _imports(path) if NOT_IN_PROTOCOL.match(name)] == []


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_imports_of_every_extension_module_are_seen(path: Path) -> None:
    """The text of Cython is searched, not parsed: it must not be written in a way that the search does not find."""
    text = re.sub(r'""".*?"""|#[^\n]*', "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.search(r";\s*(from|c?import)\b|\\\n|__import__|import_module", text)


def test_every_file_is_named_in_the_architecture() -> None:
    """Each .py, .pyx and .h by its name, in the paragraph of its package; a .pxd and a .pyi go with their .pyx."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paragraphs = dict(re.findall(r"\*\*([\w/]+)\*\*(.*?)(?=\*\*[\w/]+\*\*|\n\n)", text, re.DOTALL))
    sources = [path for path in PACKAGE.rglob("*") if path.suffix in {".py", ".pyx", ".h", ".typed"}]
    sources += [path for path in PACKAGE.rglob("*.p[xy][di]") if not path.with_suffix(".pyx").exists()]
    missing = []
    for path in sources:
        name = path.relative_to(PACKAGE)
        package = "lapwing" if len(name.parts) == 1 else str(name.parent)
        is_named = re.search(rf"(?<!\w){re.escape(path.name)}\b", paragraphs.get(package, ""))
        if not is_named and (path.name != "__init__.py" or package == "lapwing"):
            missing.append(str(name))
    assert missing == []


def test_the_architecture_fits_on_a_page() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 170


def test_the_architecture_names_no_file_that_is_gone() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    there = {path.name for path in ROOT.rglob("*.*") if "node_modules" not in path.parts}
    named = set(re.findall(r"\b\w+\.(?:pyx|pxd|pyi|py|h)\b", text))
    assert named <= there


PUBLIC = [f"lapwing.{name}" for name in lapwing.__all__] + [
    f"lapwing.{module}.{name}"
    for module in ("protocol", "testing")
    for name in importlib.import_module(f"lapwing.{module}").__all__
]


@pytest.mark.parametrize("qualified", PUBLIC)
def test_every_public_name_is_there_documented_and_tested(qualified: str) -> None:
    module, _, name = qualified.rpartition(".")
    assert hasattr(importlib.import_module(module), name)
    word = re.compile(rf"\b{name}\b")
    assert any(word.search(path.read_text(encoding="utf-8")) for path in ROOT.glob("docs/**/*.rst")), (
        "in no page of docs/"
    )
    tests = (path for path in ROOT.glob("tests/**/test_*.py") if path != Path(__file__))
    assert any(word.search(path.read_text(encoding="utf-8")) for path in tests), "in no test"


def test_versions_agree() -> None:
    assert importlib.metadata.version("lapwing") == lapwing.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "## [Unreleased]" in changes or f"## [{lapwing.__version__}]" in changes


def test_the_package_is_marked_as_typed() -> None:
    assert Path(lapwing.__file__).with_name("py.typed").exists()


def _stub(path: Path) -> dict[str, ast.stmt]:
    """The public names at the top of a stub, each with what defines it."""
    return _public(ast.parse(path.with_suffix(".pyi").read_text(encoding="utf-8")).body)


def _public(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    names: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = node
        elif isinstance(node, ast.Assign):
            names |= {target.id: node for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname: node for alias in node.names if alias.asname == alias.name}
    return {name: node for name, node in names.items() if not name.startswith("_")}


HUB = [path for path in FILES if PACKAGE / "hub" in path.parents]


@pytest.mark.parametrize("path", HUB, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_hub_makes_no_code_of_data(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    used = {module.split(".")[0] for module, _ in _statements(path)}
    if path.suffix == ".py":
        nodes = list(ast.walk(ast.parse(text)))
        used |= {node.id for node in nodes if isinstance(node, ast.Name)}
        used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    else:
        used |= set(re.findall(r"\w+", re.sub(r'""".*?"""|#[^\n]*', "", text, flags=re.DOTALL)))
    assert [name for name in used if MAKES_CODE.match(name)] == []


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_stubs_agree_with_their_extension_modules(path: Path) -> None:
    module = importlib.import_module(_module(path))
    stub = _stub(path)
    assert sorted(stub) == sorted(name for name in stub if hasattr(module, name)), (
        "the stub has what the module has not"
    )
    assert set(module.__all__) <= set(stub), "the module has in __all__ what the stub has not"
    for name, node in stub.items():
        if isinstance(node, ast.ClassDef):
            _agree(getattr(module, name), node)


def _agree(kind: type, node: ast.ClassDef) -> None:
    stub = _public(node.body)
    methods = {name for name, member in stub.items() if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert sorted(methods - set(dir(kind))) == [], f"{node.name} in the stub has what the class has not"
    inherited = {name for base in kind.__mro__[1:] for name in vars(base)}
    here = {name for name in vars(kind) if not name.startswith("_") and not CYTHONS_OWN.fullmatch(name)}
    assert sorted(here - inherited - set(stub)) == [], f"the class {node.name} has what the stub has not"


def _depth(kind: type) -> int:
    """How many classes of lapwing stand one on the other, this one included."""
    if kind.__module__.split(".")[0] != "lapwing":
        return 0
    return 1 + max(map(_depth, kind.__bases__))


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.suffix != ".pxd"], ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_no_class_is_more_than_three_deep(path: Path) -> None:
    """Parts, not ancestors; a tree of errors is as deep as what can go wrong, and an enumeration has no parts."""
    if path.name == "__main__.py":
        return
    name = _module(path)
    for kind in vars(importlib.import_module(name)).values():
        if isinstance(kind, type) and kind.__module__ == name and not issubclass(kind, BaseException | enum.Enum):
            assert _depth(kind) <= 3, [base.__name__ for base in kind.__mro__]


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_what_the_thread_sanitizer_is_not_to_report_exists() -> None:
    """A name that has changed would have `make races` report what is meant to be so."""
    found = re.findall(r"^race:__pyx_f_(\S+)$", (ROOT / "tests" / "races.supp").read_text(), re.MULTILINE)
    assert found
    for name in found:
        parts = []
        while length := re.match(r"_?(\d+)", name):
            end = length.end() + int(length[1])
            parts.append(name[length.end() : end])
            name = name[end:]
        path = next(path for path in FILES if path.suffix == ".pyx" and _module(path) == ".".join(parts[:3]))
        assert re.search(rf"^ *cdef .*\b{name.lstrip('_')}\(", path.read_text(encoding="utf-8"), re.MULTILINE), name


#: Lines of a file, and of a function without its docstring.
MOST_LINES = 600
MOST_OF_A_FUNCTION = 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MOST_LINES
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = _lines(node.body[0]) if ast.get_docstring(node) else 0
                assert _lines(node) - docstring <= MOST_OF_A_FUNCTION, node.name


# --- the engine and those who drive it ---------------------------------------------------------------------------

#: Members of the engine that the faces, the server and broadcasts may use. A new one needs a reason.
MOST_VERBS = 72


def test_the_faces_use_the_verbs_of_the_engine_alone() -> None:
    """`engine.pxd` lists them, before the steps that are for the engine alone; its parts are not reached into."""
    declarations = (PACKAGE / "protocol" / "engine.pxd").read_text(encoding="utf-8")
    verbs, _, steps = declarations.partition("    # Steps of the above, for this module alone.")
    assert steps
    used = {
        name
        for path in FILES
        if path.relative_to(PACKAGE).parts[0] in {"broadcast", "faces", "inspector", "opening", "serving"}
        for name in re.findall(r"\bengine\.(\w+)", re.sub(r'""".*?"""', "", path.read_text(), flags=re.DOTALL))
        if name not in {"cimport", "import"}
    }
    declared = set(re.findall(r"^    c(?:p)?def (?:inline )?[\w ]+?[ *](\w+)(?:\(|$| )", verbs, re.MULTILINE))
    assert sorted(used - declared) == []
    assert used & {"receiver", "sender", "keepalive", "closing"} == set()
    assert len(used) <= MOST_VERBS, sorted(used)


@pytest.mark.parametrize("path", EXTENSIONS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_parts_of_the_engine_do_not_know_it(path: Path) -> None:
    if path.parent.name == "protocol" and path.stem not in {"engine", "endpoint"}:
        assert not [name for name in _imports(path) if name in {"lapwing.protocol.engine", "lapwing.protocol.endpoint"}]


def test_the_numbers_of_rules_follow_the_order_of_their_names() -> None:
    """`violation.pxd` has a number for each member of `Violation`."""
    text = (PACKAGE / "protocol" / "violation.pxd").read_text(encoding="utf-8")
    names = re.findall(r"^    (\w+)$", text, re.MULTILINE)
    assert names == ["NO_FAULT", *(violation.name for violation in lapwing.protocol.Violation)]
