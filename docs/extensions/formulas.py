"""Lets docstrings that are written to be read as text mean the same as reStructuredText.

Numbered formulas stand line by line; bars of an absolute value and names that end with an underscore are no markup.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata


FORMULA = re.compile(r"^\s*\w+ = .+\(\d+'?\)$")


def literal(line: str) -> str:
    """Return a line of text in which ``|x|`` and ``coefs_`` mean themselves; programs stay as they are."""
    if line.lstrip().startswith((">>>", "...", "..")):
        return line
    parts = re.split(r"(`+[^`]+`+)", line)  # what stands between backquotes is not touched
    parts[::2] = [re.sub(r"(?<=\w)_(?!\w)", r"\\_", re.sub(r"\|(\S[^|]*)\|", r"\\|\1\\|", part)) for part in parts[::2]]
    return "".join(parts)


def keep_lines(app: Sphinx, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    """Put each run of formulas into a literal block."""
    result: list[str] = []
    inside = False
    for line in lines:
        formula = bool(FORMULA.match(line))
        if formula and not inside:
            result += ["", ".. code-block:: text", "   :class: formula", ""]
        elif inside and not formula:
            result.append("")
        result.append("   " + line.strip() if formula else literal(line))
        inside = formula
    lines[:] = result


def setup(app: Sphinx) -> ExtensionMetadata:
    """Change docstrings before numpydoc sees them."""
    app.connect("autodoc-process-docstring", keep_lines, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
