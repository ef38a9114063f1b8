"""What type1 tests before it acts: one ordered table a call. The first check that does not hold is the answer.

Order and errnos: drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map, vfio_dma_do_unmap, vfio_iommu_type1_attach_group,
vfio_iommu_type1_dirty_pages, read in 4.4 to 6.19, and recorded runs of the kernels of `kernel.SERIES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vfiolab.model.address import U64, Span, hexa, human_size
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.dirty import bitmap_bytes
from vfiolab.model.checks import Check, Table, table
from vfiolab.model.errors import ERRNO, Obstacle
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import binding
from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.requests import (
    MAP_READ,
    MAP_VADDR,
    MAP_WRITE,
    MAX_BITMAP,
    UNMAP_ALL,
    UNMAP_DIRTY,
    UNMAP_VADDR,
    DirtyPages,
    MapDma,
    UnmapDma,
)

if TYPE_CHECKING:
    from vfiolab.model.backends.dmatree import Dma
    from vfiolab.model.backends.protocol import Caller
    from vfiolab.model.backends.type1 import Type1

T1 = "drivers/vfio/vfio_iommu_type1.c"
IOCTL = f"vfio_iommu_type1_ioctl, {T1}"
DO_MAP = f"vfio_dma_do_map, {T1}"
DO_UNMAP = f"vfio_dma_do_unmap, {T1}"
ATTACH = f"vfio_iommu_type1_attach_group, {T1}"
DIRTY = f"vfio_iommu_type1_dirty_pages, {T1}"
RW = MAP_READ | MAP_WRITE
Stages: TypeAlias = tuple[tuple[Check, ...], tuple[Check, ...], tuple[Check, ...], tuple[Check, ...]]


class EntryRequest(NamedTuple):
    """A group that asks to enter the backend."""

    backend: Type1
    group: IommuGroup


@dataclass(slots=True)
class DriverRequest:
    """What the unit's driver answers to a group and the domain made for it, or to one of its mappings: `errno` is a name, "" for success."""

    backend: Type1
    group: IommuGroup | None
    domain: Domain
    errno: str = ""
    nesting: bool = False
    dma: Dma | None = None


class AttachRequest(NamedTuple):
    """A group about to enter the backend in a new domain; `iovas` is the valid-iova list as it would become."""

    backend: Type1
    group: IommuGroup
    domain: Domain
    iovas: iova_list.IovaList

    @property
    def isolation(self) -> str:
        """Say what would isolate the group's interrupts; where doorbells lie behind the unit, remapping is nothing to turn on."""
        behind = self.group.unit is not None and self.group.unit.translates_msi
        return "use a machine whose interrupt controller checks the sender (an ITS)" if behind else "turn interrupt remapping on"


BAD_POINTER = "the pointer to the struct is {r.ptr}: it cannot be read"


def wraps(r: MapDma | UnmapDma | DirtyPages) -> str:
    """Say that a range of iovas ends past the last one."""
    return f"iova {hexa(r.iova)} + size {r.size:#_x} wraps past 2^64"


def _map_wrap(r: MapDma) -> str:
    return wraps(r) if r.iova + r.size > U64 else f"vaddr {hexa(r.vaddr)} + size {r.size:#_x} wraps past 2^64"


def misaligned(granule: int, **numbers: int) -> str | None:
    """Name the first number that is no multiple of the granule."""
    for name, number in numbers.items():
        if number & granule - 1:
            return f"{name} {number:#_x} is not a multiple of {granule:#_x}, the smallest page ({human_size(granule)})"
    return None


def _unknown_flags(r: MapDma | UnmapDma, known: int) -> str:
    return f"flags {r.flags:#_x} holds {r.flags & ~known:#_x}, which kernel {r.backend.kernel} does not know"


def _overlap(r: MapDma) -> str:
    dma = r.backend.dmas.find(r.iova, r.size)
    assert dma is not None
    name = f" ({dma.name})" if dma.name else ""
    return f"{Span.sized(r.iova, r.size)} overlaps the mapping {Span(dma.iova, dma.end)}{name}"


def _budget(r: MapDma) -> str:
    limit = r.backend.entry_limit
    return f"all of dma_entry_limit is in use: {limit} mapping{'s' * (limit != 1)}, as the parameter stood when SET_IOMMU ran"


