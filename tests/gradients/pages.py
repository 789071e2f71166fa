"""The pages of the docs, as code to run."""

import re
from pathlib import Path

import numpy as np

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page):
    """Return `(language, label, text)` of every fenced block."""
    return BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))


def arrays(page):
    """Return the arrays of a page's blocks that are literals, by name."""
    names = {}
    for language, label, text in blocks(page):
        if language == "python" and not label and re.match(r"\w+ = \[*-?\d", text):
            exec(text, {"__builtins__": {}}, names)
    return {name: np.asarray(value) for name, value in names.items()}
