"""What a change does to the groups, in one picture: the tree once, at its left the groups before, at its right the groups after."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vfiolab._text import count
from vfiolab.draw.stage.measure import wrap
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, fitting
from vfiolab.draw.stage.shapes import Box, Picture, Text
from vfiolab.draw.stage.text import fold
from vfiolab.draw.topology import NOTE
from vfiolab.draw.tree import Cards, Groups, Lines, Node, as_text, fit_lines, nodes, numbers, stack, stretches, told, what
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.topology import Function, normal_bdf
from vfiolab.model.whatif import WhatIf

GAP = 8.0
MOST_FACTS, MOST_NAMES = 8, 8  # in one picture, and of devices in a list
KEY = ("lane", "group that stays as it is"), ("hull", "group that splits or merges"), ("ghost", "no longer here"), ("appeared", "new here")


@fitting
def what_if(found: WhatIf, *, only: Iterable[str] = (), width: int | None = None) -> Picture:
    """Draw a machine's groups before and after a change, with the facts that did it and who reaches whom past the IOMMU.

    Drawn are the groups that split or merge, what is gone, new, moved or passes the ACS test differently, and the bridges above; with
    `only`, these devices instead. KeyError if a device of `only` is on neither side.
    """
    return _Change(found, [*map(normal_bdf, only)], width or WIDE).draw()


class _Change:
    def __init__(self, found: WhatIf, only: list[str], width: float) -> None:
        self.found, self.only, self.page = found, only, Page(width)
        self.sides = before, after = Groups.of(found.before), Groups.of(found.after)
        self.changed = [(f"split 1 → {len(one.into)}", one.group, one.because) for one in found.split]
        self.changed += [(f"merged {len(one.groups)} → 1", one.into, one.because) for one in found.merged]
        touched = {bdf for bdf in {**before.tree, **after.tree} if self.place(bdf) or before.acs(bdf) != after.acs(bdf)}
        wanted = only or touched.union(*(members for _, members, _ in self.changed))
        if missing := [bdf for bdf in wanted if bdf not in before.tree and bdf not in after.tree]:
            raise KeyError(f"on the machine neither before nor after: {', '.join(missing)}")
        self.kept = before.near(wanted) | after.near(wanted)
        self.nodes = nodes(self.sides, self.kept, self.place)
        self.strip = min(150.0, 0.21 * (self.page.right - MARGIN))
        left = MARGIN + self.strip + 10
        self.cards = Cards.fit(self.nodes, left, self.page.right - self.strip - 10 - left)

    def place(self, bdf: str) -> str:
        """Say that a function is gone, new, or below another port; nothing if it is where it was."""
        then, now = (side.tree for side in self.sides)
        if bdf not in now or bdf not in then:
            return "✗ gone" if bdf in then else "✓ new"
        old, new = (above.bdf if (above := tree.parent(bdf)) else "no port" for tree in (then, now))
        return f"moves: {short(old)} → {short(new)}" if old != new else ""

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield each split and merge, and what did it."""
        for head, members, because in self.changed[:MOST_FACTS]:
            yield head, f"{_few(', '.join(map(short, members)))}, because {because}"
        if len(self.changed) > MOST_FACTS:
            yield f"and {len(self.changed) - MOST_FACTS} more", "the table has all"

    def reach(self) -> Iterator[tuple[str, str]]:
        """Yield what became of isolation, and who reaches whom."""
        for title, who in self.found.isolation.items():
            more = f"; and {len(who) - 3} more such" if len(who) > 3 else ""
            yield ("✓ " if "gained" in title else "✗ ") + title, "; ".join(map(_few, who[:3])) + more

    def draw(self) -> Picture:
        page, (before, after), found = self.page, self.sides, self.found
        title = f"{count(len(before.groups), 'group')} before, {len(after.groups)} after"
        done = [f"{len(what)} {word}" for word, what in (("split", found.split), ("merged", found.merged)) if what]
        title += f": {', '.join(done)}" if done else ""
        said = f"Only {'what was asked for' if self.only else 'what the change touches'} is drawn."
        if not done:
            said = f"No group splits or merges. {said}" if self.nodes else "No group splits or merges, and no port's ACS verdict changes."
        said += "" if found.isolation else " Who reaches whom past the IOMMU stays as it was."
        page.heading(title, said)
        for head, words in self.facts():
            self.tell(head, words)
        if self.nodes:
            self.tree()
        for head, words in self.reach():
            self.tell(head, words)
        for words in found.notes:
            page.note(words)
        page.y += 4
        if self.nodes:
            used = {shape.role for shape in page.shapes if isinstance(shape, Box)}
            page.key(entry for entry in KEY if entry[0] in used)
            page.note(NOTE)
        columns = ("device", "what", "group before", "group after", "ACS before", "ACS after", "what happens")
        told_all = [f"{head}: {words}" for head, words in (*self.facts(), *self.reach())]
        lines = [*fold(title), *fold(said), *(part for one in told_all for part in fold(one)), ""]
        groups = [lambda node, n=n: numbers(self.sides[n], node, brief=True) if node.here[n] else "" for n in (0, 1)]
        lines += as_text(["before", "after"], groups, self.nodes, self.text) if self.nodes else []
        rows = [self.row(bdf) for bdf in sorted(self.kept, key=lambda bdf: self.function(bdf).key)]
        return page.finish(title, " ".join([said, *(f"{one}." for one in told_all)]), columns, rows, lines)

    def tell(self, head: str, words: str) -> None:
        """Write a fact: its head, and the words below it."""
        page = self.page
        look = {"✗": "vermilion-text", "✓": "green"}.get(head[:1], "ink")
        lines = [(line, look, True) for line in wrap(head, page.right - MARGIN, bold=True)]
        lines += [(line, "muted", False) for line in wrap(words, page.right - MARGIN - 12)]
        for line, look, bold in lines:
            page.y += 14
            page.add(Text.plain(MARGIN if bold else MARGIN + 12, page.y - 2, line, look, bold=bold))
        page.y += 5

    def tree(self) -> None:
        """Draw the rows, and at each side the groups that they are in there."""
        page, cards = self.page, self.cards
        for node in self.nodes:
            cards.write(node, self.lines(node), self.driver(node))
            node.role = "card" if all(node.here) else "ghost" if node.here[0] else "appeared"
        page.y += 6
        left, right = (MARGIN, 0), (page.right - self.strip, 1)
        page.heads([(x, self.strip, word) for (x, _), word in ((left, "before"), (right, "after"))], "ink")
        boxes = [
            (x, members, self.group(n, number, name))
            for x, n in (left, right)
            for number, members, name in stretches(self.nodes, self.sides[n], n)
        ]
        page.y = stack(self.nodes, page.y + 4, GAP, [(members, 13.0 * len(lines) + 10) for _, members, (lines, _) in boxes])
        page.add(*cards.links(self.nodes))
        for x, members, (lines, role) in boxes:
            y, y2 = members[0].y, members[-1].y + members[-1].tall
            page.add(Box(round(x, 1), y, round(self.strip, 1), round(y2 - y, 1), role, lines[0][0], round=7))
            page.add(*told(x + self.strip / 2, (y + y2) / 2, lines, "middle"))
        for node in self.nodes:
            page.add(*cards.draw(node, self.driver(node)))

    def group(self, n: int, number: int, name: str) -> tuple[Lines, str]:
        """Return the words for a group on one side, and the look of what happens to it."""
        group, other = self.sides[n].groups[number], self.sides[1 - n].number
        elsewhere = sorted({other[bdf] for bdf in group if bdf in other})
        words, role = "", "lane"
        if not elsewhere:
            words, role = ("✓ new", "appeared") if n else ("✗ gone", "ghost")
        elif len(elsewhere) > 1:
            words, role = f"merged {len(elsewhere)} → 1" if n else f"split 1 → {len(elsewhere)}", "hull"
        elif group in {part for one in self.found.split for part in one.into} | {part for one in self.found.merged for part in one.groups}:
            words, role = f"{'was in' if n else 'goes into'} {elsewhere[0]}", "hull"
        return fit_lines([(name, "ink", True), (words, "ink", False)], self.strip - 10), role

    def acs(self, bdf: str) -> str:
        then, now = (side.acs(bdf) for side in self.sides)
        return now if then == now or not then else then if not now else f"{then} → {now.removeprefix('ACS ')}"

    def lines(self, node: Node) -> Lines:
        f = node.function
        verdict = self.acs(f.bdf) if f.is_bridge or f.multifunction or "→" in self.acs(f.bdf) else ""
        return [(node.heading, "ink", True), (verdict, "muted", False), (self.place(f.bdf), "ink", False)]

    def text(self, node: Node) -> list[str]:
        return [" ".join(words for words, _, _ in self.lines(node)[:2] if words), *filter(None, [self.place(node.function.bdf)])]

    def driver(self, node: Node) -> str:
        return next((driver for side in reversed(self.sides) if (driver := side.drivers.get(node.function.bdf))), "")

    def function(self, bdf: str) -> Function:
        before, after = (side.tree for side in self.sides)
        return after[bdf] if bdf in after else before[bdf]

    def row(self, bdf: str) -> tuple[str, ...]:
        group = [str(side.number.get(bdf, "-")) for side in self.sides]
        happens = [*filter(None, [self.place(bdf)]), *(f"{head}: {because}" for head, members, because in self.changed if bdf in members)]
        return bdf, what(self.function(bdf)), *group, *(side.acs(bdf) for side in self.sides), "; ".join(happens)


def _few(line: str) -> str:
    """Name no more devices than one reads, on either side of the arrow."""
    sides = [part.split(", ") for part in line.split(" -> ")]
    return " → ".join(", ".join(names if len(names) <= MOST_NAMES else [*names[:6], f"and {len(names) - 6} more"]) for names in sides)
