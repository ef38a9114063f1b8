"""The arguments of ioctls, as the kernel sees them: records with the fields of the structs in include/uapi/linux/vfio.h.

A record is made once, from a learner's call or from the bytes of a program, and goes as it is from the descriptor to the backend.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping
from operator import index
from typing import Any, ClassVar, Self, SupportsIndex, TypeAlias, dataclass_transform

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
DIRTY_PAGES = 0x3B75
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
        raise ValueError(f"{name} = {value:#_x} does not fit a field of {bits} bits")
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


@dataclass_transform(field_specifiers=(dataclasses.field,))
class Struct:
    """A struct of the user's interface. Its fields are those of type U8, U16, U32, S32 and U64, in C's order and aligned as C aligns them.

    `NAME` is the struct's name in vfio.h; `MINIMUM` how many bytes the kernel reads at least; `SHOWN` is what a log shows of it, `ODD` what beside
    where it was given otherwise than usual. A record has `ptr` beside the fields:
    how the user's pointer to it was; what has no place in its constructor is filled in by the backend, for its checks. TypeError and ValueError name a field whose value is no number, or does not fit.

    >>> MapDma(iova=0x1000, size=4096).pack().hex(" ", 8)
    '2000000003000000 0000000000000000 0010000000000000 0010000000000000'
    >>> MapDma.unpack(MapDma(iova=0x1000).pack()).iova
    4096
    """

    NAME: ClassVar[str] = ""
    MINIMUM: ClassVar[int] = 0
    FIELDS: ClassVar[tuple[tuple[str, int], ...]] = ()
    OFFSETS: ClassVar[dict[str, int]] = {}
    FORMAT: ClassVar[struct.Struct] = struct.Struct("<")
    SHOWN: ClassVar[tuple[str, ...]] = ()
    ODD: ClassVar[tuple[str, ...]] = ("argsz", "ptr")
    argsz: U32
    ptr: str
    __hash__ = None  # type: ignore[assignment] # a record changes, so it is no key

    def __init_subclass__(cls, *, name: str, minimum: int = 0) -> None:
        """Make a record of the annotations; what has no name states only what others have beside their fields."""
        if not name:
            return
        shared = [base.__annotations__ for base in cls.__mro__[1:] if issubclass(base, Struct) and base is not Struct]
        kinds = cls.__annotations__ | {name: kind for more in shared for name, kind in more.items()}
        fields = [(field, FORMATS[kind]) for field, kind in kinds.items() if kind in FORMATS]
        sizes = [struct.calcsize(f"<{kind}") for _, kind in fields]
        offsets: list[int] = []
        text, at = "<", 0
        for (_, kind), size in zip(fields, sizes, strict=True):
            offsets.append(at + -at % size)
            text, at = f"{text}{-at % size}x{kind}", offsets[-1] + size
        cls.FIELDS = tuple((name, 8 * size) for (name, _), size in zip(fields, sizes, strict=True))
        cls.OFFSETS = {name: offset for (name, _), offset in zip(fields, offsets, strict=True)}
        cls.FORMAT = struct.Struct(f"{text}{-at % max(sizes)}x")
        cls.NAME, cls.MINIMUM = name, minimum or cls.FORMAT.size
        cls._make_init(kinds)

    @classmethod
    def _make_init(cls, kinds: dict[str, str]) -> None:
        """Make the constructor: one expression says whether every field is as C holds it, and only if not each is looked at.

        Most programs use a few of the structs: each one's is compiled when the first record is made.
        """
        held = {name: getattr(cls, name) for name, kind in kinds.items() if not kind.startswith("ClassVar")}
        places = [name for name, default in held.items() if not isinstance(default, dataclasses.Field)]
        widths: dict[int, list[str]] = {}
        for name, bits in cls.FIELDS:
            widths.setdefault(bits, []).append(name)
        whole = " and ".join(f"{name}.__class__ is int" for name, _ in cls.FIELDS)
        large = " or ".join(f"({' | '.join(names)}) >> {bits - 1}" for bits, names in widths.items())
        lines = [
            f"def __init__(self, {', '.join(f'{name}={held[name]!r}' for name in places)}):",
            f"  if not ({whole} and not ({large}) and ptr in POINTERS):",
            *(f"    {name} = field({name!r}, {name}, {bits})" for name, bits in cls.FIELDS),
            "    ptr = pointer(ptr)",
            *(f"  self.{name} = {name}" for name in places),
        ]

        def first(self: Self, *args: Any, **named: Any) -> None:
            made: dict[str, Any] = {}
            exec("\n".join(lines), globals(), made)  # noqa: S102 - the text is made of the fields above, and saves a walk over them
            cls.__init__ = made["__init__"]  # type: ignore[method-assign] # in its own place, so that the next record costs no more
            cls.__init__(self, *args, **named)

        cls.__init__ = first  # type: ignore[assignment] # it has no list of arguments: those of the one above are checked
        for name in (held.keys() - set(places)) & vars(cls).keys():
            delattr(cls, name)  # not there until the backend fills it in

    def pack(self) -> bytes:
        """Return the struct's bytes, little-endian."""
        return self.FORMAT.pack(*[getattr(self, name) for name, _ in self.FIELDS])

    @classmethod
    def unpack(cls, data: bytes | bytearray) -> Self:
        """Return the record of a struct's bytes. What they leave out is 0; below MINIMUM bytes the kernel cannot read it (`ptr` is bad)."""
        raw, whole = bytes(data[: cls.FORMAT.size]), cls.FORMAT.size
        values: dict[str, Any] = dict(zip(cls.OFFSETS, cls.FORMAT.unpack(raw.ljust(whole, b"\0")), strict=True))
        values["ptr"] = "good" if len(raw) >= cls.MINIMUM else "bad"
        return cls(**values)

    def _known(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in (*self.OFFSETS, "ptr")}

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        return vars(cls())

    def given(self) -> dict[str, Any]:
        """Return what differs from the record's defaults: how a log shows the call."""
        return {name: getattr(self, name) for name, value in self._defaults().items() if getattr(self, name) != value}

    def is_odd(self) -> bool:
        """Say whether the struct was given otherwise than usual."""
        return bool(self.argsz != self._defaults()["argsz"] or self.ptr != "good")

    def logged(self) -> dict[str, Any]:
        """Return the arguments that a log of calls shows."""
        return {name: getattr(self, name) for name in self.SHOWN + self.ODD * self.is_odd()}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._known() == other._known()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._known().items())})"


