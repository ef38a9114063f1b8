"""Machines for experiments: two IOMMU units that differ in what you choose, and nothing else."""

from __future__ import annotations

from typing import Any

from vfiolab.kit import Host, MachineBuilder
from vfiolab.model.kernel import Kernel

FIRST, SECOND = "0000:01:00.0", "0000:81:00.0"


def two_units(kind: str, kernel: Kernel | str | None = None, **facts: Any) -> Host:
    """Build a machine with two IOMMU units of one kind, and boot a kernel on it (the newest by default).

    `facts` are hardware facts of a unit, as `MachineBuilder.unit` takes them: one value for both units, or a pair. Behind
    the first unit, `iommu0`, are 0000:01:00.0 and 0000:02:00.0; behind `iommu1` 0000:81:00.0 and 0000:82:00.0, each a group of its own.

    >>> host = two_units("intel-vtd", width=(48, 39))
    >>> [str(unit) for unit in host.units]
    ['iommu0 (intel-vtd, 48-bit)', 'iommu1 (intel-vtd, 39-bit)']
    """
    m = MachineBuilder(f"two {kind} units")
    for number, bus in enumerate((0x00, 0x80)):
        chosen = {name: value[number] if isinstance(value, tuple) else value for name, value in facts.items()}
        unit = m.unit(f"iommu{number}", kind=kind, **chosen)
        for slot in (1, 2):
            port = m.root_port(f"{bus:02x}:{slot:02x}.0", unit=unit, acs=True)
            m.endpoint(f"{bus + slot:02x}:00.0", below=port)
    return m.host(kernel)


def two_below_a_switch(*, acs: bool, kernel: Kernel | str | None = None) -> Host:
    """Build a machine with two devices below a VT-d unit's switch, whose ports redirect requests upstream if `acs`.

    0000:05:00.0 answers at the bus addresses 0xf000_0000-0xf000_ffff, its registers; 0000:04:00.0 is its neighbour.

    >>> [len(group.devices) for group in two_below_a_switch(acs=False).groups][-2:]
    [2, 2]
    """
    m = MachineBuilder(f"switch {'with' if acs else 'without'} ACS")
    switch = m.upstream("02:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    for slot in (0, 1):
        m.endpoint(f"{slot + 4:02x}:00.0", below=m.downstream(f"03:{slot:02x}.0", below=switch, acs=acs))
    m.bar("05:00.0", 0xF000_0000, 0xF000_FFFF)
    return m.host(kernel)
