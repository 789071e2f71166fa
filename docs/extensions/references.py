"""What stands between backquotes in a docstring: a link if it names something public, else the name of an argument.

A name with a dot or a capital that leads nowhere stays a warning, and so an error of the build.
"""

import pkgutil
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata


def find(app: Sphinx, env: Any, node: pending_xref, content: nodes.TextElement) -> nodes.Node | None:
    """Return a link, or the bare word; None if the reference is dead."""
    if node.get("refdomain") != "py" or node.get("reftype") != "obj":
        return None
    target = node["reftarget"]
    objects = env.get_domain("py").objects
    # `Network.fit` is xpnet.Network.fit; `Trace` is wherever the class is.
    places = [name for name in objects if name.endswith(f".{target}") and ("." in target or target[:1].isupper())]
    found = min(places, key=lambda name: name.count("."), default=None)
    if found is not None:
        entry = objects[found]
        return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, found)
    if target.isidentifier() and (target.islower() or len(target) <= 2):
        return content
    return content if "." in target and not target.startswith("xpnet.") and exists(target) else None


def exists(name: str) -> bool:
    """Say whether a name is one of another package, such as ``numpy.memmap``."""
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return True


def setup(app: Sphinx) -> ExtensionMetadata:
    """Look before Sphinx says that a reference is dead."""
    app.connect("missing-reference", find)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
