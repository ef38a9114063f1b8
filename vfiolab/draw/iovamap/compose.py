"""From marks on a ruler to shapes on a page: heights, headers, labels that never collide, the legend and the true-scale strip."""

from __future__ import annotations

from vfiolab.draw.iovamap.axis import address_labels, gap_labels
from vfiolab.draw.iovamap.facts import SpaceFacts
from vfiolab.draw.iovamap.kinds import LEGEND
from vfiolab.draw.iovamap.labels import TITLE, Keys
from vfiolab.draw.iovamap.lanes import GAP, TRACKS, draw_lane, tip
from vfiolab.draw.iovamap.layout import Layout, Mark, Scene, rows_of
from vfiolab.draw.iovamap.lines import map_lines
from vfiolab.draw.iovamap.ruler import Ruler
from vfiolab.draw.iovamap.words import blame, details, findings, headline
from vfiolab.draw.stage.measure import text_width, wrap
from vfiolab.draw.stage.page import MARGIN, Page, layered
from vfiolab.draw.stage.palette import LOOKS
from vfiolab.draw.stage.shapes import Box, Line, Poly, Shape, Text
from vfiolab.model.address import hexa, human_size

TRACK = 20.0
BELOW = 14.0  # a line of words under a track
COLUMNS = ("start", "end", "size", "kind", "domains", "owner")


def compose(layout: Layout, width: float) -> Scene:
    """Return the finished scene."""
    facts, marks = layout.facts, layout.marks
    page = Page(width)
    said = findings(facts, layout.merged, layout.window if any(layout.torn) else None)
    page.heading(headline(facts), " ".join(said))
    _strip(page, layout)
    page.shapes += gap_labels(layout.ruler, page.y + 11)
    page.y += 18
    keys = Keys()
    tops: list[tuple[float, float]] = []
    tracks: list[float] = []
    for lane in layout.lanes:
        tops.append(draw_lane(page, layout, lane, keys))
        if lane.index == 0:
            tracks = _tracks(page, facts, layout.ruler, [m for m in marks if m.kind in TRACKS])
    _guides(page, tops, tracks, marks)
    bottom = tops[-1][0] + tops[-1][1]
    labels, height = address_labels(layout.ruler, marks, bottom, layout.window, page.right)
    page.shapes += labels
    page.y = bottom + height
    _legend(page, marks, keys, several=len(facts.domains) > 1, ghost=facts.newcomer is not None)
    told = " ".join([*said, *details(facts)])
    table = tuple((hexa(r.start), hexa(r.last), human_size(r.size), r.kind, r.domains, r.owner) for r in rows_of(layout))
    shapes, lines = layered(page.shapes), tuple(map_lines(layout))
    return Scene(headline(facts), told, width, round(page.y, 1), shapes, COLUMNS, table, lines, layout=layout, lane_tops=tuple(tops))


def _strip(page: Page, layout: Layout) -> None:
    """Give one honest look at the emptiness: the whole space on a linear scale."""
    facts, window = layout.facts, layout.window
    if facts.backend == "none":
        return
    whole = max(facts.top, window[1])
    words = f"true scale, {human_size(whole)}"
    x = MARGIN + text_width(words) + 8
    room = page.right - x
    y = page.y + 3
    page.add(Text.plain(MARGIN, y + 7, words, "muted"), Box(x, y, room, 7, "lane"))
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


def _tracks(page: Page, facts: SpaceFacts, ruler: Ruler, marks: list[Mark]) -> list[float]:
    """Under the user's lane, a track for each refused map and each fault: a dashed box or a tick, and the reason in words.

    Return the y of the lower edge of each box.
    """
    page.y -= GAP - 3
    edges = []
    for m in marks:
        y = page.y
        if m.kind == "refused":
            attempt = facts.attempts[m.attempt]
            why = blame(attempt, facts.domains) or attempt.why
            words = f"✗ {m.label}  map {hexa(m.start)}, {human_size(m.end - m.start)}: {why}"
        else:
            words = f"✗ DMA fault at {m.label}"
        box = Box(m.x, y + 1, max(m.width, 5), TRACK - 4, "refused" if m.kind == "refused" else "fault", tip(m))
        edges.append(box.y + box.height)
        told, rows = _beside(words, box, ruler)
        page.add(box, *told)
        page.y += TRACK + rows * BELOW
    page.y += GAP - 3
    return edges


def _beside(words: str, box: Box, ruler: Ruler) -> tuple[list[Shape], int]:
    """Put words beside a box, on the side with more room; else into it; else on lines below. Return them, and how many lines are below."""
    left, right, y = box.x - ruler.xs[0] - 6, ruler.xs[-1] - box.x - box.width - 6, box.y + 12
    need = text_width(words)
    if need <= right:
        return [Text.plain(round(box.x + box.width + 6, 1), y, words, "vermilion-text", halo=True)], 0
    if need <= left:
        return [Text.plain(round(box.x - 6, 1), y, words, "vermilion-text", anchor="end", halo=True)], 0
    if need <= box.width - 12:
        return [Text.plain(round(box.x + box.width / 2, 1), y, words, "vermilion-text", anchor="middle")], 0
    lines = wrap(words, ruler.xs[-1] - ruler.xs[0])
    x = round(min(max(box.x, ruler.xs[0]), ruler.xs[-1] - max(text_width(line) for line in lines)), 1)
    return [Text.plain(x, y + 3 + BELOW * n, line, "vermilion-text", halo=True) for n, line in enumerate(lines, 1)], len(lines)


