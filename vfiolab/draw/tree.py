"""A machine's functions as rows, in the order of the tree: what is equal is one row; seen once, or before and after a change."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from vfiolab._text import count
from vfiolab.draw.stage.measure import text_width, wrap
from vfiolab.draw.stage.page import card, folded
from vfiolab.draw.stage.shapes import Box, Poly, Shape, Text
from vfiolab.draw.stage.text import WIDTH
from vfiolab.model.machine import Host
from vfiolab.model.pci.acs import Verdict
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.grouping import Grouping
from vfiolab.model.pci.topology import Function, Topology

INDENT = 26.0  # of what hangs below a bridge, at most
MOST_RUNS, MOST_LISTED = 5, 3  # of numbers, and of addresses, in words
CLASSES = {
    0x0106: "SATA", 0x0108: "NVMe", 0x0200: "Ethernet", 0x0280: "Wi-Fi", 0x0300: "graphics", 0x0302: "3D", 0x0403: "audio",
    0x0600: "host bridge", 0x0601: "ISA bridge", 0x0604: "bridge", 0x0806: "IOMMU", 0x0C03: "USB", 0x0C05: "SMBus", 0x0580: "memory",
    0x1080: "crypto", 0x0880: "system", 0x1300: "non-essential",
}  # fmt: skip
PORTS = {
    "root-port": "root port", "upstream": "switch, upstream port", "downstream": "switch, downstream port",
    "pcie-to-pci": "PCIe-to-PCI bridge", "pci-bridge": "PCI bridge", "pci-to-pcie": "PCI-to-PCIe bridge",
}  # fmt: skip
#: What lspci writes of a maker after its name, and what numbers it adds.
_MAKER = re.compile(
    r"^(?P<who>[^\[\]]{2,40}?),? (?:Inc|Corp|Corporation|Co|Ltd|LLC|Limited)\b[.,]*(?: Ltd\.?)?(?: \[(?P<nick>[^\[\]]{2,12})\])? "
)
_NUMBERS = re.compile(r"(?: \[[0-9a-f]{4}(?::[0-9a-f]{4})?\])?(?: \(rev [0-9a-f]+\))?$")
Lines = list[tuple[str, str, bool]]


@dataclass(frozen=True, slots=True)
class Groups:
    """What a picture needs: the tree, the groups by number, each device's reason, who joined another, the ACS verdicts, the drivers."""

    tree: Topology
    groups: Mapping[int, tuple[str, ...]]
    reasons: Mapping[str, str] = field(default_factory=dict)
    joins: frozenset[str] = frozenset()
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    drivers: Mapping[str, str | None] = field(default_factory=dict)
    number: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "number", {bdf: number for number, members in self.groups.items() for bdf in members})

    @classmethod
    def of(cls, source: Host | Grouping) -> Groups:
        """Read a computed grouping, or a host with its numbers and the drivers that devices are bound to now."""
        if isinstance(source, Host):
            known = cls(source.topology, {}) if source.grouping is None else cls.of(source.grouping)
            drivers = {bdf: source.drivers.driver_of(bdf) for bdf in source.topology if bdf in source.drivers}
            return replace(known, groups={group.id: group.devices for group in source.groups}, drivers=drivers)
        reasons = {bdf: str(reason) for bdf, reason in source.reasons.items()} | source.left_out
        joins = frozenset(bdf for bdf, reason in source.reasons.items() if reason.joins is not None)
        verdicts = source.verdicts | {f.bdf: source.verdict(f.bdf) for f in source.topology.values() if f.is_bridge}
        drivers = {f.bdf: f.driver for f in source.topology.values()}
        return cls(source.topology, dict(enumerate(source.groups)), reasons, joins, verdicts, drivers)

    def acs(self, bdf: str) -> str:
        """Say whether a function isolates, with the reason if not; nothing where nobody asked."""
        verdict = self.verdicts.get(bdf)
        if verdict is None:
            return ""
        if verdict.passed:
            return "ACS ✓ needs none" if "needs no ACS" in verdict.why else "ACS ✓ isolates"
        return f"ACS ✗ {verdict.why.removeprefix('ACS is there but ')}"

    def children(self, bdf: str | None) -> Iterable[Function]:
        """Return what is directly below a bridge, or on the root buses."""
        return self.tree.children(bdf) if bdf else [f for f in self.tree.values() if self.tree.parent(f.bdf) is None]

    def near(self, devices: Iterable[str]) -> set[str]:
        """Return those of these devices that are here, and the bridges above them."""
        return {one for bdf in devices if bdf in self.tree for one in (bdf, *(f.bdf for f in self.tree.path(bdf)))}