def _outside(r: MapDma) -> str:
    iovas, wanted = r.backend.valid_iova, Span.sized(r.iova, r.size)
    region = r.backend.region_at(wanted)
    if region is not None:
        return f"{wanted} overlaps {region.words}"
    if wanted.end > iovas[-1].end:
        return f"{wanted} reaches past the aperture, whose last iova is {hexa(iovas[-1].last)}"
    if wanted.start < iovas[0].start:
        return f"{wanted} begins below the first usable iova, {hexa(iovas[0].start)}"
    return f"{wanted} does not lie inside one usable range: {', '.join(map(str, iovas))}"


def in_the_way(r: MapDma) -> Iterator[Obstacle]:
    """Yield, for each domain, what of it a mapping of the range would meet: the end of its aperture, or a reserved region."""
    yield from obstacles(r.backend.domains, Span.sized(r.iova, r.size))


def obstacles(domains: Iterable[Domain], wanted: Span) -> Iterator[Obstacle]:
    """Yield what of some domains stands in the way of a span of iovas, one obstacle each: direct-relaxable regions stop nobody."""
    for domain in domains:
        if wanted.start < domain.aperture.start or domain.aperture.end < wanted.end:
            yield Obstacle("outside", domain.aperture, domain.number)
            continue
        regions = (region for group in domain.groups for region in group.reserved)
        hits = [region for region in regions if region.kind != "direct-relaxable" and region.span.overlaps(wanted)]
        if hits:
            first = min(hits, key=lambda region: (region.span, region.kind))
            yield Obstacle(first.kind, first.span, domain.number)


SMALLEST = "align them to the smallest page of the container (GET_INFO iova_pgsizes)"
_MAP_WRAP_FIX = "keep iova + size and vaddr + size within 2^64"
_MAP_WRAP = "r.iova + r.size > U64 or r.vaddr + r.size > U64"

MAP_CHECKS = (
    Check("the struct can be read", "EFAULT", IOCTL, BAD_POINTER, "pass a pointer to a struct vfio_iommu_type1_dma_map", test="r.ptr != 'good'"),
    Check("argsz holds the whole struct (32 bytes)", "EINVAL", IOCTL, "argsz {r.argsz} is below 32, the size of the struct", "set argsz = 32",
          test="r.argsz < 32"),
    Check("only known flags are set", "EINVAL", IOCTL, lambda r: _unknown_flags(r, r.backend.rules.map_flags), "READ is 1, WRITE is 2, VADDR (5.12 and later) is 4",
          test="r.flags & ~r.backend.rules.map_flags"),
    Check("the size is not 0", "EINVAL", DO_MAP, "size 0 maps nothing", "give a size of at least one page", "wrap_eoverflow", "not r.size"),
    Check("neither iova nor vaddr wraps past 2^64", "EOVERFLOW", DO_MAP, _map_wrap, _MAP_WRAP_FIX, "wrap_eoverflow", _MAP_WRAP),
    Check("READ or WRITE is asked for", "EINVAL", DO_MAP, "flags {r.flags:#_x} asks for neither READ (1) nor WRITE (2)",
          "READ (1) lets the device read, WRITE (2) lets it write", test="not r.flags"),
    Check("VADDR comes alone", "EINVAL", DO_MAP, "flags {r.flags:#_x} joins VADDR (4) with READ or WRITE", "update the vaddr with flags = 4", "vaddr_update", "r.flags > 4"),
    Check("the size is not 0", "EINVAL", DO_MAP, "size 0 maps nothing", "give a size of at least one page", "not wrap_eoverflow", "not r.size"),
    Check("iova, size and vaddr are multiples of the smallest page", "EINVAL", DO_MAP, lambda r: misaligned(r.granule, iova=r.iova, size=r.size, vaddr=r.vaddr), SMALLEST,
          test="(r.iova | r.size | r.vaddr) & r.granule - 1"),
    Check("neither iova nor vaddr wraps past 2^64", "EINVAL", DO_MAP, _map_wrap, _MAP_WRAP_FIX, "not wrap_eoverflow", _MAP_WRAP),
)  # fmt: skip

