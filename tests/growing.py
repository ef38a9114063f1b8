"""Address spaces that are used a lot, through the calls that a learner types."""

from __future__ import annotations

import vfiolab as vl
from vfiolab.kit import MachineBuilder
from vfiolab.kit.space import AddressSpace

PAGE, FIRST = 0x1000, 0x1_0000_0000
NIC, FAR = "0000:01:00.0", "0000:11:00.0"


def host(kernel: str = "6.12") -> vl.Host:
    """Boot a machine with two SMMUs and a device behind each; a container may hold a million mappings."""
    m = MachineBuilder("growing")
    for bus, name in ((0, "smmu0"), (16, "smmu1")):
        m.endpoint(f"{bus + 1:02x}:00.0", below=m.root_port(f"{bus:02x}:01.0", unit=m.unit(name, kind="arm-smmu-v3")))
    booted = m.host(kernel)
    booted.set_param("vfio_iommu_type1.dma_entry_limit", 1 << 20)
    return booted


def grown(mappings: int) -> AddressSpace:
    """Return a space with so many mappings of fresh memory, a gap after each, and one enabled vector."""
    space = host().address_space()
    space.attach(NIC)
    for slot in range(mappings):
        space.map(FIRST + 2 * PAGE * slot, PAGE)
    space.enable_msi(NIC)
    return space


def busy(calls: int) -> AddressSpace:
    """Return a space with three mappings and a log of so many calls."""
    space = grown(3)
    for _ in range(calls // 2):
        space.map(0x1000, PAGE)
        space.unmap(0x1000)
    return space
