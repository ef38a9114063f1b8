"""What type1 tests before it acts: one ordered table a call. The first check that does not hold is the answer.

Order and errnos: drivers/vfio/vfio_iommu_type1.c, vfio_dma_do_map, vfio_dma_do_unmap, vfio_iommu_type1_attach_group,
vfio_iommu_type1_dirty_pages, read in 4.4 to 6.19, and recorded runs of 4.4, 5.10, 6.1, 6.12 and 7.3.
"""

from __future__ import annotations

from collections.abc import Callable

from vfiolab.model.address import U64, Span, hexa, human_size
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.dirty import MAX_BYTES, bitmap_bytes
from vfiolab.model.errors import ERRNO, Check
from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.requests import (
    MAP_READ,
    MAP_VADDR,
    MAP_WRITE,
    UNMAP_ALL,
    UNMAP_DIRTY,
    UNMAP_VADDR,
    AttachRequest,
    DirtyRequest,
    MapRequest,
    UnmapRequest,
)

T1 = "drivers/vfio/vfio_iommu_type1.c"
IOCTL = f"vfio_iommu_type1_ioctl, {T1}"
DO_MAP = f"vfio_dma_do_map, {T1}"
DO_UNMAP = f"vfio_dma_do_unmap, {T1}"
ATTACH = f"vfio_iommu_type1_attach_group, {T1}"
DIRTY = f"vfio_iommu_type1_dirty_pages, {T1}"
RW = MAP_READ | MAP_WRITE


def _new(kernel: Kernel) -> bool:
    return kernel.has("wrap_eoverflow")


def _old(kernel: Kernel) -> bool:
    return not kernel.has("wrap_eoverflow")


def bad_pointer(r: MapRequest | UnmapRequest | DirtyRequest) -> str | None:
    """Say that the user's struct cannot be read."""
    return f"the pointer to the struct is {r.ptr}: it cannot be read" if r.ptr != "good" else None


def _zero(r: MapRequest) -> str | None:
    return "size 0 maps nothing" if not r.size else None


def _wraps(name: str, start: int, size: int) -> str | None:
    if size and start + size > U64:
        return f"{name} {hexa(start)} + size {size:#x} wraps past 2^64"
    return None


def _map_wrap(r: MapRequest) -> str | None:
    return _wraps("iova", r.iova, r.size) or _wraps("vaddr", r.vaddr, r.size)


def misaligned(granule: int, **numbers: int) -> str | None:
    """Name the first number that is no multiple of the granule."""
    for name, number in numbers.items():
        if number & granule - 1:
            return f"{name} {number:#x} is not a multiple of {granule:#x}, the smallest page ({human_size(granule)})"
    return None


def _map_flags(r: MapRequest) -> str | None:
    unknown = r.flags & ~(RW | MAP_VADDR) if r.backend.kernel.has("vaddr_update") else r.flags & ~RW
    return f"flags {r.flags:#x} holds {unknown:#x}, which kernel {r.backend.kernel} does not know" if unknown else None


def _no_rights(r: MapRequest) -> str | None:
    return f"flags {r.flags:#x} asks for neither READ (1) nor WRITE (2)" if not r.flags & (RW | MAP_VADDR) else None


def _vaddr_with_rights(r: MapRequest) -> str | None:
    return f"flags {r.flags:#x} joins VADDR (4) with READ or WRITE" if r.flags & MAP_VADDR and r.flags & RW else None


def _overlap(r: MapRequest) -> str | None:
    dma = r.backend.dmas.find(r.iova, r.size)
    if dma is None:
        return None
    name = f" ({dma.name})" if dma.name else ""
    return f"{Span.sized(r.iova, r.size)} overlaps the mapping {Span(dma.iova, dma.end)}{name}"


def _budget(r: MapRequest) -> str | None:
    limit = r.backend.entry_limit
    return (
        f"all of dma_entry_limit is in use: {limit} mapping{'s' * (limit != 1)}, as the parameter stood when SET_IOMMU ran"
        if r.backend.dma_avail == 0
        else None
    )


