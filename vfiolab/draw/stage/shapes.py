"""What every picture is made of: a handful of shapes with a role each, a title, a description and a table.

A shape says *what* it is (`role`), never how it looks: `svg.py` and `mpl.py` look that up in the palette.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; `level` 1 to 8 shades it by coverage, `tip` is its tooltip, `round` the radius of its corners (pixels)."""

    x: float
    y: float
    width: float
    height: float
    role: str
    tip: str = ""
    round: float = 0
    level: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """A straight line from (x, y) to (x2, y2)."""

    x: float
    y: float
    x2: float
    y2: float
    role: str


@dataclass(frozen=True, slots=True)
class Poly:
    """A line through points, or with `closed` a filled outline."""

    points: tuple[tuple[float, float], ...]
    role: str
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """A connection that leaves (x, y) and arrives at (x2, y2) horizontally."""

    x: float
    y: float
    x2: float
    y2: float
    role: str


@dataclass(frozen=True, slots=True)
class Run:
    """Letters of one look within a line of text."""

    text: str
    role: str = "ink"
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """One line of text; (x, y) is the baseline at its start, middle or end (`anchor`); `halo` puts paper behind the letters."""

    x: float
    y: float
    runs: tuple[Run, ...]
    size: float = 11
    anchor: str = "start"
    mono: bool = False
    halo: bool = False

    @classmethod
    def plain(
        cls, x: float, y: float, text: str, role: str = "ink", *, size: float = 11, anchor: str = "start",
        bold: bool = False, mono: bool = False, halo: bool = False,
    ) -> Text:  # fmt: skip
        """Return a line in one look."""
        return cls(x, y, (Run(text, role, bold),), size, anchor, mono, halo)

    @property
    def text(self) -> str:
        """The letters, all runs together."""
        return "".join(run.text for run in self.runs)


Shape: TypeAlias = Box | Line | Poly | Curve | Text


@dataclass(frozen=True, repr=False)
class Picture:
    """A finished picture: shapes on `width` by `height` pixels, what they say in words, and the same as a table.

    `columns` and `table` are the table twin, `lines` the text twin, both in the order of the picture. `narrow` is the same
    picture laid out for a narrow page, if there is such a layout: a page shows the one that fits.
    """

    title: str
    description: str
    width: float
    height: float
    shapes: tuple[Shape, ...]
    columns: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    lines: tuple[str, ...] = ()
    narrow: Picture | None = None

    @property
    def alt(self) -> str:
        """Alternative text: title and description."""
        return f"{self.title}. {self.description}".strip()

    @property
    def svg(self) -> str:
        """The picture as an SVG document of its own."""
        from vfiolab.draw.stage.svg import to_svg

        return to_svg(self)

    def save(self, path: str | Path) -> None:
        """Write the picture to a file whose name says how: .svg; .txt for 80 columns; .png or .pdf, for which matplotlib draws it.

        ValueError for another ending, before anything is written; OSError as writing any file.

        >>> import vfiolab as vl
        >>> picture = vl.pages(0x10_0000, 0x4010_0000, 4 << 20, 0x4020_1000)
        >>> picture.svg[:4]
        '<svg'
        >>> picture.save("pages.gif")
        Traceback (most recent call last):
            ...
        ValueError: a picture is saved as .svg, .txt, .png or .pdf, not as 'pages.gif'
        """
        from vfiolab.draw.stage.mpl import save
        from vfiolab.draw.stage.text import to_text

        path = Path(path)
        kind = path.suffix.lower()
        if kind in (".png", ".pdf"):
            save(self, path)
        elif kind in (".svg", ".txt"):
            path.write_text(self.svg if kind == ".svg" else f"{to_text(self)}\n", encoding="utf-8")
        else:
            raise ValueError(f"a picture is saved as .svg, .txt, .png or .pdf, not as {path.name!r}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.title!r}, {self.width:g} x {self.height:g}, {len(self.table)} rows)"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        from vfiolab.draw.stage.svg import figure_html
        from vfiolab.draw.stage.text import to_text

        return {"text/plain": to_text(self), "text/html": figure_html(self)}