NEW_MAPPING_CHECKS = (
    Check("no existing mapping overlaps", "EEXIST", f"vfio_find_dma in {DO_MAP}", _overlap, "unmap it first, or choose another iova",
          test="r.backend.dmas.find(r.iova, r.size) is not None", met=lambda r: [Obstacle("mapping", r.backend.dmas.find(r.iova, r.size).span)]),
    Check("the container has a mapping to spare", "ENOSPC", DO_MAP, _budget, "use fewer, larger mappings, or raise vfio_iommu_type1.dma_entry_limit before SET_IOMMU",
          "dma_entry_limit", "r.backend.dmas.count >= r.backend.entry_limit"),
    Check("the range lies inside one usable iova range", "EINVAL", f"vfio_iommu_iova_dma_valid, {T1}", _outside,
          "map within the usable ranges: GET_INFO capability 1 lists them", "valid_iova", "not r.backend.in_one(r.backend.valid_iova, r.iova, r.size)", in_the_way),
)  # fmt: skip


#: Made only where the policy of doorbells has something to say of a user's maps, which no Linux has.
POLICY_CHECKS = (
    Check("no doorbell's place is in the range", "EINVAL", "a policy of doorbells that is not Linux's", lambda r: r.backend.kept_from_user(r.iova, r.size), "map around it"),
)  # fmt: skip


def _bad_memory(r: MapDma) -> str | None:
    bad, room = r.backend.bad_page(r), r.caller.room()
    if bad is None or (room is not None and r.backend.charged_pages(r, bad) > max(room, 0)):
        return None
    how = "written" if r.flags & MAP_WRITE else "read"
    return f"the page at vaddr {hexa(r.vaddr + bad * r.backend.page_size)} cannot be pinned: it is not mapped so that it can be {how}"


def _too_much_locked(r: MapDma) -> str | None:
    process = r.caller
    room = process.room()
    if room is None:
        return None
    pages = r.backend.charged_pages(r)
    if pages <= room or r.backend.untranslatable_page(r) < max(room, 0):
        return None
    limit = process.memlock
    return f"{pages} more pages on top of {process.locked_pages} locked ones exceed RLIMIT_MEMLOCK, {limit:#_x} bytes = {process.limit_pages} pages"


def _hardware(errno: str, text: str) -> Callable[[MapDma], str | None]:
    def broken(r: MapDma) -> str | None:
        for domain in r.backend.domains:
            if domain.map_errno(r.iova, r.size) == -ERRNO[errno]:
                return text.format(
                    range=Span.sized(r.iova, r.size), domain=f"domain D{domain.number}", unit=domain.unit, top=hexa((1 << domain.width) - 1)
                )
        return None

    return broken


PIN_CHECKS = (
    Check("every page of the memory can be pinned", "EFAULT", f"vfio_pin_pages_remote, {T1}", _bad_memory,
          "map the memory first (mmap), writable if the device may write; device BARs need their own handling", test="r.runs is None"),
    Check("the locked memory stays within RLIMIT_MEMLOCK", "ENOMEM", f"vfio_pin_pages_remote, {T1}", _too_much_locked,
          "raise the limit (ulimit -l), or give the process CAP_IPC_LOCK", test="14 not in r.caller.capabilities and r.caller.memlock is not None"),
)  # fmt: skip

TRANSLATION_CHECKS = (
    Check("the range is within the width of every IOMMU", "EFAULT", "intel_iommu_map, drivers/iommu/intel-iommu.c",
          _hardware("EFAULT", "{range} reaches past {top}, the last iova that {unit} can translate ({domain})"), "choose a lower iova", "not (valid_iova and intel_aperture_by_width)", met=in_the_way),
    Check("no doorbell page is in the way", "EEXIST", "arm_lpae_map, drivers/iommu/io-pgtable-arm.c",
          _hardware("EEXIST", "{range} covers the MSI doorbell page that the kernel has mapped in {domain}"), "keep out of the software MSI window, 0x800_0000-0x80f_ffff (and of what follows it, if there are more doorbells than it holds)",
          test="any([domain.doorbells for domain in r.backend.domains])"),
)  # fmt: skip


