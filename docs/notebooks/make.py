"""Makes the notebooks of this folder from pages and from the gallery: ``python docs/notebooks/make.py``.

A notebook has the words and the programs of its page, without outputs. A test compares them, so that none is forgotten.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
DOCS, EXAMPLES = HERE.parent, HERE.parents[1] / "examples"
sys.path.insert(0, str(DOCS / "extensions"))

from gallery import cells  # noqa: E402
from standalone import standalone  # noqa: E402

REPOSITORY = "https://github.com/xpnet-developers/xpnet"
SITE = "https://xpnet-developers.github.io/xpnet"

PAGES = {
    "first_half_hour": "start.md",
    "backpropagation_seen": "howto/see.md",
    "from_scikit_learn": "howto/from_sklearn.md",
    "own_layer": "howto/own_layer.md",
}
"""Notebooks and the pages that they are made from; `mnist_on_a_gpu` is made from a program of the gallery."""

INSTALL = f"""%pip install -q "xpnet[plot,sklearn,fast] @ git+{REPOSITORY}\""""

GPU = """In Colab choose *Runtime > Change runtime type > T4 GPU* first; CuPy is there already. Elsewhere install the
extra `cuda12` or `cuda13` of xpnet. Without a GPU the same cells run on the CPU."""

Cell = tuple[str, str]


def of_page(page: str) -> list[Cell]:
    """Return the cells of a page; what it says about installing gives way to the first cell."""
    text = (DOCS / page).read_text(encoding="utf-8")
    text = re.sub(r"(?ms)^## Install\n.*?(?=^## )", "", text)
    found: list[Cell] = []
    for k, part in enumerate(re.split(r"(?ms)^```\{run\}\n(.*?)^```$", text)):
        found.append(("code", re.sub(r"\A(:.*\n)+\n?", "", part)) if k % 2 else ("markdown", as_words(part, page)))
    title, heading, rest = found[0][1].partition("\n## ")
    return [("markdown", title), ("markdown", heading + rest), *found[1:]]


def as_words(text: str, page: str) -> str:
    """Return the words of a page for a notebook: links lead to the site, and roles are plain code."""

    def link(match: re.Match[str]) -> str:
        place = os.path.normpath(Path(page).parent / match[1]).replace(os.sep, "/")
        return f"]({SITE}/{re.sub(r'[.](md|rst)$', '.html', place)}{match[2]})"

    text = re.sub(r"\]\(([^):#]+[.](?:md|rst))(#[^)]*)?\)", lambda m: link(m).replace("None)", ")"), text)
    return re.sub(r"\{\w+\}(`[^`]+`)", r"\1", text)


def of_program(name: str) -> list[Cell]:
    """Return the cells of a program of the gallery, on a GPU if there is one."""
    text = standalone((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))
    text = re.sub(r'backend = "numpy".*', 'backend = "auto"  # CuPy if there is a GPU, else NumPy', text)
    docstring = ast.get_docstring(ast.parse(text)) or ""
    title, words = docstring.split("\n\n")[0].split(": ", 1)
    found = [("markdown", f"# {title}, on a GPU\n\n{words[0].upper()}{words[1:]}"), ("markdown", GPU)]
    code = cells(text[text.index('"""', 3) + 3 :])
    for part in code.split("\n# %%\n"):
        words = re.match(r"(?:#.*\n)*", part)
        assert words is not None
        if words[0] and part is not code:
            found.append(("markdown", re.sub(r"(?m)^# ?", "", words[0])))
        found.append(("code", part[words.end() :]))
    return found


def notebook(found: list[Cell]) -> dict[str, Any]:
    """Return a notebook of these cells, with one before them that installs xpnet."""
    made = []
    for kind, text in [found[0], ("code", INSTALL), *found[1:]]:
        if text.strip():
            cell: dict[str, Any] = {"cell_type": kind, "metadata": {}, "source": text.strip().splitlines(keepends=True)}
            made.append(cell | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "accelerator": "GPU"}
    return {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}


def every() -> dict[str, str]:
    """Return the text of each notebook by its name."""
    found = {name: of_page(page) for name, page in PAGES.items()} | {"mnist_on_a_gpu": of_program("mnist")}
    return {name: json.dumps(notebook(parts), indent=1, ensure_ascii=False) + "\n" for name, parts in found.items()}


if __name__ == "__main__":
    for name, text in every().items():
        (HERE / f"{name}.ipynb").write_text(text, encoding="utf-8")
