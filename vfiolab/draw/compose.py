"""From marks on a ruler to shapes on a page: heights, headers, labels that never collide, the legend and the true-scale strip."""

from __future__ import annotations

from dataclasses import replace

from vfiolab.draw import palette
from vfiolab.draw.axis import address_labels, gap_labels
from vfiolab.draw.facts import SpaceFacts
from vfiolab.draw.labels import Keys, lane_header, mark_label
from vfiolab.draw.measure import shorten, text_width, wrap
from vfiolab.draw.page import MARGIN, Page, layered
from vfiolab.draw.ruler import Ruler
from vfiolab.draw.scene import Lane, Mark, Scene, rows_of
from vfiolab.draw.shapes import Box, Line, Poly, Shape, Text
from vfiolab.draw.words import blame, description, findings, headline
from vfiolab.model.address import hexa, human_size

LANE, USER_LANE, HEADER, GAP, TRACK = 32.0, 38.0, 18.0, 9.0, 20.0
COLUMNS = ("start", "end", "size", "kind", "domains", "owner")


def compose(
    facts: SpaceFacts, ruler: Ruler, lanes: tuple[Lane, ...], marks: tuple[Mark, ...], window: tuple[int, int], torn: tuple[bool, bool],
    width: float,
) -> Scene:  # fmt: skip
    """Return the finished scene."""
    page = Page(width)
    merged = sum(m.count for m in marks if m.lane == 0 and m.count > 1)
    page.heading(headline(facts), " ".join(findings(facts, merged, window if any(torn) else None)))
    _strip(page, facts, marks, window, torn)
    page.shapes += gap_labels(ruler, page.y + 11)
    page.y += 18
    keys = Keys()
    tops: list[tuple[float, float]] = []
    for lane in lanes:
        tops.append(
            _lane(
                page,
                facts,
                lane,
                ruler,
                [m for m in marks if m.lane == lane.index and m.kind not in {"refused", "fault"}],
                keys,
                torn,
            )
        )
        if lane.index == 0:
            _tracks(page, facts, ruler, [m for m in marks if m.kind in {"refused", "fault"}])
    _guides(page, tops, marks)
    labels, height = address_labels(ruler, marks, tops[-1][0] + tops[-1][1], window, page.right)
    page.shapes += labels
    page.y = tops[-1][0] + tops[-1][1] + height
    _legend(page, marks, keys)
    rows = rows_of(lanes, marks)
    table = tuple((hexa(r.start), hexa(r.last), human_size(r.size), r.kind, r.domains, r.owner) for r in rows)
    from vfiolab.draw.text import map_lines

    shapes = tuple(sorted(page.shapes, key=lambda s: isinstance(s, Text) or (isinstance(s, Box) and s.role == "paper")))
    return Scene(
        headline(facts), description(facts, window, torn, merged), width, round(page.y, 1), layered(page.shapes), COLUMNS, table,
        tuple(map_lines(facts, ruler, lanes, marks, window)), facts, ruler, lanes, marks, window, torn, tuple(tops),
    )  # fmt: skip


def _strip(
    page: Page, facts: SpaceFacts, marks: tuple[Mark, ...], window: tuple[int, int], torn: tuple[bool, bool]
) -> None:
    """One honest look at the emptiness: the whole space on a linear scale."""
    if facts.backend == "none":
        return
    whole = facts.top
    words = f"true scale, {human_size(whole)}"
    x = MARGIN + text_width(words, 10.5) + 8
    room = page.right - x
    y = page.y + 3
    page.add(Text.plain(MARGIN, y + 7, words, "muted", size=10.5), Box(x, y, room, 7, "lane"))
    seen: set[tuple[int, int]] = set()
    for m in marks:
        if m.lane != 0 or m.kind not in {"mapping", "refused", "fault"}:
            continue
        a, b = room * m.start / whole, room * m.end / whole
        if b - a >= 2:
            page.add(Box(round(x + a, 1), y, round(b - a, 1), 7, "mapping"))
        spot = (int(a / 3), int(b / 3))
        if b - a < 12 and spot not in seen:
            seen.add(spot)
            c = round(x + (a + b) / 2, 1)
            page.add(Poly(((c, y + 7.5), (c - 3.5, y + 13), (c + 3.5, y + 13)), "caret", closed=True))
    if any(torn):
        a, b = room * window[0] / whole, room * window[1] / whole
        page.add(Box(round(x + a - 1, 1), y - 3, round(max(b - a, 2) + 2, 1), 13, "edge"))
    page.y += 18