class MapDma(Struct, name="vfio_iommu_type1_dma_map"):
    """VFIO_IOMMU_MAP_DMA by the process `caller`, whose memory is mapped and whose account is charged. `name` is a label for pictures.

    `backend` and `granule` (the smallest page in bytes) are what it meets there, `runs` the memory that was pinned for it, `parts` that of an iommufd, `found` the
    mapping whose vaddr it updates; `fresh` says that the memory was allocated for it.
    """

    argsz: U32 = 32
    flags: U32 = MAP_READ | MAP_WRITE
    vaddr: U64 = 0
    iova: U64 = 0
    size: U64 = 0
    ptr: str = "good"
    name: str = ""
    caller: Any = dataclasses.field(init=False)
    backend: Any = dataclasses.field(init=False)
    granule: int = dataclasses.field(init=False)
    runs: list[tuple[int, int]] | None = dataclasses.field(init=False)
    parts: Any = dataclasses.field(init=False)
    found: Any = dataclasses.field(init=False)
    fresh = False
    SHOWN = ("iova", "size", "vaddr", "flags")

    def logged(self) -> dict[str, Any]:
        """Return the arguments that a log of calls shows."""
        return super().logged() | {"name": self.name or None} | ({"fresh": True} if self.fresh else {})


class UnmapDma(Struct, name="vfio_iommu_type1_dma_unmap", minimum=24):
    """VFIO_IOMMU_UNMAP_DMA, with the bitmap behind it if flag 1 asks for one. `whole`: the one mapping that the range is, once it was looked for."""

    argsz: U32 = 24
    flags: U32 = 0
    iova: U64 = 0
    size: U64 = 0
    bm_pgsize: U64 = 0
    bm_size: U64 = 0
    bm_data: U64 = 0
    ptr: str = "good"
    backend: Any = dataclasses.field(init=False)
    granule: int = dataclasses.field(init=False)
    whole: Any = dataclasses.field(init=False)

    SHOWN = ("iova", "size", "flags")
    ODD = ("argsz", "bm_pgsize", "bm_size", "ptr")

    @property
    def end(self) -> int:
        """First address after the range, modulo 2^64."""
        return (self.iova + self.size) % ALL_64

    def is_odd(self) -> bool:
        """Say whether argsz, the pointer or a bitmap is given."""
        return super().is_odd() or bool(self.bm_pgsize or self.bm_size)

    def logged(self) -> dict[str, Any]:
        """Return the arguments that a log of calls shows."""
        return super().logged() | {"flags": self.flags or None}


class DirtyPages(Struct, name="vfio_iommu_type1_dirty_bitmap", minimum=8):
    """VFIO_IOMMU_DIRTY_PAGES, with the range behind it if flag 4 asks for its bitmap."""

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
    SHOWN = ("flags",)
    ODD = ("argsz", "iova", "size", "ptr", "bm_pgsize", "bm_size")


class IommuInfo(Struct, name="vfio_iommu_type1_info", minimum=16):
    """VFIO_IOMMU_GET_INFO: argsz goes in; what comes back is followed by the chain of capabilities."""

    argsz: U32 = 24
    flags: U32 = 0
    iova_pgsizes: U64 = 0
    cap_offset: U32 = 0
    pad: U32 = 0
    ptr: str = "good"


