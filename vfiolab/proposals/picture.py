"""The table as a picture: a row for each scenario, a column for each proposal; a cell says what became of it and when that shows."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from vfiolab.draw.stage.measure import wrap
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, card, fitting, folded
from vfiolab.draw.stage.shapes import Box, Picture, Text

if TYPE_CHECKING:
    from vfiolab.proposals.table import Cell, Debate

LABEL, LEAST = 104.0, 76.0  # pixels: the scenarios' column, and a proposal's at least
LETTERS = {"same-map": "M", "user-owns-iova": "O", "interrupt-arrives": "I", "memory-untouched": "N"}
SHOWN = {"attach": "at attach", "map": "at map", "setup": "at set-up", "raised": "at raise", "never": "silently"}
ROLES = {"delivered": "good", "memory": "good", "refused": "refused", "unknown": "card"}
SAID = (
    "Each cell is a run: what became of what the user wanted, and when that shows. Full box: it works, or (lost) it does not. Dashed box: "
    "a call is refused. Two frames: a message is written into the user's memory. Letters: promises that broke."
)
COLUMNS = ("scenario", "proposal", "outcome", "when it shows", "promises broken", "why", "rests on")


@fitting
def picture(found: Debate, *, width: int | None = None) -> Picture:
    """Draw the table of a debate. Where the page is narrow, the proposals stand in blocks below each other."""
    from vfiolab.proposals.table import PROMISES

    page = Page(width or WIDE)
    names = list(found.proposals)
    worked = {name: sum(found[name, scenario].outcome in ("delivered", "memory") for scenario in found.scenarios) for name in names}
    title = "How many of {} scenarios work: {}".format(len(found.scenarios), " · ".join(f"{name} {worked[name]}" for name in names))
    page.heading(title, SAID)
    blocks = ceil(len(names) / max(1, int((page.right - MARGIN - LABEL) // LEAST)))
    each = ceil(len(names) / blocks)
    for first in range(0, len(names), each):
        _block(page, found, names[first : first + each], (page.right - MARGIN - LABEL) / each)
        page.y += 10
    page.letters([(LETTERS[word], f"broken: {promise}") for word, promise in PROMISES.items()])
    table = [
        (scenario, f"{name}: {found.proposals[name].title}", cell.word, cell.when, ", ".join(cell.broken), cell.why, cell.rests)
        for scenario in found.scenarios
        for name in names
        for cell in [found[name, scenario]]
    ]
    told = " ".join(
        f"{scenario}: " + ", ".join(f"{name} {found[name, scenario].word}" for name in names) + "." for scenario in found.scenarios
    )
    return page.finish(title, f"{SAID} {told}", COLUMNS, table)


def _block(page: Page, found: Debate, names: list[str], wide: float) -> None:
    heads = [[(name, True), *((line, False) for line in wrap(found.proposals[name].title, wide - 4, 11))] for name in names]
    for number, head in enumerate(heads):
        x = round(MARGIN + LABEL + number * wide, 1)
        for line, (words, bold) in enumerate(head):
            page.add(Text.plain(x + 2, round(page.y + 11 + 14 * line, 1), words, "ink" if bold else "muted", bold=bold))
    page.y += 14 * max(map(len, heads)) + 6
    for scenario in found.scenarios:
        rows = [(cell, folded(_lines(cell), wide - 4)) for cell in (found[name, scenario] for name in names)]
        tall = 12.0 + 14 * max(len(lines) for _, lines in rows)
        page.add(Text.plain(MARGIN, round(page.y + tall / 2 + 4, 1), scenario, bold=True))
        for number, (cell, lines) in enumerate(rows):
            x, role = MARGIN + LABEL + number * wide, ROLES.get(cell.outcome, "alarm")
            shapes, _ = card(x, page.y, wide - 4, lines, role=role, tip=f"{cell.proposal}, {scenario}: {cell.why}", height=tall)
            page.add(*shapes)
            if cell.outcome == "corrupts":
                page.add(Box(round(x + 3, 1), round(page.y + 3, 1), round(wide - 10, 1), round(tall - 6, 1), "conflict"))
        page.y += tall + 4


def _lines(cell: Cell) -> list[tuple[str, str, bool]]:
    """Return a cell's lines: the word, when it shows, and the promises that broke."""
    lines = [(cell.errno or cell.outcome, "ink", True)]
    if cell.outcome not in ("delivered", "memory"):
        lines.append((SHOWN[cell.when], "ink", False))
    letters = " ".join(LETTERS[one] for one in cell.broken)
    return [*lines, (letters, "vermilion-text", False)] if letters else lines