@dataclass
class Node:
    """A function in the tree, with `others` that are equal to it; `here`: on which of the sides it stands in this place."""

    function: Function
    depth: int
    here: tuple[bool, ...] = (True,)
    others: list[Function] = field(default_factory=list)
    lines: Lines = field(default_factory=list)
    aside: str = ""
    role: str = "card"
    y: float = 0.0
    tall: float = 0.0

    @property
    def all(self) -> list[Function]:
        """The functions that this row stands for."""
        return [self.function, *self.others]

    @property
    def heading(self) -> str:
        """What the row is about: addresses, what they are, and how many."""
        listed = [short(f.bdf) for f in self.all]
        where = ", ".join(listed) if len(listed) <= MOST_LISTED else f"{listed[0]} … {listed[-1]}"
        return f"{where}  {_NUMBERS.sub('', what(self.function))}" + (f"  ×{len(self.all)}" if self.others else "")

    @property
    def name(self) -> str:
        """The name that all of them have, its maker in short; empty if they differ, and for a bridge, of which the port type says more."""
        names = {"" if f.is_bridge else f.name.partition(": ")[2] for f in self.all}
        return _MAKER.sub(lambda found: f"{found['nick'] or found['who']} ", _NUMBERS.sub("", names.pop())) if len(names) == 1 else ""


def nodes(sides: Sequence[Groups], kept: set[str], words: Callable[[str], str]) -> list[Node]:
    """Return what is kept of one tree, or of the same before and after, row by row.

    Neighbours that are equal with all below them come once: in what they are, in their drivers and ACS, in `words` said of them, and in how
    they are grouped, each in groups of its own or all in one.
    """

    def below(bridge: str | None, here: tuple[bool, ...]) -> list[tuple[Function, tuple[bool, ...]]]:
        found = [{f.bdf: f for f in side.children(bridge) if on and f.bdf in kept} for side, on in zip(sides, here, strict=True)]
        merged = {bdf: f for side in found for bdf, f in side.items()}
        return [(f, tuple(f.bdf in side for side in found)) for f in sorted(merged.values(), key=lambda f: f.key)]

    def look(node: Node) -> tuple[object, ...]:
        f = node.function
        ids = (f.vendor, f.device) if f.is_for_users else f.vendor
        seen = tuple((side.drivers.get(f.bdf), side.acs(f.bdf)) for side in sides)
        return what(f), f.kind, ids, words(f.bdf), node.here, seen

    def likeness(part: list[Node]) -> tuple[object, ...]:
        """Return what two subtrees must share to be one; a group that is wholly inside counts by its place, another by its number."""
        bdfs = [f.bdf for node in part for f in node.all]
        grouped: list[tuple[str, int | None]] = []
        for side in sides:
            inside, places = Counter(side.number.get(bdf) for bdf in bdfs), dict[int | None, int]()
            for bdf in bdfs:
                n = side.number.get(bdf)
                whole = n is not None and inside[n] == len(side.groups[n])
                grouped.append(("own", places.setdefault(n, len(places))) if whole else ("", n))
        return *((node.depth, look(node), len(node.others)) for node in part), *grouped

    def walk(bridge: str | None, depth: int, on: tuple[bool, ...]) -> list[Node]:
        found: dict[tuple[object, ...], list[Node]] = {}
        for f, here in below(bridge, on):
            part = [Node(f, depth, here), *walk(f.bdf, depth + 1, here)]
            same = found.setdefault(likeness(part), part)
            for one, more in zip(same, part, strict=True):
                one.others += [] if same is part else more.all
        return [node for part in found.values() for node in part]

    return walk(None, 0, (True,) * len(sides))


