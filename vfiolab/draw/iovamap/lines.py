"""The iova map as text: iovas run down the page, a column for each lane."""

from __future__ import annotations

from itertools import pairwise

from vfiolab.draw.iovamap.kinds import KINDS
from vfiolab.draw.iovamap.layout import Layout, Mark
from vfiolab.draw.iovamap.words import findings, groups_word, headline, traits
from vfiolab.draw.stage.text import WIDTH, fold
from vfiolab.model.address import hexa, human_size

MOST_LINES = 60


def map_lines(layout: Layout) -> list[str]:
    """Return the iova map as a table of segments: address, size, and what each lane holds there."""
    facts, lanes, marks, window = layout.facts, layout.lanes, layout.marks, layout.window
    lines = [*fold(headline(facts)), *fold(" ".join(findings(facts, layout.merged)))]
    for lane in lanes[1:]:
        if lane.domain is not None:
            words = [groups_word(lane.domain.groups), *traits(lane.domain).values()]
            words = [f"refused: {lane.domain.refused}", *words] if lane.domain.refused else words
            lines += fold(f"{lane.name}: {' · '.join(words)}", "  ")
    segments = list(pairwise(sorted({*window, *(at for m in marks if m.kind != "fault" for at in (m.start, m.end))})))
    room = min(16, max(4, (WIDTH - 34) // len(lanes) - 1))
    lines.append(f"{'iova':<22}{'size':>11} " + " ".join(_cell(lane.name, room) for lane in lanes))
    used: dict[str, None] = {}
    for number, (start, end) in enumerate(segments):
        if number == MOST_LINES:
            lines.append(f"... {len(segments) - MOST_LINES:,} more segments; the table has them")
            break
        here = [[m for m in marks if m.lane == lane.index and m.start <= start and end <= m.end] for lane in lanes]
        cells = [_words(found, room, used) for found in here]
        sign = " " if any(here) else "≈"
        lines.append(f"{hexa(start):<21}{sign}{human_size(end - start):>11} " + " ".join(_cell(c, room) for c in cells))
    lines.append(hexa(window[1]))
    for m in marks:
        if m.kind == "refused":
            lines += fold(f"✗ {m.label} map {m.span}: {m.owner.partition(': ')[2]}")
        elif m.kind == "fault":
            lines += fold(f"! DMA fault at {m.label}")
    if used:
        lines += fold("  ".join(f"{KINDS[kind].sign or 'blank'} {KINDS[kind].text}" for kind in used))
    return [line.rstrip() for line in lines]


def _words(found: list[Mark], room: int, used: dict[str, None]) -> str:
    if not found:
        return "."
    top = found[-1]
    for m in found:
        used.setdefault(m.kind)
    if top.kind == "mapping" and top.lane == 0:
        if top.count > 1:
            return f"{top.count:,}x {top.covered * 100 // (top.end - top.start)}%"
        return top.label or KINDS["mapping"].sign
    if top.kind == "refused":
        return f"✗ {top.label}"
    kind = KINDS[top.kind]
    return kind.text if len(kind.text) <= room and top.kind != "mapping" else kind.sign


def _cell(words: str, room: int) -> str:
    return (words if len(words) <= room else words[: room - 1] + "…").ljust(room)
