"""From marks on a ruler to shapes on a page: heights, headers, labels that never collide, the legend and the true-scale strip."""

from __future__ import annotations

from vfiolab.draw import palette
from vfiolab.draw.axis import address_labels, gap_labels
from vfiolab.draw.facts import SpaceFacts
from vfiolab.draw.labels import Keys
from vfiolab.draw.lanes import BESIDE, GAP, draw_lane, tip
from vfiolab.draw.layout import Layout, Mark, Scene, rows_of
from vfiolab.draw.measure import shorten, text_width
from vfiolab.draw.page import MARGIN, Page, layered
from vfiolab.draw.ruler import Ruler
from vfiolab.draw.shapes import Box, Line, Poly, Shape, Text
from vfiolab.draw.text import map_lines
from vfiolab.draw.words import blame, details, findings, headline
from vfiolab.model.address import hexa, human_size

TRACK = 20.0
COLUMNS = ("start", "end", "size", "kind", "domains", "owner")


def compose(layout: Layout, width: float) -> Scene:
    """Return the finished scene."""
    facts, marks = layout.facts, layout.marks
    page = Page(width)
    merged = sum(m.count for m in marks if m.lane == 0 and m.count > 1)
    said = findings(facts, merged, layout.window if any(layout.torn) else None)
    page.heading(headline(facts), " ".join(said))
    _strip(page, layout)
    page.shapes += gap_labels(layout.ruler, page.y + 11)
    page.y += 18
    keys = Keys()
    tops: list[tuple[float, float]] = []
    for lane in layout.lanes:
        tops.append(draw_lane(page, layout, lane, keys))
        if lane.index == 0:
            _tracks(page, facts, layout.ruler, [m for m in marks if m.kind in BESIDE])
    _guides(page, tops, marks)
    bottom = tops[-1][0] + tops[-1][1]
    labels, height = address_labels(layout.ruler, marks, bottom, layout.window, page.right)
    page.shapes += labels
    page.y = bottom + height
    _legend(page, marks, keys, several=len(facts.domains) > 1)
    told = " ".join([*said, *details(facts)])
    table = tuple((hexa(r.start), hexa(r.last), human_size(r.size), r.kind, r.domains, r.owner) for r in rows_of(layout))
    return Scene(
        headline(facts),
        told,
        width,
        round(page.y, 1),
        layered(page.shapes),
        COLUMNS,
        table,
        tuple(map_lines(layout)),
        layout,
        tuple(tops),
    )


def _strip(page: Page, layout: Layout) -> None:
    """Give one honest look at the emptiness: the whole space on a linear scale."""
    facts, window = layout.facts, layout.window
    if facts.backend == "none":
        return
    whole = max(facts.top, window[1])
    words = f"true scale, {human_size(whole)}"
    x = MARGIN + text_width(words, 10.5) + 8
    room = page.right - x
    y = page.y + 3
    page.add(Text.plain(MARGIN, y + 7, words, "muted", size=10.5), Box(x, y, room, 7, "lane"))
    seen: set[tuple[int, int]] = set()
    for m in layout.marks:
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
    if any(layout.torn):
        a, b = room * window[0] / whole, room * window[1] / whole
        page.add(Box(round(x + a - 1, 1), y - 3, round(max(b - a, 2) + 2, 1), 13, "edge"))
    page.y += 18


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
    page.y += GAP - 3


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
        end = tops[lowest][0] - 1
        page.add(Line(x, track + n * TRACK + TRACK - 3, x, end - 6, "guide"))
        page.add(Poly(((x - 4, end - 8), (x + 4, end - 8), (x, end)), "tip", closed=True))
        for lane in m.blockers:
            page.add(Box(m.x - 2, tops[lane][0] - 2, m.width + 4, tops[lane][1] + 4, "guide"))


def _legend(page: Page, marks: tuple[Mark, ...], keys: Keys, *, several: bool) -> None:
    x, page.y = MARGIN, page.y + 4
    kinds = [k for k in palette.LOOKS if any(k in {m.kind, m.news} for m in marks) and k != "mapping"]
    entries = [("mirror", palette.WORDS["mirror"])] if any(m.kind == "mapping" and m.lane and not m.news for m in marks) else []
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
    page.letters(keys.lettered())
    if keys.dropped:
        page.note(f"{keys.dropped} more names have no room here; the table has them.")
    page.note("Widths grow with log₂ of size; a slanted cut and ≈ mark a compressed gap.")
    if several:
        page.note("Domains stand newest first, the kernel's own order; a mapping goes into every one of them, so it has to fit them all.")
    page.y += 4
