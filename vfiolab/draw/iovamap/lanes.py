"""One lane of the iova map: its header, marks, cuts, labels and torn edges."""

from __future__ import annotations

from dataclasses import replace

from vfiolab.draw.iovamap.kinds import KINDS
from vfiolab.draw.iovamap.labels import TITLE, Keys, lane_header, mark_label
from vfiolab.draw.iovamap.layout import Lane, Layout, Mark
from vfiolab.draw.stage.measure import text_width
from vfiolab.draw.stage.page import MARGIN, Page
from vfiolab.draw.stage.shapes import Box, Line, Poly, Shape, Text
from vfiolab.model.address import human_size

LANE, USER_LANE, HEADER, LINE, GAP = 32.0, 38.0, 18.0, 15.0, 9.0
TRACKS = ("refused", "fault")  # these stand on tracks of their own
BESIDE = (*TRACKS, "conflict")  # none of these is a part of its lane


def draw_lane(page: Page, layout: Layout, lane: Lane, keys: Keys) -> tuple[float, float]:
    """Draw one lane with its header from the page's present y down; return its top and height."""
    ruler = layout.ruler
    marks = [m for m in layout.marks if m.lane == lane.index and m.kind not in BESIDE]
    for line in lane_header(lane, layout.facts, page.right - MARGIN):
        page.y += LINE
        page.add(Text(MARGIN, page.y - 2, line, TITLE, halo=True))
    page.y += HEADER - LINE
    top, height = page.y, LANE if lane.domain else USER_LANE
    left, right = ruler.xs[0], ruler.xs[-1]
    page.add(Box(left, top, round(right - left, 2), height, "ghost" if lane.domain and lane.domain.refused else "lane"))
    for m in marks:
        role = m.news or ("mirror" if m.kind == "mapping" and lane.domain and lane.domain.mapped is None else m.kind)
        page.add(Box(m.x, top, max(m.width, 0.6), height, role, tip(m), level=m.level))
    for start, end, gap in ruler.segments:
        if gap:
            labelled = any(m.start <= start and end <= m.end for m in layout.marks)
            page.add(*_break(ruler.x(start), ruler.x(end), top, height, aside=labelled))
    for m in marks:
        if m.kind == "outside" and lane.domain and lane.domain.aperture:
            x = m.x if m.start == lane.domain.aperture.end else m.x + m.width
            page.add(Line(x, top - 3, x, top + height + 3, "edge"))
    others = [m for m in marks if m.kind != "mapping"]
    framed = [m for m in layout.marks if m.kind == "conflict" and lane.index in m.blockers]
    for n, m in enumerate(marks):
        inside = [f for f in framed if not (f.start <= m.start and m.end <= f.end)]  # a frame around all of it leaves the label its place
        above = [*others, *inside] if m.kind == "mapping" else marks[n + 1 :]
        page.add(*mark_label(uncovered(m, above), lane, top, height, keys))
    page.add(*_dense_label(marks, lane, top, height))
    page.add(*_tears(left, right, top, height, layout.torn))
    page.y = top + height + GAP
    return top, height


def uncovered(m: Mark, above: list[Mark]) -> Mark:
    """Return the mark narrowed to its widest part that nothing above it covers: where its label can stand."""
    if m.count > 1:
        return m
    parts, at = [], m.x
    for other in sorted((o for o in above if o.start < m.end and m.start < o.end), key=lambda o: o.x):
        parts.append((at, other.x))
        at = max(at, other.x + other.width)
    x, x2 = max([*parts, (at, m.x + m.width)], key=lambda part: part[1] - part[0])
    return replace(m, x=x, width=max(x2 - x, 0.0))


def _dense_label(marks: list[Mark], lane: Lane, top: float, height: float) -> list[Shape]:
    """One label for each stretch of merged pieces, on the user's lane only."""
    if lane.domain:
        return []
    out: list[Shape] = []
    stretch: list[Mark] = []
    for m in [*(m for m in marks if m.kind == "mapping"), None]:
        if m is not None and m.count > 1 and (not stretch or stretch[-1].end == m.start or m.x - (stretch[-1].x + stretch[-1].width) < 1):
            stretch.append(m)
            continue
        if stretch:
            x, x2 = stretch[0].x, stretch[-1].x + stretch[-1].width
            number, covered = sum(s.count for s in stretch), sum(s.covered for s in stretch)
            share = covered * 100 // (stretch[-1].end - stretch[0].start)
            words = next((w for w in (f"{number:,} mappings, {share} % mapped", f"{number:,}") if text_width(w) <= x2 - x - 8), "")
            if words:
                out.append(Text.plain(round((x + x2) / 2, 1), top + height / 2 + 4, words, anchor="middle", halo=True))
        stretch = [m] if m is not None and m.count > 1 else []
    return out


def _break(x: float, x2: float, top: float, height: float, *, aside: bool) -> list[Shape]:
    """Return the sign that an axis was cut here: in the middle, or aside of the label that some lane has there."""
    if x2 - x < 12:
        return []
    c = round(min(x + 8, (x + x2) / 2) if aside else (x + x2) / 2, 1)
    a, b = top - 2, top + height + 2
    return [
        Poly(((c - 4, b), (c + 1, a), (c + 5, a), (c, b)), "paper", closed=True),
        Line(c - 4, b, c + 1, a, "rule"),
        Line(c, b, c + 5, a, "rule"),
    ]


def _tears(left: float, right: float, top: float, height: float, torn: tuple[bool, bool]) -> list[Shape]:
    out: list[Shape] = []
    for edge, cut, sign in ((left, torn[0], -1), (right, torn[1], 1)):
        if cut:
            zig = tuple((edge + (sign * -5 if i % 2 else 0), round(top - 2 + (height + 4) * i / 6, 1)) for i in range(7))
            outer = (edge + sign * 3, top + height + 2), (edge + sign * 3, top - 2)
            out += [Poly((*zig, *outer), "paper", closed=True), Poly(zig, "rule")]
    return out


def tip(m: Mark) -> str:
    """Return a mark's tooltip."""
    if m.count > 1:
        return f"{m.count:,} mappings in {m.span}, {m.covered * 100 // (m.end - m.start)} % mapped"
    owner = f"; {m.owner}" if m.owner not in {"", "user"} else ""
    return f"{KINDS[m.kind].legend}: {m.span}, {human_size(m.end - m.start)}{owner}"
