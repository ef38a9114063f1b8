"""Base address registers: the bus addresses at which a function answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vfiolab.model.address import Span
from vfiolab.model.pci.topology import Function, Topology

#: Sizes of the BARs by class where a machine file does not know them: as QEMU's devices have them (e1000e, nvme). 0: there is no such BAR.
ASSUMED_BARS = {0x02: (128 << 10, 0, 0, 16 << 10), 0x0108: (16 << 10,)}
ASSUMED_ELSE = (1 << 20,)
ASSUMED_BASE, ASSUMED_ROOM = 0xE0_0000_0000, 1 << 20


class Bar(NamedTuple):
    """A base address register: `size` bytes from the bus address `start`; 0 bytes: the function has none of this number."""

    start: int
    size: int

    @property
    def span(self) -> Span | None:
        """The bus addresses, None if there are none."""
        return Span.sized(self.start, self.size) if self.size else None


def bars_of(function: Function, known: Sequence[Span] = ()) -> tuple[Bar, ...]:
    """Return the BARs: those of the machine file in its order, else some at invented bus addresses, sized by class (an assumption)."""
    if known:
        return tuple(Bar(span.start, span.size) for span in known)
    if function.is_bridge:
        return ()
    klass = (function.class_code or 0) >> 8
    sizes = ASSUMED_BARS.get(klass, ASSUMED_BARS.get(klass >> 8, ASSUMED_ELSE))
    if not function.msix:
        sizes = sizes[:1]
    base = ASSUMED_BASE + (function.segment << 16 | function.requester_id) * ASSUMED_ROOM
    return tuple(Bar(base + sum(sizes[:number]), size) for number, size in enumerate(sizes))


def msix_bar(function: Function, bars: Sequence[Bar]) -> int | None:
    """Return the number of the BAR that holds the MSI-X table: the last one, nobody having recorded it; None without MSI-X or BARs."""
    return max((number for number, bar in enumerate(bars) if bar.size >= 4096), default=None) if function.msix else None


def bar_at(topology: Topology, known: Mapping[str, Sequence[Span]], physical: int) -> str | None:
    """Return the device in one of whose BARs a bus address lies; None where no BAR is."""
    names: Iterable[str] = topology if physical >= ASSUMED_BASE else known
    return next(
        (bdf for bdf in names if any(bar.span and bar.span.contains(physical) for bar in bars_of(topology[bdf], known.get(bdf, ())))), None
    )
