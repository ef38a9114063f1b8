"""Labels on lanes: the header that says what sets a domain apart, and the names inside the marks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from string import ascii_lowercase

from vfiolab._text import count
from vfiolab.draw.iovamap.facts import SpaceFacts
from vfiolab.draw.iovamap.kinds import KINDS, QUIET
from vfiolab.draw.iovamap.layout import Lane, Mark
from vfiolab.draw.iovamap.words import differing, groups_word, traits
from vfiolab.draw.stage.measure import text_width, wrap
from vfiolab.draw.stage.shapes import Box, Run, Shape, Text
from vfiolab.model.address import hexa, human_size

TITLE = 12.0  # of the lines above a lane
MOST_NAMES = 12  # letters for mappings; the others are left for what is rarer


@dataclass
class Keys:
    """Letters for labels that found no room in their mark; the legend spells them out. `dropped` names got no letter any more."""

    entries: list[str] = field(default_factory=list)
    dropped: int = 0

    def take(self, words: str, *, most: int = len(ascii_lowercase)) -> str:
        """Return the letter for these words, or nothing if `most` letters are used up."""
        if words in self.entries:
            return ascii_lowercase[self.entries.index(words)]
        if len(self.entries) >= most:
            self.dropped += 1
            return ""
        self.entries.append(words)
        return ascii_lowercase[len(self.entries) - 1]

    def lettered(self) -> list[tuple[str, str]]:
        """Return letters and words in order."""
        return list(zip(ascii_lowercase, self.entries, strict=False))


def lane_header(lane: Lane, facts: SpaceFacts, room: float) -> list[tuple[Run, ...]]:
    """Return the lines above a lane, `room` pixels wide: in bold what not all domains share."""
    if lane.domain is None:
        if facts.backend == "none":
            return _flow([("", Run("no backend: nothing can be mapped", bold=True))], room)
        sized = f", {human_size(facts.mapped_bytes)}" if facts.starts else ""
        words = f"{count(len(facts.starts), 'mapping')}{sized}, {facts.backend}"
        return _flow([("", Run("the user's mappings", bold=True)), ("  ", Run(words, "muted"))], room)
    domain = lane.domain
    loud = set(differing(facts.lane_domains)) if len(facts.lane_domains) > 1 else set()
    fresh = domain.number in facts.new_domains
    gone = f"refused: {domain.refused}" if domain.refused else "gone" if domain.number in facts.gone_domains else ""
    runs = [("", Run(domain.name, bold=True))]
    runs += [("  ", Run("new" if fresh else gone, "green" if fresh else "vermilion-text", bold=True))] if fresh or gone else []
    runs.append(("  ", Run(groups_word(domain.groups), bold=bool(domain.groups))))
    ordered = sorted(traits(domain).items(), key=lambda p: p[0] not in loud)
    runs += [(" · ", Run(words, "ink" if name in loud else "muted", bold=name in loud)) for name, words in ordered]
    return _flow(runs, room)


def _flow(parts: Iterable[tuple[str, Run]], room: float) -> list[tuple[Run, ...]]:
    """Return runs in lines of `room` pixels; before each stands its joint, unless it begins a line."""
    lines: list[list[Run]] = [[]]
    left = room
    for joint, run in parts:
        for n, words in enumerate(wrap(run.text, room, TITLE, bold=run.bold)):
            width = text_width(words, TITLE, bold=run.bold)
            space = text_width(joint, TITLE, bold=True)
            if lines[-1] and (n or space + width > left):
                lines.append([])
                left = room
            if lines[-1]:
                lines[-1].append(Run(joint, "muted"))
                left -= space
            lines[-1].append(replace(run, text=words))
            left -= width
    return [tuple(line) for line in lines]


def mark_label(m: Mark, lane: Lane, top: float, height: float, keys: Keys) -> list[Shape]:
    """Return a mark's own words, as long as they fit; else a letter for the legend; else nothing (the table has it)."""
    centre, middle = round(m.x + m.width / 2, 1), top + height / 2
    room = m.width - 6
    if m.kind == "mapping":
        if m.count > 1:
            return []
        if lane.domain is not None:
            words = f"= {m.label}" if m.label else ""
            words = words if text_width(words) <= room - 6 else "=" if m.width >= 12 else ""  # the name stands above it
            return [Text.plain(centre, middle + 3.5, words, "muted", anchor="middle")] if words else []
        return _mapping_label(m, centre, middle, room, keys)
    kind, size = KINDS[m.kind], human_size(m.end - m.start)
    words = next((w for w in kind.inside if text_width(w) <= room), "")
    if not words:
        letter = keys.take(f"{kind.inside[0]} at {hexa(m.start)}, {size}") if m.width >= 10 and m.kind not in QUIET else ""
        return _on_paper(centre, middle, [letter], "ink") if letter else []
    role, second = ("muted", "") if m.kind in QUIET else ("ink", f"→ {m.label}" if m.kind == "doorbell" else size)
    both = second and text_width(second) <= room and text_width(words) <= 0.72 * m.width
    return _on_paper(centre, middle, [words, second] if both else [words], role)


def _on_paper(centre: float, middle: float, lines: list[str], role: str) -> list[Shape]:
    """Put one or two lines on a piece of paper, so that a pattern behind them does not touch the letters."""
    width, height = max(text_width(words) for words in lines) + 5, 13 * len(lines) + 1
    y = middle - height / 2
    paper = Box(round(centre - width / 2, 1), round(y, 1), round(width, 1), height, "paper", round=2)
    return [paper, *(Text.plain(centre, round(y + 10.5 + 12.5 * n, 1), words, role, anchor="middle") for n, words in enumerate(lines))]


def _mapping_label(m: Mark, centre: float, middle: float, room: float, keys: Keys) -> list[Shape]:
    size = human_size(m.end - m.start)
    fits = text_width(size) <= room
    name = wrap(m.label, room) if room > 0 else []
    whole = len(name) <= 2 and " ".join(name) == " ".join(m.label.split()) and all(text_width(line) <= room for line in name)
    if m.label and not whole:
        letter = keys.take(f"{m.label} at {hexa(m.start)}, {size}", most=MOST_NAMES) if m.width >= 9 else ""
        return [Text.plain(centre, middle + 4, letter, anchor="middle", bold=True)] if letter else []
    lines = [*name, *([size] if fits and len(name) < 2 else [])]
    first = middle + 4 if len(lines) < 2 else middle - 2
    return [Text.plain(centre, first + 14 * n, words, anchor="middle") for n, words in enumerate(lines)]