def _guides(page: Page, tops: list[tuple[float, float]], tracks: list[float], marks: tuple[Mark, ...]) -> None:
    """From each refused map to the first lane that refused it, a frame on each that did; from what is mapped to the group it keeps out."""
    starts = iter(tracks)
    titles, words = _titles(page, tops), _told(page)
    for m in marks:
        if m.kind not in {*TRACKS, "conflict"}:
            continue
        y = tops[0][0] + tops[0][1] + 3 if m.kind == "conflict" else next(starts)
        if m.blockers:
            page.add(*_guide(m, y + 1, tops[min(set(m.blockers) - {0})][0], titles, words))
        for lane in m.blockers:
            role = "conflict" if m.kind == "conflict" else "guide"
            page.add(Box(m.x - 2, tops[lane][0] - 2, m.width + 4, tops[lane][1] + 4, role))


def _titles(page: Page, tops: list[tuple[float, float]]) -> list[tuple[float, float, float]]:
    """Return where letters stand between the lanes: right edge, top and bottom of each title."""
    texts = [shape for shape in page.shapes if isinstance(shape, Text) and shape.size == TITLE and shape.halo and shape.y > tops[0][0]]
    return [(MARGIN + sum(text_width(r.text, TITLE, bold=r.bold) for r in t.runs), t.y - 12, t.y + 4) for t in texts]


def _told(page: Page) -> list[tuple[float, float, float, float]]:
    """Return where the words about refusals stand: left and right edge, top and bottom of each line."""
    texts = [shape for shape in page.shapes if isinstance(shape, Text) and shape.halo and shape.runs[0].role == "vermilion-text"]
    wide = [text_width(t.runs[0].text) for t in texts]
    back = {"start": 0.0, "end": 1.0}
    return [(t.x - back[t.anchor] * w, t.x + (1 - back[t.anchor]) * w, t.y - 10, t.y + 3) for t, w in zip(texts, wide, strict=True)]


def _guide(
    m: Mark, y: float, end: float, titles: list[tuple[float, float, float]], words: list[tuple[float, float, float, float]]
) -> list[Shape]:
    """Draw the line and its tip: right of the titles on its way if the mark reaches so far, else broken where it meets letters."""
    past = max([right + 10 for right, top, _ in titles if y < top < end], default=0.0)
    x = m.x + m.width / 2
    x = round(past if x < past <= m.x + m.width - 6 else x, 1)
    met = [(top, bottom) for right, top, bottom in titles if y < top < end and x < right + 6]
    met = sorted(met + [(top, bottom) for left, right, top, bottom in words if y < top < end and left - 4 < x < right + 4])
    out: list[Shape] = []
    for top, bottom in met:
        if bottom + 6 < end:  # a title on the way: go on behind it
            out += [Line(x, y, x, top, "guide")] if top > y + 2 else []
            y = bottom
        else:
            end = top
    out += [Line(x, y, x, end - 6, "guide")] if end - 6 > y else []
    out.append(Poly(((x - 4, end - 8), (x + 4, end - 8), (x, end - 1)), "tip", closed=True))
    return out


def _legend(page: Page, marks: tuple[Mark, ...], keys: Keys, *, several: bool, ghost: bool) -> None:
    x, page.y = MARGIN, page.y + 4
    kinds = [k for k in LOOKS if any(k in {m.kind, m.news} for m in marks) and k != "mapping"]
    mirrored, merged = any(m.kind == "mapping" and m.lane and not m.news for m in marks), any(m.count > 1 for m in marks)
    entries = ["mirror"] * mirrored + kinds + ["ghost"] * ghost + ["merged"] * merged
    for kind in entries:
        at, y, x = page.entry(x, LEGEND[kind], 20, 17)
        if kind == "merged":
            page.add(*(Box(at + 5 * i, y + 2, 5, 10, "mapping", level=level) for i, level in enumerate((2, 5, 8))))
        else:
            page.add(Box(at, y + 2, 15, 10, kind))
    page.y += 18 if entries else 2
    page.letters(keys.lettered())
    if keys.dropped:
        page.note(f"{keys.dropped} more names have no room here; the table has them.")
    page.note("Widths grow with log₂ of size; a slanted cut and ≈ mark a compressed gap.")
    if several:
        page.note("Domains stand newest first, the kernel's own order; a mapping goes into every one of them, so it has to fit them all.")
    page.y += 4
