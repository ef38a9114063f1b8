"""Which functions Linux asks for a group, and in which order.

Order: drivers/pci/probe.c (``pci_scan_child_bus_extend``) and drivers/iommu/iommu.c (``bus_iommu_probe``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from vfiolab.model.pci.aliases import FIRST_VMD_SEGMENT, AliasFinder, short
from vfiolab.model.pci.topology import Function, Topology

__all__ = ["below", "leaves_out", "scan_order"]


def scan_order(topology: Topology) -> Iterator[Function]:
    """Yield functions as Linux adds them: a bus in slot order, then bridge by bridge the buses below."""
    roots: dict[tuple[int, int], list[Function]] = {}
    for f in topology.values():
        if topology.parent(f.bdf) is None:
            roots.setdefault((f.segment, f.bus), []).append(f)
    stack: list[tuple[Function, ...]] = [tuple(bus) for _, bus in sorted(roots.items(), reverse=True)]
    while stack:
        bus = stack.pop()
        yield from bus
        stack.extend(children for f in reversed(bus) if (children := topology.children(f.bdf)))


def below(topology: Topology, bdf: str) -> Iterator[Function]:
    """Yield everything below a bridge."""
    stack = list(topology.children(bdf))
    while stack:
        f = stack.pop()
        yield f
        stack.extend(topology.children(f.bdf))


def leaves_out(f: Function, aliases: AliasFinder, participants: Collection[str] | None) -> str:
    """Return why a function takes no part in groups; "" if it does.

    ``participants``: the devices behind an IOMMU, where somebody recorded them.
    """
    if participants is not None:
        return "" if f.bdf in participants else "it is not behind an IOMMU on this machine"
    if f.is_iommu:
        return "it is an IOMMU itself"
    if f.vendor == 0x1022 and (f.class_code or 0) >> 8 == 0x0600 and f.key[2:] == (0, 0):
        iommu = next((o for o in aliases.topology.siblings(f.bdf) if o.is_iommu), None)
        if iommu is not None:
            return f"AMD's firmware tables leave the root complex beside the IOMMU {short(iommu.bdf)} out"
    if f.segment >= FIRST_VMD_SEGMENT and aliases.vmd(f) and not aliases.kernel.has("vmd_real_dma"):
        return f"kernel {aliases.kernel} gives no group to what is behind a VMD controller"
    return ""
