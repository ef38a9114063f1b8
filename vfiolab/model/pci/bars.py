"""Base address registers: the bus addresses at which a function answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vfiolab.model.address import Span
from vfiolab.model.pci.topology import Function, Topology

#: Size of BAR 0 by class where a machine file does not know the BARs: as QEMU's devices have them.
ASSUMED_BAR = {0x02: 128 << 10, 0x0108: 16 << 10}
ASSUMED_ELSE = 1 << 20
ASSUMED_BASE = 0xE0_0000_0000


def bars_of(function: Function, known: Sequence[Span] = ()) -> tuple[Span, ...]:
    """Return the BARs: those of the machine file in its order, else one at an invented bus address, sized by class (an assumption)."""
    if known:
        return tuple(known)
    if function.is_bridge:
        return ()
    klass = (function.class_code or 0) >> 8
    size = ASSUMED_BAR.get(klass, ASSUMED_BAR.get(klass >> 8, ASSUMED_ELSE))
    return (Span.sized(ASSUMED_BASE + (function.segment << 16 | function.requester_id) * ASSUMED_ELSE, size),)


def bar_at(topology: Topology, known: Mapping[str, Sequence[Span]], physical: int) -> str | None:
    """Return the device in one of whose BARs a bus address lies; None where no BAR is."""
    if physical >= ASSUMED_BASE:
        names: Iterable[str] = topology
    else:
        names = known
    return next((bdf for bdf in names if any(bar.contains(physical) for bar in bars_of(topology[bdf], known.get(bdf, ())))), None)
