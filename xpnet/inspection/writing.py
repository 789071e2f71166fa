"""Sections of equations as text, Markdown and LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from xpnet.inspection.equations import INDEX, Line, symbol
from xpnet.inspection.latex import escaped, latex

PHRASES = {
    "dL/dy0, dL/dy1, ...": r"\partial L/\partial y_0, \partial L/\partial y_1, \dots",
    "delta0, delta1, ...": r"\delta_0, \delta_1, \dots",
    "y0, y1, ...": r"y_0, y_1, \dots",
}
_NAMES = re.compile(
    rf"({'|'.join(map(re.escape, PHRASES))}|\b(?:[twxL]|(?:d?[fm]|y|delta){INDEX})(?= is | has | weighs | \(B))"
)


class Section(NamedTuple):
    """A title and the lines under it; without lines, the title of a chapter."""

    title: str
    lines: list[Line]


def text(sections: list[Section]) -> str:
    """Return Python, with the shapes as comments."""
    equations = [f"{line.left} = {line.right}" for section in sections for line in section.lines if line.left]
    width = min(max(map(len, equations)), 70) + 6
    out = []
    for title, lines in sections:
        if title:
            out.append(f"# {title}" if lines else f"# ---- {title}")
        for line in lines:
            out.append(f"{f'{line.left} = {line.right}  ':<{width}}# {line.shapes}" if line.left else f"# {line.right}")
    return "\n".join(out)


def markdown(sections: list[Section]) -> str:
    """Return Markdown, with LaTeX between double dollars."""
    out = []
    for title, lines in sections:
        if title:
            out.append(f"**{title}**" if lines else f"### {_prose(title, plain)}")
        for line in lines:
            if line.left:
                shapes = "" if line.shapes == "()" else rf" \qquad \text{{{line.shapes}}}"
                out.append(f"$${_equation(line, '')}{shapes}$$")
            else:
                out.append(f"{_prose(line.right, plain)}.")
    return "\n\n".join(out)


def tex(sections: list[Section]) -> str:
    """Return LaTeX."""
    out = []
    for title, lines in sections:
        if title:
            out.append((r"\paragraph" if lines else r"\subsection*") + f"{{{_prose(title, escaped)}}}")
        out += [_prose(line.right, escaped) + "." for line in lines if not line.left]
        rows = [
            f"  {_equation(line, '&')}" + ("" if line.shapes == "()" else rf" && \text{{{line.shapes}}}")
            for line in lines
            if line.left
        ]
        if rows:
            out.append("\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}")
    return "\n".join(out)


def plain(prose: str) -> str:
    r"""Return Markdown that shows `prose` as it is, such as a name from a file.

    >>> plain("<b> a_b")
    '&lt;b&gt; a\\_b'
    """
    marked = re.sub(r"([\\`*_{}\[\]#|$~])", r"\\\1", prose)
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _prose(sentence: str, shown: Callable[[str], str]) -> str:
    """Set the names in a title or sentence as LaTeX between dollars, and let the rest be `shown` as it is."""
    parts = _NAMES.split(sentence)  # every second one is a name
    return "".join(f"${PHRASES.get(part) or symbol(part)}$" if k % 2 else shown(part) for k, part in enumerate(parts))


def _equation(line: Line, relation: str) -> str:
    """Return a line as LaTeX; one that changes its own left side is no equation but an assignment."""
    left = line.symbols.get(line.left, line.left)
    arrow = r"\leftarrow" if re.search(rf"\b{line.left}\b", line.right) else "="
    return f"{left} {relation}{arrow} {latex(line.right, line.symbols)}"
