"""Who makes the doorbell of a device's interrupts reachable in a user's address space, and where: a policy.

The core holds one policy. Its hooks are called at five moments: a unit starts (by the host), a domain is made, a group is about to join a
domain, a user maps (by type1), an interrupt is asked for (by `irq.msi`). A policy gets units, groups, domains and the log, never the core
or a container; it may refuse (VfioError) where it is asked. `Landed` is what Linux does. iommufd asks the hook of a made domain and no other:
what else it does with doorbells was neither recorded nor read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from vfiolab.model.address import Span, hexa
from vfiolab.model.errors import NotModelledError
from vfiolab.model.events import PROT_MMIO, PROT_NOEXEC, PROT_WRITE, Event, EventLog
from vfiolab.model.iommu.domain import Domain, Doorbell
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import IommuUnit, ReservedRegion
from vfiolab.model.kernel import Kernel

#: What a message became when its doorbell page could not be mapped (4.11 to 5.1; iommu_dma_map_msi_msg).
ALL_ONES = (1 << 64) - 1
FIRST_ARM_RECORDING = (5, 10)


class Reached(NamedTuple):
    """The bus address at which a device reaches a doorbell, why that one, and what the answer rests on ("" for a recording)."""

    address: int
    why: str
    rests: str = ""


class Doorbells:
    """A policy that does nothing: the device writes to the doorbell's physical address, as with 4.4.

    `known`: the physical addresses of the doorbells that the host knows of when its units start.
    """

    def __init__(self, kernel: Kernel, page_size: int, log: EventLog, known: Sequence[int] = ()) -> None:
        self.kernel, self.page_size, self.log, self.known = kernel, page_size, log, tuple(known)

    @property
    def watches(self) -> bool:
        """Whether this policy has something to say of a user's maps."""
        return type(self).user_maps is not Doorbells.user_maps

    @property
    def design(self) -> str:
        """The name by which a file calls the policy, "" for what Linux does."""
        return type(self).__name__

    def unit_starts(self, unit: IommuUnit) -> tuple[ReservedRegion, ...]:
        """Return the regions that are reserved for every device behind a unit."""
        return unit.reserved(self.kernel)

    def domain_made(self, domain: Domain, group: IommuGroup, beside: Sequence[Domain]) -> None:
        """See a new domain, with its first group in it and the user's mappings replayed; `beside` are the container's others."""

    def group_joins(self, domain: Domain, group: IommuGroup) -> bool:  # noqa: ARG002 - policies look at it
        """Say whether one more group may come into a domain; if not, it gets its own."""
        return True

    def user_maps(self, domain: Domain, span: Span) -> str | None:
        """Say why a user may not map a span of iovas in a domain, None if there is no reason."""

    def map_page(self, domain: Domain, iova: int, page: int) -> None:
        """Map a doorbell's page, of the CPU's size, at an iova of a domain where nothing is."""
        domain.doorbells += (Doorbell(iova, page, self.page_size),)
        prot = PROT_WRITE | PROT_NOEXEC | PROT_MMIO
        self.log.add(Event("msi_map", domain.number, None, iova, self.page_size, prot, page))

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:  # noqa: ARG002 - policies look at it
        """Return where a device of a group will reach a doorbell, an interrupt of which is asked for."""
        hardware = group is not None and any(region.kind == "msi" and region.span.contains(doorbell) for region in group.reserved)
        if hardware:
            why = "the physical doorbell: its range is a hardware MSI region, so the domain has no cookie"
        elif self.kernel.has("reserved_regions"):
            why = "the physical doorbell: no domain with a cookie is in front of the device"
        else:
            why = f"the physical doorbell: kernel {self.kernel} has no cookie that would make it reachable in a user's domain"
        return Reached(doorbell, why, "reading")


class Landed(Doorbells):
    """What landed in 4.11: a software window in each domain, whose pages the kernel maps as interrupts ask for them (iommu_get_msi_cookie).

    Before, no unit reports a window, so no domain has a cookie, and nothing is done.
    """

    design = ""

    def domain_made(self, domain: Domain, group: IommuGroup, beside: Sequence[Domain]) -> None:  # noqa: ARG002 - each has its own
        """Give the domain a cookie if the group reports a window: doorbell pages will be mapped from its start upward."""
        window = self.window(group)
        if window is not None:
            domain.msi_base = window.start
            self.log.add(Event("msi_cookie", domain.number, iova=window.start))

    def window(self, group: IommuGroup) -> Span | None:
        """Return the software MSI window that type1 uses for a group, None without one (a hardware window overrides it from 4.14 on)."""
        windows = [region.span for region in group.reserved if region.kind == "sw-msi"]
        hardware = any(region.kind == "msi" for region in group.reserved)
        if not windows or (hardware and self.kernel.has("hw_msi_overrides_sw_msi")):
            return None
        return windows[0]

    def requested(self, domain: Domain | None, group: IommuGroup | None, doorbell: int) -> Reached:
        """Map the doorbell's page (of the CPU's size) in the domain, once; it stays until the domain dies.

        The allocator does not test the end of its window. Source: iommu_dma_get_msi_page, drivers/iommu/dma-iommu.c. NotModelledError where
        a user's mapping covers the page's place: how 5.2 and later fail is not known.
        """
        if domain is None or domain.msi_base is None:
            return super().requested(domain, group, doorbell)
        page, iova = doorbell & -self.page_size, self.page_of(domain, doorbell)
        if self.kernel.has("msi_two_phase") and domain.overlaps(iova, self.page_size):
            raise NotModelledError(
                f"the doorbell's page cannot be mapped at iova {hexa(iova)}, which a user's mapping covers: kernel {self.kernel} fails the allocation of the interrupt, with an errno that was neither recorded nor read"
            )
        self.log.add(Event("prep_msi", physical=doorbell))
        if not any(bell.physical == page for bell in domain.doorbells):
            if domain.overlaps(iova, self.page_size):
                why = "the doorbell's page could not be mapped, because a user's mapping covers its place in the window: the message became all ones"
                return Reached(ALL_ONES, why, "reading")
            self.map_page(domain, iova, page)
        offset = doorbell % self.page_size
        rests = "reading" if domain.kind == "virtio-iommu" or self.kernel.version < FIRST_ARM_RECORDING else ""
        return Reached(
            iova | offset, f"the page at {hexa(iova)} of D{domain.number} is the doorbell's, the offset in it is {hexa(offset)}", rests
        )

    def page_of(self, domain: Domain, doorbell: int) -> int:
        """Return the doorbell page's iova in this domain; if it is not mapped yet, the iova it would get."""
        assert domain.msi_base is not None
        page = doorbell & -self.page_size
        known = [bell.iova for bell in domain.doorbells if bell.physical == page]
        return known[0] if known else domain.msi_base + len(domain.doorbells) * self.page_size