def stretches(rows: Sequence[Node], side: Groups, at: int = 0) -> list[tuple[int, list[Node], str]]:
    """Return the groups of a side in the order of the rows, each with its rows and its name.

    One whose rows are not neighbours comes once for each stretch of them, and its name says so.
    """
    grouped = groupby(rows, lambda node: side.number.get(node.function.bdf) if node.here[at] else None)
    found = [(number, list(members)) for number, members in grouped if number is not None]
    parts, seen = Counter(number for number, _ in found), Counter[int]()
    out = []
    for number, members in found:
        seen[number] += 1
        part = f", part {seen[number]} of {parts[number]}" if parts[number] > 1 else ""
        out.append((number, members, numbers(side, members[0]) + part))
    return out


def numbers(side: Groups, node: Node, *, brief: bool = False) -> str:
    """Name the groups of a row; `brief`: in a column of numbers."""
    found = list(dict.fromkeys(side.number[f.bdf] for f in node.all if f.bdf in side.number))  # in step with the addresses
    listed = runs(found)
    if brief:
        return (listed if len(listed) < 16 else f"{found[0]}, {found[1]} … {found[-1]}") or "-"
    return "no group" if not found else f"group {listed}" if len(found) == 1 else f"{count(len(found), 'group')}: {listed}"


