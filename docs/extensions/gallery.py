"""The gallery is made of ``examples/``: the same programs, standing alone, with a title for the page."""

from __future__ import annotations

import ast
import inspect
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formulas import literal
from standalone import standalone

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata

HERE = Path(__file__).resolve().parent.parent
EXAMPLES, COPIES = HERE.parent / "examples", HERE / "generated" / "examples"

# So wide is an inch of a figure on a page: its text, of ten points, can be read, and two figures fit side by side.
PIXELS = 75

# In the order in which they are read.
ORDER = (
    "descent",
    "neuron",
    "zeros",
    "quadrants",
    "parity",
    "tutorial_mnist",
    "mnist",
    "mnist_cnn",
    "fashion",
    "streaming",
    "tables/wine",
    "tables/cancer",
    "tables/diabetes",
)

# Which of its pictures stands for an example, where it is not the first one.
THUMBNAILS = {"quadrants": 2, "tutorial_mnist": 2, "mnist": 5, "mnist_cnn": 3, "fashion": 3}

# What is run smaller here than by default, as source: an accuracy on these pages is that of a few images.
SMALLER = {"mnist_cnn": {"epochs": "1", "samples": "6_000"}, "fashion": {"images": '"few"'}}

HEADER = """Gallery
=======

From a single neuron to handwritten digits and tables of data. Each program stands alone: copy it, or download it as a
program or a notebook below its page. In the repository the same programs, in ``examples/``, have a command line
(``--backend cupy``, ``--plots DIR``), and end with an error if a result is not what they say.
"""


def data_at_hand(gallery_conf: dict[str, Any], name: str, when: str) -> None:
    """Let programs find the files of MNIST that lie in the repository, as readers find theirs after the download."""
    import xpnet

    folder = str(EXAMPLES / "data" / "mnist") if when == "before" else None
    inspect.unwrap(xpnet.datasets.mnist).__defaults__ = (folder,)


def scraper(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """Save the figures that a cell leaves open, and return reStructuredText that shows them, with words for each."""
    from matplotlib import pyplot

    lines = []
    for number in pyplot.get_fignums():
        figure, path = pyplot.figure(number), Path(next(block_vars["image_path_iterator"]))
        figure.savefig(path, dpi=150)
        lines += [
            f"   .. image:: /{path.relative_to(HERE).as_posix()}",
            f"      :alt: {words(figure)}",
            f"      :width: {round(PIXELS * figure.get_figwidth())}px",
            "      :class: drawn",
            "",
        ]
    pyplot.close("all")
    return "\n".join([".. container:: pictures", "", *lines, ""]) if lines else ""


def words(figure: Any) -> str:
    """Return what the labels of a figure say, for those who cannot see it."""
    ax, *bars = figure.axes
    parts = [ax.get_title()]
    if ax.get_xlabel() and ax.get_ylabel():
        parts.append(f"{ax.get_ylabel()} over {ax.get_xlabel()}")
    parts += [f"colours: {bar.get_ylabel()}" for bar in bars]
    if ax.get_legend():
        parts.append(f"shown are {', '.join(text.get_text() for text in ax.get_legend().get_texts())}")
    return "; ".join(part for part in parts if part)


def reading_order(name: str) -> int:
    """Return where an example stands in the gallery."""
    return [Path(place).stem for place in ORDER].index(Path(name).stem)


def titled(text: str, thumbnail: int = 0) -> str:
    """Return a program whose docstring begins with a title: its own first words, up to a colon or question mark."""
    docstring = ast.get_docstring(ast.parse(text), clean=False) or ""
    first = docstring.split("\n\n")[0].replace("\n", " ")
    title = re.split(r"[:?,]", first)[0] + ("?" if "?" in first.split(":")[0].split(",")[0] else "")
    body = re.sub(r"(?<!:)\n\n    (?=python|mpiexec)", r"\n\nIn a clone of the repository:\n\n    ", docstring)
    body = re.sub(r"\n\n    (?=python|mpiexec)", r"\n\n.. code-block:: sh\n\n    ", body)
    text = cells(text.replace(f'"""{docstring}"""', f'r"""\n{title}\n{"=" * len(title)}\n\n{body}"""', 1))
    return text + (f"# sphinx_gallery_thumbnail_number = {thumbnail}\n" if thumbnail else "")


def cells(text: str) -> str:
    """Return a program in which each comment that stands for itself begins a cell of the page, as its text."""

    def cell(match: re.Match[str]) -> str:
        lines = [line[1:].removeprefix(" ") for line in match[1].splitlines()]
        if lines[0].startswith("---- "):  # a heading; the lines after it stand under its first letter
            lines = [lines[0][5:], *(line.removeprefix("     ") for line in lines[1:])]
        result = []
        for before, line in zip(["", *lines], lines, strict=False):
            if line.startswith("  ") and not before.startswith("  "):
                result += ["", ".. code-block:: text", ""]
            elif before.startswith("  ") and not line.startswith("  "):
                result.append("")
            result.append(line if line.startswith("  ") else literal(line))
        return "\n# %%\n" + "".join(f"# {line}".rstrip() + "\n" for line in result) + "\n"

    return re.sub(r"(?m)(?<=\n\n)((?:^#.*\n)+)(?=\S)", cell, text)


def copy_examples(app: Sphinx, config: object) -> None:
    """Write the programs with titles to where the gallery looks for them."""
    found = {path.relative_to(EXAMPLES).with_suffix("").as_posix() for path in EXAMPLES.rglob("*.py")} - {"common"}
    if found != set(ORDER):
        raise RuntimeError(f"docs/extensions/gallery.py orders {sorted(ORDER)}, but examples/ has {sorted(found)}")
    shutil.rmtree(COPIES, ignore_errors=True)
    COPIES.mkdir(parents=True)
    (COPIES / "README.txt").write_text(HEADER, encoding="utf-8")
    (COPIES / "examples").mkdir()  # programs find their data as in a clone of the repository
    (COPIES / "examples" / "data").symlink_to(EXAMPLES / "data", target_is_directory=True)
    for place in ORDER:
        text, name = (EXAMPLES / f"{place}.py").read_text(encoding="utf-8"), Path(place).name
        page = titled(standalone(text, SMALLER.get(name)) if "import common" in text else text, THUMBNAILS.get(name, 0))
        (COPIES / f"{name}.py").write_text(page, encoding="utf-8")


def not_to_be_edited(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Leave the link "Edit" away from pages that are made, and so lie nowhere in the repository."""
    if page.startswith("auto_examples/"):
        context["page_source_suffix"] = None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Copy before the gallery reads."""
    app.connect("config-inited", copy_examples, priority=0)
    app.connect("html-page-context", not_to_be_edited)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
