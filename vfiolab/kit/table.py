"""Rows of the same columns, shown as text, HTML or a DataFrame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


class Table(Sequence[dict[str, Any]]):
    """Rows with the same columns: text in a cell, a DataFrame on request; `table[["iova"]]` has fewer columns.

    >>> Table(["iova", "size"], [["0x1000", "4 KiB"]])
    iova    size
    0x1000  4 KiB
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row by its number, or the table of some columns by their names."""
        if isinstance(index, list):
            places = [self.columns.index(name) for name in index]
            return Table(index, [[row[place] for place in places] for row in self.rows])
        return dict(zip(self.columns, self.rows[index], strict=True))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=self.columns)

    def __repr__(self) -> str:
        lines = [self.columns, *([str(cell) for cell in row] for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        from html import escape

        left = ' style="text-align:left"'  # JupyterLab would push words to the right
        head = "".join(f'<th scope="col"{left}>{escape(str(name))}</th>' for name in self.columns)
        body = "".join("<tr>" + "".join(f"<td{left}>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in self.rows)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
