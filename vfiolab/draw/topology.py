"""The topology picture: bridges and devices as a tree, left to right, and each IOMMU group as a hull with its number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from vfiolab.draw.iovamap.words import count
from vfiolab.draw.stage.page import MARGIN, WIDE, Page, card, fitting, folded
from vfiolab.draw.stage.shapes import Box, Picture, Poly, Text
from vfiolab.model.machine import Host
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.grouping import Grouping
from vfiolab.model.pci.topology import Function, Topology, normal_bdf

TALL, GAP, INDENT = 38.0, 10.0, 30.0  # of a card at least, under it, and of what hangs below it
NOTE = (
    "ACS ✓: a request must climb to the root, so functions below are isolated. ACS ✗: peers can reach each other behind the IOMMU's back."
)
KEY = (
    ("hull", "IOMMU group: the least that can be given away"),
    ("card", "function; bridges hold what is indented below them"),
)
CLASSES = {
    0x0106: "SATA", 0x0108: "NVMe", 0x0200: "Ethernet", 0x0280: "Wi-Fi", 0x0300: "graphics", 0x0302: "3D", 0x0403: "audio",
    0x0600: "host bridge", 0x0601: "ISA bridge", 0x0604: "bridge", 0x0806: "IOMMU", 0x0C03: "USB", 0x0C05: "SMBus", 0x0580: "memory",
    0x1080: "crypto", 0x0880: "system", 0x1300: "non-essential",
}  # fmt: skip
PORTS = {
    "root-port": "root port", "upstream": "switch, upstream port", "downstream": "switch, downstream port",
    "pcie-to-pci": "PCIe-to-PCI bridge", "pci-bridge": "PCI bridge", "pci-to-pcie": "PCI-to-PCIe bridge",
}  # fmt: skip


@dataclass
class Node:
    """A function in the tree, or `others` equal ones collapsed behind it."""

    function: Function
    depth: int
    others: list[Function] = field(default_factory=list)
    row: int = 0
    lines: list[tuple[str, str, bool]] = field(default_factory=list)
    y: float = 0.0
    tall: float = TALL


@dataclass(frozen=True, slots=True)
class Groups:
    """What the picture needs: the tree, the groups by number, each device's reason, who is left out, who passes the ACS test."""

    tree: Topology
    groups: Mapping[int, tuple[str, ...]]
    reasons: Mapping[str, str]
    joins: frozenset[str]
    acs: Mapping[str, bool]


@fitting
def topology(source: Host | Grouping, *, width: int | None = None, only: Iterable[str] = ()) -> Picture:
    """Draw a machine's tree and its IOMMU groups: a host's (with its numbers), or a computed grouping.

    `only` are devices to which the picture is narrowed, with the bridges above them. Equal functions below one bridge are drawn once, with
    their number. KeyError if a device of `only` is not on the machine.

    >>> import vfiolab as vl
    >>> print(vl.topology(vl.load("intel-vtd-39bit"), only=["01:00.0"]).title)
    2 functions in 2 IOMMU groups
    """
    found = _of_host(source) if isinstance(source, Host) else _of_grouping(source)
    kept = {f.bdf for bdf in map(normal_bdf, only) for f in (found.tree[bdf], *found.tree.path(bdf))} or set(found.tree)
    return _Tree(found, kept, width or WIDE).draw()


def _of_grouping(grouping: Grouping) -> Groups:
    reasons = {bdf: str(reason) for bdf, reason in grouping.reasons.items()} | grouping.left_out
    joins = frozenset(bdf for bdf, reason in grouping.reasons.items() if reason.joins is not None)
    acs = {bdf: verdict.passed for bdf, verdict in grouping.verdicts.items()}
    return Groups(grouping.topology, dict(enumerate(grouping.groups)), reasons, joins, acs)


def _of_host(host: Host) -> Groups:
    groups = {group.id: group.devices for group in host.groups}
    tree = host.topology
    if host.grouping is None:
        return Groups(tree, groups, {}, frozenset(), {})
    return replace(_of_grouping(host.grouping), groups=groups)


