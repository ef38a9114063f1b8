"""iommufd's compatibility layer behind /dev/vfio/vfio (6.2 and later, kernels built without the native container).

The address space belongs to the descriptor: it begins with the first GROUP_SET_CONTAINER and survives the last group. Groups are attached,
claimed and judged when a device is opened. Sources: drivers/iommu/iommufd/vfio_compat.c and io_pagetable.c (6.12), and recorded runs of 6.12.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter

from vfiolab.model.address import U64, Span, hexa
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.compat_checks import IP, MAP_CHECKS, PAGES, VX, Area
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.native import DMA_CC, UNMAP_ALL_EXT
from vfiolab.model.backends.noiommu import NOIOMMU
from vfiolab.model.backends.protocol import Caller, System
from vfiolab.model.backends.type1 import TYPE1, TYPE1v2
from vfiolab.model.checks import Table
from vfiolab.model.errors import NAMES, NotModelledError, VfioError
from vfiolab.model.iommu.core import rmrr_locked
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.unit import IommuUnit, binding
from vfiolab.model.uapi.info import DMA_AVAIL, FLAG_PGSIZES, Info, answer, chain, check_struct, iova_part
from vfiolab.model.uapi.requests import CAP_IPC_LOCK, DirtyPages, MapDma, UnmapDma, switched_on

IOMMUFD_BASE = 0x3B80  # number of iommufd's first ioctl
UNSAFE = "iommufd.allow_unsafe_interrupts"


_start = attrgetter("iova")


class Compat:
    """One descriptor's address space (iommufd's IOAS). Views read `dmas`, `domains` and `valid_iova` as they do of type1."""

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
        self._map = Table(MAP_CHECKS, system.kernel)

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

    def _iovas(self, groups: Iterable[VfioGroup]) -> iova_list.IovaList:
        iovas: iova_list.IovaList = (Span(0, U64),)
        for group in groups:
            unit = self.system.core.unit_of(group.group)
            iovas = iova_list.exclude(iova_list.shrink(iovas, unit.aperture(self.system.kernel)), binding(group.group.reserved))
        return iovas

    def no_space(self) -> str | None:
        """Say that no group has come through this descriptor yet."""
        return None if self.exists else "the descriptor has no address space: no group came through it yet"

    def _need_aligned(self, source: str) -> None:
        """Refuse what needs whole pages while a mapping is not made of them (iopt_calculate_iova_alignment; recorded)."""
        for area in self.areas:
            if (area.iova | area.size | area.vaddr) & self.page_size - 1:
                why = f"the mapping {area.span} of vaddr {hexa(area.vaddr)} is not made of whole pages"
                raise VfioError("EADDRINUSE", why, source, "unmap it, and map whole pages")

    def _need_space(self) -> None:
        why = self.no_space()
        if why:
            raise VfioError("ENODEV", why, VX, "GROUP_SET_CONTAINER with this descriptor first")

    def areas_in(self, iova: int, size: int) -> Iterator[Area]:
        """Yield the areas that share a byte with a range, ascending."""
        first = max(bisect_right(self.areas, iova, key=_start) - 1, 0)
        found = self.areas[first : bisect_left(self.areas, iova + size, key=_start)]
        return (area for area in found if iova < area.end)

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
        source = "iommufd_device_attach, drivers/iommu/iommufd/device.c"
        if group.group.native or group.group.owner not in (None, self):
            users = ", ".join(sorted(group.group.native)) or "another user"
            raise VfioError(
                "EPERM", f"group {group.id} is not viable: {users} use its DMA", source, "unbind them, or bind them to vfio-pci or pci-stub"
            )
        if group.group.has_direct:
            raise VfioError(
                "EINVAL", rmrr_locked(group.group) or f"group {group.id} needs a direct region", source, "firmware settings only"
            )
        if not unit.msi_is_isolated(core.kernel, group.group.devices) and not switched_on(self.system.params, UNSAFE):
            raise VfioError(
                "EPERM",
                f"group {group.id} is behind {unit.name}, whose interrupts are not isolated",
                source,
                "iommufd.allow_unsafe_interrupts=1 accepts the risk",
            )
        kinds = {region.kind for region in group.group.reserved}
        if {"msi", "sw-msi"} <= kinds:
            raise VfioError("EINVAL", f"group {group.id} reports a hardware and a software MSI region", source, "use the native container")
        iovas = self._iovas([*self._open, group])
        for area in self.areas:
            if not iova_list.in_one(iovas, area.iova, area.size):
                raise VfioError(
                    "EADDRINUSE",
                    f"the mapping {area.span} is not inside {', '.join(map(str, iovas))}, what {name} leaves usable",
                    source,
                    "unmap it, then open the device",
                )
        self._check_page_sizes(unit)
        if not self._open:
            self._need_aligned(f"iopt_table_add_domain, {IP}")
            self._check_pin(self.areas)

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
        source = f"iopt_area_fill_domains, {PAGES}"
        more: dict[Caller, int] = {}
        for area in areas:
            process = area.process
            charged, limit = process.locked_pages + more.get(process, 0), process.limit_pages
            if not area.prot:
                raise VfioError(
                    "EINVAL",
                    f"the mapping {area.span} may be neither read nor written: an IOMMU cannot map it",
                    source,
                    "map it with READ or WRITE",
                )
            bad = process.memory.first_bad(area.vaddr, area.size, write=bool(area.prot & 2), page_size=self.page_size, bars="never")
            room = None if limit is None or not area.account else max(limit - charged, 0)
            if bad is not None and (room is None or bad <= room):
                raise VfioError(
                    "EFAULT",
                    f"the page at vaddr {hexa(area.vaddr + bad * self.page_size)} of {area.span} cannot be pinned",
                    source,
                    "map the memory first",
                )
            pages = self._pages(area)
            if room is not None and pages > room:
                raise VfioError(
                    "ENOMEM",
                    f"{pages} more pages exceed RLIMIT_MEMLOCK, {process.memlock:#x} bytes = {limit} pages",
                    source,
                    "raise the limit, or map with CAP_IPC_LOCK",
                )
            more[process] = more.get(process, 0) + (pages if area.account else 0)

    def _pages(self, area: Area) -> int:
        page = self.page_size
        return (area.vaddr + area.size - 1) // page - area.vaddr // page + 1

    def _pin(self, area: Area) -> None:
        area.pinned = True
        area.process.locked_pages += self._pages(area) if area.account else 0
        if area.prot & 2:
            area.process.memory.written(Span.sized(area.vaddr, area.size))

    def _unpin(self, area: Area) -> None:
        area.process.locked_pages -= self._pages(area) if area.account and area.pinned else 0
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
            if errno:
                raise VfioError(
                    NAMES[-errno],
                    f"{area.span} reaches past {domain.reach - 1:#x}, the last iova of D{domain.number}: it keeps the width of the narrowest unit it ever served",
                    f"iopt_area_fill_domains, {PAGES}",
                    "choose a lower iova",
                )

    # the container's ioctls

    def set_iommu(self, kind: int) -> None:
        """Type 1 or 3, repeatable. EINVAL (another type), ENODEV (no address space yet)."""
        if kind not in (TYPE1, TYPE1v2):
            raise VfioError(
                "EINVAL", f"the compatibility layer offers types 1 and 3, not {kind}", f"iommufd_vfio_set_iommu, {VX}", "type 3 is type1 v2"
            )
        self._need_space()
        if kind == TYPE1:
            self._need_aligned(f"iopt_disable_large_pages, {IP}")
        self.v1 = self.v1 or kind == TYPE1

    def check_extension(self, number: int) -> int:
        """Answer an extension; DMA_CC is ENODEV before there is an address space; no-IOMMU (8) is offered (recorded)."""
        if number == DMA_CC:
            self._need_space()
            return int(all(domain.coherent for domain in self._domains))
        return int(number in (TYPE1, TYPE1v2, NOIOMMU, UNMAP_ALL_EXT))

    def info(self, argsz: int, ptr: str) -> Info:
        """GET_INFO: page sizes, no limit on mappings, the usable ranges."""
        check_struct(argsz, ptr)
        self._need_space()
        caps, total = chain([(DMA_AVAIL, 12, [("avail", self.dma_avail)]), iova_part(self.valid_iova)], padded=True)
        return replace(answer(argsz, FLAG_PGSIZES, self.page_sizes, caps, total), argsz=total)  # also down (recorded on 6.8)

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
        argsz, flags, iova, size, ptr = request.argsz, request.flags, request.iova, request.size, request.ptr
        if ptr != "good":
            raise VfioError("EFAULT", f"the pointer to the struct is {ptr}", VX)
        if argsz < 24 or flags & ~2:
            raise VfioError(
                "EINVAL",
                f"argsz {argsz} is below 24" if argsz < 24 else f"flags {flags:#x}: the compatibility layer knows only ALL (2)",
                VX,
                "set argsz = 24, flags 0 or ALL",
            )
        self._need_space()
        if flags:
            if iova or size:
                raise VfioError("EINVAL", f"ALL goes with iova 0 and size 0, not iova {iova:#x} size {size:#x}", VX, "set both to 0")
            return self._remove(self.areas), None
        if self.v1:
            self._cut((iova + size) % U64)
            self._cut(iova)
        if not size:
            raise VfioError("EINVAL", "size 0 unmaps nothing", IP, "give a size")
        if iova + size > U64:
            raise VfioError("EOVERFLOW", f"iova {hexa(iova)} + size {size:#x} wraps past 2^64", IP, "keep iova + size within 2^64")
        inside: list[Area] = []
        for area in self.areas_in(iova, size):
            if area.iova < iova or area.end > iova + size:
                self._remove(inside)
                raise VfioError(
                    "ENOENT",
                    f"the mapping {area.span} sticks out of {Span.sized(iova, size)}",
                    f"iopt_unmap_iova_range, {IP}",
                    "unmap whole mappings",
                )
            inside.append(area)
        if not inside and not self.system.kernel.has("compat_unmap_nothing"):
            raise VfioError(
                "ENOENT", f"nothing is mapped in {Span.sized(iova, size)}", f"iopt_unmap_iova_range, {IP}", "unmap what is mapped"
            )
        return self._remove(inside), None

    def _cut(self, at: int) -> None:
        area = next(self.areas_in(at, 1), None)
        if area is None or area.iova == at:
            return
        if at & self.page_size - 1:
            raise VfioError(
                "EINVAL", f"{hexa(at)} would cut the mapping {area.span} inside a page", f"iopt_cut_iova, {IP}", "cut at whole pages"
            )
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
        raise self.unknown()

    def unknown(self, cmd: int = 0) -> VfioError:
        """ENOTTY; EFAULT for iommufd's own ioctls, which this descriptor has too: they take a struct."""
        if IOMMUFD_BASE <= cmd < IOMMUFD_BASE + self.system.kernel.iommufd_ioctls:
            return VfioError(
                "EFAULT",
                "the pointer to the struct is bad",
                "iommufd_fops_ioctl, drivers/iommu/iommufd/main.c",
                "pass a pointer to the struct",
            )
        return VfioError(
            "ENOTTY",
            "iommufd's compatibility layer does not have this ioctl",
            f"iommufd_vfio_ioctl, {VX}",
            "use the native container, or iommufd itself",
        )

    def __repr__(self) -> str:
        return f"Compat({len(self.areas)} mappings, {sum(map(len, self._open.values()))} devices open)"

    def _check(self) -> None:
        end = 0
        for area in self.areas:
            assert area.size > 0, f"empty area at {area.iova:#x}"
            assert end <= area.iova, f"areas overlap at {area.iova:#x}"
            end = area.end
            assert area.pinned == bool(self._open), f"{area} pinned with {len(self._open)} groups open"
        assert bool(self._domains) == bool(self._open)
        for domain in self._domains:
            domain._check()
