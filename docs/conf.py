"""Sphinx settings. tools/build_docs.py prepares what they speak of and runs Sphinx (`make docs`)."""

from __future__ import annotations

import re
from typing import Any

import schatten

project = "Schatten"
author = "the Schatten authors"
copyright = author
version = release = schatten.__version__

extensions = ["myst_parser", "breathe", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["recipes/intro.md"]  # the head of recipes.md
highlight_language = "text"
myst_heading_anchors = 4
smartquotes_action = "D"  # dashes alone

# Python: the signature as it is written, one argument a line where it is long.
autodoc_member_order = "bysource"
autodoc_type_aliases = {"Params": "Params"}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True

# C++
breathe_projects = {"schatten": "../doxygen/xml"}
breathe_default_project = "schatten"
breathe_show_include = False
cpp_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"Schatten {release}"
html_static_path = ["_static"]
html_css_files = ["schatten.css"]
html_copy_source = False
html_show_sphinx = False


def plain_words(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Docstrings are plain text: a `name` is code and |X| a norm, outside of literal blocks."""
    literal_from: int | None = None
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal_from is not None and (not line.strip() or indent > literal_from):
            continue
        literal_from = indent if line.endswith("::") else None
        parts = re.split(r"(``.*?``|:\w+:`.*?`)", line)
        parts[::2] = [re.sub(r"`([^`]+)`", r"``\1``", part.replace("|", r"\|")) for part in parts[::2]]
        lines[i] = "".join(parts)


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain_words, priority=400)  # before Napoleon