def _lane(
    page: Page, facts: SpaceFacts, lane: Lane, ruler: Ruler, marks: list[Mark], keys: Keys, torn: tuple[bool, bool]
) -> tuple[float, float]:
    page.y += HEADER
    page.add(*lane_header(lane, facts, MARGIN, page.y - 5, page.right))
    top, height = page.y, LANE if lane.domain else USER_LANE
    left, right = ruler.xs[0], ruler.xs[-1]
    page.add(Box(left, top, round(right - left, 2), height, "lane"))
    for m in marks:
        role = m.news or ("mirror" if m.kind == "mapping" and lane.domain and lane.domain.mapped is None else m.kind)
        page.add(Box(m.x, top, max(m.width, 0.6), height, role, tip(m), level=m.level))
    bells = [m for m in marks if m.kind == "doorbell"]
    for start, end, gap in ruler.segments:
        if gap:
            page.add(*_break(ruler.x(start), ruler.x(end), top, height))
    for m in marks:
        if m.kind == "outside" and lane.domain and lane.domain.aperture:
            x = m.x if m.start == lane.domain.aperture.end else m.x + m.width
            page.add(Line(x, top - 3, x, top + height + 3, "edge"))
    for m in marks:
        page.add(*mark_label(uncovered(m, bells), lane, top, height, keys))
    page.add(*_dense_label(marks, lane, top, height))
    page.add(*_tears(left, right, top, height, torn))
    page.y = top + height + GAP
    return top, height


def uncovered(m: Mark, bells: list[Mark]) -> Mark:
    """Return the mark narrowed to its widest part that no doorbell page covers: where its label can stand."""
    if m.kind != "sw-msi":
        return m
    edges = [m.x, *(e for b in bells for e in (b.x, b.x + b.width) if m.x <= e <= m.x + m.width), m.x + m.width]
    x, x2 = max(zip(edges[::2], edges[1::2], strict=True), key=lambda part: part[1] - part[0])
    return replace(m, x=x, width=x2 - x)


def _dense_label(marks: list[Mark], lane: Lane, top: float, height: float) -> list[Shape]:
    """One label for each stretch of merged pieces, on the user's lane only."""
    if lane.domain:
        return []
    out: list[Shape] = []
    stretch: list[Mark] = []
    for m in [*(m for m in marks if m.kind == "mapping"), None]:
        if (
            m is not None
            and m.count > 1
            and (not stretch or stretch[-1].end == m.start or m.x - (stretch[-1].x + stretch[-1].width) < 1)
        ):
            stretch.append(m)
            continue
        if stretch:
            x, x2 = stretch[0].x, stretch[-1].x + stretch[-1].width
            number, covered = sum(s.count for s in stretch), sum(s.covered for s in stretch)
            share = covered * 100 // (stretch[-1].end - stretch[0].start)
            words = shorten(f"{number:,} mappings, {share} % mapped", x2 - x - 8, 11)
            words = words if "…" not in words else shorten(f"{number:,}", x2 - x - 4, 11)
            if words and "…" not in words:
                out.append(
                    Text.plain(round((x + x2) / 2, 1), top + height / 2 + 4, words, size=11, anchor="middle", halo=True)
                )
        stretch = [m] if m is not None and m.count > 1 else []
    return out


def _break(x: float, x2: float, top: float, height: float) -> list[Shape]:
    """The sign that an axis was cut here."""
    if x2 - x < 12:
        return []
    c = round((x + x2) / 2, 1)
    a, b = top - 2, top + height + 2
    return [
        Poly(((c - 4, b), (c + 1, a), (c + 5, a), (c, b)), "paper", closed=True),
        Line(c - 4, b, c + 1, a, "rule"),
        Line(c, b, c + 5, a, "rule"),
    ]


def _tears(left: float, right: float, top: float, height: float, torn: tuple[bool, bool]) -> list[Shape]:
    out: list[Shape] = []
    for edge, cut, sign in ((left, torn[0], -1), (right, torn[1], 1)):
        if not cut:
            continue
        steps = 6
        zig = [
            (edge + (sign * -5 if i % 2 else 0), round(top - 2 + (height + 4) * i / steps, 1)) for i in range(steps + 1)
        ]
        outer = [(edge + sign * 3, top + height + 2), (edge + sign * 3, top - 2)]
        out += [Poly((*zig, *outer), "paper", closed=True), Poly(tuple(zig), "rule")]
    return out


