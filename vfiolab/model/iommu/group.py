"""IOMMU groups: the devices that the kernel holds to be inseparable, and the regions that it reports for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from vfiolab.model.address import Span
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion
from vfiolab.model.kernel import Kernel

if TYPE_CHECKING:
    from vfiolab.model.iommu.domain import Domain


class IommuGroup:
    """The devices that the kernel holds to be inseparable, with one current domain for all.

    `id` is the number under /sys/kernel/iommu_groups; `reserved` what this kernel reports in `reserved_regions`; `native` the members whose
    driver uses the kernel's DMA API; `owner` who has claimed the group for user space.
    """

    __slots__ = ("devices", "domain", "emulated", "firmware", "id", "native", "owner", "reserved", "unit")

    def __init__(
        self,
        number: int,
        devices: Iterable[str],
        unit: IommuUnit | None,
        reserved: Iterable[ReservedRegion] = (),
        *,
        firmware: Iterable[ReservedRegion] = (),
        emulated: bool = False,
    ) -> None:
        self.id = number
        self.devices = tuple(devices)
        self.unit = unit
        self.reserved = tuple(reserved)
        self.firmware = tuple(firmware)
        self.emulated = emulated
        self.native: set[str] = set()
        self.owner: object | None = None
        self.domain: Domain | None = None

    @property
    def has_direct(self) -> bool:
        """Whether firmware demands a direct (RMRR, unity) mapping for a member that assignment may not ignore."""
        return any(region.kind == "direct" for region in self.firmware)

    def __repr__(self) -> str:
        return f"IommuGroup({self.id}, [{', '.join(self.devices)}])"


def merged_reserved(regions: Iterable[ReservedRegion], kernel: Kernel) -> tuple[ReservedRegion, ...]:
    """Merge the regions of a group's devices: within one type only; touching ones from 5.4. Sorted by start, then type.

    Source: iommu_insert_resv_region, drivers/iommu/iommu.c (5.3, 5.7, 6.12).

    >>> a, b = ReservedRegion(Span(0x1000, 0x2000), "reserved"), ReservedRegion(Span(0x2000, 0x3000), "reserved")
    >>> len(merged_reserved([a, b], Kernel("5.4"))), len(merged_reserved([a, b], Kernel("5.3")))
    (1, 2)
    """
    order = ("direct", "direct-relaxable", "reserved", "msi", "sw-msi")
    touch = kernel.has("touching_regions_merge")
    out: list[ReservedRegion] = []
    for kind in order:
        spans: list[Span] = []
        for span in sorted({region.span for region in regions if region.kind == kind}):
            if spans and (span.start < spans[-1].end or (touch and span.start == spans[-1].end)):
                spans[-1] = Span(spans[-1].start, max(spans[-1].end, span.end))
            else:
                spans.append(span)
        out += [ReservedRegion(span, kind) for span in spans]
    return tuple(sorted(out, key=lambda region: (region.span.start, order.index(region.kind))))


def rmrr_locked(group: IommuGroup) -> str | None:
    """Say why VT-d (up to 6.5) refuses to move this group out of its default domain, None if it does not."""
    if group.unit is None or group.unit.kind != "intel-vtd" or not group.has_direct:
        return None
    region = next(region.span for region in group.firmware if region.kind == "direct")
    return f"group {group.id} is ineligible because of the platform's RMRR {region}, which VT-d keeps mapped"
