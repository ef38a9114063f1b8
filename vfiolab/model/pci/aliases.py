"""The other ids under which a function's DMA may arrive at the IOMMU.

Mirrors ``pci_for_each_dma_alias`` (drivers/pci/search.c) and ``pci_devs_are_dma_aliases``
(drivers/pci/pci.c).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.quirks import QUIRKS, UNREADABLE_ALIASES, AliasQuirk, Quirks
from vfiolab.model.pci.topology import Function, Topology

__all__ = ["Alias", "AliasFinder"]

#: Segments from here on belong to Intel VMD controllers (drivers/pci/controller/vmd.c).
FIRST_VMD_SEGMENT = 0x10000
_VMD_IDS = frozenset({0x201D, 0x28C0, 0x467F, 0x4C3D, 0xA77F, 0x7D0B, 0xAD0B, 0x9A0B, 0xB60B, 0xB06F})


class Alias(NamedTuple):
    """One id that a function's DMA may carry: the function owning it, and how it comes about.

    ``kind``: self, real-dma, quirk, bridge.
    """

    requester_id: int
    owner: str
    kind: str
    why: str


class AliasFinder:
    """Finds the aliases of one machine's functions.

    ``dropped`` holds pairs (device, bridge or DMA device) to leave out: a what-if.
    """

    def __init__(self, topology: Topology, kernel: Kernel, *, quirks: Quirks = QUIRKS, dropped: Collection[tuple[str, str]] = ()) -> None:
        self.topology, self.kernel, self.quirks, self.dropped = topology, kernel, quirks, frozenset(dropped)
        self.doubts: dict[str, str] = {}
        self._made: dict[str, tuple[Alias, ...]] = {}
        self._vmd = _vmd_controllers(topology)
        self._masks: dict[str, frozenset[int]] = {}
        self._masked_on_bus: dict[tuple[int, int], list[Function]] = {}
        if self._vmd and self.kernel.in_gap("vmd_real_dma"):
            self.doubts.update((bdf, f"{bdf}: {self.kernel.doubt('vmd_real_dma')}") for bdf in self._vmd.values())
        for f in topology.values():
            mask = self._quirk_devfns(f)
            if mask:
                self._masks[f.bdf] = mask
                self._masked_on_bus.setdefault((f.segment, f.bus), []).append(f)

    def real_dma(self, f: Function) -> str | None:
        """Return the function whose id this one's DMA carries (Intel VMD), from 5.7 on; None if its own."""
        if f.real_dma is None and not self._vmd:
            return None
        named = f.real_dma or self._vmd.get(f.segment)
        if named is None or named not in self.topology or (f.bdf, named) in self.dropped:
            return None
        return named if self.kernel.has("vmd_real_dma") else None

    def vmd(self, f: Function) -> str | None:
        """Return the VMD controller in front of this function, whatever the kernel makes of it."""
        return f.real_dma or self._vmd.get(f.segment)

    def of(self, bdf: str) -> Iterator[Alias]:
        """Yield the aliases in the order of the kernel's callbacks: own id first, then upward."""
        f = self.topology[bdf]
        if self.real_dma(f) is None:
            yield Alias(f.requester_id, f.bdf, "self", "its own id")
            for devfn in sorted(self._masks.get(bdf, ())):
                yield Alias(f.bus << 8 | devfn, bdf, "quirk", f"its DMA may carry {f.bus:02x}:{devfn >> 3:02x}.{devfn & 7}")
        yield from self.of_others(bdf)

    def of_others(self, bdf: str) -> Iterator[Alias]:
        """Yield those aliases that another function owns."""
        at = bdf
        real = self.real_dma(self.topology[bdf])
        if real is not None:
            at, owner = real, self.topology[real]
            why = f"the DMA of what is behind the VMD controller carries its id {short(real)}"
            yield Alias(owner.requester_id, real, "real-dma", why)
        for alias in self._made_above(at):
            if (bdf, alias.owner) not in self.dropped:
                yield alias

    def _made_above(self, bdf: str) -> tuple[Alias, ...]:
        """Return the aliases that the bridges above make: the same for all that is below one bridge."""
        above = self.topology.parent(bdf)
        if above is None:
            return ()
        if above.bdf not in self._made:
            for bridge in reversed(list(takewhile(lambda f: f.bdf not in self._made, self.topology.path(bdf)))):
                alias, higher = self._bridge_alias(bridge), self._made_above(bridge.bdf)
                made = higher if alias is None else (alias, *higher)
                self._made[bridge.bdf] = () if self._rewrites("translation-root", bridge) else made
        return self._made[above.bdf]

    def peers(self, bdf: str) -> Iterator[Function]:
        """Yield the functions on the same bus that this one aliases, or that alias it, in scan order."""
        f = self.topology[bdf]
        mask = self._masks.get(bdf, frozenset())
        maskers = self._masked_on_bus.get((f.segment, f.bus), [])
        if not mask and not maskers:
            return
        candidates = self.topology.on_bus(bdf) if mask else maskers
        for other in candidates:
            if other.bdf == bdf or (bdf, other.bdf) in self.dropped or self.topology.parent(other.bdf) is not self.topology.parent(bdf):
                continue
            if other.devfn in mask or f.devfn in self._masks.get(other.bdf, ()):
                yield other

    def _bridge_alias(self, bridge: Function) -> Alias | None:
        below = (bridge.secondary or 0) << 8
        if bridge.kind == "pcie-to-pci" or (bridge.kind == "pci-bridge" and self._hidden_pcie(bridge)):
            why = f"{short(bridge.bdf)} hands on the DMA of everything behind it under one id, {below >> 8:02x}:00.0"
            return Alias(below, bridge.bdf, "bridge", why)
        if bridge.kind in {"pci-bridge", "pci-to-pcie"}:
            return Alias(
                bridge.requester_id, bridge.bdf, "bridge", f"{short(bridge.bdf)} hands on the DMA of everything behind it under its own id"
            )
        return None

    def _hidden_pcie(self, bridge: Function) -> bool:
        above = self.topology.parent(bridge.bdf)
        is_express = above is not None and above.express_type is not None and above.kind != "pcie-to-pci"
        return is_express and self._rewrites("bridge-without-pcie", bridge)

    def _rewrites(self, family: str, f: Function) -> bool:
        return any(row.family == family and self._landed(row, f) for row in self.quirks.alias_rows(f))

    def _quirk_devfns(self, f: Function) -> frozenset[int]:
        found: set[int] = set()
        for row in self.quirks.alias_rows(f):
            devfns = row.devfns(f)
            if devfns and row.family == "fixed-devfn":
                self.doubts[f.bdf] = (
                    f"{f.bdf}: taken to be an Adaptec 3405 or 3805, whose DMA carries slot 01.0 too; other cards with this id do not"
                )
            if devfns and self._landed(row, f):
                found |= devfns
        if self.quirks.aliases and UNREADABLE_ALIASES.matches(f):
            self.doubts[f.bdf] = f"{f.bdf}: a Switchtec NTB's proxy ids stand in its device memory, not in any listing; taken to have none"
        return frozenset(found)

    def _landed(self, row: AliasQuirk, f: Function) -> bool:
        landed = True if row.first_seen is None else self.kernel.landed(row.first_seen, row.absent_in, row.stable)
        if landed is None:
            self.doubts[f.bdf] = (
                f"{f.bdf}: Linux knows an alias of this device from {row.first_seen} on and not in {row.absent_in};"
                f" kernel {self.kernel} lies between and is taken not to know it"
            )
        return bool(landed)


