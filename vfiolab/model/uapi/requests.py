"""The arguments of type1's ioctls, as the kernel sees them: 64-bit fields of structs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, SupportsIndex

from vfiolab.model.address import U64

if TYPE_CHECKING:
    from vfiolab.model.backends.iova import IovaList
    from vfiolab.model.backends.type1 import Type1
    from vfiolab.model.iommu.core import IommuGroup
    from vfiolab.model.iommu.domain import Domain
    from vfiolab.model.user.process import Process

MAP_READ, MAP_WRITE, MAP_VADDR = 1, 2, 4
UNMAP_DIRTY, UNMAP_ALL, UNMAP_VADDR = 1, 2, 4
DIRTY_START, DIRTY_STOP, DIRTY_GET = 1, 2, 4
POINTERS = ("good", "bad", "null")


def field(name: str, value: object, bits: int = 64) -> int:
    """Return a number as a struct's field holds it; a negative one wraps. TypeError and ValueError name the argument."""
    if type(value) is int and not value >> bits - 1:
        return value
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    value = index(value)  # numpy's whole numbers too
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise ValueError(f"{name} = {value:#x} does not fit a field of {bits} bits")
    return value & (1 << bits) - 1


def signed(name: str, value: object) -> int:
    """Return a number as a C int holds it; TypeError and ValueError name the argument."""
    return (field(name, value, 32) ^ 1 << 31) - (1 << 31)


def word(name: str, value: object) -> str:
    """Return a text argument, such as a device's address; TypeError names it if it is none."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, not {value!r}")
    return value


def switched_on(params: Mapping[str, str], name: str) -> bool:
    """Say whether a boolean module parameter is on; one that is not there is off."""
    return params.get(name, "N") in ("Y", "1")


def pointer(value: object) -> str:
    """Return how the user's pointer is: good, bad (unmapped memory) or null."""
    if value not in POINTERS:
        raise ValueError(f"a pointer is one of {', '.join(POINTERS)}, not {value!r}")
    return str(value)


@dataclass(slots=True)
class MapRequest:
    """VFIO_IOMMU_MAP_DMA by the process `caller`, whose memory is mapped and whose account is charged."""

    backend: Type1
    caller: Process
    iova: int
    size: int
    vaddr: int
    flags: int
    argsz: int
    ptr: str
    granule: int


@dataclass(slots=True)
class UnmapRequest:
    """VFIO_IOMMU_UNMAP_DMA, with its dirty bitmap if flag 1 asks for one."""

    backend: Type1
    iova: int
    size: int
    flags: int
    argsz: int
    bm_pgsize: int
    bm_size: int
    ptr: str
    granule: int

    @property
    def end(self) -> int:
        """First address after the range, modulo 2^64."""
        return (self.iova + self.size) % U64


@dataclass(slots=True)
class DirtyRequest:
    """VFIO_IOMMU_DIRTY_PAGES."""

    backend: Type1
    flags: int
    argsz: int
    iova: int
    size: int
    bm_pgsize: int
    bm_size: int
    ptr: str
    granule: int


@dataclass(slots=True)
class EntryRequest:
    """A group that asks to enter the backend."""

    backend: Type1
    group: IommuGroup


@dataclass(slots=True)
class AttachRequest:
    """A group about to enter the backend in a new domain; `iovas` is the valid-iova list as it would become."""

    backend: Type1
    group: IommuGroup
    domain: Domain
    iovas: IovaList
