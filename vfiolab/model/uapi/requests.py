"""The arguments of ioctls, as the kernel sees them: records with the fields of the structs in include/uapi/linux/vfio.h.

A record is made once, from a learner's call or from the bytes of a program, and goes as it is from the descriptor to the backend.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from operator import index
from typing import Any, ClassVar, Self, SupportsIndex, TypeAlias

U8: TypeAlias = int
U16: TypeAlias = int
U32: TypeAlias = int
S32: TypeAlias = int
U64: TypeAlias = int
FORMATS = {"U8": "B", "U16": "H", "U32": "I", "S32": "i", "U64": "Q"}
ALL_64 = 1 << 64

MAP_READ, MAP_WRITE, MAP_VADDR = 1, 2, 4
UNMAP_DIRTY, UNMAP_ALL, UNMAP_VADDR = 1, 2, 4
DIRTY_START, DIRTY_STOP, DIRTY_GET = 1, 2, 4
MAX_BITMAP = 0x1000_0000  # bytes of the largest dirty bitmap
CAP_IPC_LOCK, CAP_SYS_RAWIO = 14, 17
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


class Struct:
    """A struct of the user's interface. Its fields are those of type U8, U16, U32, S32 and U64, in C's order and aligned as C aligns them.

    `NAME` is the struct's name in vfio.h; `MINIMUM` how many bytes the kernel reads at least (0: all). A record has `ptr` beside the fields:
    how the user's pointer to it was. TypeError and ValueError name a field whose value is no number, or does not fit.

    >>> MapDma(iova=0x1000, size=4096).pack().hex(" ", 8)
    '2000000003000000 0000000000000000 0010000000000000 0010000000000000'
    >>> MapDma.unpack(MapDma(iova=0x1000).pack()).iova
    4096
    """

    __slots__ = ()
    NAME: ClassVar[str] = ""
    MINIMUM: ClassVar[int] = 0
    FIELDS: ClassVar[tuple[tuple[str, int], ...]] = ()
    OFFSETS: ClassVar[dict[str, int]] = {}
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<")

    def __init_subclass__(cls) -> None:
        fields = [(name, FORMATS[kind]) for name, kind in cls.__annotations__.items() if kind in FORMATS]
        sizes = [struct.calcsize(f"<{kind}") for _, kind in fields]
        offsets: list[int] = []
        text, at = "<", 0
        for (_, kind), size in zip(fields, sizes, strict=True):
            offsets.append(at + -at % size)
            text, at = f"{text}{-at % size}x{kind}", offsets[-1] + size
        cls.FIELDS = tuple((name, 8 * size) for (name, _), size in zip(fields, sizes, strict=True))
        cls.OFFSETS = {name: offset for (name, _), offset in zip(fields, offsets, strict=True)}
        cls.FORMAT = struct.Struct(f"{text}{-at % max(sizes)}x")

    def __post_init__(self) -> None:
        for name, bits in self.FIELDS:
            value = getattr(self, name)
            if type(value) is not int or value >> bits - 1:
                setattr(self, name, field(name, value, bits))

    def pack(self) -> bytes:
        """Return the struct's bytes, little-endian."""
        return self.FORMAT.pack(*[getattr(self, name) for name, _ in self.FIELDS])

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Return the record of a struct's bytes. What they leave out is 0; below MINIMUM bytes the kernel cannot read it (`ptr` is bad)."""
        raw, whole = bytes(data[: cls.FORMAT.size]), cls.FORMAT.size
        values: dict[str, Any] = dict(zip(cls.OFFSETS, cls.FORMAT.unpack(raw.ljust(whole, b"\0")), strict=True))
        values["ptr"] = "good" if len(raw) >= (cls.MINIMUM or whole) else "bad"
        return cls(**values)


@dataclass(slots=True)
class MapDma(Struct):
    """VFIO_IOMMU_MAP_DMA by the process `caller`, whose memory is mapped and whose account is charged. `name` is a label for pictures.

    `backend` and `granule` (the smallest page in bytes) are what it meets there, `runs` the memory that was pinned for it.
    """

    NAME: ClassVar[str] = "vfio_iommu_type1_dma_map"
    argsz: U32 = 32
    flags: U32 = MAP_READ | MAP_WRITE
    vaddr: U64 = 0
    iova: U64 = 0
    size: U64 = 0
    ptr: str = "good"
    name: str = ""
    caller: Any = None
    backend: Any = None
    granule: int = 1
    runs: list[tuple[int, int]] | None = None


@dataclass(slots=True)
class UnmapDma(Struct):
    """VFIO_IOMMU_UNMAP_DMA, with the bitmap behind it if flag 1 asks for one. `whole`: the one mapping that the range is, once it was looked for."""

    NAME: ClassVar[str] = "vfio_iommu_type1_dma_unmap"
    MINIMUM: ClassVar[int] = 24
    argsz: U32 = 24
    flags: U32 = 0
    iova: U64 = 0
    size: U64 = 0
    bm_pgsize: U64 = 0
    bm_size: U64 = 0
    bm_data: U64 = 0
    ptr: str = "good"
    caller: Any = None
    backend: Any = None
    granule: int = 1
    whole: Any = None

    @property
    def end(self) -> int:
        """First address after the range, modulo 2^64."""
        return (self.iova + self.size) % ALL_64


@dataclass(slots=True)
class DirtyPages(Struct):
    """VFIO_IOMMU_DIRTY_PAGES, with the range behind it if flag 4 asks for its bitmap."""

    NAME: ClassVar[str] = "vfio_iommu_type1_dirty_bitmap"
    MINIMUM: ClassVar[int] = 8
    argsz: U32 = 8
    flags: U32 = 0
    iova: U64 = 0
    size: U64 = 0
    bm_pgsize: U64 = 0
    bm_size: U64 = 0
    bm_data: U64 = 0
    ptr: str = "good"
    backend: Any = None
    granule: int = 1


@dataclass(slots=True)
class IommuInfo(Struct):
    """VFIO_IOMMU_GET_INFO: argsz goes in; what comes back is followed by the chain of capabilities."""

    NAME: ClassVar[str] = "vfio_iommu_type1_info"
    MINIMUM: ClassVar[int] = 16
    argsz: U32 = 24
    flags: U32 = 0
    iova_pgsizes: U64 = 0
    cap_offset: U32 = 0
    pad: U32 = 0
    ptr: str = "good"


@dataclass(slots=True)
class GroupStatus(Struct):
    """VFIO_GROUP_GET_STATUS: flags come back, 1 viable, 2 in a container."""

    NAME: ClassVar[str] = "vfio_group_status"
    argsz: U32 = 8
    flags: U32 = 0
    ptr: str = "good"
