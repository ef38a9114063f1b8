"""The page as it fills from top to bottom: margin, heading, cards, and the order in which shapes lie on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeVar, cast

from vfiolab.draw.stage.measure import shorten, text_width, wrap
from vfiolab.draw.stage.shapes import Box, Picture, Poly, Shape, Text

MARGIN = 14.0
LEAST_WIDTH = 320
WIDE, NARROW = 760, 440  # the two widths that a picture is laid out for, when nobody asks for one
Draw = TypeVar("Draw", bound=Callable[..., Picture])


def fitting(draw: Draw) -> Draw:
    """Let a function that is called without a `width` lay its picture out twice: for a wide page and, as `narrow`, for a narrow one."""

    @wraps(draw)
    def drawn(*args: Any, width: int | None = None, **kwargs: Any) -> Picture:
        if width is not None:
            return draw(*args, width=max(width, LEAST_WIDTH), **kwargs)
        return replace(draw(*args, width=WIDE, **kwargs), narrow=draw(*args, width=NARROW, **kwargs))

    return cast("Draw", drawn)


@dataclass
class Page:
    """Shapes so far, and how far down the page they reach (`y`, pixels)."""

    width: float
    y: float = 0.0
    shapes: list[Shape] = field(default_factory=list)

    @property
    def right(self) -> float:
        """Right edge of what may be drawn."""
        return self.width - MARGIN

    def add(self, *shapes: Shape) -> None:
        """Put shapes on top of what is there."""
        self.shapes.extend(shapes)

    def heading(self, title: str, sentences: str) -> None:
        """Write the title and, under it, what there is to see."""
        self.y = 8
        for line in wrap(title, self.width - 2 * MARGIN, 15, bold=True):
            self.y += 18
            self.add(Text.plain(MARGIN, self.y - 3, line, size=15, bold=True))
        for line in wrap(sentences, self.width - 2 * MARGIN, 12):
            self.y += 16
            self.add(Text.plain(MARGIN, self.y - 2, line, size=12))
        self.y += 8

    def heads(self, columns: Sequence[tuple[float, float, str]], role: str = "muted", *, size: float = 12) -> None:
        """Write the heads of columns given as (x, room in pixels, words), each folded upwards from the same line."""
        folds = [(x, wrap(words, room, size, bold=True)) for x, room, words in columns]
        self.y += 15 * max(len(lines) for _, lines in folds)
        for x, lines in folds:
            for n, words in enumerate(reversed(lines)):
                self.add(Text.plain(round(x, 1), self.y - 5 - 15 * n, words, role, size=size, bold=True))
        self.y += 3

    def note(self, words: str) -> None:
        """Write a quiet line at the foot."""
        for line in wrap(words, self.right - MARGIN):
            self.add(Text.plain(MARGIN, self.y + 10, line, "muted"))
            self.y += 15

    def key(self, entries: Iterable[tuple[str, str]]) -> None:
        """Write the legend: a small box in each role's look and its words."""
        x = MARGIN
        for role, told in entries:
            at, y, x = self.entry(x, told, 20, 17)
            self.add(Box(round(at, 1), y + 2, 15, 10, role))
        self.y += 18

    def letters(self, entries: Sequence[tuple[str, str]]) -> None:
        """Write what letters in the picture stand for."""
        x = MARGIN
        for letter, words in entries:
            at, y, x = self.entry(x, words, 14, 15)
            self.add(Text.plain(round(at, 1), round(y + 11, 1), letter, bold=True))
        self.y += 16 if entries else 0

    def entry(self, x: float, words: str, indent: float, step: float) -> tuple[float, float, float]:
        """Write a legend's words behind a mark of `indent` pixels: at `x`, or `step` lower at the left, folded if longer than a line.

        Return where the mark stands (x, y), and where the next entry may begin.
        """
        lines = wrap(words, self.right - MARGIN - indent)
        wide = indent + max(text_width(line) for line in lines)
        if x > MARGIN and x + wide > self.right:
            x, self.y = MARGIN, self.y + step
        y = self.y
        self.add(*(Text.plain(round(x + indent, 1), round(y + 11 + 14 * n, 1), line, "muted") for n, line in enumerate(lines)))
        self.y += 14 * (len(lines) - 1)
        return x, y, x + wide + 15 if len(lines) == 1 else self.right

    def finish(
        self, title: str, description: str, columns: Sequence[str] = (), table: Iterable[Sequence[str]] = (), lines: Sequence[str] = ()
    ) -> Picture:
        """Return the picture."""
        height, rows = round(self.y + 6, 1), tuple(map(tuple, table))
        return Picture(title, description, self.width, height, layered(self.shapes), tuple(columns), rows, tuple(lines))


def layered(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Return shapes with letters, and the paper behind them, on top of everything else but the tips of arrows."""
    return tuple(sorted(shapes, key=_layer))


def _layer(shape: Shape) -> int:
    if isinstance(shape, Text):
        return 1
    if isinstance(shape, Poly) and shape.role == "tip":
        return 2
    return int(isinstance(shape, Box) and shape.role == "paper")


def folded(lines: Iterable[tuple[str, str, bool]], width: float) -> list[tuple[str, str, bool]]:
    """Return the lines of a card of this width, folded where it does not fit."""
    return [(part, look, bold) for words, look, bold in lines for part in wrap(words, width - 12, bold=bold)]


def card(
    x: float, y: float, width: float, lines: Sequence[tuple[str, str, bool]], *, role: str = "card", tip: str = "", height: float = 0
) -> tuple[list[Shape], float]:
    """Return a card with lines of (words, text role, bold), and its height in pixels."""
    tall = height or 12 + 14 * len(lines)
    out: list[Shape] = [Box(round(x, 1), round(y, 1), round(width, 1), round(tall, 1), role, tip, round=4)]
    first = y + (tall - 14 * len(lines)) / 2 + 10.5
    for n, (words, look, bold) in enumerate(lines):
        short = shorten(words, width - 12, bold=bold, least=2)
        out.append(Text.plain(round(x + 6, 1), round(first + 14 * n, 1), short, look, bold=bold))
    return out, tall
