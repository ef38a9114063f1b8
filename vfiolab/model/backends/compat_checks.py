"""What iommufd's compatibility layer tests before it maps: one ordered table (drivers/iommu/iommufd, 6.12; recorded)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from vfiolab.model.address import Span, hexa
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.protocol import Caller, System
from vfiolab.model.backends.type1_checks import obstacles, wraps
from vfiolab.model.checks import Check
from vfiolab.model.errors import Obstacle
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.uapi.requests import switched_on

if TYPE_CHECKING:
    from vfiolab.model.backends.ioas import Ioas

VX = "drivers/iommu/iommufd/vfio_compat.c"
IP = "drivers/iommu/iommufd/io_pagetable.c"
PAGES = "drivers/iommu/iommufd/pages.c"


@dataclass(slots=True, eq=False)
class Pages:
    """Memory of `process` that was given to be mapped (iommufd's iopt_pages); copies of a mapping share it, and it is pinned once.

    `account`: who is charged, "mm" (the process), "user" (all processes of its user) or "" (nobody: mapped with CAP_IPC_LOCK). `write`:
    whether it is pinned to be written. `pinned`: the mappings that pin it at present.
    """

    process: Caller
    account: str
    write: bool
    pinned: list[Area] = field(default_factory=list)

    def locked(self, *more: Area) -> int:
        """Return how many pages are pinned, with `more` mappings pinned too."""
        page, total, end, areas = self.process.page_size, 0, 0, (*self.pinned, *more)
        if len(areas) < 2:
            return (areas[0].vaddr + areas[0].size - 1) // page + 1 - areas[0].vaddr // page if areas else 0
        for first, last in sorted((area.vaddr // page, (area.vaddr + area.size - 1) // page + 1) for area in areas):
            total += max(last - max(first, end), 0)
            end = max(end, last)
        return total


@dataclass(slots=True, eq=False)
class Area:
    """One mapped range (iommufd's iopt_area). `runs`: the contiguous pieces of memory behind it while it is pinned, (physical address, bytes)."""

    iova: int
    size: int
    vaddr: int
    prot: int
    pages: Pages
    name: str = ""
    runs: list[tuple[int, int]] = field(default_factory=list)

    @property
    def process(self) -> Caller:
        """Whose memory it is."""
        return self.pages.process

    @property
    def pinned(self) -> bool:
        """Whether its memory is pinned."""
        return bool(self.runs)

    @property
    def end(self) -> int:
        """First address after the range."""
        return self.iova + self.size

    @property
    def span(self) -> Span:
        """The iovas, half-open."""
        return Span(self.iova, self.end)


class Asked(NamedTuple):
    """What is asked of an address space, beside maps and unmaps: a group whose device comes in, a type, or an area (each where it is needed).

    `need`: pages that would be pinned, on top of `charged` ones. `aperture`: of a domain that would be made. `at`: an iova, or a granule.
    """

    backend: Ioas | None
    system: System | None = None
    group: Any = None
    name: str = ""
    kind: int = 0
    area: Any = None
    charged: int = 0
    need: int = 0
    aperture: Span | None = None
    errno: str = ""
    domain: Domain | None = None
    at: int = 0
    ptr: str = "good"
    argsz: int = 16


NO_SPACE = Check("the descriptor has an address space", "ENODEV", VX, "the descriptor has no address space: no group came through it yet", "GROUP_SET_CONTAINER with this descriptor first",
                 test="r.backend is None")  # fmt: skip
MAP_CHECKS = (
    Check("the struct can be read", "EFAULT", VX, "the pointer to the struct is {r.ptr}", test="r.ptr != 'good'"),
    Check("argsz holds the whole struct (32 bytes)", "EINVAL", VX, "argsz {r.argsz} is below 32", "set argsz = 32", test="r.argsz < 32"),
    Check("only READ and WRITE are set", "EINVAL", VX, lambda r: f"flags {r.flags:#_x} holds {r.flags & ~3:#_x}, which the compatibility layer does not know",
          "VADDR updates need the native container", test="r.flags & ~3"),
    NO_SPACE,
)  # fmt: skip
#: What is asked of the memory (iopt_alloc_pages).
PAGES_CHECKS = (
    Check("the size is not 0", "EINVAL", IP, "size 0 maps nothing", "give a size", test="not r.size"),
    Check("the size leaves room to round up to pages", "EINVAL", f"iopt_alloc_pages, {PAGES}", "size {r.size:#_x} is within a page of 2^64", "give a smaller size",
          test="r.size > U64 - 1 - r.caller.page_size"),
    Check("vaddr + size does not wrap", "EOVERFLOW", IP, lambda r: f"vaddr {hexa(r.vaddr)} + size {r.size:#_x} wraps past 2^64", "keep vaddr + size below 2^64",
          test="r.vaddr + r.size > U64 - 1"),
)  # fmt: skip
LENGTH_CHECKS = (
    Check("the size is a multiple of the granule", "EINVAL", IP, "size {r.size:#_x} is not a multiple of {r.backend.granule:#_x}",
          "align it (the granule is 1 byte until a device is open)", test="r.size & r.backend.granule - 1"),
)  # fmt: skip
PLACE_CHECKS = (
    Check("the iova is a multiple of the granule", "EINVAL", IP, "iova {r.iova:#_x} is not a multiple of {r.backend.granule:#_x}",
          "align it (the granule is 1 byte until a device is open)", test="r.iova & r.backend.granule - 1"),
    Check("iova + size does not wrap", "EOVERFLOW", IP, wraps, "keep iova + size within 2^64", test="r.iova + r.size > U64"),
    Check("the range is usable", "EINVAL", IP, lambda r: f"{Span.sized(r.iova, r.size)} is not inside one usable range: {', '.join(map(str, r.backend.valid_iova))}",
          "map around it: GET_INFO capability 1 of a container, or IOAS_IOVA_RANGES, lists the usable ranges",
          test="not r.backend.usable(r.iova, r.size)", met=lambda r: obstacles(r.backend.domains, Span.sized(r.iova, r.size))),
    Check("no existing mapping overlaps", "EEXIST", IP, lambda r: f"{Span.sized(r.iova, r.size)} overlaps the mapping {next(r.backend.areas_in(r.iova, r.size)).span}",
          "unmap it first", test="next(r.backend.areas_in(r.iova, r.size), None) is not None",
          met=lambda r: [Obstacle("mapping", next(r.backend.areas_in(r.iova, r.size)).span)]),
)  # fmt: skip
CHOOSE = f"iopt_alloc_iova, {IP}"
CHOOSE_CHECKS = (
    Check("the size can be rounded up to a power of two", "EOVERFLOW", CHOOSE, "size {r.size:#_x} is too large for a place that the kernel chooses", "give the iova, or a smaller size",
          test="r.size >= (1 << 63) - 1"),
    Check("the memory is aligned as the iova must be", "EINVAL", CHOOSE, lambda r: f"vaddr {hexa(r.vaddr)} and size {r.size:#_x} allow no iova on a multiple of {r.backend.granule:#_x}",
          "align the vaddr", test="r.backend.alignment(r.size, r.vaddr) < r.backend.granule"),
    Check("there is a place for it", "ENOSPC", CHOOSE, "no {r.size:#_x} bytes are free in the usable and allowed iovas", "unmap something, or allow more", test="r.backend.chosen(r.size, r.vaddr) is None"),
)  # fmt: skip
AREA_CHECKS = (
    Check("the memory was given to be written, if the mapping is", "EPERM", f"iopt_insert_area, {IP}", "the mapping at the source is read-only: the copy cannot be written",
          "copy it with READABLE only", test="r.flags & 2 and not all(part.pages.write for part in r.parts)"),
    Check("the vaddr is a multiple of the granule", "EINVAL", IP, lambda r: f"vaddr {r.vaddr:#_x} is not a multiple of {r.backend.granule:#_x}", "align it",
          test="any(part.vaddr & r.backend.granule - 1 for part in r.parts)"),
)  # fmt: skip


def _limit(r: Asked) -> int | None:
    """Return how many pages may be locked on top of those that are; None without a limit."""
    limit = r.area.process.limit_pages if r.area.pages.account else None
    return None if limit is None else max(limit - r.charged, 0)


def _bad_page(r: Asked) -> str | None:
    area, limit = r.area, _limit(r)
    bad = area.process.memory.first_bad(area.vaddr, area.size, 2 * area.pages.write, "never", area.process.page_size)
    if bad is None or not r.need or (limit is not None and bad > limit):
        return None
    return f"the page at vaddr {hexa(area.vaddr + bad * area.process.page_size)} of {area.span} cannot be pinned"


def _too_much_locked(r: Asked) -> str | None:
    limit, process = _limit(r), r.area.process
    if limit is None or r.need <= limit:
        return None
    return f"{r.need} more pages exceed RLIMIT_MEMLOCK, {process.memlock:#_x} bytes = {process.limit_pages} pages"


FILL = f"iopt_area_fill_domains, {PAGES}"
PIN_CHECKS = (
    Check("the mapping may be read or written", "EINVAL", FILL, "the mapping {r.area.span} may be neither read nor written: an IOMMU cannot map it", "map it with READ or WRITE",
          test="not r.area.prot"),
    Check("every page of the memory can be pinned", "EFAULT", FILL, _bad_page, "map the memory first"),
    Check("the locked memory stays within RLIMIT_MEMLOCK", "ENOMEM", FILL, _too_much_locked, "raise the limit, or map with CAP_IPC_LOCK"),
)  # fmt: skip
FIT_CHECKS = (
    Check("every unit can translate it", "", FILL,
          lambda r: f"{r.area.span} reaches past {r.domain.reach - 1:#_x}, the last iova of D{r.domain.number}: it keeps the width of the narrowest unit it ever served",
          "choose a lower iova", test="r.errno", met=lambda r: obstacles(r.backend.domains, r.area.span)),
)  # fmt: skip
UNMAP_CHECKS = (
    Check("the struct can be read", "EFAULT", VX, "the pointer to the struct is {r.ptr}", test="r.ptr != 'good'"),
    Check("argsz holds the whole struct (24 bytes)", "EINVAL", VX, "argsz {r.argsz} is below 24", "set argsz = 24", test="r.argsz < 24"),
    Check("only ALL is set", "EINVAL", VX, "flags {r.flags:#_x}: the compatibility layer knows only ALL (2)", "set flags 0 or ALL", test="r.flags & ~2"),
    NO_SPACE,
    Check("ALL goes with iova 0 and size 0", "EINVAL", VX, "ALL goes with iova 0 and size 0, not iova {r.iova:#_x} size {r.size:#_x}", "set both to 0", test="r.flags and (r.iova or r.size)"),
)  # fmt: skip
CUT_CHECKS = (
    Check("a mapping is cut at whole pages (type 1)", "EINVAL", f"iopt_cut_iova, {IP}", lambda r: f"{hexa(r.at)} would cut the mapping {r.area.span} inside a page", "cut at whole pages",
          test="r.at & r.backend.page_size - 1"),
)  # fmt: skip
RANGE_CHECKS = (
    Check("the size is not 0", "EINVAL", IP, "size 0 unmaps nothing", "give a size", test="not r.size"),
    Check("iova + size does not wrap", "EOVERFLOW", IP, wraps, "keep iova + size within 2^64", test="r.iova + r.size > U64"),
)  # fmt: skip
WHOLE_CHECKS = (
    Check("no mapping sticks out of the range", "ENOENT", f"iopt_unmap_iova_range, {IP}", lambda r: f"the mapping {r.whole.span} sticks out of {Span.sized(r.iova, r.size)}",
          "unmap whole mappings", test="r.whole is not None"),
    Check("something is mapped in the range", "ENOENT", f"iopt_unmap_iova_range, {IP}", lambda r: f"nothing is mapped in {Span.sized(r.iova, r.size)}", "unmap what is mapped",
          "not compat_unmap_nothing", "next(r.backend.areas_in(r.iova, r.size), None) is None"),
)  # fmt: skip


def _unsafe(r: Asked) -> str | None:
    group, system = r.group, r.system
    assert system is not None
    unit = system.core.unit_of(group)
    if unit.msi_is_isolated(system.kernel, group.devices) or switched_on(system.params, UNSAFE):
        return None
    return f"group {group.id} is behind {unit.name}, whose interrupts are not isolated"


def _lost(r: Asked, spans: Iterable[Span]) -> tuple[Span | None, str]:
    """Return the first span that a group's reserved regions or a new domain's aperture make unusable, and what is left by whom."""
    assert r.backend is not None
    if r.aperture is None:
        iovas, who = r.backend.usable_with(r.group), r.name
    else:
        iovas, who = iova_list.shrink(r.backend.valid_iova, r.aperture), f"a domain of {r.name}"
    lost = next((span for span in spans if not iova_list.in_one(iovas, span.start, span.size)), None)
    return lost, f"is not inside {', '.join(map(str, iovas))}, what {who} leaves"


def _unusable(r: Asked) -> str | None:
    lost, why = _lost(r, (area.span for area in r.backend.areas) if r.backend else ())
    return f"the mapping {lost} {why} usable" if lost else None


def _not_allowed(r: Asked) -> str | None:
    lost, why = _lost(r, r.backend.allowed if r.backend else ())
    return f"{lost}, which must stay usable, {why}" if lost else None


def _not_whole_pages(r: Asked) -> str | None:
    assert r.backend is not None
    page = r.at or r.backend.page_size
    odd = next((area for area in r.backend.areas if (area.iova | area.size | area.vaddr) & page - 1), None)
    return f"the mapping {odd.span} of vaddr {hexa(odd.vaddr)} is not made of whole pages" if odd else None


UNSAFE = "iommufd.allow_unsafe_interrupts"
DEVICE = "drivers/iommu/iommufd/device.c"
BIND_CHECKS = (
    Check("interrupts are isolated, or unsafe ones are allowed", "EPERM", f"iommufd_device_bind, {DEVICE}", _unsafe, "iommufd.allow_unsafe_interrupts=1 accepts the risk"),
)  # fmt: skip
RESERVE = f"iopt_table_enforce_dev_resv_regions, {IP}"
OPEN_CHECKS = (
    Check("every mapping stays usable", "EADDRINUSE", RESERVE, _unusable, "unmap it, then open the device"),
    Check("what was allowed stays usable", "EADDRINUSE", RESERVE, _not_allowed, "allow less (IOAS_ALLOW_IOVAS)", test="r.backend.allowed"),
    Check("there is one kind of MSI region", "EINVAL", RESERVE, "group {r.group.id} reports a hardware and a software MSI region", "use the native container",
          test="{'msi', 'sw-msi'} <= {region.kind for region in r.group.reserved}"),
)  # fmt: skip
ADD_DOMAIN = f"iopt_table_add_domain, {IP}"
APERTURE_CHECKS = (
    Check("every mapping is inside the new domain's aperture", "EADDRINUSE", ADD_DOMAIN, _unusable, "unmap it, then open the device"),
    Check("what was allowed is inside the new domain's aperture", "EADDRINUSE", ADD_DOMAIN, _not_allowed, "allow less (IOAS_ALLOW_IOVAS)", test="r.backend.allowed"),
)  # fmt: skip
#: iopt_calculate_iova_alignment (recorded): what needs whole pages is refused while a mapping is not made of them.
ALIGNED_CHECKS = (
    Check("every mapping is made of whole pages", "EADDRINUSE", f"iopt_table_add_domain, {IP}", _not_whole_pages, "unmap it, and map whole pages"),
)  # fmt: skip
HUGE = f"iopt_disable_large_pages, {IP}"
HUGE_CHECKS = (
    Check("no mapping is in a domain", "EINVAL", HUGE, "{r.backend} has mappings in a domain, which may be of large pages", "unmap everything first",
          test="r.backend.domains and r.backend.areas and not r.backend.v1"),
    Check("every mapping is made of whole pages", "EADDRINUSE", HUGE, _not_whole_pages, "unmap it, and map whole pages", test="not r.backend.v1"),
)  # fmt: skip
SET_IOMMU_CHECKS = (
    Check("the type is 1 or 3", "EINVAL", f"iommufd_vfio_set_iommu, {VX}", "the compatibility layer offers types 1 and 3, not {r.kind}", "type 3 is type1 v2", test="r.kind not in (1, 3)"),
    NO_SPACE,
)  # fmt: skip
SPACE_CHECKS = (NO_SPACE,)
UNKNOWN_CHECKS = (
    Check("the pointer can be read (iommufd's own ioctls take a struct)", "EFAULT", "iommufd_fops_ioctl, drivers/iommu/iommufd/main.c", "the pointer to the struct is bad",
          "pass a pointer to the struct", test="0 <= r.kind - 0x3B80 < r.system.kernel.iommufd_ioctls"),
    Check("the descriptor has the ioctl", "ENOTTY", f"iommufd_vfio_ioctl, {VX}", "iommufd's compatibility layer does not have this ioctl", "use the native container, or iommufd itself",
          test="True"),
)  # fmt: skip
