"""The iova map: one ruler, the user's lane, one lane for each domain, and every mark on them.

`observe` looks at the live container, `lay_out` decides where everything stands, `compose` turns that into shapes.
All of it is pure.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import replace

from vfiolab.draw.iovamap.blocks import Piece, plan
from vfiolab.draw.iovamap.compose import compose
from vfiolab.draw.iovamap.facts import SpaceFacts, Viewed, observe
from vfiolab.draw.iovamap.layout import Lane, Layout, Mark, Scene
from vfiolab.draw.iovamap.words import groups_word
from vfiolab.draw.stage.page import MARGIN, WIDE, fitting
from vfiolab.model.address import PAGE_SIZE, U64, Span, hexa, parse_size
from vfiolab.model.events import EventLog


def iova_map(
    container: Viewed,
    *,
    log: EventLog | None = None,
    window: tuple[int | str, int | str] | None = None,
    width: int | None = None,
    faults: Iterable[int] = (),
) -> Scene:
    """Draw a container's iova map as it is now.

    `log` adds refused maps and faults. `window` is (start, end) in bytes or in words such as ("4G", "6G"), end exclusive; what it cuts is
    drawn torn. `width` is in pixels, at least 320; without it the picture is laid out for a wide and for a narrow page.
    ValueError if the window is none.
    """
    return lay_out(observe(container, log, faults), window=window, width=width)


@fitting
def lay_out(facts: SpaceFacts, *, window: tuple[int | str, int | str] | None = None, width: int | None = None) -> Scene:
    """Lay out a container that was looked at before."""
    low, high = _window(facts, window)
    width = width or WIDE
    lanes = (Lane(0, "user", None), *(Lane(i, d.name, d) for i, d in enumerate(facts.lane_domains, 1)))
    first, last = bisect_right(facts.ends, low), bisect_left(facts.starts, high)
    starts, ends = list(facts.starts[first:last]), list(facts.ends[first:last])
    if starts:
        starts[0], ends[-1] = max(starts[0], low), min(ends[-1], high)
    fixed = _fixed_marks(facts, low, high)
    solid = [(m.start, m.end) for m in fixed if m.kind not in {"outside", "hole"}]
    others = [(s.start, s.end) for d in facts.domains for s in d.mapped or ()] + [(start, end) for start, end, _ in facts.gone]
    solid += [(max(a, low), min(b, high)) for a, b in others if a < high and b > low]
    ground = [(m.start, m.end) for m in fixed if m.kind in {"outside", "hole"}]
    ruler, pieces = plan(starts, ends, (low, high), solid, ground, MARGIN, width - 2 * MARGIN)
    marks = _mapping_marks(facts, lanes, pieces, first) + fixed
    placed = tuple(replace(m, x=ruler.x(m.start), width=round(ruler.x(m.end) - ruler.x(m.start), 2)) for m in marks)
    return compose(Layout(facts, ruler, lanes, placed, (low, high), (low > 0, high < facts.top)), width)


def _window(facts: SpaceFacts, window: tuple[int | str, int | str] | None) -> tuple[int, int]:
    if window is None:
        return 0, facts.top
    low, high = parse_size(window[0]), parse_size(window[1])
    if not 0 <= low < high <= U64:
        raise ValueError(f"a window runs from a start to a larger end within 0..2^64, not {window!r}")
    return low, high


def _mapping_marks(facts: SpaceFacts, lanes: tuple[Lane, ...], pieces: list[Piece], first: int) -> list[Mark]:
    marks = []
    news_of = {lane.index: _news(facts, lane) for lane in lanes}
    mirrors = [lane.index for lane in lanes[1:] if lane.domain is not None and lane.domain.mapped is None and not lane.domain.refused]
    for p in pieces:
        index = first + p.first
        name = facts.names[index] if p.count == 1 else ""
        letters = {1: "R", 2: "W"}.get(facts.prots[index], "") if p.count == 1 else ""
        label = f"{name} {letters}".strip() if letters else name
        news = "appeared" if (facts.starts[index], facts.ends[index]) in facts.appeared and p.count == 1 else ""
        user = Mark("mapping", p.start, p.end, 0, 0, 0, label, name or "user", p.count, p.covered, p.level, news=news)
        marks.append(user)
        marks += [replace(user, lane=i, label=name, news=news or news_of[i]) for i in mirrors]
    for lane in lanes[1:]:
        if lane.domain is not None and lane.domain.mapped is not None:
            marks += [Mark("mapping", s.start, s.end, lane.index, owner=lane.name, covered=s.size) for s in lane.domain.mapped]
    for start, end, name in facts.gone:
        marks += [
            Mark("gone", start, end, lane.index, label=name if lane.index == 0 else "", owner=name or "user", news="gone")
            for lane in lanes
            if lane.domain is None or not lane.domain.refused
        ]
    return marks


def _news(facts: SpaceFacts, lane: Lane) -> str:
    number = lane.domain.number if lane.domain is not None else 0
    return "appeared" if number in facts.new_domains else "gone" if number in facts.gone_domains else ""


def _fixed_marks(facts: SpaceFacts, low: int, high: int) -> list[Mark]:
    """Everything but the mappings, clipped to the window, bottom layer first."""
    marks = [Mark("hole", s, e, 0, owner="usable iova ranges") for s, e in holes(facts.valid, low, high)]
    for lane, domain in enumerate(facts.lane_domains, 1):
        if domain.aperture is not None:
            sides = ((low, domain.aperture.start), (domain.aperture.end, high))
            marks += [Mark("outside", s, e, lane, owner=domain.unit) for s, e in sides if s < e]
        marks += [Mark(r.kind, r.span.start, r.span.end, lane, owner=groups_word(r.groups)) for r in domain.reserved]
        for bell in domain.doorbells:
            where = hexa(bell.physical)
            marks.append(Mark("doorbell", bell.span.start, bell.span.end, lane, label=where, owner=f"physical {where}"))
    for index, a in enumerate(facts.attempts):
        lanes, why = tuple(i for i, d in enumerate(facts.domains, 1) if d.number in a.blockers), f"{a.errno}: {a.why}"
        marks.append(Mark("refused", a.start, a.end, 0, label=a.errno, owner=why, blockers=lanes, attempt=index))
    if facts.newcomer is not None:
        lane, met = len(facts.lane_domains), facts.newcomer
        owner = f"mapped, in the way of {groups_word(met.domain.groups)}"
        marks += [Mark("conflict", s.start, s.end, lane, label=met.domain.refused, owner=owner, blockers=(0, lane)) for s in met.conflicts]
    for fault in facts.faults:
        page = fault & -PAGE_SIZE
        marks.append(Mark("fault", page, page + PAGE_SIZE, 0, label=hexa(fault), owner="device"))
    clipped = [replace(m, start=max(m.start, low), end=min(m.end, high)) for m in marks]
    return [m for m in clipped if m.start < m.end]


def holes(valid: tuple[Span, ...], low: int, high: int) -> list[tuple[int, int]]:
    """Return what the valid-iova list leaves out of [low, high); an empty list restricts nothing.

    >>> holes((Span(0, 0x1000), Span(0x3000, 0x8000)), 0, 0x9000)
    [(4096, 12288), (32768, 36864)]
    """
    if not valid:
        return []
    out, at = [], low
    for span in valid:
        if span.start > at:
            out.append((at, min(span.start, high)))
        at = max(at, span.end)
    if at < high:
        out.append((at, high))
    return [(a, b) for a, b in out if a < b]
