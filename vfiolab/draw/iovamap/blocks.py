"""Level of detail: which boundaries the ruler gets, and which mappings are drawn one by one or merged.

While every mapping can have a few pixels, each is drawn. Beyond that, neighbours are merged into dense runs, divided
into columns that each hold the same number of mappings and are shaded by how much of their bytes is mapped. A run
never crosses a boundary of anything else, and never a gap that stands out from the others.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from vfiolab.draw.iovamap.ruler import Ruler, Segment, fit, log2, wish
from vfiolab.draw.stage.palette import LEVELS

PIXELS_EACH = 3.4  # a mapping and the gap after it, drawn one by one
COLUMN = 2.5  # pixels of a column of a dense run
STANDS_OUT = 16  # a gap that is so many times the median one ends a dense run
MOST_RUNS = 40
Spans: TypeAlias = Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """Mappings `first` to `last` (exclusive) drawn as one: `count` of them, `covered` bytes between start and end (half-open)."""

    start: int
    end: int
    first: int
    count: int
    covered: int

    @property
    def level(self) -> int:
        """Shade of coverage, 1 to 8; 0 for a single mapping."""
        return 0 if self.count == 1 else max(1, min(LEVELS, (self.covered * LEVELS * 2 + self.size) // (2 * self.size)))

    @property
    def size(self) -> int:
        """Bytes from start to end."""
        return self.end - self.start


def plan(
    starts: Sequence[int], ends: Sequence[int], window: tuple[int, int], solid: Spans, ground: Spans, left: float, width: float
) -> tuple[Ruler, list[Piece]]:
    """Return the ruler and the pieces of the user's mappings on it, which must already be clipped to the window.

    What else is in the picture are spans that need room (`solid`) and spans that are flat (`ground`).
    """
    special = sorted({*window, *(p for span in (*solid, *ground) for p in span)})
    runs = _runs(starts, ends, special, width)
    cuts = sorted({*special, *(starts[a] for a, _ in runs), *(ends[b - 1] for _, b in runs)})
    segments = _segments(cuts, starts, ends, runs, solid, ground)
    ruler = fit(segments, left, width)
    pieces: list[Piece] = []
    knots: list[tuple[int, float]] = []
    for first, last in runs:
        if last - first == 1:
            pieces.append(Piece(starts[first], ends[first], first, 1, ends[first] - starts[first]))
        else:
            columns, inner = _columns(starts, ends, first, last, ruler)
            pieces += columns
            knots += inner
    if knots:
        points = sorted([*zip(ruler.cuts, ruler.xs, strict=True), *knots])
        ruler = Ruler(tuple(p[0] for p in points), tuple(p[1] for p in points), ruler.gaps)
    return ruler, pieces


def _runs(starts: Sequence[int], ends: Sequence[int], special: Sequence[int], width: float) -> list[tuple[int, int]]:
    count = len(starts)
    if count <= max(24, (width - 30 * len(special)) / PIXELS_EACH):
        return [(i, i + 1) for i in range(count)]
    breaks = {0, count}
    for cut in special:
        at = bisect_left(starts, cut)
        breaks.add(at)
        if at and ends[at - 1] > cut:
            breaks.add(at - 1)
    gaps = [after - before for before, after in zip(ends, starts[1:], strict=False)]
    sample = sorted(gaps[:: max(1, count // 1024)])
    limit = max(STANDS_OUT * sample[len(sample) // 2], 0)
    wide = [i for i, gap in enumerate(gaps, 1) if gap > limit]
    wide.sort(key=lambda i: (-gaps[i - 1], i))
    breaks.update(wide[:MOST_RUNS])
    return list(pairwise(sorted(breaks)))


def _segments(cuts: Sequence[int], starts: Sequence[int], ends: Sequence[int], runs: Spans, solid: Spans, ground: Spans) -> list[Segment]:
    run_starts = [starts[a] for a, _ in runs]
    many = len(runs) > 40
    out = []
    for low, high in pairwise(cuts):
        at = bisect_right(run_starts, low) - 1
        size = high - low
        if at >= 0 and ends[runs[at][1] - 1] > low:
            count = runs[at][1] - runs[at][0]
            if count == 1:
                out.append(Segment(low, high, False, wish(size, 3 if many else 34, 1 if many else 4), 1.8))
            else:
                out.append(Segment(low, high, False, wish(size, 40) + 8 * log2(count), min(2.0 * count, 40)))
        elif any(a <= low and high <= b for a, b in solid):
            out.append(Segment(low, high, False, wish(size, 46), 16))
        elif any(a <= low and high <= b for a, b in ground):
            out.append(Segment(low, high, True, 70, 12))
        else:
            out.append(Segment(low, high, True, 3 if many and size < 1 << 30 else 36, 1))
    return out


def _columns(
    starts: Sequence[int], ends: Sequence[int], first: int, last: int, ruler: Ruler
) -> tuple[list[Piece], list[tuple[int, float]]]:
    """Divide a dense run into columns of equal count; neighbours of one shade become one piece."""
    at = bisect_left(ruler.cuts, starts[first])
    x, x2 = ruler.xs[at], ruler.xs[at + 1]
    count = last - first
    number = max(1, min(count, int((x2 - x) / COLUMN)))
    edges = [first + j * count // number for j in range(number + 1)]
    knots = [(starts[e], round(x + (x2 - x) * j / number, 2)) for j, e in enumerate(edges[1:-1], 1)]
    pieces: list[Piece] = []
    for a, b in pairwise(edges):
        end = starts[b] if b < last else ends[b - 1]
        piece = Piece(starts[a], end, a, b - a, sum(ends[a:b]) - sum(starts[a:b]))
        before = pieces[-1] if pieces else None
        if before and before.level == piece.level and piece.count > 1 and before.count > 1:
            pieces[-1] = Piece(before.start, piece.end, before.first, before.count + piece.count, before.covered + piece.covered)
        else:
            pieces.append(piece)
    return pieces, knots
