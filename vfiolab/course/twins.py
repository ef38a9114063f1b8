"""The same hardware and kernel twice: VFIO's own container, and iommufd's layer behind the same descriptor."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter

from vfiolab.course.answer import Answer, answer
from vfiolab.kit import AddressSpace, Table, load
from vfiolab.kit.host import boot

__all__ = ["TWIN_CALLS", "carry_out_twins", "twin_answers", "twins"]

NIC = "0000:01:00.0"
ATTACH, OPEN = ("attach", NIC), ("open", NIC)
RAM = ("map", 0x1000_0000, "1M", "RAM")
#: A call in words: the verbs of a space that come before it, and its own.
TWIN_CALLS: dict[str, tuple[tuple[object, ...], ...]] = {
    "choose without a group": (("container.set_iommu", 3),),
    "map half a page, no device open": (ATTACH, ("map", 0x1000_0000, 0x800)),
    "map over the window, no device open": (ATTACH, ("map", 0xFEE0_0000, "1M")),
    "open a device after that": (ATTACH, ("map", 0xFEE0_0000, "1M"), OPEN),
    "map over the window, device open": (ATTACH, OPEN, ("map", 0xFEE0_0000, "1M")),
    "map where something is mapped": (ATTACH, OPEN, RAM, ("map", 0x1000_0000, "64K")),
    "unmap half of a mapping": (ATTACH, RAM, ("container.unmap_dma", 0x1000_0000, 0x1000)),
    "start dirty tracking": (ATTACH, ("container.dirty_pages", 1)),
}


def twins(kernel: str, kind: int = 3) -> tuple[AddressSpace, AddressSpace]:
    """Return an address space of type1 and one of iommufd's layer, on hosts that are alike; `kind`: 3 type1 v2, 1 type1.

    >>> [space.host.machine.vfio for space in twins("6.12")]
    ['type1', 'iommufd-compat']
    """
    machine = load("intel-vtd-iommufd").machine
    one, other = (boot(replace(machine, vfio=vfio), kernel).address_space(kind) for vfio in ("type1", "iommufd-compat"))
    return one, other


def carry_out_twins(kernel: str, words: str) -> tuple[tuple[AddressSpace, AddressSpace], list[Answer]]:
    """Carry one of `TWIN_CALLS` out on both, with what comes before it; return the spaces and what each answered last."""
    spaces, said = twins(kernel), []
    for space in spaces:
        for verb, *args in TWIN_CALLS[words]:
            last = answer(attrgetter(str(verb))(space), *args)
        said.append(last if verb != "open" or last.error is not None else Answer("0"))
    return spaces, said


def twin_answers(kernel: str) -> Table:
    """Return what both answer to each of `TWIN_CALLS`.

    >>> twin_answers("6.12")[0]["iommufd's layer"].partition(":")[0]
    'ENODEV'
    """
    rows = [(words, *map(str, carry_out_twins(kernel, words)[1])) for words in TWIN_CALLS]
    return Table(["call", "type1", "iommufd's layer"], rows)