def _vmd_controllers(topology: Topology) -> dict[int, str]:
    """Pair the segments from 0x10000 on with the VMD controllers, both in scan order, as Linux numbers them."""
    segments = sorted({f.segment for f in topology.values() if f.segment >= FIRST_VMD_SEGMENT})
    if not segments:
        return {}
    controllers = [f.bdf for f in topology.values() if f.segment < FIRST_VMD_SEGMENT and f.vendor == 0x8086 and f.device in _VMD_IDS]
    if not controllers:  # an id that the table does not know, or a listing without ids: VMD shows itself as RAID
        raids = [f for f in topology.values() if f.segment < FIRST_VMD_SEGMENT and (f.class_code or 0) >> 8 == 0x0104]
        controllers = [f.bdf for f in raids if f.vendor in {None, 0x8086}]
    if len(controllers) == 1:
        return dict.fromkeys(segments, controllers[0])
    return {segment: controllers[segment - FIRST_VMD_SEGMENT] for segment in segments if segment - FIRST_VMD_SEGMENT < len(controllers)}


def short(bdf: str) -> str:
    """Write an address as lspci does: without the segment where that is 0."""
    return bdf.removeprefix("0000:")


def some(bdfs: Sequence[str], most: int) -> str:
    """List addresses; of more than `most` the first ones, and how many more there are."""
    return ", ".join(map(short, bdfs[:most])) + (f" and {len(bdfs) - most} more" if len(bdfs) > most else "")
