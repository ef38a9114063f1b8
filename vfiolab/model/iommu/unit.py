"""IOMMU hardware, and what a kernel reports of it.

`IommuUnit` holds hardware facts only. What Linux says of a unit changed over the versions (aperture, page sizes, coherency); those answers
are methods that take a `Kernel`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from vfiolab.model.address import Span
from vfiolab.model.kernel import Kernel

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


class Reported(NamedTuple):
    """What one recorded kernel said of a unit; overrides the derived value for that kernel only."""

    aperture: Span | None = None
    page_sizes: int | None = None


def binding(regions: Iterable[ReservedRegion]) -> list[Span]:
    """Return the spans of the regions that count: all but direct-relaxable (vfio_iommu_resv_exclude, vfio_iommu_resv_conflict)."""
    return [region.span for region in regions if region.kind != "direct-relaxable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IommuUnit:
    """One IOMMU: its hardware, and which devices are behind it.

    kind: intel-vtd, amd-vi, virtio-iommu or arm-smmu-v3. `width`: bits of an iova. `page_sizes`: bitmap, bit n set = pages of 2^n bytes.
    `stage` of an SMMU's tables (1 or 2), `stage2_bits` the width of its stage 2. `snoop_control`: can strip No-Snoop (VT-d).
    `isolated_msi`: the interrupt path checks who sent an MSI; `exposed` are devices for which it does not although the unit's others are
    safe (their doorbell is a GICv2m frame). `coherent`: can do cache-coherent mappings. `hardware_msi`: an MSI range that the unit does not
    translate: beside the usual one of an SMMU, instead of it of a virtio-iommu. `translates_msi`: doorbells lie behind the unit's
    translation, as they do behind every SMMU (a virtio-iommu of an Arm machine too, but for its `hardware_msi`).
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
    reported: Mapping[tuple[int, int], Reported] = field(default_factory=lambda: MappingProxyType({}), compare=False, repr=False)

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
        """Return the regions that the driver of this kind of unit declares for every device (firmware adds others); the newest one's by default.

        A virtio-iommu that tells of an MSI range gets no software window (viommu_get_resv_regions, 6.12); an SMMU has both.
        """
        if self.translates_msi:
            regions = [] if self.hardware_msi is not None and not self.is_arm else [ReservedRegion(SOFTWARE_MSI, "sw-msi")]
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
        return f"{self.name} ({self._what})"

    def __repr__(self) -> str:
        return f"IommuUnit({self.name!r}, {self._what}, {len(self.devices)} devices)"

    @property
    def _what(self) -> str:
        return f"{self.kind}{f' stage {self.stage}' if self.stage else ''}, {self.bits()}-bit"


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