def _outside(r: MapRequest) -> str | None:
    iovas = r.backend.valid_iova
    if iova_list.in_one(iovas, r.iova, r.size):
        return None
    wanted = Span.sized(r.iova, r.size)
    region = r.backend.region_at(wanted)
    if region is not None:
        return f"{wanted} overlaps {region.words}"
    if wanted.end > iovas[-1].end:
        return f"{wanted} reaches past the aperture, whose last iova is {hexa(iovas[-1].last)}"
    if wanted.start < iovas[0].start:
        return f"{wanted} begins below the first usable iova, {hexa(iovas[0].start)}"
    return f"{wanted} does not lie inside one usable range: {', '.join(map(str, iovas))}"


SMALLEST = "align them to the smallest page of the container (GET_INFO iova_pgsizes)"
_MAP_WRAP_FIX = "keep iova + size and vaddr + size within 2^64"

MAP_CHECKS = (
    Check("the struct can be read", "EFAULT", IOCTL, bad_pointer, "pass a pointer to a struct vfio_iommu_type1_dma_map"),
    Check("argsz holds the whole struct (32 bytes)", "EINVAL", IOCTL,
          lambda r: f"argsz {r.argsz} is below 32, the size of the struct" if r.argsz < 32 else None, "set argsz = 32"),
    Check("only known flags are set", "EINVAL", IOCTL, _map_flags, "READ is 1, WRITE is 2, VADDR (5.12 and later) is 4"),
    Check("the size is not 0", "EINVAL", DO_MAP, _zero, "give a size of at least one page", _new),
    Check("neither iova nor vaddr wraps past 2^64", "EOVERFLOW", DO_MAP, _map_wrap, _MAP_WRAP_FIX, _new),
    Check("READ or WRITE is asked for", "EINVAL", DO_MAP, _no_rights, "READ (1) lets the device read, WRITE (2) lets it write"),
    Check("VADDR comes alone", "EINVAL", DO_MAP, _vaddr_with_rights, "update the vaddr with flags = 4"),
    Check("the size is not 0", "EINVAL", DO_MAP, _zero, "give a size of at least one page", _old),
    Check("iova, size and vaddr are multiples of the smallest page", "EINVAL", DO_MAP,
          lambda r: misaligned(r.granule, iova=r.iova, size=r.size, vaddr=r.vaddr) if (r.iova | r.size | r.vaddr) & r.granule - 1 else None, SMALLEST),
    Check("neither iova nor vaddr wraps past 2^64", "EINVAL", DO_MAP, _map_wrap, _MAP_WRAP_FIX, _old),
)  # fmt: skip

NEW_MAPPING_CHECKS = (
    Check("no existing mapping overlaps", "EEXIST", f"vfio_find_dma in {DO_MAP}", _overlap, "unmap it first, or choose another iova"),
    Check("the container has a mapping to spare", "ENOSPC", DO_MAP, _budget,
          "use fewer, larger mappings, or raise vfio_iommu_type1.dma_entry_limit before SET_IOMMU", lambda k: k.has("dma_entry_limit")),
    Check("the range lies inside one usable iova range", "EINVAL", f"vfio_iommu_iova_dma_valid, {T1}", _outside,
          "map within the usable ranges: GET_INFO capability 1 lists them", lambda k: k.has("valid_iova")),
)  # fmt: skip


def _bad_memory(r: MapRequest) -> str | None:
    bad, room = r.backend.bad_page(r), r.caller.room()
    if bad is None or (room is not None and r.backend.charged_pages(r, bad) > max(room, 0)):
        return None
    how = "written" if r.flags & MAP_WRITE else "read"
    return f"the page at vaddr {hexa(r.vaddr + bad * r.backend.page_size)} cannot be pinned: it is not mapped so that it can be {how}"


def _too_much_locked(r: MapRequest) -> str | None:
    process = r.caller
    room = process.room()
    if room is None:
        return None
    pages = r.backend.charged_pages(r)
    if pages <= room or r.backend.untranslatable_page(r) < max(room, 0):
        return None
    limit = process.memlock
    return f"{pages} more pages on top of {process.locked_pages} locked ones exceed RLIMIT_MEMLOCK, {limit:#x} bytes = {process.limit_pages} pages"


def _hardware(errno: str, text: str) -> Callable[[MapRequest], str | None]:
    def broken(r: MapRequest) -> str | None:
        for domain in r.backend.domains:
            if domain.map_errno(r.iova, r.size) == -ERRNO[errno]:
                return text.format(
                    range=Span.sized(r.iova, r.size), domain=f"domain D{domain.number}", unit=domain.unit, top=hexa((1 << domain.width) - 1)
                )
        return None

    return broken