def _tracks(page: Page, facts: SpaceFacts, ruler: Ruler, marks: list[Mark]) -> None:
    """Under the user's lane, a track for each refused map and each fault: a dashed box or a tick, and the reason in words."""
    page.y -= GAP - 3
    for m in marks:
        y = page.y
        if m.kind == "refused":
            attempt = facts.attempts[m.attempt]
            why = blame(attempt, facts.domains) or attempt.why
            words = f"✗ {m.label}  map {hexa(m.start)}, {human_size(m.end - m.start)}: {why}"
        else:
            words = f"✗ DMA fault at {m.label}"
        box = Box(m.x, y + 1, max(m.width, 5), TRACK - 4, "refused" if m.kind == "refused" else "fault", tip(m))
        page.add(box, *_beside(words, m.x, m.x + box.width, y + 13, ruler))
        page.y += TRACK
    page.y += GAP - 3 if marks else GAP - 3


def _beside(words: str, x: float, x2: float, y: float, ruler: Ruler) -> list[Shape]:
    """Put words on the side of a box where there is more room."""
    left, right = x - ruler.xs[0] - 6, ruler.xs[-1] - x2 - 6
    at_right = right >= text_width(words, 11) or right >= left
    text = shorten(words, max(left, right) if not at_right else right, 11)
    if at_right:
        return [Text.plain(round(x2 + 6, 1), y, text, "vermilion-text", size=11, halo=True)]
    return [Text.plain(round(x - 6, 1), y, text, "vermilion-text", size=11, anchor="end", halo=True)]


def _guides(page: Page, tops: list[tuple[float, float]], marks: tuple[Mark, ...]) -> None:
    """From each refused map down to the lanes that refused it."""
    track = tops[0][0] + tops[0][1] + 3
    for n, m in enumerate([m for m in marks if m.kind in {"refused", "fault"}]):
        if not m.blockers:
            continue
        x = round(m.x + m.width / 2, 1)
        lowest = max(m.blockers)
        page.add(Line(x, track + n * TRACK + TRACK - 3, x, tops[lowest][0] - 2, "guide", arrow=True))
        for lane in m.blockers:
            page.add(Box(m.x - 2, tops[lane][0] - 2, m.width + 4, tops[lane][1] + 4, "guide"))


def _legend(page: Page, marks: tuple[Mark, ...], keys: Keys) -> None:
    x, page.y = MARGIN, page.y + 4
    kinds = [k for k in palette.LOOKS if any(m.kind == k or m.news == k for m in marks) and k != "mapping"]
    entries = (
        [("mirror", palette.WORDS["mirror"])]
        if any(m.kind == "mapping" and m.lane and not m.news for m in marks)
        else []
    )
    entries += [(k, palette.WORDS[k]) for k in kinds]
    if any(m.count > 1 for m in marks):
        entries.append(("merged", palette.WORDS["merged"]))
    for kind, words in entries:
        need = 20 + text_width(words, 10.5) + 14
        if x > MARGIN and x + need > page.right:
            x, page.y = MARGIN, page.y + 17
        if kind == "merged":
            page.add(*(Box(x + 5 * i, page.y + 2, 5, 10, "mapping", level=level) for i, level in enumerate((2, 5, 8))))
        else:
            page.add(Box(x, page.y + 2, 15, 10, kind))
        page.add(Text.plain(x + 20, page.y + 11, words, "muted", size=10.5))
        x += need
    page.y += 18 if entries else 2
    if keys.entries:
        page.note("   ".join(keys.entries))
    page.note("Widths grow with log₂ of size; a slanted cut and ≈ mark a compressed gap.")
    page.y += 4


def tip(m: Mark) -> str:
    """Return a mark's tooltip."""
    words = f"{palette.WORDS.get(m.kind, m.kind)}: {m.span}, {human_size(m.end - m.start)}"
    if m.count > 1:
        return f"{m.count:,} mappings in {m.span}, {m.covered * 100 // (m.end - m.start)} % mapped"
    extra = m.owner if m.owner not in {"", "user"} else ""
    return f"{words}; {extra}" if extra else words
