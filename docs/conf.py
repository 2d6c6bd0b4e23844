"""How the documentation is built: `make docs`, with warnings as errors.

The pages can be read without it, in an editor or on a forge: programs stand in them (programs.py), and links name
files. Here these links become those of the site, and the names of lapwing in literals become links to the reference.
"""

from __future__ import annotations

import posixpath
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.addnodes import pending_xref

sys.path.insert(0, str(Path(__file__).parent))
import inventory
import option_tables

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "lapwing"
author = "the lapwing authors"
copyright = author
release = version = version_of("lapwing")

# An attribute in a docstring becomes a link where it can, and several classes may have one of its name.
suppress_warnings = ["ref.python"]
extensions = ["sphinx.ext.autodoc", "sphinx.ext.intersphinx", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["build"]
# Names of lapwing must be there; what belongs to Python and to others is not looked up.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!lapwing\b).*"),
    # Types in annotations that have no entry of their own.
    (
        "py:class",
        r"lapwing\.(hub\.hub\.Function|hub\.message\.T|testing\.verifying\.\w+|protocol\.usual_\w+\.\w+"
        r"|protocol\.client_handshake\.ClientRequest|protocol\.server_handshake\.Unchanged)",
    ),
]
html_theme = "furo"
html_title = f"lapwing {version}"
html_static_path = ["static"]
html_css_files = ["lapwing.css"]
html_extra_path = ["llms.txt"]
# Prompts are not copied, nor what a command prints.
copybutton_prompt_text = "$ "
copybutton_copy_empty_lines = False

# Names of Python, from a list that is kept here: the build asks no network.
intersphinx_mapping = {"python": ("https://docs.python.org/3", str(inventory.write()))}

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Keys", "params_style")]  # of the dictionaries of options
default_role = "literal"
highlight_language = "none"


_NAME = re.compile(r"lapwing(\.\w+)+(\(\))?")
#: Literals that name an option: `max_buffered`, `json=`. A word such as `headers` alone may be something else.
_OPTIONS = {
    literal: anchor
    for name, anchor in option_tables.anchors().items()
    if name != "timeout"  # of a method, too
    for literal in ([name, f"{name}="] if "_" in name else [f"{name}="])
}


def _link_pages(app: Sphinx, doctree: nodes.document) -> None:
    """Make links to files of pages lead to the site's pages, and names in literals to their documentation.

    A link with a fragment leads to the label of that name. The names of options are those in the tables of options.
    """
    here = app.env.docname
    for link in list(doctree.findall(nodes.reference)):
        path, _, label = link.get("refuri", "").partition("#")
        if not path.endswith(".rst") or "://" in path:
            continue
        name = posixpath.normpath(posixpath.join(posixpath.dirname(here), path)).removesuffix(".rst")
        text = nodes.inline("", link.astext())
        given: dict[str, Any] = {"refdoc": here, "refdomain": "std", "refexplicit": True, "refwarn": True}
        where = {"reftype": "ref", "reftarget": label} if label else {"reftype": "doc", "reftarget": "/" + name}
        link.replace_self(pending_xref("", text, **where, **given))
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, (pending_xref, nodes.reference)):
            continue
        if _NAME.fullmatch(literal.astext()):
            given = {"refdoc": here, "refdomain": "py", "reftype": "obj", "refexplicit": True, "by_name": True}
            target = literal.astext().removesuffix("()")
        elif here != "reference/options" and literal.astext() in _OPTIONS:
            given = {"refdoc": here, "refdomain": "std", "reftype": "ref", "refexplicit": True, "refwarn": True}
            target = _OPTIONS[literal.astext()]
        else:
            continue
        literal.replace_self(pending_xref("", literal.deepcopy(), reftarget=target, **given))


def _leave_unknown(_app: Sphinx, _env: object, node: pending_xref, label: nodes.Element) -> nodes.Element | None:
    """A literal that only looks like a documented name stays as it is."""
    return label if node.get("by_name") else None


def setup(app: Sphinx) -> None:
    """Put the two into the build."""
    app.connect("doctree-read", _link_pages)
    app.connect("missing-reference", _leave_unknown)
