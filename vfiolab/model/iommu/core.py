"""The IOMMU core: groups, who owns their DMA, and the one place that allocates, attaches, detaches and frees domains."""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab.model.address import Span
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import ERRNO, NotModelledError
from vfiolab.model.events import PROT_CACHE, PROT_MMIO, PROT_NOEXEC, PROT_WRITE, Event, EventLog
from vfiolab.model.iommu.domain import Domain, Doorbell
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion
from vfiolab.model.kernel import Kernel

IC = "drivers/iommu/iommu.c"


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

    def software_msi(self, kernel: Kernel) -> Span | None:
        """Return the software MSI window that type1 uses for this group, None without one (a hardware window overrides it, 4.15+)."""
        windows = [region.span for region in self.reserved if region.kind == "sw-msi"]
        hardware = any(region.kind == "msi" for region in self.reserved)
        if not windows or (hardware and kernel.has("hw_msi_overrides_sw_msi")):
            return None
        return windows[0]

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


def _native(group: IommuGroup) -> str | None:
    if not group.native:
        return None
    return f"group {group.id} is not viable: {', '.join(sorted(group.native))} {'is' if len(group.native) == 1 else 'are'} bound to a native driver, which uses the group's DMA"


def rmrr_locked(group: IommuGroup) -> str | None:
    """Say why VT-d (up to 6.5) refuses to move this group out of its default domain, None if it does not."""
    if group.unit is None or group.unit.kind != "intel-vtd" or not group.has_direct:
        return None
    region = next(region.span for region in group.firmware if region.kind == "direct")
    return f"group {group.id} is ineligible because of the platform's RMRR {region}, which VT-d keeps mapped"


CLAIM_CHECKS = (
    Check("no native driver uses a device of the group", "EPERM", f"iommu_group_claim_dma_owner, {IC}", _native,
          "unbind those devices, or bind them to vfio-pci or pci-stub"),
    Check("nobody else owns the group's DMA", "EPERM", f"iommu_group_claim_dma_owner, {IC}",
          lambda g: f"group {g.id} is owned by another user already" if g.owner is not None else None, "release it there first"),
    Check("no member needs a direct region", "EINVAL", f"__iommu_take_dma_ownership, {IC}",
          lambda g: f"group {g.id} has the direct region {next(r.span for r in g.firmware if r.kind == 'direct')}, which must stay mapped 1:1 (RMRR)" if g.has_direct else None,
          'firmware settings only; the host logs "Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping"', lambda k: k.has("direct_blocks_ownership")),
    Check("the IOMMU driver lets the group leave its default domain", "EPERM", "device_is_rmrr_locked, drivers/iommu/intel/iommu.c",
          rmrr_locked, 'firmware settings only; the host logs "Device is ineligible for IOMMU domain attach due to platform RMRR requirement"', lambda k: not k.has("direct_blocks_ownership")),
)  # fmt: skip


