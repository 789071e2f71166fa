"""The directive ``run``: Python that the build executes, with what it prints, draws and films below.

The blocks of a page run in order and share their names. An exception ends the build.
"""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from gallery import PIXELS
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

NAMES: dict[str, dict[str, Any]] = {}
"""The names of each page."""
FOLDERS: dict[str, tempfile.TemporaryDirectory[str]] = {}
"""Where the programs of each page work."""


class Run(SphinxDirective):
    """Execute the content; show it, what it prints, the figures that it leaves open and the films that it saves as GIF.

    Options: ``alt``, the words for a picture, or for several, with a bar (|) between them; ``hide-code``.
    """

    has_content = True
    option_spec: ClassVar[Any] = {"alt": directives.unchanged_required, "hide-code": directives.flag}

    def run(self) -> list[nodes.Node]:
        from matplotlib import pyplot

        code = "\n".join(self.content)
        page = self.env.docname
        names = NAMES.setdefault(page, {"__name__": "__main__"})
        printed = io.StringIO()
        pictures = folder_of_pictures(self.env, page)
        pictures.mkdir(parents=True, exist_ok=True)
        name = f"{pictures.name}-{self.lineno}"
        files = []
        with in_folder_of(page), contextlib.redirect_stdout(printed):
            exec(compile(code, f"{page}, line {self.lineno}", "exec"), names)
            for film in sorted(Path().glob("*.gif")):
                files.append(Path(shutil.move(film, pictures / f"{name}-{film.name}")))
        result: list[nodes.Node] = []
        if "hide-code" not in self.options:
            result.append(nodes.literal_block(code, code, language="python"))
        if printed.getvalue():
            text = printed.getvalue().rstrip()
            result.append(nodes.literal_block(text, text, language="text", classes=["output"]))
        images = [nodes.image(uri=f"/{file.relative_to(self.env.srcdir)}") for file in files]
        for number in pyplot.get_fignums():
            file, figure = pictures / f"{name}-{number}.png", pyplot.figure(number)
            figure.savefig(file, dpi=150)
            width = round(PIXELS * figure.get_figwidth())
            images.append(nodes.image(uri=f"/{file.relative_to(self.env.srcdir)}", width=f"{width}px"))
        pyplot.close("all")
        words = self.options.get("alt", "").split("|") if images else []
        if len(words) != len(images) or not all(word.strip() for word in words):
            raise self.error(f"{len(images)} pictures, and words for {len(words)}: the option alt says what they show")
        for image, word in zip(images, words, strict=True):
            image["alt"], image["classes"] = word.strip(), ["drawn"]
        return [*result, nodes.container("", *images, classes=["pictures"])] if images else result


def folder_of_pictures(env: Any, page: str) -> Path:
    """Return where the pictures of a page are."""
    return Path(env.srcdir) / "generated" / "pictures" / page.replace("/", "-")


@contextlib.contextmanager
def in_folder_of(page: str) -> Iterator[None]:
    """Work in a folder of the page's own, which is gone afterwards: programs may write files, and read them again."""
    if page not in FOLDERS:
        FOLDERS[page] = tempfile.TemporaryDirectory()
    before = os.getcwd()
    os.chdir(FOLDERS[page].name)
    try:
        yield
    finally:
        os.chdir(before)


def forget(app: Sphinx, env: Any, docname: str) -> None:
    """Begin a page anew."""
    NAMES.pop(docname, None)
    if docname in FOLDERS:
        FOLDERS.pop(docname).cleanup()
    shutil.rmtree(folder_of_pictures(env, docname), ignore_errors=True)


def clean(app: Sphinx, exception: Exception | None) -> None:
    """Remove the folders in which programs worked."""
    while FOLDERS:
        FOLDERS.popitem()[1].cleanup()


def setup(app: Sphinx) -> ExtensionMetadata:
    """Offer the directive."""
    app.add_directive("run", Run)
    app.connect("env-purge-doc", forget)
    app.connect("build-finished", clean)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
