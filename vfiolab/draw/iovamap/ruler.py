"""The segmented ruler: an order-preserving map from iova to pixels in which a 1 MiB window beside 256 TiB of nothing can be seen.

Every boundary of every lane cuts the space into segments. An occupied segment grows with log2 of its size, an empty
one is small. Inside a segment the map is linear, so a pointer's x can be turned back into an iova.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

PAGE_SHIFT = 12


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece between two neighbouring boundaries, with the width it would like and the least it can live with (pixels)."""

    start: int
    end: int
    gap: bool
    wish: float
    least: float


@dataclass(frozen=True, slots=True)
class Ruler:
    """Boundaries `cuts` (ascending iovas) at `xs` (ascending pixels); `gaps` holds the start of each empty segment."""

    cuts: tuple[int, ...]
    xs: tuple[float, ...]
    gaps: frozenset[int]

    def x(self, iova: int) -> float:
        """Return the pixel of an iova; outside the ruler, its nearer end."""
        i = min(max(bisect_right(self.cuts, iova) - 1, 0), len(self.cuts) - 2)
        start, end = self.cuts[i], self.cuts[i + 1]
        part = min(max((iova - start) / (end - start), 0.0), 1.0)
        return round(self.xs[i] + (self.xs[i + 1] - self.xs[i]) * part, 2)

    def iova(self, x: float) -> int:
        """Return the iova under a pixel, the inverse of `x()`; outside the ruler, the first or last byte."""
        if x <= self.xs[0]:
            return self.cuts[0]
        if x >= self.xs[-1]:
            return self.cuts[-1] - 1
        i = min(bisect_right(self.xs, x) - 1, len(self.cuts) - 2)
        start, end = self.cuts[i], self.cuts[i + 1]
        part = (x - self.xs[i]) / (self.xs[i + 1] - self.xs[i])
        return min(start + int(part * (end - start)), end - 1)

    @property
    def segments(self) -> list[tuple[int, int, bool]]:
        """Start, end (half-open) and whether it is an empty, compressed one, for each segment."""
        return [(a, b, a in self.gaps) for a, b in zip(self.cuts, self.cuts[1:], strict=False)]


def log2(size: int) -> float:
    """Return log2, exact for powers of two and linear between: the same on every machine.

    >>> log2(4096), log2(6144)
    (12.0, 12.5)
    """
    bits = size.bit_length() - 1
    return bits + size / (1 << bits) - 1


def wish(size: int, least: float, per_bit: float = 4.0) -> float:
    """Return the width that an occupied segment of `size` bytes would like."""
    return least + per_bit * max(0.0, log2(size) - PAGE_SHIFT)


def fit(segments: Sequence[Segment], left: float, width: float) -> Ruler:
    """Give each segment its width so that all together fill `width` pixels from `left`."""
    widths = _stretch(segments, width) if sum(s.wish for s in segments) <= width else _squeeze(segments, width)
    xs = [left]
    for one in widths:
        xs.append(xs[-1] + one)
    scale = width / (xs[-1] - left)
    points = tuple(round(left + (x - left) * scale, 2) for x in xs)
    return Ruler((*(s.start for s in segments), segments[-1].end), points, frozenset(s.start for s in segments if s.gap))


def _stretch(segments: Sequence[Segment], width: float) -> list[float]:
    """Widen: empty segments to at most twice their wish, the rest goes to the occupied ones in proportion."""
    spare = width - sum(s.wish for s in segments)
    empty, full = sum(s.wish for s in segments if s.gap), sum(s.wish for s in segments if not s.gap)
    if not full:
        return [s.wish * width / empty for s in segments]
    for_gaps = min(spare * empty / (empty + full), empty)
    gap_scale = 1 + for_gaps / empty if empty else 1.0
    full_scale = 1 + (spare - for_gaps) / full
    return [s.wish * (gap_scale if s.gap else full_scale) for s in segments]


def _squeeze(segments: Sequence[Segment], width: float) -> list[float]:
    """Narrow in proportion; a segment that would fall under its least keeps that, and the others share the rest."""
    fixed: set[int] = set()
    while True:
        room = width - sum(s.least for i, s in enumerate(segments) if i in fixed)
        wanted = sum(s.wish for i, s in enumerate(segments) if i not in fixed)
        scale = room / wanted if wanted else 1.0
        small = {i for i, s in enumerate(segments) if i not in fixed and s.wish * scale < s.least}
        if not small or scale <= 0:
            return [s.least if i in fixed else max(s.wish * scale, 0.0) for i, s in enumerate(segments)]
        fixed |= small
