"""Judges of the exercises about isolation and doorbells: the walk to the root, and the cookie's pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache, partial

from vfiolab.course.cases import Case, listed, shown, stored
from vfiolab.course.machines import attached, put
from vfiolab.kit import AddressSpace, MachineBuilder, load, machines
from vfiolab.model.address import hexa, human_size
from vfiolab.model.iommu.unit import SOFTWARE_MSI
from vfiolab.model.pci.acs import AcsTester
from vfiolab.model.pci.topology import Topology

NIC = "0000:01:00.0"


@cache
def _real_machines() -> list[tuple[str, Topology, AcsTester]]:
    """Read every machine with a PCI tree, once; on its kernel."""
    hosts = [(name, host) for name in machines() if (host := load(name)).grouping is not None]
    return [(name, host.machine.topology, AcsTester(host.machine.topology, host.kernel)) for name, host in hosts]


def boundary(device: str, topology: Topology, tester: AcsTester) -> str:
    """Return where the climb of pci_device_group ends: the device, or the highest bridge from which the way up is not isolated."""
    at = device
    while (above := topology.parent(at)) is not None and tester.first_failure(above.bdf) is not None:
        at = above.bdf
    return at


def acs_walk() -> Iterator[Case]:
    """Let the learner's walk run for every device of every machine."""
    for name, topology, tester in _real_machines():

        def parent(bdf: str, topology: Topology = topology) -> str | None:
            above = topology.parent(bdf)
            return None if above is None else above.bdf

        def isolated(bdf: str, tester: AcsTester = tester) -> bool:
            return tester.test(bdf).passed

        for device in topology:
            yield Case(name, (device, parent, isolated), partial(_walked, device, topology, tester), f"({device!r}, parent, isolated)")


def _walked(device: str, topology: Topology, tester: AcsTester, came: object) -> str | None:
    truth = boundary(device, topology, tester)
    if came == truth:
        return None
    if not isinstance(came, str) or came not in topology:
        return f"{shown(came)} is no device of this machine: return an address, the device's own or that of a bridge above it."
    way = [f.bdf for f in topology.path(device)]
    above = "; ".join(f"{bdf} {'passes' if tester.test(bdf).passed else 'fails'} ({tester.test(bdf).why})" for bdf in way)
    if came not in {device, *way}:
        return f"{came} is not above {device}. The bridges above, nearest first: {above or 'none'}."
    order = [device, *way]
    far = order.index(came) > order.index(truth)
    why = f"from {truth} upward nothing fails" if far else f"a bridge above {came} still fails"
    ends = f"The walk ends at {truth}, and yours {'goes too far' if far else 'stops too early'}: {why}."
    return f"{ends} The bridges above, nearest first: {above or 'none'}."


ITS = 0x0809_0040
MANY = [0x3000_0040 + 0x2_0000 * number for number in range(17)]
FULL: dict[str, tuple[int, Sequence[int]]] = {
    "two pages": (0x1000, [ITS, 0x0802_0040]),
    "16 pages of 64 KiB": (0x1_0000, MANY[:16]),
    "17 pages of 64 KiB": (0x1_0000, MANY),
    "17 pages of 64 KiB, and the first again": (0x1_0000, [*MANY, MANY[0] + 0x80]),
    "17 pages of 64 KiB, the last asked for twice": (0x1_0000, [*MANY, MANY[-1]]),
    "17 requests for one page": (0x1_0000, [ITS] * 17),
    "256 pages of 4 KiB, and one more": (0x1000, [0x3000_0040 + 0x1000 * number for number in range(257)]),
}


def _space(page: int) -> AddressSpace:
    m = MachineBuilder("doorbells", page_size=page)
    put(m, m.unit("smmu0", kind="arm-smmu-v3", page_sizes=0x40201000 | 0x20010000), NIC)
    return attached(m.host("6.12"), NIC)


