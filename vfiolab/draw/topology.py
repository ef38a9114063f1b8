"""The topology picture: bridges and devices as a tree, left to right, and each IOMMU group as a hull with its number."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vfiolab.draw.measure import wrap
from vfiolab.draw.page import LEAST_WIDTH, MARGIN, Page, card
from vfiolab.draw.shapes import Box, Line, Picture, Poly, Text
from vfiolab.draw.words import count
from vfiolab.model.aliases import short
from vfiolab.model.pci import Function

if TYPE_CHECKING:
    from vfiolab.model.grouping import Grouping

ROW, TALL, INDENT = 50.0, 40.0, 34.0
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


def topology(grouping: Grouping, *, width: int = 900, only: Iterable[str] = ()) -> Picture:
    """Draw a machine's tree and its IOMMU groups; `only` are devices to which the picture is narrowed, with the bridges above them."""
    tree = grouping.topology
    kept = {f.bdf for bdf in only for f in (tree[bdf], *tree.path(bdf))} if only else set(tree)
    nodes = _nodes(grouping, kept)
    page = Page(max(width, LEAST_WIDTH))
    numbers = sorted({grouping.group_of(b) for b in kept if grouping.mates(b)})
    shared = [n for n in numbers if len(grouping.groups[n]) > 1]
    title = f"{count(len(kept), 'function')} in {count(len(numbers), 'IOMMU group')}"
    said = (
        f"{count(len(shared), 'group')} hold{'s' if len(shared) == 1 else ''} more than one function: given away only as a whole."
        if shared
        else "Every function is a group of its own: each can be given away alone."
    )
    page.heading(title, said)
    top = page.y + 4
    deepest = max((n.depth for n in nodes), default=0)
    left = MARGIN + 26
    column = min(250.0, page.right - left - INDENT * deepest - 12)
    _hulls(page, grouping, nodes, left, top, column)
    for n in nodes:
        _link(page, nodes, n, left, top)
    for n in nodes:
        _node(page, grouping, n, left, top, column)
    page.y = top + ROW * len(nodes) + 4
    page.key(
        [
            ("hull", "IOMMU group: the least that can be given away"),
            ("card", "function; bridges hold what is indented below them"),
        ]
    )
    page.note(
        "ACS ✓: a request must climb to the root, so functions below are isolated. ACS ✗: peers can reach each other behind the IOMMU's back."
    )
    table = [
        (f.bdf, _what(f), "-" if not grouping.mates(f.bdf) else str(grouping.group_of(f.bdf)), _acs(grouping, f), _why(grouping, f.bdf))
        for f in tree.values() if f.bdf in kept
    ]  # fmt: skip
    told = " ".join(f"Group {n}: {', '.join(short(b) for b in grouping.groups[n])}." for n in shared[:12])
    return page.finish(title, f"{said} {told}", ("device", "what", "group", "ACS", "why"), table)


def _nodes(grouping: Grouping, kept: set[str]) -> list[Node]:
    """Return the tree in drawing order; equal leaves of one parent and one group become one node."""
    tree = grouping.topology
    out: list[Node] = []

    def walk(functions: Iterable[Function], depth: int) -> None:
        alike: dict[tuple[object, ...], Node] = {}
        for f in functions:
            if f.bdf not in kept:
                continue
            below = [c for c in tree.children(f.bdf) if c.bdf in kept]
            key = (
                f.vendor,
                f.device,
                f.class_code,
                f.driver,
                f.kind,
                len(grouping.mates(f.bdf)) == 1 or grouping.mates(f.bdf),
            )
            if not below and not f.is_bridge and key in alike:
                alike[key].others.append(f)
                continue
            node = Node(f, depth, row=len(out))
            out.append(node)
            if not below and not f.is_bridge:
                alike[key] = node
            walk(below, depth + 1)

    walk((f for f in tree.values() if tree.parent(f.bdf) is None), 0)
    return out


def _what(f: Function) -> str:
    if f.is_bridge and f.kind in PORTS:
        return PORTS[f.kind]
    return f.name or CLASSES.get((f.class_code or 0) >> 8, f.kind or "function")