PIN_CHECKS = (
    Check("every page of the memory can be pinned", "EFAULT", f"vfio_pin_pages_remote, {T1}", _bad_memory,
          "map the memory first (mmap), writable if the device may write; device BARs need their own handling"),
    Check("the locked memory stays within RLIMIT_MEMLOCK", "ENOMEM", f"vfio_pin_pages_remote, {T1}", _too_much_locked,
          "raise the limit (ulimit -l), or give the process CAP_IPC_LOCK"),
    Check("the range is within the width of every IOMMU", "EFAULT", "intel_iommu_map, drivers/iommu/intel-iommu.c",
          _hardware("EFAULT", "{range} reaches past {top}, the last iova that {unit} can translate ({domain})"), "choose a lower iova", lambda k: not (k.has("valid_iova") and k.has("intel_aperture_by_width"))),
    Check("no doorbell page is in the way", "EEXIST", "arm_lpae_map, drivers/iommu/io-pgtable-arm.c",
          _hardware("EEXIST", "{range} covers the MSI doorbell page that the kernel has mapped in {domain}"), "keep out of the software MSI window, 0x800_0000-0x80f_ffff",
          lambda k: not k.has("valid_iova")),
)  # fmt: skip


def known_unmap_flags(kernel: Kernel) -> int:
    """Return the UNMAP flags that a kernel knows."""
    return (
        (UNMAP_DIRTY if kernel.has("dirty_tracking") else 0)
        | (UNMAP_ALL if kernel.has("unmap_all") else 0)
        | (UNMAP_VADDR if kernel.has("vaddr_update") else 0)
    )


def _unmap_flags(r: UnmapRequest) -> str | None:
    unknown = r.flags & ~known_unmap_flags(r.backend.kernel)
    return f"flags {r.flags:#x} holds {unknown:#x}, which kernel {r.backend.kernel} does not know" if unknown else None


def _bitmap_size(size: int, pgsize: int, have: int) -> str | None:
    if not pgsize:
        return "the bitmap's page size is 0"
    pages = size >> (pgsize & -pgsize).bit_length() - 1
    if not pages or not have or have > MAX_BYTES:
        return f"a bitmap of {have} bytes for {pages} pages is outside 1..{MAX_BYTES:#x} bytes"
    need = bitmap_bytes(pages)
    return f"the bitmap has {have} bytes, {pages} pages need {need}" if have < need else None


def _unmap_bitmap(r: UnmapRequest) -> str | None:
    if not r.flags & UNMAP_DIRTY:
        return None
    if r.argsz < 48:
        return f"argsz {r.argsz} does not hold the dirty bitmap (48 bytes)"
    return _bitmap_size(r.size, r.bm_pgsize, r.bm_size)


def _unmap_wrap(r: UnmapRequest) -> str | None:
    if r.flags & UNMAP_ALL:
        return None
    limit = U64 if r.backend.kernel.has("unmap_may_end_at_top") else U64 - 1
    return f"iova {hexa(r.iova)} + size {r.size:#x} wraps past 2^64" if r.iova + r.size > limit else None


def _unmap_size(r: UnmapRequest) -> str | None:
    if r.flags & UNMAP_ALL:
        return f"ALL goes with iova 0 and size 0, not iova {r.iova:#x} size {r.size:#x}" if r.iova or r.size else None
    if not r.size:
        return "size 0 unmaps nothing"
    return misaligned(r.granule, size=r.size)


def _bisects(r: UnmapRequest | DirtyRequest) -> str | None:
    end = (r.iova + r.size) % U64
    first = r.backend.dmas.find(r.iova, 1)
    if first is not None and first.iova != r.iova:
        return f"the range's start {hexa(r.iova)} would cut the mapping {Span(first.iova, first.end)} in two"
    if first is not None and first.size == r.size and not r.backend.dmas.reaches_top:
        return None  # the range is one mapping, and none hides behind a wrapped end
    last = r.backend.dmas.find((end - 1) % U64, 1)
    if last is not None and last.end % U64 != end:
        return f"the range's end {hexa(end)} would cut the mapping {Span(last.iova, last.end)} in two"
    return None


def _unmap_bisects(r: UnmapRequest) -> str | None:
    return _bisects(r) if r.backend.v2 and not r.flags & UNMAP_ALL else None