def _bitmap_size(size: int, pgsize: int, have: int) -> str | None:
    if not pgsize:
        return "the bitmap's page size is 0"
    pages = size >> (pgsize & -pgsize).bit_length() - 1
    if not pages or not have or have > MAX_BITMAP:
        return f"a bitmap of {have} bytes for {pages} pages is outside 1..{MAX_BITMAP:#_x} bytes"
    need = bitmap_bytes(pages)
    return f"the bitmap has {have} bytes, {pages} pages need {need}" if have < need else None


def _unmap_bitmap(r: UnmapDma) -> str | None:
    if r.argsz < 48:
        return f"argsz {r.argsz} does not hold the dirty bitmap (48 bytes)"
    return _bitmap_size(r.size, r.bm_pgsize, r.bm_size)


def _unmap_size(r: UnmapDma) -> str | None:
    if r.flags & UNMAP_ALL:
        return f"ALL goes with iova 0 and size 0, not iova {r.iova:#_x} size {r.size:#_x}" if r.iova or r.size else None
    if not r.size:
        return "size 0 unmaps nothing"
    return misaligned(r.granule, size=r.size)


def _bisects(r: UnmapDma | DirtyPages) -> str | None:
    end = (r.iova + r.size) % U64
    first = r.backend.dmas.find(r.iova, 1)
    if first is not None and first.iova != r.iova:
        return f"the range's start {hexa(r.iova)} would cut the mapping {Span(first.iova, first.end)} in two"
    last = r.backend.dmas.find((end - 1) % U64, 1)
    if last is not None and last.end % U64 != end:
        return f"the range's end {hexa(end)} would cut the mapping {Span(last.iova, last.end)} in two"
    return None


def _not_tracking(r: UnmapDma) -> str | None:
    if not r.backend.dirty_tracking:
        return "a dirty bitmap is asked for, but dirty tracking was not started"
    return f"the bitmap's page size {r.bm_pgsize:#_x} is not {r.granule:#_x}, the smallest page" if r.bm_pgsize != r.granule else None


class NewOwner(NamedTuple):
    """A mapping whose pages go to the account of another process."""

    dma: Dma
    caller: Caller


_VADDR_FIX = "invalidate it first: UNMAP with flag VADDR, same iova and size"
VADDR_CHECKS = (
    Check("there is a mapping to update", "ENOENT", DO_MAP, lambda r: f"no mapping at {Span.sized(r.iova, r.size)} whose vaddr could be updated", _VADDR_FIX, test="r.found is None"),
    Check("its vaddr was invalidated", "EINVAL", DO_MAP, "the vaddr of {r.found.span} was not invalidated", _VADDR_FIX, test="not r.found.vaddr_invalid"),
    Check("it is the whole mapping", "EINVAL", DO_MAP, lambda r: f"{Span.sized(r.iova, r.size)} is not exactly the mapping {r.found.span}", _VADDR_FIX,
          test="(r.found.iova, r.found.size) != (r.iova, r.size)"),
)  # fmt: skip
OWNER_CHECKS = (
    Check("the locked memory stays within the new owner's RLIMIT_MEMLOCK", "ENOMEM", f"vfio_change_dma_owner, {T1}",
          "{r.dma.charged} pages of {r.dma.span} on top of {r.caller.locked_pages} locked ones exceed RLIMIT_MEMLOCK of process {r.caller}, {r.caller.memlock:#_x} bytes",
          "raise the limit of the process that updates the vaddr", test="r.caller.room() is not None and r.dma.charged > r.caller.room()"),
)  # fmt: skip
INVALIDATE_CHECKS = (
    Check("no vaddr in the range is invalidated already", "EINVAL", DO_UNMAP,
          lambda dmas: next((f"the vaddr of {dma.span} is invalidated already" for dma in dmas if dma.vaddr_invalid), None), "update it first: MAP with flag VADDR"),
)  # fmt: skip


_UNMAP_WRAP = "not r.flags & 2 and r.iova + r.size > r.backend.rules.unmap_top"

