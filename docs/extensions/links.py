"""Checks, when the pages are written, that every link within them leads to a file and a place that exist."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

logger = logging.getLogger(__name__)


class Page(HTMLParser):
    """The places of a page, and the addresses that it names."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.places: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.places |= {value for name in ("id", "name") if (value := values.get(name))}
        self.links += [value for name in ("href", "src") if (value := values.get(name))]


def check(app: Sphinx, exception: Exception | None) -> None:
    """Warn of every dead link within the pages."""
    if exception or app.builder.format != "html":
        return
    folder = Path(app.outdir).resolve()
    pages = {path: Page(path) for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts}
    count = 0
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                logger.warning("%s: dead link %s", path.relative_to(folder), link)
            elif path.is_relative_to(folder / "_modules"):
                continue  # the way back from a source leads to the right page, if not always to the place
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                logger.warning("%s: no such place %s", path.relative_to(folder), link)
    logger.info("%d links within %d pages checked", count, len(pages))


def setup(app: Sphinx) -> ExtensionMetadata:
    """Check at the end."""
    app.connect("build-finished", check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
