"""Small containers for the tests of pictures, made of the model's own objects: what a picture reads cannot drift from what the model is."""

from __future__ import annotations

import random
from contextlib import suppress

from vfiolab.model.address import Span, parse_size
from vfiolab.model.backends.type1 import Type1, TYPE1v2
from vfiolab.model.errors import VfioError
from vfiolab.model.events import EventLog
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.doorbells import Landed
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion
from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.requests import MapDma, UnmapDma
from vfiolab.model.user.process import Arena, Memory, Process


class Bench:
    """One container: units, a group for each (unit, extra reserved regions), a type1 backend; each verb is a call of the log.

    It has what a picture reads of a container: `backend` and `groups`.
    """

    def __init__(self, *units: IommuUnit, kernel: str = "6.12", kind: int = TYPE1v2, limit: int = 65535) -> None:
        self.kernel, self.units, self.kind = Kernel(kernel), units, kind
        self.log = EventLog()
        self.core = IommuCore(units, Landed(self.kernel, 4096, self.log))
        self.process = Process(self.log, Memory(Arena()), None, 4096)
        self.params = {"vfio_iommu_type1.dma_entry_limit": str(limit)}
        self.backend: Type1 | None = None
        self.groups: list[IommuGroup] = []

    def group(self, number: int, unit: int = 0, *regions: ReservedRegion, devices: tuple[str, ...] = ()) -> IommuGroup:
        behind = self.units[unit]
        group = IommuGroup(number, devices or (f"0000:{number:02x}:00.0",), behind, sorted([*behind.reserved(), *regions]))
        self.core.add(group)
        return group

    def attach(self, *groups: IommuGroup) -> Bench:
        for group in groups:
            with self.log.call("set_container", f"G{group.id}"):
                if self.backend is None:
                    self.backend = Type1(self.core, self.params, self.kind)
                self.backend.attach(group)
                self.groups.append(group)
        return self

    def detach(self, group: IommuGroup) -> None:
        with self.log.call("unset_container", f"G{group.id}"):
            self.backend.detach(group)
            self.groups.remove(group)

    def map(self, iova: int | str, size: int | str, name: str = "", flags: int = 3) -> Bench:
        iova, size = parse_size(iova), parse_size(size)
        vaddr = self.process.memory.mmap(size)
        with self.log.call("map", "A", iova=iova, size=size, vaddr=vaddr), suppress(VfioError) as _:
            self._map(iova, size, vaddr, flags, name)
        return self

    def _map(self, iova, size, vaddr, flags, name):
        try:
            self.backend.map(self.process, MapDma(flags=flags, vaddr=vaddr, iova=iova, size=size, name=name))
        except VfioError as error:
            self.log.calls[-1].error = error
            raise

    def unmap(self, iova: int | str, size: int | str) -> None:
        iova, size = parse_size(iova), parse_size(size)
        with self.log.call("unmap", "A", iova=iova, size=size) as call:
            call.output = {"unmapped": self.backend.unmap(self.process, UnmapDma(iova=iova, size=size))[0]}

    def doorbell(self, group: IommuGroup, physical: int = 0x8090040) -> None:
        with self.log.call("set_irqs", f"G{group.id}"):
            self.core.doorbells.requested(group.domain, group, physical)


def intel(name="dmar0", **facts):
    return IommuUnit(name=name, kind="intel-vtd", **facts)


def smmu(name="smmu0", **facts):
    return IommuUnit(name=name, kind="arm-smmu-v3", **{"stage": 1, **facts})


def guest_ram(bench: Bench) -> Bench:
    return bench.map(0, "640K", "low memory").map(0xC0000, 0x80000000 - 0xC0000, "guest RAM").map("4G", "2G", "high RAM")


def intel_two_widths(*, refused: bool = True) -> Bench:
    """Two VT-d units that differ in snoop control and width: two domains, and two maps that each meet one of them."""
    bench = Bench(intel("dmar0", snoop_control=True), intel("dmar1", width=39))
    bench.attach(bench.group(3, 0))
    guest_ram(bench)
    bench.attach(bench.group(7, 1))
    if refused:
        bench.map(0xFEE00000, "1M").map(0x3820_0000_0000, 4096)
    return bench


def arm_mixed(*, doorbell: bool = True) -> Bench:
    """Two SMMUs, one stage 1 and 48 bits, one stage 2 and 44 bits; a doorbell page in the second's domain."""
    bench = Bench(smmu("smmu3.0x0c000000"), smmu("smmu3.0x0c020000", stage=2))
    first, second = bench.group(8, 0), bench.group(4, 1)
    bench.attach(first).map("1G", "2G", "guest RAM").attach(second)
    if doorbell:
        bench.doorbell(second)
    return bench


def scattered(count: int, domains: int = 1, *, seed: int = 7) -> Bench:
    """`count` mappings of 1 to 8 pages with gaps of 0 to 5, mirrored into `domains` domains."""
    bench = Bench(*(smmu(f"smmu{i}") for i in range(domains)), limit=1 << 20)
    bench.attach(bench.group(0, 0))
    dice, at = random.Random(seed), 0x10000000
    vaddr = bench.process.memory.mmap(1 << 20)
    for _ in range(count):
        size = dice.randint(1, 8) * 4096
        bench.backend.map(bench.process, MapDma(vaddr=vaddr, iova=at, size=size))
        at += size + dice.randint(0, 5) * 4096
    return bench.attach(*(bench.group(i, i) for i in range(1, domains)))


def direct(start: int, last: int) -> ReservedRegion:
    return ReservedRegion(Span.inclusive(start, last), "direct")