def runs(found: Sequence[int]) -> str:
    """Write numbers in order, three or more neighbours as a run.

    >>> runs([0, 3, 4, 6, 7, 8, 10])
    '0, 3, 4, 6 … 8, 10'
    """
    parts = [[n for _, n in part] for _, part in groupby(enumerate(found), lambda pair: pair[1] - pair[0])]
    said = [f"{part[0]} … {part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts]
    return ", ".join(said if len(said) <= MOST_RUNS else [*said[:2], f"… {found[-1]}"])


def what(f: Function) -> str:
    """Name what a function is: its port type, the class in its name or of its code, else `function`."""
    if f.is_bridge and f.kind in PORTS:
        return PORTS[f.kind]
    known = CLASSES.get((f.class_code or 0) >> 8)
    return f.name.partition(": ")[0] or (f"{known} VF" if known and f.kind == "vf" else known or f.kind or "function")


@dataclass
class Cards:
    """Where the cards of rows stand: from `left` on, each level `indent` further in, `column` wide."""

    left: float
    indent: float
    column: float

    @classmethod
    def fit(cls, rows: Sequence[Node], left: float, room: float, *, share: float = 1.0) -> Cards:
        """Give the deepest row its place: the levels take a third of the room at most, the cards `share` of what is left."""
        deepest = max((node.depth for node in rows), default=0)
        indent = min(INDENT, room / 3 / max(1, deepest))
        return cls(left, indent, (room - indent * deepest) * share)

    def x(self, node: Node) -> float:
        """Return the left edge of a card."""
        return round(self.left + self.indent * node.depth, 1)

    def write(self, node: Node, lines: Iterable[tuple[str, str, bool]], driver: str) -> None:
        """Give a row its words, folded, and the height that they need; a driver too long for a badge stands in the words."""
        badge = self.badge(driver)
        room = self.column - (badge + 6 if badge else 0)
        first, *rest = [line for line in lines if line[0]]
        rest = rest if badge or not driver else [(driver, "muted", False), *rest]
        if rest and rest[0][1] == "muted" and self.after(first[0]) + text_width(rest[0][0]) <= room - 6:
            node.aside = rest.pop(0)[0]
        node.lines = [*folded([first], room), *folded(rest, self.column)]
        node.tall = 10.0 + 14 * len(node.lines)

    def after(self, heading: str) -> float:
        """Return how far behind a card's left edge there is room beside its heading."""
        return 18 + text_width(heading, bold=True)

    def badge(self, driver: str) -> float:
        """Return the width of a driver's badge; 0 without one."""
        wide = text_width(driver) + 10 if driver else 0.0
        return wide if wide < self.column * 0.4 else 0.0

    def draw(self, node: Node, driver: str, tip: str = "") -> list[Shape]:
        """Return a row's card with the badge of its driver."""
        shapes, _ = card(self.x(node), node.y, self.column, node.lines, role=node.role, tip=tip, height=node.tall)
        wide, first = self.badge(driver), node.y + (node.tall - 14 * len(node.lines)) / 2
        if node.aside:
            shapes.append(Text.plain(round(self.x(node) + self.after(node.heading), 1), round(first + 10.5, 1), node.aside, "muted"))
        if wide:
            x = round(self.x(node) + self.column - wide - 4, 1)
            shapes.append(Box(x, round(first - 0.5, 1), round(wide, 1), 15, "badge", f"bound to {driver}", round=7))
            shapes.append(Text.plain(round(x + 5, 1), round(first + 10.5, 1), driver))
        return shapes

    def links(self, rows: Sequence[Node]) -> Iterator[Poly]:
        """Yield the lines from each bridge to what hangs below it."""
        above: dict[int, Node] = {}
        for node in rows:
            above[node.depth] = node
            if node.depth:
                parent = above[node.depth - 1]
                x, y = self.x(parent) + self.indent * 0.4, node.y + node.tall / 2
                yield Poly(((x, parent.y + parent.tall), (x, y), (self.x(node), y)), "link")


def stack(rows: Sequence[Node], y: float, gap: float, beside: Iterable[tuple[list[Node], float]]) -> float:
    """Put rows below each other, some of them together as tall as what stands beside them; return where they end."""
    for members, least in beside:
        lacking = least - sum(node.tall for node in members) - gap * (len(members) - 1)
        for node in members:
            node.tall += max(0.0, round(lacking / len(members), 1))
    for node in rows:
        node.y = round(y, 1)
        y += node.tall + gap
    return y


def told(x: float, middle: float, lines: Lines, anchor: str = "start") -> Iterator[Text]:
    """Yield lines of text around a height."""
    for n, (words, look, bold) in enumerate(lines):
        yield Text.plain(round(x, 1), round(middle + 4 - 6.5 * (len(lines) - 1) + 13 * n, 1), words, look, bold=bold, anchor=anchor)


def as_text(
    heads: Sequence[str], columns: Sequence[Callable[[Node], str]], rows: Sequence[Node], say: Callable[[Node], Iterable[str]]
) -> list[str]:
    """Return rows as lines of a text: narrow columns, then the tree with all that is said of a row, folded below its address."""
    cells = [list(heads), *([column(node) for column in columns] for node in rows)]
    wide = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    starts = ["".join(f"{cell:<{width}}" for cell, width in zip(row, wide, strict=True)) for row in cells]
    out = [starts[0].rstrip()]
    for node, start in zip(rows, starts[1:], strict=True):
        inner = " " * (len(start) + 2 * min(node.depth, 9))
        said = (" ".join(line.split()) for line in say(node))
        lines = [inner + part for line in said for part in textwrap.wrap(line, WIDTH - len(inner), break_on_hyphens=False)]
        out += [start + lines[0][len(start) :], *lines[1:]]
    return out


def fit_lines(lines: Iterable[tuple[str, str, bool]], room: float) -> Lines:
    """Fold lines that stand beside a hull."""
    return [(part, look, bold) for words, look, bold in lines if words for part in wrap(words, room, bold=bold)]
