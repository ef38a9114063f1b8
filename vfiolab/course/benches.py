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
