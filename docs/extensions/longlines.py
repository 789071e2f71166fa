"""Lines of what programs print that are too long for any screen: they are wrapped, and the others stay as they are.

Tables keep their columns, and scroll where the screen is narrower; a sentence of two hundred letters should not.
"""

import re
from html import escape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

LONGEST = 100
COLUMNS = re.compile(r"\S {2,}\S")
"""Only the rows of a table have two spaces in the middle."""


def is_long(line: str) -> bool:
    """Say whether a line is to be wrapped."""
    return len(line) > LONGEST and not COLUMNS.search(line)


def wrap(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Mark the long lines, for the style sheet."""
    if app.builder.format != "html":
        return
    for node in [*doctree.findall(nodes.literal_block)]:
        lines = node.astext().splitlines()
        if node.get("language") in ("text", "none") and any(map(is_long, lines)):
            marked = [f'<span class="long">{escape(a)}</span>' if is_long(a) else escape(a) for a in lines]
            classes = " ".join(["highlight-text", "notranslate", *node["classes"]])
            start = f'<div class="{classes}"><div class="highlight"><pre>'
            node["classes"] = []  # or they would be handed on, and stand around it once more
            node.replace_self(nodes.raw("", start + "\n".join(marked) + "\n</pre></div></div>", format="html"))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Wrap when the pages are written."""
    app.connect("doctree-resolved", wrap)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
