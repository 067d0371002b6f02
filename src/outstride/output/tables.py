"""Rows of cells as a table: as text for a terminal, as HTML for a notebook."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape


def text_table(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> list[str]:
    """One line for each row, its cells as wide as their column; the columns in ``right`` end in line."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = (
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines


def html_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], below: str = "") -> str:
    """A title, a table and a text below; line breaks in cells and texts are kept."""
    cell = "style='text-align:left; vertical-align:top; white-space:pre-wrap'"
    first = "".join(f"<th {cell}>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td {cell}>{escape(entry)}</td>" for entry in row) + "</tr>" for row in rows
    )
    under = html_text(below) if below else ""
    return (
        f"<div><p><b>{escape(title)}</b></p><table><thead><tr>{first}</tr></thead><tbody>{body}</tbody></table>"
        f"{under}</div>"
    )


def html_text(text: str) -> str:
    """A text as it stands, its first line in bold."""
    first, _, rest = text.partition("\n")
    return f"<pre><b>{escape(first)}</b>\n{escape(rest)}</pre>" if rest else f"<pre>{escape(first)}</pre>"
