"""The pages of the documentation, and the blocks in them."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if not {"_build", "auto_examples", "generated"} & set(p.parts))
NAMES = {path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}


def fences(text: str) -> list[tuple[str, str]]:
    """Return the language and the content of each fenced block."""
    return re.findall(r"(?ms)^```(\S*)[^\n]*\n(.*?)^```$", text)


def run_blocks(text: str) -> list[str]:
    """Return the programs that the build runs, without the options of their directives."""
    return [re.sub(r"\A(:.*\n)+", "", content) for language, content in fences(text) if language == "{run}"]
