"""The IOMMU core: groups, who owns their DMA, and the one place that allocates, attaches, detaches and frees domains."""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab.model.checks import Check, table
from vfiolab.model.errors import ERRNO, NotModelledError
from vfiolab.model.events import PROT_CACHE, Event
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.doorbells import Doorbells
from vfiolab.model.iommu.group import IommuGroup, rmrr_locked
from vfiolab.model.iommu.unit import IommuUnit

IC = "drivers/iommu/iommu.c"


def _native(group: IommuGroup) -> str:
    return f"group {group.id} is not viable: {', '.join(sorted(group.native))} {'is' if len(group.native) == 1 else 'are'} bound to a native driver, which uses the group's DMA"


CLAIM_CHECKS = (
    Check("no native driver uses a device of the group", "EPERM", f"iommu_group_claim_dma_owner, {IC}", _native,
          "unbind those devices, or bind them to vfio-pci or pci-stub", test="r.native"),
    Check("nobody else owns the group's DMA", "EPERM", f"iommu_group_claim_dma_owner, {IC}",
          "group {r.id} is owned by another user already", "release it there first", test="r.owner is not None"),
    Check("no member needs a direct region", "EINVAL", f"__iommu_take_dma_ownership, {IC}",
          lambda g: f"group {g.id} has the direct region {next(r.span for r in g.firmware if r.kind == 'direct')}, which must stay mapped 1:1 (RMRR)",
          'firmware settings only; the host logs "Firmware has requested this device have a 1:1 IOMMU mapping, rejecting configuring the device without a 1:1 mapping"', "direct_blocks_ownership", "r.has_direct"),
    Check("the IOMMU driver lets the group leave its default domain", "EPERM", "device_is_rmrr_locked, drivers/iommu/intel/iommu.c",
          rmrr_locked, 'firmware settings only; the host logs "Device is ineligible for IOMMU domain attach due to platform RMRR requirement"', "not direct_blocks_ownership"),
)  # fmt: skip


class IommuCore:
    """All groups and domains of a host. Each verb records its event; domains are numbered in order of allocation."""

    def __init__(self, units: Iterable[IommuUnit], doorbells: Doorbells) -> None:
        self.doorbells = doorbells
        self.kernel, self.page_size, self.log = doorbells.kernel, doorbells.page_size, doorbells.log
        self.units = tuple(units)
        self.groups: dict[int, IommuGroup] = {}
        self._of: dict[str, IommuGroup] = {}
        self._allocated = 0
        self.interrupts_given = 0
        self._claim_checks = table(CLAIM_CHECKS, self.kernel)

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
            if not domain.page_sizes:
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

    def _check(self) -> None:
        for number, group in self.groups.items():
            assert number == group.id
            assert all(self._of[device] is group for device in group.devices)
            if group.domain is not None:
                assert group in group.domain.groups, f"group {number} thinks it is in {group.domain}"
                assert group.owner is not None or not self.kernel.has("dma_ownership"), f"group {number} is attached but unclaimed"
