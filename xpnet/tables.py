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


def html_table(rows: Sequence[Row], notes: Sequence[str] = ()) -> str:
    """Return the same as HTML, the first row as the head, and a paragraph for each note."""
    columns = len(rows[0])

    def line(row: Row, tag: str) -> str:
        span = f' colspan="{columns - len(row) + 1}" style="text-align: left"'
        cells = [
            f"<{tag}{span if i == len(row) - 1 and len(row) < columns else ''}>{html.escape(cell)}</{tag}>"
            for i, cell in enumerate(row)
        ]
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(line(row, "td") for row in rows[1:])
    below = "".join(f"<p>{html.escape(note)}</p>" for note in notes)
    return f"<table><thead>{line(rows[0], 'th')}</thead><tbody>{body}</tbody></table>{below}"