def _acs(grouping: Grouping, f: Function) -> str:
    verdict = grouping.verdicts.get(f.bdf)
    return "" if verdict is None else "ACS ✓" if verdict.passed else "ACS ✗"


def _why(grouping: Grouping, bdf: str) -> str:
    reason = grouping.reasons.get(bdf)
    return str(reason) if reason is not None else grouping.left_out.get(bdf, "")


def _place(node: Node, left: float, top: float) -> tuple[float, float]:
    return left + INDENT * node.depth, top + ROW * node.row


def _link(page: Page, nodes: list[Node], node: Node, left: float, top: float) -> None:
    parent = next((n for n in reversed(nodes[: node.row]) if n.depth == node.depth - 1), None)
    if parent is None:
        return
    x, y = _place(parent, left, top)
    x2, y2 = _place(node, left, top)
    page.add(Poly(((x + 12, y + TALL), (x + 12, y2 + TALL / 2), (x2, y2 + TALL / 2)), "link"))


def _hulls(page: Page, grouping: Grouping, nodes: list[Node], left: float, top: float, column: float) -> None:
    """Draw each group around its nodes; a group whose nodes are not neighbours gets one hull for each stretch, all with its number."""
    stretches: list[tuple[int, list[Node]]] = []
    for node in nodes:
        if not grouping.mates(node.function.bdf):
            continue
        number = grouping.group_of(node.function.bdf)
        if stretches and stretches[-1][0] == number and stretches[-1][1][-1].row == node.row - 1 and not node.others:
            stretches[-1][1].append(node)
        else:
            stretches.append((number, [node]))
    parts: dict[int, int] = {}
    for number, _ in stretches:
        parts[number] = parts.get(number, 0) + 1
    for number, members in stretches:
        x = min(_place(n, left, top)[0] for n in members) - 7
        right = max(_place(n, left, top)[0] for n in members) + column + 7
        y, y2 = top + ROW * members[0].row - 4, top + ROW * members[-1].row + TALL + 4
        page.add(
            Box(round(x, 1), round(y, 1), round(right - x, 1), round(y2 - y, 1), "hull", f"group {number}", round=9)
        )
        alone = members[0].others
        words = (
            f"groups {number}, {grouping.group_of(alone[0].bdf)}…"
            if alone and len(grouping.groups[number]) == 1
            else f"group {number}"
        )
        more = " (part)" if parts[number] > 1 else ""
        _beside(page, round(right + 8, 1), (y, y2), words + more, _joins(grouping, members))


def _joins(grouping: Grouping, members: list[Node]) -> str:
    """Return the reason that best says why these are one group; nothing if each stands alone."""
    devices = [f.bdf for n in members for f in (n.function, *n.others)]
    reasons = [grouping.reasons[d] for d in devices if d in grouping.reasons]
    return next((str(r) for r in reasons if r.joins is not None), "")


def _beside(page: Page, x: float, span: tuple[float, float], name: str, why: str) -> None:
    lines = wrap(why, page.right - x, 10.5, lines=max(1, min(3, int((span[1] - span[0] - 12) / 13)))) if why else []
    y = (span[0] + span[1]) / 2 + 4 - 6.5 * len(lines)
    page.add(Text.plain(x, round(y, 1), name, bold=True))
    for n, line in enumerate(lines, 1):
        page.add(Text.plain(x, round(y + 13 * n, 1), line, "muted", size=10.5))


def _node(page: Page, grouping: Grouping, node: Node, left: float, top: float, column: float) -> None:
    x, y = _place(node, left, top)
    f = node.function
    many = f"  ×{len(node.others) + 1}" if node.others else ""
    acs = _acs(grouping, f) if f.is_bridge or f.multifunction else ""
    second = " · ".join(p for p in (acs, f.driver or "no driver") if p)
    shapes, _ = card(
        x,
        y,
        column,
        [(f"{short(f.bdf)}  {_what(f)}{many}", "ink", True), (second, "muted", False)],
        "card",
        _why(grouping, f.bdf),
        TALL,
    )
    page.add(*shapes)
    if f.bdf in grouping.left_out:
        page.add(Text.plain(round(x + column + 15, 1), y + TALL / 2 + 4, "no group", "muted"), Line(x, y, x, y, "rule"))