UNMAP_CHECKS = (
    Check("the struct can be read", "EFAULT", IOCTL, BAD_POINTER, "pass a pointer to a struct vfio_iommu_type1_dma_unmap", test="r.ptr != 'good'"),
    Check("argsz holds the whole struct (24 bytes)", "EINVAL", IOCTL, "argsz {r.argsz} is below 24, the size of the struct", "set argsz = 24",
          test="r.argsz < 24"),
    Check("only known flags are set", "EINVAL", IOCTL, lambda r: _unknown_flags(r, r.backend.rules.unmap_flags), "GET_DIRTY_BITMAP is 1 (5.8), ALL is 2 and VADDR 4 (5.12)",
          test="r.flags & ~r.backend.rules.unmap_flags"),
    Check("a dirty bitmap comes alone", "EINVAL", IOCTL, "flags {r.flags:#_x} joins GET_DIRTY_BITMAP (1) with ALL or VADDR", "unmap in two calls", "dirty_tracking",
          "r.flags & 1 and r.flags & 6"),
    Check("the dirty bitmap fits the range", "EINVAL", IOCTL, _unmap_bitmap, "give 8 bytes for each 64 pages", "dirty_tracking", "r.flags & 1"),
    Check("no emulated group uses vaddrs", "EBUSY", DO_UNMAP, "VADDR cannot be invalidated while an emulated (mdev) group is in the container",
          "take the mdev out of the container", "update_vaddr_needs_backend", "r.flags & 4 and r.backend.emulated"),
    Check("iova is a multiple of the smallest page", "EINVAL", DO_UNMAP, lambda r: misaligned(r.granule, iova=r.iova), SMALLEST, test="r.iova & r.granule - 1"),
    Check("the size is one of whole pages (0 with ALL)", "EINVAL", DO_UNMAP, _unmap_size, "give whole pages; ALL takes iova = size = 0",
          test="r.flags & 2 or not r.size or r.size & r.granule - 1"),
    Check("the range does not wrap past 2^64", "EOVERFLOW", DO_UNMAP, wraps, "keep iova + size within 2^64", "wrap_eoverflow", _UNMAP_WRAP),
    Check("the range does not wrap past 2^64", "EINVAL", DO_UNMAP, wraps, "keep iova + size within 2^64",
          "unmap_wrap_check and not wrap_eoverflow", _UNMAP_WRAP),
    Check("dirty tracking is on if its bitmap is asked for", "EINVAL", DO_UNMAP, _not_tracking, "start tracking first (DIRTY_PAGES with flag START)", "dirty_tracking", "r.flags & 1"),
    Check("no mapping is cut in two (v2)", "EINVAL", DO_UNMAP, _bisects, "unmap whole mappings: type1 v2 never splits one",
          test="r.backend.v2 and not r.flags & 2 and r.backend.whole(r) is None"),
)  # fmt: skip


def _dirty_flags(r: DirtyPages) -> str | None:
    if r.flags & ~7 or not r.flags:
        return f"flags {r.flags:#_x} is none of START (1), STOP (2), GET_BITMAP (4)"
    return f"flags {r.flags:#_x} holds more than one of START, STOP, GET_BITMAP" if r.flags & r.flags - 1 else None


def _dirty_range(r: DirtyPages) -> str | None:
    if r.bm_pgsize != r.granule:
        return f"the bitmap's page size {r.bm_pgsize:#_x} is not {r.granule:#_x}, the smallest page"
    return "size 0 asks for no page" if not r.size else misaligned(r.granule, iova=r.iova, size=r.size)


BITMAP_CHECKS = (
    Check("the bitmap can be written", "EFAULT", f"update_user_bitmap, {T1}", "the bitmap cannot be written to its address", "pass writable memory", test="not r"),
)  # fmt: skip
DIRTY_CHECKS = (
    Check("the container is type1 v2", "EACCES", DIRTY, "dirty tracking needs type1 v2, this container is v1", "SET_IOMMU with type 3", test="not r.backend.v2"),
    Check("the struct can be read", "EFAULT", DIRTY, BAD_POINTER, "pass a pointer to a struct vfio_iommu_type1_dirty_bitmap", test="r.ptr != 'good'"),
    Check("argsz holds the struct (8 bytes)", "EINVAL", DIRTY, "argsz {r.argsz} is below 8", "set argsz", test="r.argsz < 8"),
    Check("exactly one known flag is set", "EINVAL", DIRTY, _dirty_flags, "START is 1, STOP is 2, GET_BITMAP is 4"),
)  # fmt: skip

