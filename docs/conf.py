"""How the documentation is built: `make docs`, with warnings as errors."""

from importlib.metadata import version as version_of

project = "lapwing"
author = "the lapwing authors"
copyright = author
release = version = version_of("lapwing")

# An attribute in a docstring becomes a link where it can, and several classes may have one of its name.
suppress_warnings = ["ref.python"]
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
# Names of lapwing must be there; what belongs to Python and to others is not looked up.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(?!lapwing\b).*")]
html_theme = "furo"
html_title = f"lapwing {version}"
html_static_path = ["static"]
html_css_files = ["lapwing.css"]

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Keys", "params_style")]  # of the dictionaries of options
default_role = "literal"
highlight_language = "none"
