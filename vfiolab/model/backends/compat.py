"""iommufd's compatibility layer behind /dev/vfio/vfio (6.2 and later, kernels built without the native container).

A container is an iommufd, and works on one of its address spaces: it begins with the first GROUP_SET_CONTAINER and survives the last group.
Groups are attached, claimed and judged when a device is opened. Sources: drivers/iommu/iommufd/vfio_compat.c (6.12), and recorded runs of
6.8 and 6.12.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from vfiolab.model.backends import compat_checks as rows
from vfiolab.model.backends.compat_checks import Asked
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.ioas import Ioas, Part
from vfiolab.model.backends.iommufd import Bound, Context
from vfiolab.model.backends.iommufd_checks import CLEARED_CHECKS
from vfiolab.model.backends.native import DMA_CC, NOIOMMU, UNMAP_ALL_EXT, NoIommu
from vfiolab.model.backends.protocol import Caller
from vfiolab.model.backends.type1 import TYPE1, Type1, TYPE1v2
from vfiolab.model.errors import NotModelledError
from vfiolab.model.uapi.info import DMA_AVAIL, FLAG_PGSIZES, INFO_CHECKS, Info, answer, chain, iova_part
from vfiolab.model.uapi.requests import DIRTY_PAGES, DirtyPages, IommuInfo, MapDma, UnmapDma


class Compat(Context):
    """An iommufd as a container: what VFIO's ioctls and groups do with it."""

    pins_group = False
    attaches_at_open = True

    @property
    def backend(self) -> Ioas | None:
        """The address space, None before the first group came."""
        return self.space

    # groups and devices

    def check_enter(self, group: VfioGroup) -> None:
        """Nothing is refused here: the device's opening judges."""

    def enter(self, group: VfioGroup) -> None:
        """Note the group; neither claim nor attach it."""
        self.groups.append(group)
        group.container = self
        self.space = self.space or self.new_space()

    def leave(self, group: VfioGroup) -> None:
        """Forget the group; its open devices stay attached."""
        self.groups.remove(group)
        group.container = None
        self.end_if_unused()

    def drop(self, group: VfioGroup) -> None:
        """Nothing happens: a dead group stays noted until it is unset or closed."""

    def _bound(self, name: str) -> Bound | None:
        return next((device for device in self.devices() if device.name == name), None)

    def open_device(self, group: VfioGroup, name: str) -> None:
        """Tie a device to the iommufd at its first open, and attach it. EPERM, EADDRINUSE, EFAULT, ENOMEM, EINVAL, ENODEV; a refusal undoes all."""
        bound = self._bound(name)
        if bound is not None:
            bound.opens += 1
            return
        if group.group.emulated or group.noiommu:
            kind = "no-IOMMU group" if group.noiommu else "emulated device"
            raise NotModelledError(
                f"{name} of group {group.id}: what the compatibility layer does with a {kind} was neither recorded nor read"
            )
        self.check_bind(group.group)
        self._ask(CLEARED_CHECKS, Asked(self.space))
        assert self.space is not None
        hwpt = self.pick(group.group, name, self.space)
        self.join(self.bind(group.group, name), hwpt or self.space)

    def close_device(self, group: VfioGroup, name: str) -> None:
        """Let a device go with its last open descriptor."""
        bound = self._bound(name)
        assert bound is not None
        bound.opens -= 1
        if not bound.opens:
            self.unbind(bound)

    # the container's ioctls

    def set_iommu(self, kind: int) -> None:
        """Type 1 or 3, repeatable. EINVAL (another type), ENODEV (no address space yet), EINVAL and EADDRINUSE (type 1 and mappings)."""
        self._ask(rows.SET_IOMMU_CHECKS, Asked(self.space, kind=kind))
        assert self.space is not None
        if kind == TYPE1:
            self._ask(rows.HUGE_CHECKS, Asked(self.space), rows.SET_IOMMU_CHECKS)
            self.space.v1 = True

    def check_extension(self, number: int) -> int:
        """Answer an extension; DMA_CC is ENODEV before there is an address space; no-IOMMU (8) is offered (recorded)."""
        if number == DMA_CC:
            self._ask(rows.SPACE_CHECKS, Asked(self.space))
            assert self.space is not None
            return int(all(domain.coherent for domain in self.space.domains))
        return int(number in (TYPE1, TYPE1v2, NOIOMMU, UNMAP_ALL_EXT))

    def info(self, request: IommuInfo) -> Info:
        """GET_INFO: page sizes, no limit on mappings, the usable ranges."""
        self._ask(INFO_CHECKS + rows.SPACE_CHECKS, Asked(self.space, ptr=request.ptr, argsz=request.argsz))
        assert self.space is not None
        caps, total = chain([(DMA_AVAIL, 12, [("avail", self.space.dma_avail)]), iova_part(self.space.valid_iova)], padded=True)
        return replace(answer(request.argsz, FLAG_PGSIZES, self.space.page_sizes, caps, total), argsz=total)  # also down (recorded on 6.8)

    def map(self, caller: Caller, request: MapDma) -> None:
        """MAP_DMA; pinned at once if a device is open, else when one is opened. Charged to the process, whatever RLIMIT_MODE says."""
        r = request
        r.caller, r.backend = caller, self.space
        self._ask(rows.MAP_CHECKS + rows.PAGES_CHECKS, r)
        assert self.space is not None
        self.space.map(r, [Part(self.pages(caller, "mm", write=bool(r.flags & 2)), r.vaddr, r.size)], rows.MAP_CHECKS + rows.PAGES_CHECKS)

    def unmap(self, caller: Caller, request: UnmapDma) -> tuple[int, int | None]:
        """UNMAP_DMA: whole areas only, unless SET_IOMMU(1) ran: then areas are cut at the range's edges."""
        r = request
        r.backend = self.space
        self._ask(rows.UNMAP_CHECKS, r)
        assert self.space is not None
        if r.flags:
            return self.space.remove(self.space.areas), None
        if self.space.v1:
            self.space.cut(r.end, rows.UNMAP_CHECKS)
            self.space.cut(r.iova, rows.UNMAP_CHECKS)
        return self.space.unmap(r, rows.UNMAP_CHECKS), None

    def dirty(self, caller: Caller, request: DirtyPages) -> int | None:
        """DIRTY_PAGES is not there: ENOTTY."""
        self.refuse_unknown(DIRTY_PAGES)
        return None

    def refuse_unknown(self, cmd: int) -> None:
        """ENOTTY; EFAULT for iommufd's own ioctls, which this descriptor has too: they take a struct."""
        self._ask(rows.UNKNOWN_CHECKS, Asked(self.space, self.system, kind=cmd))

    def __repr__(self) -> str:
        return f"Compat({self.space!r}, {len(list(self.devices()))} devices open)"


#: The address space behind a container. Views read the name, `dmas`, `at`, `mapped_bytes`, `domains` and `valid_iova` of each.
Backend: TypeAlias = Type1 | Ioas | NoIommu
