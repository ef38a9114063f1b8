"""Small containers for the tests of pictures: plain objects with the attributes that a picture reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace as Thing

from vfiolab.model.address import Span

G = 1 << 30
MSI = Thing(span=Span.inclusive(0xFEE00000, 0xFEEFFFFF), kind="msi")
SW_MSI = Thing(span=Span.inclusive(0x8000000, 0x80FFFFF), kind="sw-msi")


@dataclass
class Mapping:
    iova: int
    size: int
    physical: int = 0
    prot: int = 3
    name: str = ""
    vaddr: int = 0


@dataclass
class Domain:
    number: int
    unit: Thing
    groups: list
    aperture: Span = Span(0, 1 << 48)
    page_sizes: int = 0x40201000
    enforces_coherency: bool = False
    stage: int | None = None
    mappings: list = field(default_factory=list)
    doorbells: tuple = ()
    msi_base: int | None = None


class Type1:
    def __init__(self, dmas=(), domains=(), valid=(), v2=True):
        self.dmas, self.domains, self.valid_iova, self.v2 = list(dmas), list(domains), tuple(valid), v2
        for domain in self.domains:
            domain.mappings = sorted([*domain.mappings, *self.dmas], key=lambda m: m.iova)
        self.page_sizes, self.dma_avail = 0x40201000, 65535


class Compat:
    def __init__(self, dmas=()):
        self.dmas, self.valid_iova, self.page_sizes = list(dmas), (), 0x1000


def group(number, *reserved):
    return Thing(id=number, reserved=tuple(reserved), devices=())


def container(backend, *groups):
    return Thing(backend=backend, groups=list(groups))


def refused(iova, size, errno="EINVAL", why="the range is not inside one entry of the valid-iova list"):
    return Thing(verb="map", target="A", args={"iova": iova, "size": size}, events=[],
                 error=Thing(name=errno, why=why, source="vfio_dma_do_map"))  # fmt: skip


def log(*calls):
    return Thing(calls=list(calls))


def guest():
    return [Mapping(0, 0xA0000, name="low memory"), Mapping(0xC0000, 0x80000000 - 0xC0000, name="guest RAM"), Mapping(4 * G, 2 * G, name="high RAM")]


def intel_two_widths():
    g3, g7 = group(3, MSI), group(7, MSI)
    d1 = Domain(1, Thing(name="dmar0", kind="intel-vtd"), [g3], Span(0, 1 << 48), enforces_coherency=True)
    d2 = Domain(2, Thing(name="dmar1", kind="intel-vtd"), [g7], Span(0, 1 << 39))
    valid = (Span(0, 0xFEE00000), Span(0xFEF00000, 1 << 39))
    return container(Type1(guest(), [d2, d1], valid), g3, g7)


def arm_mixed():
    g4, g8 = group(4, SW_MSI), group(8, SW_MSI)
    bell = Thing(iova=0x8000000, size=0x1000, physical=0x8090000)
    d1 = Domain(1, Thing(name="smmu3.0x000000000c000000", kind="arm-smmu-v3"), [g8], Span(0, 1 << 48), stage=1, msi_base=0x8000000)
    d2 = Domain(2, Thing(name="smmu3.0x000000000c020000", kind="arm-smmu-v3"), [g4], Span(0, 1 << 44), stage=2, doorbells=(bell,), msi_base=0x8000000)
    d2.mappings = [Mapping(0x8000000, 0x1000, 0x8090000)]
    ram = [Mapping(0x40000000, 2 * G, name="guest RAM")]
    return container(Type1(ram, [d2, d1], (Span(0, 0x8000000), Span(0x8100000, 1 << 44))), g4, g8)


def many(count, domains=1):
    import random

    dice = random.Random(7)
    at, dmas = 0x1000, []
    for _ in range(count):
        size = dice.randint(1, 8) * 4096
        dmas.append(Mapping(at, size))
        at += size + dice.randint(0, 5) * 4096
    groups = [group(i, MSI) for i in range(domains)]
    made = [Domain(i + 1, Thing(name=f"unit{i}", kind="intel-vtd"), [groups[i]]) for i in reversed(range(domains))]
    return container(Type1(dmas, made), *groups)
