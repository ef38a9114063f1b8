"""Rows of the same columns, shown as text, HTML or a DataFrame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from vfiolab._lazy import library
from vfiolab._text import folded, page_text, plain

if TYPE_CHECKING:
    import pandas as pd

Format = Callable[[Any], str]
AS_IT_IS: Mapping[str, Format] = MappingProxyType({})


class Table(Sequence[dict[str, Any]]):
    """Rows with the same columns: text in a cell, a DataFrame on request. Cells are values; `formats` says how a column is written.

    `table[0]` is a row, `table[:2]` a table of the first two; `table["size"]` is the values of a column, `table[["size"]]` a table of it.

    >>> from vfiolab.model.address import hexa, human_size
    >>> table = Table(["iova", "size"], [[0x1000, 4096], [0x8000, 8192]], {"iova": hexa, "size": human_size})
    >>> table
    iova    size
    0x1000  4 KiB
    0x8000  8 KiB
    >>> sum(table["size"]), table[-1], len(table[:1])
    (12288, {'iova': 32768, 'size': 8192}, 1)
    """

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[Any]], formats: Mapping[str, Format] = AS_IT_IS) -> None:
        self.columns = list(columns)
        self.rows = [list(row) for row in rows]
        self.formats = formats

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        """Return a row, some rows, a column or some columns. IndexError: no such row; KeyError: no such column."""
        if isinstance(index, str):
            place = self._place(index)
            return [row[place] for row in self.rows]
        if isinstance(index, list):
            places = [self._place(name) for name in index]
            return Table(index, [[row[place] for place in places] for row in self.rows], self.formats)
        if isinstance(index, slice):
            return Table(self.columns, self.rows[index], self.formats)
        return dict(zip(self.columns, self.rows[index], strict=True))

    def _place(self, column: str) -> int:
        if column not in self.columns:
            raise KeyError(f"no column is called {column!r}; columns: {', '.join(self.columns)}")
        return self.columns.index(column)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """Return the table as a pandas DataFrame of its values: addresses and sizes are numbers of bytes.

        ModuleNotFoundError where pandas is missing.

        >>> frame = Table(["iova", "size"], [[0x1000, 4096], [0x8000, 8192]]).frame()
        >>> int(frame["size"].sum())
        12288
        """
        made: pd.DataFrame = library("pandas", "without it, table.columns and table.rows hold the same values").DataFrame(
            self.rows, columns=self.columns
        )
        return made

    def _written(self) -> list[list[str]]:
        """Return the cells as they are shown."""
        formats = [self.formats.get(column, str) for column in self.columns]
        return [[plain(write(cell)) for write, cell in zip(formats, row, strict=True)] for row in self.rows]

    def __repr__(self) -> str:
        lines = [self.columns, *self._written()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)

    def _repr_html_(self) -> str:
        left = ' style="text-align:left"'  # JupyterLab would push words to the right
        head = "".join(f'<th scope="col"{left}>{page_text(str(name))}</th>' for name in self.columns)
        body = "".join("<tr>" + "".join(f"<td{left}>{page_text(cell)}</td>" for cell in row) + "</tr>" for row in self._written())
        return f"{folded('a table')}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
