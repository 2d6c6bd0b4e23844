"""How the documentation is built: `make docs`, with warnings as errors."""

from importlib.metadata import version as version_of

project = "lapwing"
author = "the lapwing authors"
copyright = author
release = version = version_of("lapwing")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"lapwing {version}"

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
default_role = "literal"
highlight_language = "none"
