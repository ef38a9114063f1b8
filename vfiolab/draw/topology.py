"""The topology picture: bridges and devices as a tree, left to right, and each IOMMU group as a hull with its number."""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab._text import count
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, fitting
from vfiolab.draw.stage.shapes import Box, Picture
from vfiolab.draw.stage.text import fold
from vfiolab.draw.tree import Cards, Groups, Lines, Node, as_text, fit_lines, nodes, numbers, stack, stretches, told, what
from vfiolab.model.machine import Host
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.grouping import Grouping
from vfiolab.model.pci.topology import Function, normal_bdf
from vfiolab.model.pci.why import Why

GAP = 10.0
NOTE = (
    "ACS ✓: a request must climb to the root, so functions below are isolated. ACS ✗: peers can reach each other behind the IOMMU's back."
)
MANY = "×4: so many functions that are equal, with all that is below them; the table has each."
KEY = (
    ("hull", "IOMMU group: the least that can be handed over"),
    ("card", "function; bridges hold what is indented below them"),
    ("badge", "its driver"),
)


@fitting
def topology(source: Host | Grouping, *, width: int | None = None, only: Iterable[str] = (), why: Why | None = None) -> Picture:
    """Draw a machine's tree and its IOMMU groups: a host's (with its numbers and drivers), or a computed grouping.

    `only` are devices to which the picture is narrowed, with the bridges above them; `why` narrows it to the group of one device and tells
    the joins that put it there, in order. Functions that are equal with all below them are drawn once, with their number. KeyError if a
    device of `only` is not on the machine.

    >>> import vfiolab as vl
    >>> print(vl.topology(vl.load("intel-vtd-39bit"), only=["01:00.0"]).title)
    2 functions in 2 IOMMU groups
    """
    found, wanted = Groups.of(source), [*map(normal_bdf, only)]
    if missing := [bdf for bdf in wanted if bdf not in found.tree]:
        raise KeyError(f"not on the machine: {', '.join(missing)}")
    wanted += (why.device, *why.group) if why else ()
    return _Tree(found, found.near(wanted) if wanted else set(found.tree), width or WIDE, why).draw()


class _Tree:
    def __init__(self, found: Groups, kept: set[str], width: float, why: Why | None) -> None:
        self.found, self.kept, self.page, self.why = found, kept, Page(width), why
        chain = why.steps if why else ()
        number = len(chain) > 1
        self.steps = {r.device: f"{n}. " * number + str(r).removeprefix(f"{short(r.device)} ") for n, r in enumerate(chain, 1)}
        self.nodes = nodes([found], kept, self.step)
        left = MARGIN + 8
        self.cards = Cards.fit(self.nodes, left, self.page.right - left, share=0.6)
        self.stretches = stretches(self.nodes, found)

    def step(self, bdf: str) -> str:
        return self.steps.get(bdf, "")

    def draw(self) -> Picture:
        page, groups, cards = self.page, self.found.groups, self.cards
        held = sorted({self.found.number[bdf] for bdf in self.kept if bdf in self.found.number})
        shared = [n for n in held if len(groups[n]) > 1]
        title = f"{count(len(self.kept), 'function')} in {count(len(held), 'IOMMU group')}"
        said = "Every function is a group of its own: each can be handed over alone."
        if shared:
            verb = "holds" if len(shared) == 1 else "hold"
            said = f"{count(len(shared), 'group')} {verb} more than one function: they can only be handed over as a whole."
        if self.why:
            title, said = self.why.headline(most=4), self.why.stays or ("" if self.why.number is None else self.why.note)
        page.heading(title, said)
        for node in self.nodes:
            cards.write(node, self.lines(node), self.driver(node))
        beside = [(members, self.beside(members, name)) for _, members, name in self.stretches]
        page.y = stack(self.nodes, page.y + 4, GAP, [(members, 13.0 * len(lines) - 4) for members, lines in beside])
        for members, lines in beside:
            x, right = min(map(cards.x, members)) - 7, self.edge(members)
            y, y2 = members[0].y - 4, members[-1].y + members[-1].tall + 4
            page.add(Box(round(x, 1), round(y, 1), round(right - x, 1), round(y2 - y, 1), "hull", lines[0][0], round=9))
            page.add(*told(right + 8, (y + y2) / 2, lines))
        page.add(*cards.links(self.nodes))
        for node in self.nodes:
            page.add(*cards.draw(node, self.driver(node), self.found.reasons.get(node.function.bdf, "")))
            if node.function.bdf not in self.found.number:
                page.add(*told(cards.x(node) + cards.column + 15, node.y + node.tall / 2, [("no group", "muted", False)]))
        page.y += 4
        page.key(KEY if any(map(self.driver, self.nodes)) else KEY[:2])
        page.note(NOTE)
        if any(node.others for node in self.nodes):
            page.note(MANY)
        named = " ".join(f"Group {n}: {', '.join(map(short, groups[n]))}." for n in shared[:12])
        table = [self.row(f) for f in self.found.tree.values() if f.bdf in self.kept]
        tree = as_text(["group"], [lambda node: numbers(self.found, node, brief=True)], self.nodes, self.text)
        text = [*fold(title), *fold(said), "", *tree]
        return page.finish(title, f"{said} {named}".strip(), ("device", "what", "group", "ACS", "driver", "why"), table, text)

    def row(self, f: Function) -> tuple[str, ...]:
        number = self.found.number.get(f.bdf, "-")
        return f.bdf, what(f), str(number), self.found.acs(f.bdf), self.found.drivers.get(f.bdf) or "", self.found.reasons.get(f.bdf, "")

    def driver(self, node: Node) -> str:
        return self.found.drivers.get(node.function.bdf) or ""

    def edge(self, members: list[Node]) -> float:
        return round(max(map(self.cards.x, members)) + self.cards.column + 7, 1)

    def beside(self, members: list[Node], name: str) -> Lines:
        """Return the lines beside a group: every stretch of it has its number."""
        return fit_lines([(name, "ink", True), (self.joins(members), "muted", False)], self.page.right - self.edge(members) - 8)

    def joins(self, members: list[Node]) -> str:
        """Return the first reason that says why these are one group; nothing if each stands alone, or if the joins are told one by one."""
        devices = [] if self.why else [f.bdf for node in members for f in node.all]
        return next((self.found.reasons[bdf] for bdf in devices if bdf in self.found.joins), "")

    def acs(self, node: Node) -> str:
        f = node.function
        return self.found.acs(f.bdf) if f.is_bridge or f.multifunction else ""

    def lines(self, node: Node) -> Lines:
        """Return the lines of a node's card: its address and what it is, then its ACS and name, and the join that is told of it."""
        second = " · ".join(filter(None, (self.acs(node), node.name)))
        return [(node.heading, "ink", True), (second, "muted", False), (self.step(node.function.bdf), "ink", False)]

    def text(self, node: Node) -> list[str]:
        """Return what the text twin says of a node, and of the group whose last stretch ends with it."""
        driver = f"[{self.driver(node)}]" if self.driver(node) else ""
        first = " ".join(filter(None, (node.heading, driver, self.acs(node), f"· {node.name}" if node.name else "")))
        ends = [self.joins(members) for _, members, _ in self.stretches if members[-1] is node]
        return [line for line in (first, self.step(node.function.bdf), *ends) if line]