def landed(doorbells: Sequence[int], page: int) -> tuple[list[int], AddressSpace]:
    """Ask the model's kernel for each doorbell in turn; return where the messages go, and the address space."""
    space = _space(page)
    (domain,), policy = space.domains, space.host.core.doorbells
    return [policy.requested(domain, domain.groups[0], doorbell).address for doorbell in doorbells], space


def cookie() -> Iterator[Case]:
    """Compare the learner's addresses with those that the kernel of 6.12 gives."""
    for name, (page, doorbells) in stored("cookie").items():
        yield Case(name, (list(doorbells), SOFTWARE_MSI.start, page), partial(_placed, doorbells, page))


def _placed(doorbells: Sequence[int], page: int, came: object) -> str | None:
    truth, space = landed(doorbells, page)
    mine = listed(came, "with one iova for each interrupt")
    if len(mine) != len(truth):
        return f"{len(truth)} interrupts are asked for, so {len(truth)} iovas are needed, not {len(mine)}."
    wrong = next((n for n, (one, other) in enumerate(zip(mine, truth, strict=True)) if one != other), None)
    if wrong is None:
        return None
    pages = ", ".join(f"{hexa(bell.physical)} at {hexa(bell.iova)}" for bell in space.domains[0].doorbells)
    bell, right = doorbells[wrong], hexa(truth[wrong])
    which = f"Interrupt {wrong + 1} of {len(truth)}, doorbell {hexa(bell)}: the device writes {right}, not {shown(mine[wrong])}."
    offset = f"The offset in its page of {human_size(page)} is {hexa(bell % page)}."
    first = next(n for n, one in enumerate(doorbells, 1) if one // page == bell // page)
    again = f" Its page is there since interrupt {first}." if first <= wrong else ""
    physical = " That is the doorbell's physical address, which the SMMU would translate." if mine[wrong] == bell else ""
    return f"{which}{physical} {offset}{again} The model's kernel mapped these pages: {pages}."


def cookie_bound() -> Iterator[Case]:
    """As `cookie`; what the kernel would place behind its window has to be refused."""
    for name, (page, doorbells) in FULL.items():
        yield Case(name, (list(doorbells), SOFTWARE_MSI.start, page, SOFTWARE_MSI.size), partial(_bounded, doorbells, page))


def _bounded(doorbells: Sequence[int], page: int, came: object) -> str | None:
    truth, space = landed(doorbells, page)
    inside = [SOFTWARE_MSI.contains(iova) for iova in truth]
    mine = listed(came, 'with an iova or "EOVERFLOW" for each interrupt')
    if len(mine) != len(truth):
        return f"{len(truth)} interrupts are asked for, so {len(truth)} answers are needed, not {len(mine)}."
    for number, (one, iova, fits) in enumerate(zip(mine, truth, inside, strict=True), 1):
        if one == (iova if fits else "EOVERFLOW"):
            continue
        which = f"Interrupt {number} of {len(truth)}, doorbell {hexa(doorbells[number - 1])}:"
        room = f"the window {SOFTWARE_MSI} holds {SOFTWARE_MSI.size // page} pages of {human_size(page)}"
        if fits and one == "EOVERFLOW":
            used = sum(SOFTWARE_MSI.contains(bell.iova) for bell in space.domains[0].doorbells)
            return f"{which} it is refused, but {room}, and the model's kernel has its page at {hexa(iova)} ({used} pages are used in all)."
        if fits:
            return f"{which} the device writes {hexa(iova)}, not {shown(one)}."
        if not isinstance(one, int):
            more = "that word was asked for"
        elif SOFTWARE_MSI.contains(one):
            more = "another doorbell's page is there"
        else:
            more = f"the model's kernel, which has no bound, goes on at {hexa(iova)}, where a user may have memory"
        return f'{which} {room}, and all are taken. "EOVERFLOW" is right, not {shown(one)}: {more}.'
    return None
