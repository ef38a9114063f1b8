"""iommufd's compatibility layer behind /dev/vfio/vfio (6.2 and later, kernels built without the native container).

The address space belongs to the descriptor: it begins with the first GROUP_SET_CONTAINER and survives the last group. Groups are attached,
claimed and judged when a device is opened. Sources: drivers/iommu/iommufd/vfio_compat.c and io_pagetable.c (6.12), and recorded runs of 6.12.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import TypeAlias

from vfiolab.model.address import U64, Span
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.compat_checks import (
    ALIGNED_CHECKS,
    CUT_CHECKS,
    FIT_CHECKS,
    MAP_CHECKS,
    OPEN_CHECKS,
    PIN_CHECKS,
    RANGE_CHECKS,
    SET_IOMMU_CHECKS,
    SPACE_CHECKS,
    UNKNOWN_CHECKS,
    UNMAP_CHECKS,
    WHOLE_CHECKS,
    Area,
    Asked,
)
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.native import DMA_CC, NOIOMMU, UNMAP_ALL_EXT, NoIommu
from vfiolab.model.backends.protocol import Caller, System
from vfiolab.model.backends.type1 import TYPE1, Type1, TYPE1v2
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import NAMES, NotModelledError
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.unit import IommuUnit, binding
from vfiolab.model.uapi.info import DMA_AVAIL, FLAG_PGSIZES, INFO_CHECKS, Info, answer, chain, iova_part
from vfiolab.model.uapi.requests import CAP_IPC_LOCK, DIRTY_PAGES, DirtyPages, IommuInfo, MapDma, UnmapDma

_start = attrgetter("iova")


class Compat:
    """One descriptor's address space (iommufd's IOAS)."""

    name = "iommufd-compat"
    pins_group = False
    attaches_at_open = True

    def __init__(self, system: System) -> None:
        self.system, self.page_size = system, system.core.page_size
        self.groups: list[VfioGroup] = []
        self.areas: list[Area] = []
        self.exists = False
        self.v1 = False
        self._open: dict[VfioGroup, dict[str, int]] = {}
        self._domains: list[Domain] = []
        self._map = table(MAP_CHECKS, system.kernel)

    @property
    def backend(self) -> Compat | None:
        """The address space itself, None before the first group came."""
        return self if self.exists else None

    @property
    def v2(self) -> bool:
        """Whether UNMAP never splits (type 3)."""
        return not self.v1

    @property
    def dmas(self) -> list[Area]:
        """The mappings in iova order."""
        return self.areas

    @property
    def mapped_bytes(self) -> int:
        """Bytes in the user's mappings."""
        return sum(area.size for area in self.areas)

    @property
    def domains(self) -> list[Domain]:
        """One domain for each IOMMU unit that has an open device behind it, newest first."""
        return self._domains

    @property
    def dma_avail(self) -> int:
        """What capability 3 says: no limit."""
        return 0xFFFFFFFF

    @property
    def page_sizes(self) -> int:
        """Bitmap that GET_INFO reports: the units' with a device open, else whole pages of any size."""
        bitmap, page = self._shared_page_sizes(), self.page_size
        return bitmap & -page | page if bitmap & page - 1 else bitmap

    def _shared_page_sizes(self) -> int:
        bitmap = U64 - 1
        for domain in self._domains:
            bitmap &= domain.page_sizes
        return bitmap

    @property
    def granule(self) -> int:
        """Alignment of MAP: 1 byte with no device open under type 3, else the smallest page that all units share."""
        if self._domains:
            bitmap = self._shared_page_sizes()
            return bitmap & -bitmap
        return self.page_size if self.v1 else 1

    def _check_page_sizes(self, unit: IommuUnit) -> None:
        core = self.system.core
        if not self._shared_page_sizes() & unit.reported_page_sizes(core.kernel, core.units, core.page_size):
            raise NotModelledError(
                f"no page size is shared by {unit} and the other units with a device open: what the compatibility layer does then was neither recorded nor read"
            )

    @property
    def valid_iova(self) -> iova_list.IovaList:
        """Usable iovas: everything but the apertures and reserved regions of open devices."""
        return self._iovas(self._open)

    def usable(self, iova: int, size: int) -> bool:
        """Say whether a range lies inside one usable range."""
        return iova_list.in_one(self.valid_iova, iova, size)

    def usable_with(self, group: VfioGroup) -> iova_list.IovaList:
        """Return what would be usable if a device of the group were open too."""
        return self._iovas([*self._open, group])

    def _iovas(self, groups: Iterable[VfioGroup]) -> iova_list.IovaList:
        iovas: iova_list.IovaList = (Span(0, U64),)
        for group in groups:
            unit = self.system.core.unit_of(group.group)
            iovas = iova_list.exclude(iova_list.shrink(iovas, unit.aperture(self.system.kernel)), binding(group.group.reserved))
        return iovas

    def areas_in(self, iova: int, size: int) -> Iterator[Area]:
        """Yield the areas that share a byte with a range, ascending."""
        first = max(bisect_right(self.areas, iova, key=_start) - 1, 0)
        found = self.areas[first : bisect_left(self.areas, iova + size, key=_start)]
        return (area for area in found if iova < area.end)

    def at(self, iova: int) -> Iterator[Area]:
        """Yield the area that holds an iova."""
        return self.areas_in(iova, 1)

    # groups and devices

    def check_enter(self, group: VfioGroup) -> None:
        """Nothing is refused here: the device's opening judges."""

    def enter(self, group: VfioGroup) -> None:
        """Note the group; neither claim nor attach it."""
        self.groups.append(group)
        group.container = self
        self.exists = True

    def leave(self, group: VfioGroup) -> None:
        """Forget the group; its open devices stay attached."""
        self.groups.remove(group)
        group.container = None

    def drop(self, group: VfioGroup) -> None:
        """Nothing happens: a dead group stays noted until it is unset or closed."""

    def open_device(self, group: VfioGroup, name: str) -> None:
        """Claim and attach at a group's first open device, and pin every mapping. EPERM, EADDRINUSE, EFAULT, ENOMEM, EINVAL; a refusal undoes all."""
        opened = self._open.get(group)
        if opened is None:
            self._check_open(group, name)
            self._attach(group)
            opened = self._open.setdefault(group, {})
        opened[name] = opened.get(name, 0) + 1

    def _check_open(self, group: VfioGroup, name: str) -> None:
        core = self.system.core
        if group.group.emulated or group.noiommu:
            kind = "no-IOMMU group" if group.noiommu else "emulated device"
            raise NotModelledError(
                f"{name} of group {group.id}: what the compatibility layer does with a {kind} was neither recorded nor read"
            )
        unit = core.unit_of(group.group)
        core.check_claim(group.group)
        self._ask(OPEN_CHECKS, Asked(self, group, name))
        self._check_page_sizes(unit)
        if not self._open:
            self._ask(ALIGNED_CHECKS, Asked(self))
            self._check_pin(self.areas)

    def _ask(self, checks: tuple[Check, ...], request: object, before: tuple[Check, ...] = ()) -> None:
        table(checks, self.system.kernel, before).run(request)

    def _attach(self, group: VfioGroup) -> None:
        core, first = self.system.core, not self._open
        unit = core.unit_of(group.group)
        core.claim(group.group, self)
        shared = next((domain for domain in self._domains if not domain.attach_errno(unit)), None)
        domain = core.alloc(group.group) if shared is None else shared
        errno = core.attach(domain, group.group)
        assert not errno, "a direct region is refused before, and a domain that would not take the unit is not chosen"
        if first:
            for area in self.areas:
                self._pin(area)
        if shared is None:
            holder = self._domains[0] if self._domains else None
            for area in self.areas:
                self._map_in(domain, area, holder)
            self._domains.insert(0, domain)

    def close_device(self, group: VfioGroup, name: str) -> None:
        """Detach and release with a group's last open device; the last of all unpins every mapping."""
        opened = self._open[group]
        opened[name] -= 1
        if any(opened.values()):
            return
        del self._open[group]
        core, domain = self.system.core, group.group.domain
        assert domain is not None
        core.detach(domain, group.group)
        if not domain.groups:
            self._domains.remove(domain)
            core.free(domain)
        core.release(group.group)
        if not self._open:
            for area in self.areas:
                self._unpin(area)

    # pinning

    def _check_pin(self, areas: Iterable[Area]) -> None:
        more: dict[Caller, int] = {}
        for area in areas:
            process = area.process
            self._ask(PIN_CHECKS, Asked(self, area=area, charged=process.locked_pages + more.get(process, 0)))
            more[process] = more.get(process, 0) + (self.pages(area) if area.account else 0)

    def pages(self, area: Area) -> int:
        """Return how many pages a mapping touches."""
        page = self.page_size
        return (area.vaddr + area.size - 1) // page - area.vaddr // page + 1

    def _pin(self, area: Area) -> None:
        area.pinned = True
        area.process.locked_pages += self.pages(area) if area.account else 0
        if area.prot & 2:
            area.process.memory.written(Span.sized(area.vaddr, area.size))

    def _unpin(self, area: Area) -> None:
        area.process.locked_pages -= self.pages(area) if area.account and area.pinned else 0
        area.pinned = False

    def _map_in(self, domain: Domain, area: Area, first: Domain | None = None) -> None:
        """Map an area; `first` has it already: its pages stay what they were, whatever the process has mapped there since."""
        runs = area.process.memory.physical_runs(area.vaddr, area.size) if first is None else first.physical_runs(area.iova, area.size)
        self._map_runs(domain, area, runs)

    @staticmethod
    def _map_runs(domain: Domain, area: Area, runs: Iterable[tuple[int, int]]) -> None:
        at = area.iova
        for physical, size in runs:
            errno = domain.map(at, size, physical, area.prot | domain.prot)
            assert not errno, "map asks every domain first, and open_device every mapping"
            at += size

    def _check_fits(self, area: Area) -> None:
        for domain in self._domains:
            errno = domain.map_errno(area.iova, area.size)
            self._ask(FIT_CHECKS, Asked(self, area=area, domain=domain, errno=NAMES[-errno] if errno else ""))

    # the container's ioctls

    def set_iommu(self, kind: int) -> None:
        """Type 1 or 3, repeatable. EINVAL (another type), ENODEV (no address space yet)."""
        self._ask(SET_IOMMU_CHECKS, Asked(self, kind=kind))
        self.v1 = self.v1 or kind == TYPE1

    def check_extension(self, number: int) -> int:
        """Answer an extension; DMA_CC is ENODEV before there is an address space; no-IOMMU (8) is offered (recorded)."""
        if number == DMA_CC:
            self._ask(SPACE_CHECKS, Asked(self))
            return int(all(domain.coherent for domain in self._domains))
        return int(number in (TYPE1, TYPE1v2, NOIOMMU, UNMAP_ALL_EXT))

    def info(self, request: IommuInfo) -> Info:
        """GET_INFO: page sizes, no limit on mappings, the usable ranges."""
        self._ask(INFO_CHECKS + SPACE_CHECKS, Asked(self, ptr=request.ptr, argsz=request.argsz))
        caps, total = chain([(DMA_AVAIL, 12, [("avail", self.dma_avail)]), iova_part(self.valid_iova)], padded=True)
        return replace(answer(request.argsz, FLAG_PGSIZES, self.page_sizes, caps, total), argsz=total)  # also down (recorded on 6.8)

    def map(self, caller: Caller, request: MapDma) -> None:
        """MAP_DMA; pinned at once if a device is open, else when one is opened."""
        r = request
        r.caller, r.backend = caller, self
        self._map.run(r)
        area = Area(r.iova, r.size, r.vaddr, r.flags, caller, CAP_IPC_LOCK not in caller.capabilities, r.name)
        if self._open:
            self._check_pin([area])
            self._check_fits(area)
            self._pin(area)
            for domain in self._domains:
                self._map_in(domain, area)
        self._insert(area)

    def _insert(self, area: Area) -> None:
        insort(self.areas, area, key=_start)

    def unmap(self, caller: Caller, request: UnmapDma) -> tuple[int, int | None]:
        """UNMAP_DMA: whole areas only, unless SET_IOMMU(1) ran: then areas are cut at the range's edges.

        What the kernel has removed before it meets an area that sticks out stays removed (ENOENT).
        """
        r = request
        r.backend, r.whole = self, None
        self._ask(UNMAP_CHECKS, r)
        if r.flags:
            return self._remove(self.areas), None
        if self.v1:
            self._cut(r.end)
            self._cut(r.iova)
        self._ask(RANGE_CHECKS, r, UNMAP_CHECKS)
        inside: list[Area] = []
        for area in self.areas_in(r.iova, r.size):
            if area.iova < r.iova or area.end > r.iova + r.size:
                r.whole = area
                self._remove(inside)
                break
            inside.append(area)
        self._ask(WHOLE_CHECKS, r, UNMAP_CHECKS + RANGE_CHECKS)
        return self._remove(inside), None

    def _cut(self, at: int) -> None:
        area = next(self.at(at), None)
        if area is None or area.iova == at:
            return
        self._ask(CUT_CHECKS, Asked(self, area=area, at=at), UNMAP_CHECKS)
        offset = at - area.iova
        rest = Area(at, area.size - offset, area.vaddr + offset, area.prot, area.process, area.account, area.name, area.pinned)
        for domain in self._domains:
            self._split(domain, area, at)
        area.size = offset
        self._insert(rest)

    @staticmethod
    def _split(domain: Domain, area: Area, cut: int) -> None:
        runs = domain.physical_runs(area.iova, area.size)
        domain.unmap(area.iova, area.size)
        at, parts = area.iova, []
        for physical, size in runs:
            head = cut - at if at < cut < at + size else size
            parts.append((physical, head))
            if head < size:
                parts.append((physical + head, size - head))
            at += size
        Compat._map_runs(domain, area, parts)

    def _remove(self, areas: list[Area]) -> int:
        total = 0
        for area in areas:
            for domain in self._domains:
                domain.unmap(area.iova, area.size)
            self._unpin(area)
            total += area.size
        if areas:
            first = bisect_left(self.areas, areas[0].iova, key=_start)
            self.areas = self.areas[:first] + self.areas[first + len(areas) :]  # what is removed stands side by side
        return total

    def dirty(self, request: DirtyPages) -> int | None:
        """DIRTY_PAGES is not there: ENOTTY."""
        self.refuse_unknown(DIRTY_PAGES)
        return None

    def refuse_unknown(self, cmd: int) -> None:
        """ENOTTY; EFAULT for iommufd's own ioctls, which this descriptor has too: they take a struct."""
        self._ask(UNKNOWN_CHECKS, Asked(self, kind=cmd))

    def __repr__(self) -> str:
        return f"Compat({len(self.areas)} mappings, {sum(map(len, self._open.values()))} devices open)"

    def _check(self) -> None:
        end = 0
        for area in self.areas:
            assert area.size > 0, f"empty area at {area.iova:#_x}"
            assert end <= area.iova, f"areas overlap at {area.iova:#_x}"
            end = area.end
            assert area.pinned == bool(self._open), f"{area} pinned with {len(self._open)} groups open"
        assert bool(self._domains) == bool(self._open)
        for domain in self._domains:
            domain._check()


#: The address space behind a container. Views read the name, `dmas`, `at`, `mapped_bytes`, `domains` and `valid_iova` of each.
Backend: TypeAlias = Type1 | Compat | NoIommu