class GroupStatus(Struct, name="vfio_group_status"):
    """VFIO_GROUP_GET_STATUS of the group `vfio`: flags come back, 1 viable, 2 in a container."""

    argsz: U32 = 8
    flags: U32 = 0
    ptr: str = "good"
    vfio: Any = None


class DeviceInfo(Struct, name="vfio_device_info", minimum=16):
    """VFIO_DEVICE_GET_INFO: flags (1 the function can be reset, 2 PCI), number of regions and of interrupt types come back.

    Headers from 6.6 on have 4 unused bytes more (commit a881b496941f).
    """

    argsz: U32 = 20
    flags: U32 = 0
    num_regions: U32 = 0
    num_irqs: U32 = 0
    cap_offset: U32 = 0
    ptr: str = "good"


class RegionInfo(Struct, name="vfio_region_info"):
    """VFIO_DEVICE_GET_REGION_INFO of region `index`: flags (1 read, 2 write, 4 mmap, 8 has capabilities), size in bytes, offset in the descriptor.

    `cap_ids`: the capabilities, 3 that the MSI-X table may be mapped.
    """

    SHOWN = ("index",)
    argsz: U32 = 32
    flags: U32 = 0
    index: U32 = 0
    cap_offset: U32 = 0
    size: U64 = 0
    offset: U64 = 0
    ptr: str = "good"
    cap_ids: tuple[int, ...] = ()


class IrqInfo(Struct, name="vfio_irq_info"):
    """VFIO_DEVICE_GET_IRQ_INFO of type `index`: flags (1 eventfd, 2 maskable, 4 automasked, 8 not resizable) and the number of vectors."""

    SHOWN = ("index",)
    argsz: U32 = 16
    flags: U32 = 0
    index: U32 = 0
    count: U32 = 0
    ptr: str = "good"


class IrqSet(Struct, name="vfio_irq_set"):
    """VFIO_DEVICE_SET_IRQS: `count` vectors from `start` on; behind it a byte or a descriptor (s32) for each, as flags say."""

    argsz: U32 = 20
    flags: U32 = 0
    index: U32 = 0
    start: U32 = 0
    count: U32 = 0
    ptr: str = "good"


class DeviceFeature(Struct, name="vfio_device_feature"):
    """VFIO_DEVICE_FEATURE: the feature's number in the low 16 bits of flags, and what is asked (0x10000 get, 0x20000 set, 0x40000 probe)."""

    argsz: U32 = 8
    flags: U32 = 0
    ptr: str = "good"


class HotResetInfo(Struct, name="vfio_pci_hot_reset_info"):
    """VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: how many functions a reset of the bus takes along; behind it one PciDependent for each."""

    argsz: U32 = 12
    flags: U32 = 0
    count: U32 = 0
    ptr: str = "good"


class PciDependent(Struct, name="vfio_pci_dependent_device"):
    """One function of a bus that is reset: its group and its address."""

    group_id: U32 = 0
    segment: U16 = 0
    bus: U8 = 0
    devfn: U8 = 0
    ptr: str = "good"


class HotReset(Struct, name="vfio_pci_hot_reset"):
    """VFIO_DEVICE_PCI_HOT_RESET: behind it the descriptors (s32) of `count` groups."""

    argsz: U32 = 12
    flags: U32 = 0
    count: U32 = 0
    ptr: str = "good"


class CapHeader(Struct, name="vfio_info_cap_header"):
    """The head of a capability: its id and version, and where the next one is from the struct's start (0: there is none)."""

    id: U16 = 0
    version: U16 = 1
    next: U32 = 0
    ptr: str = "good"


class IovaRangeCap(Struct, name="vfio_iommu_type1_info_cap_iova_range"):
    """Capability 1 of GET_INFO: `nr_iovas` ranges of two u64 (start and last, inclusive) follow."""

    id: U16 = 1
    version: U16 = 1
    next: U32 = 0
    nr_iovas: U32 = 0
    reserved: U32 = 0
    ptr: str = "good"


class MigrationCap(Struct, name="vfio_iommu_type1_info_cap_migration"):
    """Capability 2 of GET_INFO: what dirty tracking can do."""

    id: U16 = 2
    version: U16 = 1
    next: U32 = 0
    flags: U32 = 0
    pgsize_bitmap: U64 = 0
    max_dirty_bitmap_size: U64 = 0
    ptr: str = "good"


class DmaAvailCap(Struct, name="vfio_iommu_type1_info_dma_avail"):
    """Capability 3 of GET_INFO: how many mappings are left."""

    id: U16 = 3
    version: U16 = 1
    next: U32 = 0
    avail: U32 = 0
    ptr: str = "good"
