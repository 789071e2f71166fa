"""Tables for terminals and notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

Row = Sequence[str]


def text_table(rows: Sequence[Row], right: Sequence[int] = ()) -> list[str]:
    """Return lines whose columns are aligned, those numbered in `right` at their right edge.

    A row shorter than the first is not cut into columns: it is a line of its own.
    """
    columns = len(rows[0])
    widths = [max(len(row[i]) for row in rows if len(row) == columns) for i in range(columns)]
    lines = []
    for row in rows:
        if len(row) < columns:
            lines.append("  ".join(row))
            continue
        cells = [f"{c:>{w}}" if i in right else f"{c:<{w}}" for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def html_table(rows: Sequence[Row], notes: Sequence[str] = (), right: Sequence[int] = ()) -> str:
    """Return the same as HTML, the first row as the head, and a paragraph for each note.

    The styles stand in the cells: a notebook has none of xpnet's, and aligns all of them as it likes.
    """
    columns = len(rows[0])

    def cell(text: str, i: int, tag: str, span: int) -> str:
        indent = 0.5 + 0.5 * (len(text) - len(text.lstrip()))
        style = f"text-align: {'right' if i in right and span == 1 else 'left'}; padding: 0.1em 0.5em 0.1em {indent}em"
        wide = f' colspan="{span}"' if span > 1 else ""
        return f'<{tag}{wide} style="{style}">{html.escape(text.strip())}</{tag}>'

    def line(row: Row, tag: str) -> str:
        spans = [1] * (len(row) - 1) + [columns - len(row) + 1]  # the last cell of a short row takes the rest
        return f"<tr>{''.join(cell(text, i, tag, spans[i]) for i, text in enumerate(row))}</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<table><thead>{line(rows[0], 'th')}</thead><tbody>{body}</tbody></table>{below}"
