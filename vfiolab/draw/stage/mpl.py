"""The same picture on matplotlib axes, for papers, for composing figures, for PDF. matplotlib loads when a picture is drawn."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfiolab._lazy import library
from vfiolab._text import plain
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.palette import CONTRAST, DARK, LIGHT, LOOKS, SHADES
from vfiolab.draw.stage.shapes import Box, Curve, Line, Picture, Poly, Text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

THEMES = {"light": LIGHT, "dark": DARK, "contrast": CONTRAST}
PIXELS_PER_INCH = 100
_HATCH = {"hatch": "////", "dots": "...", "cross": "xxx", "bars": "---", "slants": "\\\\", "": None}
INSTEAD = 'without it, a picture shows itself in a cell, and picture.save("map.svg") writes it'


def plot(picture: Picture, ax: Axes | None = None, *, theme: str = "light") -> Axes:
    """Draw a picture on matplotlib axes and return them; without `ax`, on a figure of the picture's own size.

    One pixel of the picture is one unit of the axes, y down, so that `ax.axvline(scene.x(iova))` marks an iova.
    `theme` is light, dark or contrast; ValueError names them. ModuleNotFoundError where matplotlib is missing.
    """
    if theme not in THEMES:
        raise ValueError(f"a theme is one of {', '.join(THEMES)}, not {theme!r}")
    if ax is None:
        ax = library("matplotlib.pyplot", INSTEAD).figure(figsize=_inches(picture), dpi=PIXELS_PER_INCH).add_axes((0, 0, 1, 1))
    ax.set_xlim(0, picture.width)
    ax.set_ylim(picture.height, 0)
    ax.set_aspect("equal", anchor="NW")
    ax.set_axis_off()
    _Pen(ax, picture, THEMES[theme]).draw(picture)
    return ax


def save(picture: Picture, path: Path) -> None:
    """Write a picture to a .png (two pixels for each of its own) or .pdf."""
    # pyplot would keep the figure, and show it below a cell
    figure = library("matplotlib.figure", INSTEAD).Figure(figsize=_inches(picture), dpi=PIXELS_PER_INCH)
    plot(picture, figure.add_axes((0, 0, 1, 1)))
    figure.savefig(path, dpi=2 * PIXELS_PER_INCH)


def _inches(picture: Picture) -> tuple[float, float]:
    return picture.width / PIXELS_PER_INCH, picture.height / PIXELS_PER_INCH


class _Pen:
    """Draws shapes in order; z grows so that later ones lie on top."""

    def __init__(self, ax: Axes, picture: Picture, theme: dict[str, str]) -> None:
        self.ax, self.theme, self.z = ax, theme, 1.0
        box, dpi = ax.bbox, ax.figure.dpi
        across, down = box.width / dpi * 72 / picture.width, box.height / dpi * 72 / picture.height
        self.points = min(across, down)  # points per pixel of the picture

    def draw(self, picture: Picture) -> None:
        from matplotlib.patches import Rectangle

        self.ax.add_patch(Rectangle((0, 0), picture.width, picture.height, facecolor=self.theme["paper"], zorder=0))
        for shape in picture.shapes:
            self.z += 0.001
            if isinstance(shape, Text):
                self.text(shape)
            elif isinstance(shape, Box):
                self.box(shape)
            elif isinstance(shape, Line):
                self.line(shape)
            else:
                self.path(shape)

    def style(self, role: str) -> dict[str, Any]:
        look = LOOKS[role]
        dash = tuple(float(d) for d in look.dash.split())
        return {
            "facecolor": self.theme.get(look.fill, "none"),
            "edgecolor": self.theme.get(look.edge, "none"),
            "linewidth": look.width * self.points,
            "linestyle": (0, dash) if dash else "solid",
            "hatch": _HATCH[look.pattern],
            "zorder": self.z,
        }

    def box(self, box: Box) -> None:
        from matplotlib.patches import FancyBboxPatch, Rectangle

        style = self.style(box.role)
        if box.level:
            base = self.theme["quiet-edge" if box.role == "mirror" else "blue"]
            alpha = SHADES[box.level] * (0.6 if box.role == "mirror" else 1.0)
            style |= {"facecolor": base, "edgecolor": "none", "alpha": alpha}
        if box.round:
            patch: Any = FancyBboxPatch((box.x, box.y), box.width, box.height, f"round,pad=0,rounding_size={box.round}", **style)
        else:
            patch = Rectangle((box.x, box.y), box.width, box.height, **style)
        self.ax.add_patch(patch)

    def line(self, line: Line) -> None:
        style = self.style(line.role)
        self.ax.plot(
            [line.x, line.x2], [line.y, line.y2], color=style["edgecolor"], linewidth=style["linewidth"], linestyle=style["linestyle"],
            zorder=self.z,
        )  # fmt: skip

    def path(self, shape: Poly | Curve) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        style = self.style(shape.role)
        if isinstance(shape, Curve):
            middle = (shape.x + shape.x2) / 2
            points = [(shape.x, shape.y), (middle, shape.y), (middle, shape.y2), (shape.x2, shape.y2)]
            path = Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4])
        else:
            path = Path([*shape.points, shape.points[0]] if shape.closed else list(shape.points), closed=shape.closed)
        if isinstance(shape, Curve) or not shape.closed:
            style |= {"facecolor": "none", "hatch": None}
        self.ax.add_patch(PathPatch(path, **style))

    def text(self, text: Text) -> None:
        from matplotlib.patheffects import withStroke

        family = _fonts(mono=text.mono)
        font = "DejaVu Sans" if len(family) == 1 else "Liberation Sans"  # the others have its widths
        widths = [text_width(r.text, text.size, bold=r.bold, mono=text.mono, font=font) for r in text.runs]
        start = {"start": 0.0, "middle": sum(widths) / 2, "end": sum(widths)}[text.anchor]
        x = text.x - start if len(text.runs) > 1 else text.x
        ha = "left" if len(text.runs) > 1 else {"start": "left", "middle": "center", "end": "right"}[text.anchor]
        for run, width in zip(text.runs, widths, strict=True):
            effects = [withStroke(linewidth=4 * self.points, foreground=self.theme["paper"])] if text.halo else []
            self.ax.text(
                x, text.y, plain(run.text).replace("$", r"\$"), color=self.theme[run.role], fontsize=text.size * self.points, ha=ha,
                va="baseline", fontweight="bold" if run.bold else "normal", family=list(family), path_effects=effects, zorder=self.z + 50,
            )  # fmt: skip
            x += width


@lru_cache(maxsize=2)
def _fonts(*, mono: bool) -> tuple[str, ...]:
    """Return the families to use; DejaVu comes with matplotlib and has every sign that we use."""
    from matplotlib.font_manager import fontManager

    if mono:
        return ("DejaVu Sans Mono",)
    known = {font.name for font in fontManager.ttflist}
    found = next((name for name in ("Helvetica", "Arial", "Liberation Sans", "Nimbus Sans") if name in known), "")
    return (found, "DejaVu Sans") if found else ("DejaVu Sans",)