DIRTY_GET_CHECKS = (
    Check("argsz holds the range (48 bytes)", "EINVAL", DIRTY, "argsz {r.argsz} does not hold the range and its bitmap (48 bytes)", "set argsz = 48", test="r.argsz < 48"),
    Check("the range does not wrap past 2^64", "EOVERFLOW", DIRTY, wraps, "keep iova + size within 2^64", "wrap_eoverflow", "r.size and r.iova + r.size > U64"),
    Check("the range does not wrap past 2^64", "EINVAL", DIRTY, wraps, "keep iova + size below 2^64", "not wrap_eoverflow", "r.iova + r.size >= U64"),
    Check("the bitmap fits the range", "EINVAL", f"verify_bitmap_size, {T1}", lambda r: _bitmap_size(r.size, r.bm_pgsize, r.bm_size), "give 8 bytes for each 64 pages"),
    Check("the range is in whole smallest pages", "EINVAL", DIRTY, _dirty_range, SMALLEST),
    Check("dirty tracking is on", "EINVAL", DIRTY, "dirty tracking was not started", "start it first (flag START)", test="not r.backend.dirty_tracking"),
    Check("no mapping is cut in two", "EINVAL", f"vfio_iova_dirty_bitmap, {T1}", _bisects, "ask for whole mappings"),
)  # fmt: skip


def conflicts(r: AttachRequest) -> list[Obstacle]:
    """Return what the user has mapped where the new domain has no place for it: in reserved regions, and outside its aperture."""
    holes = binding(r.group.reserved)
    holes += [Span(a, b) for a, b in ((0, r.domain.aperture.start), (r.domain.aperture.end, U64)) if a < b]
    return mapped_in(r.backend, holes)


def mapped_in(backend: Type1, holes: Iterable[Span]) -> list[Obstacle]:
    """Return, for each hole in which something is mapped, the span from the first mapping's part in it to the last's."""
    parts = ([part for dma in backend.dmas if (part := dma.span.intersection(hole)) is not None] for hole in holes)
    return [Obstacle("mapping", Span(found[0].start, found[-1].end)) for found in parts if found]


def _aperture_conflict(r: AttachRequest) -> str | None:
    iovas, aperture = r.backend.valid_iova, r.domain.aperture
    if iova_list.disjoint(iovas, aperture):
        return f"the aperture {aperture} of {r.domain.unit} lies outside the container's usable iovas"
    hit = iova_list.first_overlap(r.backend.dmas, iova_list.cut_off_by(iovas, aperture))
    return f"the mapping {Span(hit[0].iova, hit[0].end)} lies outside the aperture {aperture} of {r.domain.unit}" if hit else None


def _reserved_conflict(r: AttachRequest) -> str | None:
    for region in r.group.reserved:
        hit = iova_list.first_overlap(r.backend.dmas, binding([region]))
        if hit:
            return f"the mapping {Span(hit[0].iova, hit[0].end)} overlaps {region.words} of group {r.group.id}"
    return None


def _unsafe_interrupts(r: AttachRequest) -> str | None:
    unit = r.group.unit
    if unit is None or r.backend.allow_unsafe_interrupts() or unit.msi_is_isolated(r.backend.kernel, r.group.devices):
        return None
    return f"group {r.group.id} is behind {unit.name}, where any device can raise any interrupt vector: no interrupt remapping"


ENTRY_CHECKS = (
    Check("no vaddr is invalidated", "EBUSY", ATTACH, "a mapping's vaddr is invalidated and not yet updated",
          "give each mapping its new vaddr (MAP with flag VADDR)", "attach_needs_valid_vaddr", "r.backend.invalid_vaddrs"),
    Check("the group is not in this container's domains", "EINVAL", ATTACH,
          "group {r.group.id} is attached already", "attach a group once", test="r.group.domain in r.backend.domains or r.group in r.backend.emulated"),
)  # fmt: skip

ATTACH_CHECKS = (
    Check("no mapping lies outside the new domain's aperture", "EINVAL", f"vfio_iommu_aper_conflict, {T1}", _aperture_conflict,
          "unmap what lies above it, then attach", "valid_iova", met=conflicts),
    Check("no mapping overlaps a reserved region of the group", "EINVAL", f"vfio_iommu_resv_conflict, {T1}", _reserved_conflict,
          "unmap it, attach, and map around the region", "valid_iova", met=conflicts),
    Check("some iova is left", "EINVAL", f"vfio_iommu_resv_exclude, {T1}",
          "no usable iova would be left in the container", "use a second container", "valid_iova", "not r.iovas", conflicts),
    Check("interrupts are isolated, or unsafe ones are allowed", "EPERM", ATTACH, _unsafe_interrupts,
          "{r.isolation}; or accept the risk: vfio_iommu_type1.allow_unsafe_interrupts=1"),
)  # fmt: skip

