"""The directive ``results``: the pictures of a folder with results of benchmarks, each with its name and words."""

from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata


class Results(SphinxDirective):
    """Show each picture of the folder but those of smoke runs, called ``quick``, and of what has a text of its own."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        _, folder = self.env.relfn2path(self.arguments[0])
        found: list[nodes.Node] = []
        for path in sorted(Path(folder).glob("*.png")):
            if path.stem in ("quick", "scaling"):
                continue
            self.env.note_dependency(str(path))
            name = path.stem.replace("-", " ")
            words = (
                f"Benchmark {name}: for each workload, each system's time as a multiple of the floor, smaller is better"
            )
            image = nodes.image(uri=f"{self.arguments[0]}/{path.name}", alt=words)
            found.append(nodes.figure("", image, nodes.caption(path.stem, path.stem), classes=["wide"]))
        if not found:
            raise self.error(f"{folder} has no pictures of results")
        return found


def setup(app: Sphinx) -> ExtensionMetadata:
    """Offer the directive."""
    app.add_directive("results", Results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
