"""The text twin: the same picture in a terminal of 80 columns."""

from __future__ import annotations

import textwrap

from vfiolab._text import plain
from vfiolab.draw.stage.shapes import Picture

WIDTH = 80


def to_text(picture: Picture) -> str:
    """Return the picture as lines of at most 80 columns."""
    lines = list(picture.lines) if picture.lines else [*fold(picture.title), *fold(picture.description), *table_lines(picture)]
    return "\n".join(plain(line.rstrip()) for line in lines)


def table_lines(picture: Picture) -> list[str]:
    """Return the table twin in columns; the last one takes what is left of 80."""
    if not picture.table:
        return []
    rows = [picture.columns, *picture.table]
    widths = [max(len(row[i]) for row in rows) for i in range(len(picture.columns))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))[:WIDTH].rstrip() for row in rows]


def fold(text: str, indent: str = "") -> list[str]:
    """Return a sentence in lines of at most 80 columns."""
    words = " ".join(text.split())
    return textwrap.wrap(words, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
