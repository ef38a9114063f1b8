"""Addresses under the lanes and gap sizes over them: placed by importance, staggered, and dropped rather than run into each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vfiolab.draw.iovamap.layout import Mark
from vfiolab.draw.iovamap.ruler import Ruler
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.shapes import Line, Shape, Text
from vfiolab.model.address import hexa, human_size

ROW = 14.0
ROWS = 3
AIR = 7.0


@dataclass
class Shelf:
    """One row of labels, with what is already on it."""

    taken: list[tuple[float, float]] = field(default_factory=list)
    leaders: list[float] = field(default_factory=list)

    def free(self, a: float, b: float) -> bool:
        """Say whether nothing stands between a and b."""
        return all(b + AIR <= c or d + AIR <= a for c, d in self.taken) and not any(a - 3 <= x <= b + 3 for x in self.leaders)

    def open_at(self, x: float) -> bool:
        """Say whether a leader line may pass here."""
        return all(not c - 3 <= x <= d + 3 for c, d in self.taken)


def gap_labels(ruler: Ruler, y: float) -> list[Shape]:
    """Return the true size of each compressed gap, widest pixels first; what finds no room is dropped."""
    shelf = Shelf()
    out: list[Shape] = []
    gaps = [(ruler.x(a), ruler.x(b), b - a) for a, b, gap in ruler.segments if gap]
    for x, x2, size in sorted(gaps, key=lambda g: (g[0] - g[1], g[0])):
        words = f"≈ {human_size(size)}"
        half = text_width(words) / 2
        centre = min(max((x + x2) / 2, ruler.xs[0] + half), ruler.xs[-1] - half)
        if x2 - x >= 10 and shelf.free(centre - half, centre + half):
            shelf.taken.append((centre - half, centre + half))
            out.append(Text.plain(round(centre, 1), y, words, "muted", anchor="middle"))
    return out


def address_labels(ruler: Ruler, marks: Sequence[Mark], bottom: float, window: tuple[int, int], right: float) -> tuple[list[Shape], float]:
    """Return the addresses of the boundaries with their leader lines, and the height they take."""
    weight: dict[int, int] = {}
    inner = {m.end for m in marks if m.count > 1} & {m.start for m in marks if m.count > 1}
    for m in marks:
        if m.kind == "fault":
            continue
        worth = 3 if m.kind in {"msi", "sw-msi", "direct", "reserved", "doorbell", "outside", "refused"} else 2
        if m.width >= 2:
            for iova, rank in ((m.start, worth), (m.end, worth - 1)):
                if iova not in inner:
                    weight[iova] = max(weight.get(iova, 0), rank)
    weight[window[0]] = weight[window[1]] = 4
    shelves = [Shelf() for _ in range(ROWS)]
    out: list[Shape] = []
    used = 0
    near = _near_the_end(weight, ruler, window[1])
    for iova in sorted(weight, key=lambda i: (i != near, -weight[i], i)):
        x, words = ruler.x(iova), hexa(iova)
        half = text_width(words, mono=True) / 2
        place = _place(shelves, x, half, ruler.xs[0], right - AIR if iova == near else right)
        if place is None:
            out.append(Line(x, bottom, x, bottom + 4, "rule"))
            continue
        row, centre = place
        shelves[row].taken.append((centre - half, centre + half))
        for above in shelves[:row]:
            above.leaders.append(x)
        used = max(used, row + 1)
        y = bottom + 18 + row * ROW
        out.append(Line(x, bottom, x, round(y - 9, 1), "rule"))
        out.append(Text.plain(round(centre, 1), y, words, anchor="middle", mono=True))
    return out, 12 + used * ROW


def _near_the_end(weight: dict[int, int], ruler: Ruler, end: int) -> int | None:
    """Return the weightiest address whose line stands where the label of the axis' end would: it goes first, and the end below it."""
    reach = ruler.x(end) - text_width(hexa(end), mono=True) - AIR
    found = [iova for iova in weight if iova != end and reach <= ruler.x(iova) <= ruler.x(end) - AIR]
    return max(found, key=lambda iova: (weight[iova], -iova), default=None)


def _place(shelves: Sequence[Shelf], x: float, half: float, left: float, right: float) -> tuple[int, float] | None:
    """Find room for a label under x: in the first row, moved aside a little if need be; else in a lower one; else beside its line."""
    reach = next((n for n, shelf in enumerate(shelves) if not shelf.open_at(x)), len(shelves) - 1)
    for shift in (0, half / 4, -half / 4, half / 2, -half / 2):
        centre = min(max(x + shift, left + half), right - half)
        if shelves[0].free(centre - half, centre + half):
            return 0, centre
    for shift in (0, half - 2, 2 - half):
        centre = min(max(x + shift, left + half), right - half)
        for number, shelf in enumerate(shelves[: reach + 1]):
            if shelf.free(centre - half, centre + half):
                return number, centre
    return None
