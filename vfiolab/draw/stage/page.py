"""The page as it fills from top to bottom: margin, heading, cards, and the order in which shapes lie on each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeVar, cast

from vfiolab.draw.stage.measure import shorten, text_width, wrap
from vfiolab.draw.stage.shapes import Box, Picture, Poly, Run, Shape, Text

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
        for line in wrap(title, self.width - 2 * MARGIN, 15, bold=True, lines=3):
            self.y += 18
            self.add(Text.plain(MARGIN, self.y - 3, line, size=15, bold=True))
        for line in wrap(sentences, self.width - 2 * MARGIN, 12, lines=5):
            self.y += 16
            self.add(Text.plain(MARGIN, self.y - 2, line, size=12))
        self.y += 8

    def note(self, words: str) -> None:
        """Write a quiet line at the foot."""
        for line in wrap(words, self.right - MARGIN, 11, lines=6):
            self.add(Text.plain(MARGIN, self.y + 10, line, "muted", size=11))
            self.y += 15

    def key(self, entries: Iterable[tuple[str, str]]) -> None:
        """Write the legend: a small box in each role's look and its words."""
        x = MARGIN
        for role, told in entries:
            words = shorten(told, self.right - MARGIN - 20, 11)
            need = 20 + text_width(words, 11) + 14
            if x > MARGIN and x + need > self.right:
                x, self.y = MARGIN, self.y + 17
            self.add(
                Box(round(x, 1), self.y + 2, 15, 10, role),
                Text.plain(round(x + 20, 1), self.y + 11, words, "muted", size=11),
            )
            x += need
        self.y += 18

    def letters(self, entries: Sequence[tuple[str, str]]) -> None:
        """Write what letters in the picture stand for."""
        x = MARGIN
        for letter, words in entries:
            text = shorten(words, self.right - MARGIN - 16, 11)
            need = 15 + text_width(text, 11) + 16
            if x > MARGIN and x + need - 16 > self.right:
                x, self.y = MARGIN, self.y + 15
            at = round(self.y + 10, 1)
            self.add(Text.plain(round(x, 1), at, letter, size=11, bold=True), Text.plain(round(x + 14, 1), at, text, "muted", size=11))
            x += need
        self.y += 16 if entries else 0

    def finish(
        self,
        title: str,
        description: str,
        columns: Sequence[str] = (),
        table: Iterable[Sequence[str]] = (),
        lines: Sequence[str] = (),
    ) -> Picture:
        """Return the picture."""
        rows = tuple(tuple(row) for row in table)
        return Picture(
            title,
            description,
            self.width,
            round(self.y + 6, 1),
            layered(self.shapes),
            tuple(columns),
            rows,
            tuple(lines),
        )


def layered(shapes: Iterable[Shape]) -> tuple[Shape, ...]:
    """Return shapes with letters, and the paper behind them, on top of everything else but the tips of arrows."""
    return tuple(sorted(shapes, key=_layer))


def _layer(shape: Shape) -> int:
    if isinstance(shape, Text):
        return 1
    if isinstance(shape, Poly) and shape.role == "tip":
        return 2
    return int(isinstance(shape, Box) and shape.role == "paper")


def folded(lines: Iterable[tuple[str, str, bool]], width: float, *, most: int = 3) -> list[tuple[str, str, bool]]:
    """Return the lines of a card of this width, each folded into at most `most` where it does not fit."""
    return [(part, look, bold) for words, look, bold in lines for part in wrap(words, width - 12, 11, bold=bold, lines=most)]


def card(
    x: float,
    y: float,
    width: float,
    lines: Sequence[tuple[str, str, bool]],
    *,
    role: str = "card",
    tip: str = "",
    height: float = 0,
) -> tuple[list[Shape], float]:
    """Return a card with lines of (words, text role, bold), and its height in pixels."""
    tall = height or 12 + 14 * len(lines)
    out: list[Shape] = [Box(round(x, 1), round(y, 1), round(width, 1), round(tall, 1), role, tip, round=4)]
    first = y + (tall - 14 * len(lines)) / 2 + 10.5
    for n, (words, look, bold) in enumerate(lines):
        short = shorten(words, width - 12, 11, bold=bold, least=2)
        out.append(Text(round(x + 6, 1), round(first + 14 * n, 1), (Run(short, look, bold),)))
    return out, tall