class _Tree:
    def __init__(self, found: Groups, kept: set[str], width: float) -> None:
        self.found, self.kept, self.page = found, kept, Page(width)
        self.number = {bdf: n for n, members in found.groups.items() for bdf in members}
        self.nodes = self.tree()
        deepest = max((n.depth for n in self.nodes), default=0)
        self.left = MARGIN + 26
        self.column = min(330.0, (self.page.right - self.left - INDENT * deepest) * 0.58)
        self.stretches = self.neighbours()
        self.parts = Counter(number for number, _ in self.stretches)

    def draw(self) -> Picture:
        page, groups = self.page, self.found.groups
        numbers = sorted({self.number[bdf] for bdf in self.kept if bdf in self.number})
        shared = [n for n in numbers if len(groups[n]) > 1]
        title = f"{count(len(self.kept), 'function')} in {count(len(numbers), 'IOMMU group')}"
        said = "Every function is a group of its own: each can be given away alone."
        if shared:
            verb = "holds" if len(shared) == 1 else "hold"
            said = f"{count(len(shared), 'group')} {verb} more than one function: given away only as a whole."
        page.heading(title, said)
        page.y += 4
        self.stack()
        self.hulls()
        for node in self.nodes:
            self.link(node)
        for node in self.nodes:
            self.card(node)
        page.y += 4
        page.key(KEY)
        page.note(NOTE)
        told = " ".join(f"Group {n}: {', '.join(short(b) for b in groups[n])}." for n in shared[:12])
        table = [self.row(f) for f in self.found.tree.values() if f.bdf in self.kept]
        return page.finish(title, f"{said} {told}", ("device", "what", "group", "ACS", "why"), table)

    def row(self, f: Function) -> tuple[str, ...]:
        number = str(self.number[f.bdf]) if f.bdf in self.number else "-"
        return f.bdf, what(f), number, self.acs(f), self.why(f.bdf)

    def why(self, bdf: str) -> str:
        return self.found.reasons.get(bdf, "")

    def acs(self, f: Function) -> str:
        passed = self.found.acs.get(f.bdf)
        return "" if passed is None else "ACS ✓" if passed else "ACS ✗"

    def tree(self) -> list[Node]:
        """Return the tree in drawing order; equal leaves of one parent and one group become one node."""
        out: list[Node] = []
        tree = self.found.tree

        def walk(functions: Iterable[Function], depth: int) -> None:
            alike: dict[tuple[object, ...], Node] = {}
            for f in functions:
                if f.bdf not in self.kept:
                    continue
                below = [c for c in tree.children(f.bdf) if c.bdf in self.kept]
                leaf = not below and not f.is_bridge
                key = self.likeness(f)
                if leaf and key in alike:
                    alike[key].others.append(f)
                    continue
                node = Node(f, depth, row=len(out))
                out.append(node)
                if leaf:
                    alike[key] = node
                walk(below, depth + 1)

        walk((f for f in tree.values() if tree.parent(f.bdf) is None), 0)
        return out

    def likeness(self, f: Function) -> tuple[object, ...]:
        """Return what two functions must share to be drawn as one: their class, and one group or each a group of its own."""
        number = self.number.get(f.bdf)
        alone = number is not None and len(self.found.groups[number]) == 1
        return f.class_code, f.driver, f.kind, f.acs, f.vendor if alone else number

    def place(self, node: Node) -> tuple[float, float]:
        return self.left + INDENT * node.depth, node.y

    def link(self, node: Node) -> None:
        parent = next((n for n in reversed(self.nodes[: node.row]) if n.depth == node.depth - 1), None)
        if parent is None or not node.depth:
            return
        (x, y), (x2, y2) = self.place(parent), self.place(node)
        points = ((x + 12, y + parent.tall), (x + 12, y2 + node.tall / 2), (x2, y2 + node.tall / 2))
        self.page.add(Poly(points, "link"))

    def neighbours(self) -> list[tuple[int, list[Node]]]:
        """Return the groups in drawing order, each with its nodes; one whose nodes are not neighbours comes once for each stretch."""
        stretches: list[tuple[int, list[Node]]] = []
        for node in self.nodes:
            number = self.number.get(node.function.bdf)
            if number is None:
                continue
            if stretches and stretches[-1][0] == number and stretches[-1][1][-1].row == node.row - 1:
                stretches[-1][1].append(node)
            else:
                stretches.append((number, [node]))
        return stretches

    def stack(self) -> None:
        """Put the nodes below each other, each as tall as its words, and together as tall as what is told beside their group."""
        for node in self.nodes:
            node.lines = self.lines(node)
            node.tall = max(TALL, 12.0 + 14 * len(node.lines))
        for number, members in self.stretches:
            lacking = 14.0 * len(self.beside(number, members)) - sum(node.tall + GAP for node in members)
            for node in members:
                node.tall += max(0.0, round(lacking / len(members), 1))
        for node in self.nodes:
            node.y = self.page.y
            self.page.y += node.tall + GAP

    def edge(self, members: list[Node]) -> float:
        """Return where the hull around some nodes ends at the right."""
        return round(max(self.place(n)[0] for n in members) + self.column + 7, 1)

    def hulls(self) -> None:
        """Draw each group around its nodes, and beside it its number and why it is one."""
        for number, members in self.stretches:
            x, right = min(self.place(n)[0] for n in members) - 7, self.edge(members)
            y, y2 = members[0].y - 4, members[-1].y + members[-1].tall + 4
            self.page.add(Box(round(x, 1), round(y, 1), round(right - x, 1), round(y2 - y, 1), "hull", f"group {number}", round=9))
            lines = self.beside(number, members)
            first = (y + y2) / 2 + 4 - 6.5 * (len(lines) - 1)
            for n, (words, look, bold) in enumerate(lines):
                self.page.add(Text.plain(right + 8, round(first + 13 * n, 1), words, look, bold=bold))

    def beside(self, number: int, members: list[Node]) -> list[tuple[str, str, bool]]:
        """Return the lines beside a group: every stretch of it has its number."""
        part = " (part)" if self.parts[number] > 1 else ""
        lines = [(self.group_word(number, members[0]) + part, "ink", True), (self.joins(members), "muted", False)]
        return folded(lines, self.page.right - self.edge(members) + 4)

    def group_word(self, number: int, node: Node) -> str:
        if not node.others or len(self.found.groups[number]) > 1:
            return f"group {number}"
        numbers = [number, *(self.number[f.bdf] for f in node.others)]
        return "groups " + (", ".join(map(str, numbers)) if len(numbers) <= 4 else f"{numbers[0]}, {numbers[1]} … {numbers[-1]}")

    def joins(self, members: list[Node]) -> str:
        """Return the first reason that says why these are one group; nothing if each stands alone."""
        devices = [f.bdf for n in members for f in (n.function, *n.others)]
        return next((self.why(d) for d in devices if d in self.found.joins), "")

    def lines(self, node: Node) -> list[tuple[str, str, bool]]:
        """Return the lines of a node's card: its address and what it is, then its ACS, driver and name."""
        f = node.function
        many = f"  ×{len(node.others) + 1}" if node.others else ""
        acs = self.acs(f) if f.is_bridge or f.multifunction else ""
        second = " · ".join(filter(None, (acs, f.driver, "" if node.others else f.name.partition(": ")[2])))
        return folded([(f"{short(f.bdf)}  {what(f)}{many}", "ink", True), (second, "muted", False)], self.column)

    def card(self, node: Node) -> None:
        x, y = self.place(node)
        shapes, _ = card(x, y, self.column, node.lines, tip=self.why(node.function.bdf), height=node.tall)
        self.page.add(*shapes)
        if node.function.bdf not in self.number:
            self.page.add(Text.plain(round(x + self.column + 15, 1), y + node.tall / 2 + 4, "no group", "muted"))


def what(f: Function) -> str:
    """Name what a function is: its port type, the class in its name or of its code, else `function`."""
    if f.is_bridge and f.kind in PORTS:
        return PORTS[f.kind]
    return f.name.partition(": ")[0] or CLASSES.get((f.class_code or 0) >> 8, f.kind or "function")