REPLAY_CHECKS = (
    Check("every mapping is within the width of the new unit", "", f"vfio_iommu_replay, {T1}", "the mapping {r.dma.span} does not fit {r.domain.unit}",
          "unmap it, then attach", test="r.errno", met=lambda r: mapped_in(r.backend, [Span(r.domain.reach, U64)])),
)  # fmt: skip

DRIVER_CHECKS = (
    Check("the unit offers nesting, if type 6 was chosen", "", ATTACH,
          lambda r: f"{r.domain.unit.name} ({r.domain.unit.kind}) does not offer nesting (type 6) on kernel {r.backend.kernel}" if r.nesting else None, "SET_IOMMU with type 3",
          test="r.errno"),
    Check("the unit's driver takes the group", "", ATTACH, lambda r: r.backend.core.why_refused(r.group) or f"{r.domain.unit.name} refuses group {r.group.id}",
          "see the driver's own kernel message", test="r.errno and not r.nesting"),
)  # fmt: skip


def _stages(kernel: Kernel, parts: Stages) -> tuple[Table, Table, Table, Table]:
    """Return the tables of one call's stages, each of which knows the others."""
    first, second, third, fourth = (
        table(rows, kernel, tuple(row for part in parts[:n] for row in part), tuple(row for part in parts[n + 1 :] for row in part))
        for n, rows in enumerate(parts)
    )
    return first, second, third, fourth


class Rules:
    """What type1 does on a kernel: its tables of checks, one for each point of a call, and what they and the backend look up.

    `map`, `memory`: the arguments of MAP_DMA and a new mapping's place, its memory and whether every unit can translate it; `arguments`: the
    first alone; `pins`: the memory alone, at a replay. `entry`, `driver`, `attach`, `replay`: a group, its unit's driver, the new domain's place, the mappings.
    `watched`: the policy of doorbells is asked of a user's maps.
    """

    def __init__(self, kernel: Kernel, *, watched: bool = False) -> None:
        has = kernel.has
        place = NEW_MAPPING_CHECKS + POLICY_CHECKS * watched
        self.arguments, _, self.pins, _ = _stages(kernel, (MAP_CHECKS, place, PIN_CHECKS, TRANSLATION_CHECKS))
        self.map = table(MAP_CHECKS + place, kernel, after=PIN_CHECKS + TRANSLATION_CHECKS)
        self.memory = table(PIN_CHECKS + TRANSLATION_CHECKS, kernel, before=MAP_CHECKS + place)
        self.unmap, self.bitmap = table(UNMAP_CHECKS, kernel), table(BITMAP_CHECKS, kernel)
        self.dirty, self.dirty_get = (
            table(DIRTY_CHECKS, kernel, after=DIRTY_GET_CHECKS),
            table(DIRTY_GET_CHECKS, kernel, before=DIRTY_CHECKS),
        )
        self.entry, self.driver, self.attach, self.replay = _stages(kernel, (ENTRY_CHECKS, DRIVER_CHECKS, ATTACH_CHECKS, REPLAY_CHECKS))
        self.map_flags = RW | (MAP_VADDR if has("vaddr_update") else 0)
        self.unmap_flags = (
            (UNMAP_DIRTY if has("dirty_tracking") else 0)
            | (UNMAP_ALL if has("unmap_all") else 0)
            | (UNMAP_VADDR if has("vaddr_update") else 0)
        )
        self.unmap_top = U64 if has("unmap_may_end_at_top") else U64 - 1
        self.unmap_by_anyone = has("unmap_by_anyone") or not has("unmap_stops_at_others")
        self.zeros_pinned = not (has("read_pin_breaks_cow") and not has("zero_page_pinned")) and not has("long_term_cow")
        self.bars = "on" if has("bar_needs_memory_space") else "always"