def _not_tracking(r: UnmapRequest) -> str | None:
    if not r.flags & UNMAP_DIRTY:
        return None
    if not r.backend.dirty_tracking:
        return "a dirty bitmap is asked for, but dirty tracking was not started"
    return f"the bitmap's page size {r.bm_pgsize:#x} is not {r.granule:#x}, the smallest page" if r.bm_pgsize != r.granule else None


def _has_dirty(kernel: Kernel) -> bool:
    return kernel.has("dirty_tracking")


UNMAP_CHECKS = (
    Check("the struct can be read", "EFAULT", IOCTL, bad_pointer, "pass a pointer to a struct vfio_iommu_type1_dma_unmap"),
    Check("argsz holds the whole struct (24 bytes)", "EINVAL", IOCTL,
          lambda r: f"argsz {r.argsz} is below 24, the size of the struct" if r.argsz < 24 else None, "set argsz = 24"),
    Check("only known flags are set", "EINVAL", IOCTL, _unmap_flags, "GET_DIRTY_BITMAP is 1 (5.8), ALL is 2 and VADDR 4 (5.12)"),
    Check("a dirty bitmap comes alone", "EINVAL", IOCTL,
          lambda r: f"flags {r.flags:#x} joins GET_DIRTY_BITMAP (1) with ALL or VADDR" if r.flags & UNMAP_DIRTY and r.flags & (UNMAP_ALL | UNMAP_VADDR) else None,
          "unmap in two calls", _has_dirty),
    Check("the dirty bitmap fits the range", "EINVAL", IOCTL, _unmap_bitmap, "give 8 bytes for each 64 pages", _has_dirty),
    Check("no emulated group uses vaddrs", "EBUSY", DO_UNMAP,
          lambda r: "VADDR cannot be invalidated while an emulated (mdev) group is in the container" if r.flags & UNMAP_VADDR and r.backend.emulated else None,
          "take the mdev out of the container", lambda k: k.has("update_vaddr_needs_backend")),
    Check("iova is a multiple of the smallest page", "EINVAL", DO_UNMAP, lambda r: misaligned(r.granule, iova=r.iova), SMALLEST),
    Check("the size is one of whole pages (0 with ALL)", "EINVAL", DO_UNMAP, _unmap_size, "give whole pages; ALL takes iova = size = 0"),
    Check("the range does not wrap past 2^64", "EOVERFLOW", DO_UNMAP, _unmap_wrap, "keep iova + size within 2^64", _new),
    Check("the range does not wrap past 2^64", "EINVAL", DO_UNMAP, _unmap_wrap, "keep iova + size within 2^64",
          lambda k: k.has("unmap_wrap_check") and not k.has("wrap_eoverflow")),
    Check("dirty tracking is on if its bitmap is asked for", "EINVAL", DO_UNMAP, _not_tracking, "start tracking first (DIRTY_PAGES with flag START)", _has_dirty),
    Check("no mapping is cut in two (v2)", "EINVAL", DO_UNMAP, _unmap_bisects, "unmap whole mappings: type1 v2 never splits one"),
)  # fmt: skip


def _dirty_flags(r: DirtyRequest) -> str | None:
    if r.flags & ~7 or not r.flags:
        return f"flags {r.flags:#x} is none of START (1), STOP (2), GET_BITMAP (4)"
    return f"flags {r.flags:#x} holds more than one of START, STOP, GET_BITMAP" if r.flags & r.flags - 1 else None


def _dirty_range(r: DirtyRequest) -> str | None:
    if r.bm_pgsize != r.granule:
        return f"the bitmap's page size {r.bm_pgsize:#x} is not {r.granule:#x}, the smallest page"
    return "size 0 asks for no page" if not r.size else misaligned(r.granule, iova=r.iova, size=r.size)


DIRTY_CHECKS = (
    Check("the container is type1 v2", "EACCES", DIRTY, lambda r: "dirty tracking needs type1 v2, this container is v1" if not r.backend.v2 else None, "SET_IOMMU with type 3"),
    Check("the struct can be read", "EFAULT", DIRTY, bad_pointer, "pass a pointer to a struct vfio_iommu_type1_dirty_bitmap"),
    Check("argsz holds the struct (8 bytes)", "EINVAL", DIRTY, lambda r: f"argsz {r.argsz} is below 8" if r.argsz < 8 else None, "set argsz"),
    Check("exactly one known flag is set", "EINVAL", DIRTY, _dirty_flags, "START is 1, STOP is 2, GET_BITMAP is 4"),
)  # fmt: skip

