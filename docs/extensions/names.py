"""The directive ``names``: a table of the names that a page of the reference describes, each with its first line."""

import inspect
import pkgutil
import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

DESCRIBED = re.compile(r"(?m)^\.\. auto(class|function|module):: (\S+)\n((?:   :.*\n)*)")


class Names(SphinxDirective):
    """A table for each page that is named in the content; methods are listed on the page of networks alone."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        lines: list[str] = []
        for page in self.content:
            path = Path(self.env.doc2path(f"api/{page}"))
            self.env.note_dependency(str(path))
            text = path.read_text(encoding="utf-8")
            title = text.split("\n", 1)[0].removeprefix("# ")
            lines += ["", f"## [{title}]({page}.md)", "", "| name | what it is |", "| --- | --- |"]
            lines += [f"| {{py:obj}}`{short(name)} <{name}>` | {first_line(name)} |" for name in described(text, page)]
        container = nodes.Element()
        self.state.nested_parse(StringList(lines, self.env.docname), 0, container, match_titles=True)
        for table in self.state.document.findall(nodes.table):  # sections stand in the page itself
            table["classes"].append("names")
        return container.children


def described(text: str, page: str) -> list[str]:
    """Return the names of a page, in order."""
    found: list[str] = []
    for kind, name, options in DESCRIBED.findall(text):
        members = re.search(r":members: (.+)", options)
        listed = [f"{name}.{member.strip()}" for member in members[1].split(",")] if members else []
        if kind == "module":
            found += listed
        elif ":no-index:" not in options:
            found += [name, *(listed if page == "network" else [])]
    return found


def short(name: str) -> str:
    """Return a name as it is written after ``import xpnet``."""
    return name if name.startswith(("xpnet.plots", "xpnet.estimators", "xpnet.errors")) else name.removeprefix("xpnet.")


def first_line(name: str) -> str:
    """Return what the docstring says first."""
    words = inspect.getdoc(pkgutil.resolve_name(name)) or ""
    return words.split("\n\n")[0].replace("\n", " ").replace("|", "\\|").replace("``", "`")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Offer the directive."""
    app.add_directive("names", Names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