class IommuCore:
    """All groups and domains of a host. Each verb records its event; domains are numbered in order of allocation."""

    def __init__(self, kernel: Kernel, units: Iterable[IommuUnit], page_size: int, log: EventLog) -> None:
        self.kernel, self.page_size, self.log = kernel, page_size, log
        self.units = tuple(units)
        self.groups: dict[int, IommuGroup] = {}
        self._of: dict[str, IommuGroup] = {}
        self._allocated = 0
        self.interrupts_given = 0
        self._claim_checks = table(CLAIM_CHECKS, kernel)

    def add(self, group: IommuGroup) -> None:
        """Add a group; ValueError if its number or a device is taken."""
        taken = [device for device in group.devices if device in self._of]
        if group.id in self.groups or taken:
            raise ValueError(f"group {group.id}: the number or a device ({', '.join(taken) or 'none'}) is in a group already")
        self.groups[group.id] = group
        self._of.update((device, group) for device in group.devices)

    def join(self, group: IommuGroup, device: str) -> None:
        """Put one more device into a group."""
        group.devices = (*group.devices, device)
        self._of[device] = group

    def leave(self, group: IommuGroup, device: str) -> None:
        """Take a device out of a group that keeps others."""
        group.devices = tuple(other for other in group.devices if other != device)
        group.native.discard(device)
        del self._of[device]

    def remove(self, group: IommuGroup) -> None:
        """Take a group away: its devices are gone."""
        del self.groups[group.id]
        for device in group.devices:
            del self._of[device]

    def group_of(self, device: str) -> IommuGroup | None:
        """Return the group that holds a device, None if the device has none."""
        return self._of.get(device)

    def claim(self, group: IommuGroup, owner: object) -> None:
        """Take the group's DMA for user space (5.19+); it then sits in a blocking domain. EPERM, EINVAL as the checks say."""
        self.check_claim(group)
        group.owner = owner
        self.log.add(Event("claim", group=group.id))

    def check_claim(self, group: IommuGroup) -> None:
        """Refuse a group whose DMA may not be taken for user space; change nothing."""
        self._claim_checks.run(group)

    def release(self, group: IommuGroup) -> None:
        """Give the group's DMA back to the kernel."""
        group.owner = None
        self.log.add(Event("release", group=group.id))

    def unit_of(self, group: IommuGroup) -> IommuUnit:
        """Return the unit that a group's devices are behind; NotModelledError if the machine lists none."""
        if group.unit is None:
            raise NotModelledError(
                f"no IOMMU unit is listed for group {group.id} ({', '.join(group.devices)}), so there is no domain to attach it to: list the unit in the machine file"
            )
        return group.unit

    def alloc(self, group: IommuGroup) -> Domain:
        """Allocate a paging domain for the group's unit."""
        unit = self.unit_of(group)
        self._allocated += 1
        domain = Domain(self._allocated, unit, self.kernel, self.log)
        self.log.add(Event("alloc", self._allocated))
        return domain

    def attach(self, domain: Domain, group: IommuGroup) -> int:
        """Attach a group to a domain: 0, or the negative errno of the unit's driver."""
        assert group.unit is not None
        errno = -ERRNO["EPERM"] if self.why_refused(group) else domain.attach_errno(group.unit)
        self.log.add(Event("attach", domain.number, group.id, errno=errno))
        if not errno:
            if not domain.groups:
                self.configured(domain, group.unit)
            domain.join(group)
            group.domain = domain
        return errno

    def why_refused(self, group: IommuGroup) -> str | None:
        """Say why the unit's driver refuses every domain for this group (VT-d up to 6.5: RMRR), None if it does not."""
        return None if self.kernel.has("intel_no_rmrr_lock") else rmrr_locked(group)

    def configured(self, domain: Domain, unit: IommuUnit) -> Domain:
        """Return the domain as a first group behind `unit` makes it: its width, aperture, page sizes and coherency."""
        kernel = self.kernel
        domain.unit = unit
        domain.set_width(unit.width)
        domain.aperture = unit.aperture(kernel, nesting=domain.nesting)
        domain.page_sizes = unit.reported_page_sizes(kernel, self.units, self.page_size)
        domain.coherent = unit.coherency(kernel, self.units)
        domain.prot = PROT_CACHE if domain.coherent or kernel.has("enforced_coherency") else 0
        return domain

    def detach(self, domain: Domain, group: IommuGroup) -> None:
        """Detach a group; it goes to its blocking domain if it is claimed, else to its default domain."""
        domain.leave(group)
        group.domain = None
        self.log.add(Event("detach", domain.number, group.id))

    def free(self, domain: Domain) -> None:
        """Free a domain with all that is still in it."""
        domain.forget()
        self.log.add(Event("free", domain.number))

    def probe_superpages(self, domain: Domain, iova: int) -> None:
        """Record type1's superpage probe: two pages mapped at `iova` and unmapped again."""
        self.log.add(Event("fgsp", domain.number, iova=iova, size=2 * self.page_size))

    def get_msi_cookie(self, domain: Domain, base: int) -> None:
        """Give the domain a cookie: doorbell pages will be mapped from iova `base` upward (iommu_get_msi_cookie)."""
        domain.msi_base = base
        self.log.add(Event("msi_cookie", domain.number, iova=base))

    def doorbell_iova(self, domain: Domain, doorbell: int) -> int:
        """Return the iova of the page at which a doorbell is reachable in the domain, or would be: the next free one of the cookie."""
        assert domain.msi_base is not None
        page = doorbell & -self.page_size
        known = [bell.iova for bell in domain.doorbells if bell.physical == page]
        return known[0] if known else domain.msi_base + len(domain.doorbells) * self.page_size

    def map_doorbell(self, domain: Domain, doorbell: int) -> int | None:
        """Make a doorbell reachable in the domain; return the iova the device must write to, None if the map failed.

        The page (of the CPU's size) is mapped once in a domain, at the cookie's next iova, and stays until the domain dies; the allocator does not test
        the end of its window. Source: iommu_dma_get_msi_page, drivers/iommu/dma-iommu.c.
        """
        mask = self.page_size - 1
        page = doorbell & ~mask
        iova = self.doorbell_iova(domain, doorbell)
        if any(bell.physical == page for bell in domain.doorbells):
            return iova | doorbell & mask
        if domain.overlaps(iova, self.page_size):
            return None
        domain.doorbells += (Doorbell(iova, page, self.page_size),)
        prot = PROT_WRITE | PROT_NOEXEC | PROT_MMIO
        self.log.add(Event("msi_map", domain.number, None, iova, self.page_size, prot, page))
        return iova | doorbell & mask

    def _check(self) -> None:
        for number, group in self.groups.items():
            assert number == group.id
            assert all(self._of[device] is group for device in group.devices)
            if group.domain is not None:
                assert group in group.domain.groups, f"group {number} thinks it is in {group.domain}"
                assert group.owner is not None or not self.kernel.has("dma_ownership"), f"group {number} is attached but unclaimed"