DIRTY_GET_CHECKS = (
    Check("argsz holds the range (48 bytes)", "EINVAL", DIRTY, lambda r: f"argsz {r.argsz} does not hold the range and its bitmap (48 bytes)" if r.argsz < 48 else None, "set argsz = 48"),
    Check("the range does not wrap past 2^64", "EOVERFLOW", DIRTY, lambda r: _wraps("iova", r.iova, r.size), "keep iova + size within 2^64", _new),
    Check("the range does not wrap past 2^64", "EINVAL", DIRTY, lambda r: f"iova {hexa(r.iova)} + size {r.size:#x} wraps past 2^64" if r.iova + r.size >= U64 else None,
          "keep iova + size below 2^64", _old),
    Check("the bitmap fits the range", "EINVAL", f"verify_bitmap_size, {T1}", lambda r: _bitmap_size(r.size, r.bm_pgsize, r.bm_size), "give 8 bytes for each 64 pages"),
    Check("the range is in whole smallest pages", "EINVAL", DIRTY, _dirty_range, SMALLEST),
    Check("dirty tracking is on", "EINVAL", DIRTY, lambda r: "dirty tracking was not started" if not r.backend.dirty_tracking else None, "start it first (flag START)"),
    Check("no mapping is cut in two", "EINVAL", f"vfio_iova_dirty_bitmap, {T1}", _bisects, "ask for whole mappings"),
)  # fmt: skip


def _aperture_conflict(r: AttachRequest) -> str | None:
    iovas, aperture = r.backend.valid_iova, r.domain.aperture
    if iova_list.disjoint(iovas, aperture):
        return f"the aperture {aperture} of {r.domain.unit} lies outside the container's usable iovas"
    hit = iova_list.first_overlap(r.backend.dmas, iova_list.cut_off_by(iovas, aperture))
    return f"the mapping {Span(hit[0].iova, hit[0].end)} lies outside the aperture {aperture} of {r.domain.unit}" if hit else None


def _reserved_conflict(r: AttachRequest) -> str | None:
    for region in r.group.reserved:
        hit = iova_list.first_overlap(r.backend.dmas, iova_list.binding([region]))
        if hit:
            return f"the mapping {Span(hit[0].iova, hit[0].end)} overlaps {region.words} of group {r.group.id}"
    return None


def _unsafe_interrupts(r: AttachRequest) -> str | None:
    unit = r.group.unit
    if unit is None or r.backend.allow_unsafe_interrupts() or unit.msi_is_isolated(r.backend.kernel, r.group.devices):
        return None
    return f"group {r.group.id} is behind {unit.name}, where any device can raise any interrupt vector: no interrupt remapping"


def _valid_iova(kernel: Kernel) -> bool:
    return kernel.has("valid_iova")


ENTRY_CHECKS = (
    Check("no vaddr is invalidated", "EBUSY", ATTACH, lambda r: "a mapping's vaddr is invalidated and not yet updated" if r.backend.invalid_vaddrs else None,
          "give each mapping its new vaddr (MAP with flag VADDR)", lambda k: k.has("attach_needs_valid_vaddr")),
    Check("the group is not in this container's domains", "EINVAL", ATTACH,
          lambda r: f"group {r.group.id} is attached already" if r.group.domain in r.backend.domains or r.group in r.backend.emulated else None, "attach a group once"),
)  # fmt: skip

ATTACH_CHECKS = (
    Check("no mapping lies outside the new domain's aperture", "EINVAL", f"vfio_iommu_aper_conflict, {T1}", _aperture_conflict,
          "unmap what lies above it, then attach", _valid_iova),
    Check("no mapping overlaps a reserved region of the group", "EINVAL", f"vfio_iommu_resv_conflict, {T1}", _reserved_conflict,
          "unmap it, attach, and map around the region", _valid_iova),
    Check("some iova is left", "EINVAL", f"vfio_iommu_resv_exclude, {T1}",
          lambda r: "no usable iova would be left in the container" if not r.iovas else None, "use a second container", _valid_iova),
    Check("interrupts are isolated, or unsafe ones are allowed", "EPERM", ATTACH, _unsafe_interrupts,
          "turn interrupt remapping on; or accept the risk: vfio_iommu_type1.allow_unsafe_interrupts=1"),
)  # fmt: skip
