"""IOMMU hardware, what a kernel reports of it, and the domain: one translation context.

`IommuUnit` holds hardware facts only. What Linux says of a unit changed over the versions (aperture, page sizes, coherency); those answers
are methods that take a `Kernel`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as AbstractMapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from vfiolab.model.address import U64, Span, hexa, human_size
from vfiolab.model.errors import ERRNO, KernelCrashError, NotModelledError
from vfiolab.model.events import PROT_MMIO, PROT_NOEXEC, PROT_WRITE, Event, mapped
from vfiolab.model.kernel import Kernel

if TYPE_CHECKING:
    from vfiolab.model.core import IommuGroup
    from vfiolab.model.events import EventLog

KINDS = ("intel-vtd", "amd-vi", "virtio-iommu", "arm-smmu-v3")
X86_MSI = Span(0xFEE00000, 0xFEF00000)
AMD_HYPERTRANSPORT = Span(0xFD00000000, 0x10000000000)
SOFTWARE_MSI = Span(0x08000000, 0x08100000)
REGION_KINDS = ("direct", "direct-relaxable", "reserved", "msi", "sw-msi")

_REGION_WORDS = {
    "direct": "the direct (1:1) region",
    "direct-relaxable": "the direct-relaxable region",
    "reserved": "the reserved range",
    "msi": "the MSI window",
    "sw-msi": "the software MSI window",
}

ALL_PAGES = 0xFFFFFFFFFFFFF000
AMD_OLD = 0xFFFFFF7FFFFFF000
AMD_V1 = 0x000FFF7FFFFFF000
GRANULES = {0x1000: 0x40201000, 0x4000: 0x02004000, 0x10000: 0x40020010000}


@dataclass(frozen=True, slots=True, order=True)
class ReservedRegion:
    """A range of iovas that the IOMMU driver declares special. kind: direct, direct-relaxable, reserved, msi (hardware) or sw-msi."""

    span: Span
    kind: str

    def __post_init__(self) -> None:
        if self.kind not in REGION_KINDS:
            raise ValueError(f"a reserved region is one of {', '.join(REGION_KINDS)}, not {self.kind!r}")

    @property
    def words(self) -> str:
        """What people call it, with its range (inclusive)."""
        return f"{_REGION_WORDS[self.kind]} {self.span}"

    def __str__(self) -> str:
        return f"{self.span} {self.kind}"


@dataclass(frozen=True, slots=True)
class Reported:
    """What one recorded kernel said of a unit; overrides the derived value for that kernel only."""

    aperture: Span | None = None
    page_sizes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IommuUnit:
    """One IOMMU: its hardware, and which devices are behind it.

    kind: intel-vtd, amd-vi, virtio-iommu or arm-smmu-v3. `width`: bits of an iova. `page_sizes`: bitmap, bit n set = pages of 2^n bytes.
    `stage` of an SMMU's tables (1 or 2), `stage2_bits` the width of its stage 2. `snoop_control`: can strip No-Snoop (VT-d).
    `isolated_msi`: the interrupt path checks who sent an MSI; `exposed` are devices for which it does not although the unit's others are
    safe (their doorbell is a GICv2m frame). `coherent`: can do cache-coherent mappings. `hardware_msi`: an MSI range that the unit does not
    translate, beside the usual one. `translates_msi`: doorbells lie behind the unit's translation, as they do behind every SMMU (a
    virtio-iommu on ARM whose host describes no MSI range).
    """

    name: str
    kind: str
    devices: frozenset[str] = frozenset()
    width: int = 48
    page_sizes: int = 0x40201000
    stage: int | None = None
    stage2_bits: int = 44
    snoop_control: bool = False
    isolated_msi: bool = True
    coherent: bool = True
    hardware_msi: Span | None = None
    translates_msi: bool = False
    exposed: frozenset[str] = frozenset()
    reported: AbstractMapping[tuple[int, int], Reported] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unit {self.name}: kind is one of {', '.join(KINDS)}, not {self.kind!r}")
        if not 12 < self.width <= 64:
            raise ValueError(f"unit {self.name}: width is 13 to 64 bits, not {self.width}")
        self._check_reported()
        if self.kind == "arm-smmu-v3":
            object.__setattr__(self, "translates_msi", True)
        elif self.translates_msi and self.kind != "virtio-iommu":
            raise ValueError(
                f"unit {self.name}: MSIs behind {self.kind} are not translated; only an SMMU or a virtio-iommu translates them"
            )

    def _check_reported(self) -> None:
        for (major, minor), said in self.reported.items():
            wide = said.aperture is not None and said.aperture.end > 1 << self.width
            if self.kind == "intel-vtd" and wide and Kernel(f"{major}.{minor}").has("intel_aperture_by_width"):
                raise ValueError(
                    f"unit {self.name}: kernel {major}.{minor} cannot have reported the aperture {said.aperture} of a VT-d unit that is {self.width} bits wide: check `width` and `aperture`"
                )

    def __hash__(self) -> int:
        return hash((self.name, self.kind))

    @property
    def is_arm(self) -> bool:
        """Whether it is an SMMU: its tables have stages, and coherency and page sizes are told in its own way."""
        return self.kind == "arm-smmu-v3"

    def bits(self, *, nesting: bool = False) -> int:
        """Width of an iova in a domain of this unit: stage 2 (also the nesting type's) is narrower."""
        return self.stage2_bits if self.is_arm and (nesting or self.stage == 2) else self.width

    def aperture(self, kernel: Kernel, *, nesting: bool = False) -> Span:
        """Return the range of iovas that this kernel says a domain of this unit can translate."""
        recorded = self.reported.get(kernel.version)
        if recorded is not None and recorded.aperture is not None and not nesting:
            return recorded.aperture
        if self.kind == "intel-vtd" and not kernel.has("intel_aperture_by_width"):
            return Span(0, 1 << (57 if kernel.has("valid_iova") else 48))  # read: 48 bits in 4.4 to 4.11, where type1 does not use it
        return Span(0, 1 << self.bits(nesting=nesting))

    def reported_page_sizes(self, kernel: Kernel, units: Iterable[IommuUnit], page_size: int) -> int:
        """Return the page-size bitmap of a domain of this unit, on a machine with these units and this CPU page size."""
        recorded = self.reported.get(kernel.version)
        if recorded is not None and recorded.page_sizes is not None:
            return recorded.page_sizes
        if self.kind == "intel-vtd":
            return self._intel_page_sizes(kernel, units)
        if self.kind == "amd-vi":
            if self.width < 64:
                return self.page_sizes
            return AMD_V1 if kernel.has("amd_v1_to_2_51") else AMD_OLD
        if self.is_arm:
            return restrict_page_sizes(self.page_sizes, page_size)
        return self.page_sizes

    def _intel_page_sizes(self, kernel: Kernel, units: Iterable[IommuUnit]) -> int:
        if not kernel.has("intel_real_page_sizes"):
            return ALL_PAGES
        bitmap = self.page_sizes
        if not kernel.has("intel_page_sizes_per_unit"):
            for unit in units:
                bitmap &= unit.page_sizes if unit.kind == self.kind else bitmap
        return bitmap

    def coherency(self, kernel: Kernel, units: Iterable[IommuUnit]) -> bool:
        """Return the flag by which type1 compares domains: enforced coherency, before 5.19 the CACHE capability.

        Sources: intel_iommu_enforce_cache_coherency, intel_iommu_capable; AMD always, SMMU never (6.1) or always (5.10): recorded.
        """
        if self.kind == "intel-vtd":
            if kernel.has("enforced_coherency"):
                return self.snoop_control
            return all(unit.snoop_control for unit in units if unit.kind == self.kind)
        if self.kind == "amd-vi":
            return True
        return self.is_arm and not kernel.has("enforced_coherency")

    def nesting_errno(self, kernel: Kernel) -> str | None:
        """Return the errno's name with which the driver refuses a nesting domain (type 6), None if it agrees. All recorded."""
        if self.is_arm:
            return "EPERM" if kernel.has("smmu_nesting_eperm") else None
        if self.kind == "intel-vtd" and kernel.has("intel_nesting_enodev") and not kernel.has("intel_nesting_einval"):
            return "ENODEV"
        return "EINVAL"

    def reserved(self, kernel: Kernel | None = None) -> tuple[ReservedRegion, ...]:
        """Return the regions that the driver of this kind of unit declares for every device (firmware adds others); the newest one's by default."""
        if self.translates_msi:
            regions = [ReservedRegion(SOFTWARE_MSI, "sw-msi")]
        elif self.kind == "amd-vi":
            regions = [ReservedRegion(X86_MSI, "msi"), ReservedRegion(AMD_HYPERTRANSPORT, "reserved")]
        else:
            regions = [ReservedRegion(X86_MSI, "msi")]
        reports = kernel is None or not self.is_arm or kernel.has("arm_hardware_msi")
        if self.hardware_msi is not None and reports:
            regions.append(ReservedRegion(self.hardware_msi, "msi"))
        return tuple(sorted(regions))

    def msi_is_isolated(self, kernel: Kernel, devices: Iterable[str] | None = None) -> bool:
        """Say whether this kernel holds the MSIs of a group's devices behind this unit to be safe without allow_unsafe_interrupts.

        Up to 6.2 one doorbell of the host that does not check the sender makes every group unsafe; later it is judged for each group.
        Sources: irq_domain_check_msi_remap (4.11 to 6.2), iommu_group_has_isolated_msi (6.6).
        """
        if self.is_arm and not kernel.has("smmu_msi_not_remapped"):
            return True
        per_group = devices is not None and kernel.has("isolated_msi_per_group")
        return self.isolated_msi and not (self.exposed.intersection(devices or ()) if per_group else self.exposed)

    def __str__(self) -> str:
        stage = f" stage {self.stage}" if self.stage else ""
        return f"{self.name} ({self.kind}{stage}, {self.bits()}-bit)"


def restrict_page_sizes(hardware: int, page_size: int) -> int:
    """Choose one granule of an SMMU: the CPU's page size if it can, else the largest below, else the smallest above.

    Source: arm_lpae_restrict_pgsizes, drivers/iommu/io-pgtable-arm.c (6.12).

    >>> hex(restrict_page_sizes(0x40201000 | 0x20010000, 0x10000)), hex(restrict_page_sizes(0x40201000, 0x10000))
    ('0x20010000', '0x40201000')
    """
    granules = [granule for granule in GRANULES if hardware & granule]
    if not granules:
        return hardware
    below = [granule for granule in granules if granule <= page_size]
    return hardware & GRANULES[max(below) if below else min(granules)]


class Mapping(NamedTuple):
    """One run of a domain's page table: `size` bytes at `iova` lead to `physical`; `prot` bits as in events."""

    iova: int
    size: int
    physical: int
    prot: int


class Doorbell(NamedTuple):
    """A page with an MSI doorbell, mapped by the kernel inside the software window."""

    iova: int
    physical: int
    size: int

    def __repr__(self) -> str:
        return f"Doorbell({hexa(self.iova)} -> {hexa(self.physical)}, {human_size(self.size)})"


class Domain:
    """One hardware translation context: a page table, and the groups attached to it.

    Its verbs record an event and answer 0 or a negative errno, as the IOMMU core's functions do.
    """

    __slots__ = (
        "_highest",
        "_log",
        "_order",
        "_table",
        "aperture",
        "coherent",
        "doorbells",
        "groups",
        "kernel",
        "kind",
        "msi_base",
        "nesting",
        "number",
        "page_sizes",
        "prot",
        "unit",
        "width",
    )

    def __init__(self, number: int, unit: IommuUnit, kernel: Kernel, log: EventLog) -> None:
        self.number, self.unit, self.kind, self.kernel, self._log = number, unit, unit.kind, kernel, log
        self.groups: list[IommuGroup] = []
        self.aperture = Span(0, U64)
        self.page_sizes = 0
        self.width = unit.width
        self.coherent = False
        self.nesting = False
        self.prot = 0
        self.msi_base: int | None = None
        self.doorbells: tuple[Doorbell, ...] = ()
        self._table: dict[int, Mapping] = {}
        self._order: list[int] | None = None
        self._highest = 0

    @property
    def enforces_coherency(self) -> bool:
        """The flag by which type1 compares domains: enforced coherency (5.19+), before that the CACHE capability."""
        return self.coherent

    @property
    def stage(self) -> int | None:
        """Stage of an SMMU's tables; None for other units."""
        return 2 if self.nesting else self.unit.stage

    @property
    def mappings(self) -> Iterator[Mapping]:
        """The user's mappings in this domain, in iova order (doorbell pages are apart)."""
        return iter([self._table[iova] for iova in self._in_order()])

    def _in_order(self) -> list[int]:
        if self._order is None:
            self._order = sorted(self._table)
        return self._order

    def __len__(self) -> int:
        return len(self._table)

    def map(self, iova: int, size: int, physical: int, prot: int) -> int:
        """Map a run; 0 or a negative errno. VT-d beyond its width: EFAULT; an SMMU over a doorbell page: EEXIST."""
        errno = self.map_errno(iova, size)
        if not errno:
            self._table[iova] = Mapping(iova, size, physical, prot)
            self._order = None
            self._highest = max(self._highest, iova + size)
            self._log.add(Event("map", self.number, None, iova, size, prot))
        return errno

    def map_errno(self, iova: int, size: int) -> int:
        """Return what `map` would answer, changing nothing: 0 or a negative errno. KernelCrashError where the kernel dies."""
        if iova + size > self.reach:
            if iova + size == U64 and size == 0x1000 and not self.kernel.has("valid_iova"):
                raise KernelCrashError(
                    "a page that ends exactly at 2^64 passes VT-d's width test, because its end wraps to 0, and hits BUG_ON in __domain_mapping (intel-iommu.c, recorded on 4.4)"
                )
            return -ERRNO["EFAULT"]
        if self.unit.is_arm and iova + size > self.aperture.end:
            raise NotModelledError(
                f"kernel {self.kernel} lets a mapping past the last iova of {self.unit}, {self.aperture.last:#x}, through to its driver, and what that answers was neither recorded nor read"
            )
        if self.unit.translates_msi and any(bell.iova < iova + size and iova < bell.iova + bell.size for bell in self.doorbells):
            return -ERRNO["EEXIST"]
        return 0

    @property
    def reach(self) -> int:
        """First iova that the unit's driver refuses to map, whatever the aperture says (VT-d)."""
        return 1 << self.width if self.kind == "intel-vtd" else U64

    def takes_all_of(self, other: Domain) -> bool:
        """Say whether every run of another domain can be mapped here as it is there."""
        bounded = self.unit.is_arm and not self.kernel.has("valid_iova")
        return other.prot == self.prot and other._highest <= self.reach and not bounded

    def map_many(self, runs: list[Mapping]) -> None:
        """Map runs, ascending and known to fit, into an empty table: replay."""
        self._table.update([(run.iova, run) for run in runs])
        self._order = None
        if runs:
            self._highest = max(self._highest, runs[-1].iova + runs[-1].size)
        self._log.extend(mapped(self.number, runs))

    def unmap(self, iova: int, size: int) -> None:
        """Unmap the runs that make up a range; KeyError if they do not tile it."""
        at = iova
        self._order = None
        while at < iova + size:
            at += self._table.pop(at).size
        if self._highest == iova + size:
            self._highest = iova
        self._log.add(Event("unmap", self.number, None, iova, size))

    def forget(self) -> None:
        """Drop the table without unmapping: the domain is freed."""
        self._table.clear()
        self._order = None

    def translate(self, iova: int) -> Mapping | None:
        """Return the run that holds `iova` (a doorbell page counts), None where the device would fault."""
        for bell in self.doorbells:
            if bell.iova <= iova < bell.iova + bell.size:
                return Mapping(bell.iova, bell.size, bell.physical, PROT_WRITE | PROT_NOEXEC | PROT_MMIO)
        order = self._in_order()
        index = bisect_right(order, iova) - 1
        if index < 0:
            return None
        run = self._table[order[index]]
        return run if iova < run.iova + run.size else None

    def physical_runs(self, iova: int, size: int) -> list[tuple[int, int]]:
        """Return (physical address, bytes) of the runs that make up a mapped range; KeyError if they do not tile it."""
        runs, at = [], iova
        while at < iova + size:
            run = self._table[at]
            runs.append((run.physical, run.size))
            at += run.size
        return runs

    def overlaps(self, iova: int, size: int) -> bool:
        """Say whether a user's mapping shares a byte with the range."""
        order = self._in_order()
        index = bisect_left(order, iova + size) - 1
        if index < 0:
            return False
        run = self._table[order[index]]
        return run.iova + run.size > iova

    def attach_errno(self, unit: IommuUnit) -> int:
        """Return what this unit's driver answers when a device behind it is to join this domain: 0 or a negative errno.

        Sources: arm_smmu_attach_dev; prepare_domain_attach_device and paging_domain_compatible (VT-d); AMD agrees always.
        """
        if not self.groups or self.kind == "amd-vi":
            return 0
        if self.kind == "intel-vtd":
            return self._intel_attach_errno(unit)
        if unit is self.unit:
            return 0
        if self.unit.is_arm and not self.kernel.has("smmu_other_unit_einval"):
            return -ERRNO["ENXIO"]
        return -ERRNO["EINVAL"]

    def _intel_attach_errno(self, unit: IommuUnit) -> int:
        newer = self.kernel.has("intel_attach_einval")
        if self.kernel.has("enforced_coherency") and self.coherent and not unit.snoop_control:
            return -ERRNO["EINVAL" if newer else "EOPNOTSUPP"]
        if self.kernel.has("intel_domain_fixed"):
            return -ERRNO["EINVAL"] if unit.width < self.width or unit.page_sizes & self.page_sizes != self.page_sizes else 0
        return -ERRNO["EINVAL" if newer else "EFAULT"] if self._highest > 1 << unit.width else 0

    def join(self, group: IommuGroup) -> None:
        """Take a group in; a first one gives the domain its unit, a later one may narrow it (VT-d up to 6.13)."""
        self.groups.append(group)
        unit = group.unit
        assert unit is not None
        if self.kind == "intel-vtd" and unit.width < self.width:
            self.width = unit.width
            narrow = unit.aperture(self.kernel)
            self.aperture = narrow if narrow.size < self.aperture.size else self.aperture

    def __repr__(self) -> str:
        groups = ", ".join(str(group.id) for group in self.groups)
        units = " + ".join(dict.fromkeys(group.unit.name for group in self.groups if group.unit is not None)) or self.unit.name
        return f"Domain(D{self.number}, {units}, groups [{groups}], {len(self)} mappings)"

    def _check(self) -> None:
        end = 0
        for iova in self._in_order():
            run = self._table[iova]
            assert iova == run.iova, f"D{self.number}: key {iova:#x} holds {run}"
            assert run.size > 0, f"D{self.number}: empty run at {iova:#x}"
            assert end <= iova, f"D{self.number}: runs overlap at {iova:#x}"
            end = iova + run.size
        for bell in self.doorbells:
            assert not self.overlaps(bell.iova, bell.size), f"D{self.number}: doorbell page {bell.iova:#x} is under a user's mapping"
