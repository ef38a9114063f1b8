"""What iommufd's compatibility layer tests before it maps: one ordered table (drivers/iommu/iommufd, 6.12; recorded)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from vfiolab.model.address import Span, hexa
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.type1_checks import obstacles, wraps
from vfiolab.model.checks import Check
from vfiolab.model.errors import Obstacle
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.uapi.requests import MapDma, switched_on

if TYPE_CHECKING:
    from vfiolab.model.backends.compat import Compat
    from vfiolab.model.backends.protocol import Caller

VX = "drivers/iommu/iommufd/vfio_compat.c"
IP = "drivers/iommu/iommufd/io_pagetable.c"
PAGES = "drivers/iommu/iommufd/pages.c"


@dataclass(slots=True)
class Area:
    """One mapped range (iommufd's iopt_area) of the memory of `process`. `account`: mapped without CAP_IPC_LOCK, so its pages count as locked memory."""

    iova: int
    size: int
    vaddr: int
    prot: int
    process: Caller
    account: bool
    name: str = ""
    pinned: bool = False

    @property
    def end(self) -> int:
        """First address after the range."""
        return self.iova + self.size

    @property
    def span(self) -> Span:
        """The iovas, half-open."""
        return Span(self.iova, self.iova + self.size)


class Asked(NamedTuple):
    """What is asked of an address space, beside maps and unmaps: a VFIO group whose device is opened, a type, or an area (each where it is needed)."""

    backend: Compat
    group: Any = None
    name: str = ""
    kind: int = 0
    area: Any = None
    charged: int = 0
    errno: str = ""
    domain: Domain | None = None
    at: int = 0
    ptr: str = "good"
    argsz: int = 16


NO_SPACE = Check("the descriptor has an address space", "ENODEV", VX, "the descriptor has no address space: no group came through it yet", "GROUP_SET_CONTAINER with this descriptor first",
                 test="not r.backend.exists")  # fmt: skip


def _unaligned(r: MapDma) -> str | None:
    for name, number in (("size", r.size), ("iova", r.iova)):
        if number & r.backend.granule - 1:
            return f"{name} {number:#_x} is not a multiple of {r.backend.granule:#_x}"
    return None


def _in_reserved(r: MapDma) -> str:
    return f"{Span.sized(r.iova, r.size)} is not inside one usable range: {', '.join(map(str, r.backend.valid_iova))}"


def _overlap(r: MapDma) -> str:
    return f"{Span.sized(r.iova, r.size)} overlaps the mapping {next(r.backend.areas_in(r.iova, r.size)).span}"


MAP_CHECKS = (
    Check("the struct can be read", "EFAULT", VX, "the pointer to the struct is {r.ptr}", test="r.ptr != 'good'"),
    Check("argsz holds the whole struct (32 bytes)", "EINVAL", VX, "argsz {r.argsz} is below 32", "set argsz = 32", test="r.argsz < 32"),
    Check("only READ and WRITE are set", "EINVAL", VX, lambda r: f"flags {r.flags:#_x} holds {r.flags & ~3:#_x}, which the compatibility layer does not know",
          "VADDR updates need the native container", test="r.flags & ~3"),
    NO_SPACE,
    Check("the size is not 0", "EINVAL", IP, "size 0 maps nothing", "give a size", test="not r.size"),
    Check("the size leaves room to round up to pages", "EINVAL", f"iopt_alloc_pages, {PAGES}", "size {r.size:#_x} is within a page of 2^64", "give a smaller size",
          test="r.size > U64 - 1 - r.caller.page_size"),
    Check("vaddr + size does not wrap", "EOVERFLOW", IP, lambda r: f"vaddr {hexa(r.vaddr)} + size {r.size:#_x} wraps past 2^64", "keep vaddr + size below 2^64",
          test="r.vaddr + r.size > U64 - 1"),
    Check("size and iova are multiples of the granule", "EINVAL", IP, _unaligned, "align them (the granule is 1 byte until a device is open)"),
    Check("iova + size does not wrap", "EOVERFLOW", IP, wraps, "keep iova + size within 2^64", test="r.iova + r.size > U64"),
    Check("the range is usable", "EINVAL", IP, _in_reserved, "map around it: GET_INFO capability 1 lists the usable ranges",
          test="not r.backend.usable(r.iova, r.size)", met=lambda r: obstacles(r.backend.domains, Span.sized(r.iova, r.size))),
    Check("no existing mapping overlaps", "EEXIST", IP, _overlap, "unmap it first", test="next(r.backend.areas_in(r.iova, r.size), None) is not None",
          met=lambda r: [Obstacle("mapping", next(r.backend.areas_in(r.iova, r.size)).span)]),
    Check("the vaddr is a multiple of the granule", "EINVAL", IP, lambda r: f"vaddr {r.vaddr:#_x} is not a multiple of {r.backend.granule:#_x}", "align it",
          test="r.vaddr & r.backend.granule - 1"),
)  # fmt: skip


def _bad_page(r: Asked) -> str | None:
    area, process = r.area, r.area.process
    bad = process.memory.first_bad(area.vaddr, area.size, write=bool(area.prot & 2), page_size=r.backend.page_size, bars="never")
    if bad is None or (area.account and process.limit_pages is not None and bad > max(process.limit_pages - r.charged, 0)):
        return None
    return f"the page at vaddr {hexa(area.vaddr + bad * r.backend.page_size)} of {area.span} cannot be pinned"


def _too_much_locked(r: Asked) -> str | None:
    limit, pages = r.area.process.limit_pages, r.backend.pages(r.area)
    if limit is None or not r.area.account or pages <= max(limit - r.charged, 0):
        return None
    return f"{pages} more pages exceed RLIMIT_MEMLOCK, {r.area.process.memlock:#_x} bytes = {limit} pages"


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
    group, core = r.group.group, r.backend.system.core
    unit = core.unit_of(group)
    if unit.msi_is_isolated(core.kernel, group.devices) or switched_on(r.backend.system.params, UNSAFE):
        return None
    return f"group {group.id} is behind {unit.name}, whose interrupts are not isolated"


def _unusable(r: Asked) -> str | None:
    iovas = r.backend.usable_with(r.group)
    outside = next((area for area in r.backend.areas if not iova_list.in_one(iovas, area.iova, area.size)), None)
    return f"the mapping {outside.span} is not inside {', '.join(map(str, iovas))}, what {r.name} leaves usable" if outside else None


def _not_whole_pages(r: Asked) -> str | None:
    page = r.backend.page_size
    odd = next((area for area in r.backend.areas if (area.iova | area.size | area.vaddr) & page - 1), None)
    return f"the mapping {odd.span} of vaddr {hexa(odd.vaddr)} is not made of whole pages" if odd else None


UNSAFE = "iommufd.allow_unsafe_interrupts"
OPEN = "iommufd_device_attach, drivers/iommu/iommufd/device.c"
OPEN_CHECKS = (
    Check("interrupts are isolated, or unsafe ones are allowed", "EPERM", OPEN, _unsafe, "iommufd.allow_unsafe_interrupts=1 accepts the risk"),
    Check("there is one kind of MSI region", "EINVAL", OPEN, "group {r.group.id} reports a hardware and a software MSI region", "use the native container",
          test="{'msi', 'sw-msi'} <= {region.kind for region in r.group.group.reserved}"),
    Check("every mapping stays usable", "EADDRINUSE", OPEN, _unusable, "unmap it, then open the device"),
)  # fmt: skip
#: iopt_calculate_iova_alignment (recorded): what needs whole pages is refused while a mapping is not made of them.
ALIGNED_CHECKS = (
    Check("every mapping is made of whole pages", "EADDRINUSE", f"iopt_table_add_domain, {IP}", _not_whole_pages, "unmap it, and map whole pages"),
)  # fmt: skip
SET_IOMMU_CHECKS = (
    Check("the type is 1 or 3", "EINVAL", f"iommufd_vfio_set_iommu, {VX}", "the compatibility layer offers types 1 and 3, not {r.kind}", "type 3 is type1 v2", test="r.kind not in (1, 3)"),
    NO_SPACE,
    Check("every mapping is made of whole pages (type 1)", "EADDRINUSE", f"iopt_disable_large_pages, {IP}", _not_whole_pages, "unmap it, and map whole pages", test="r.kind == 1"),
)  # fmt: skip
SPACE_CHECKS = (NO_SPACE,)
UNKNOWN_CHECKS = (
    Check("the pointer can be read (iommufd's own ioctls take a struct)", "EFAULT", "iommufd_fops_ioctl, drivers/iommu/iommufd/main.c", "the pointer to the struct is bad",
          "pass a pointer to the struct", test="0 <= r.kind - 0x3B80 < r.backend.system.kernel.iommufd_ioctls"),
    Check("the descriptor has the ioctl", "ENOTTY", f"iommufd_vfio_ioctl, {VX}", "iommufd's compatibility layer does not have this ioctl", "use the native container, or iommufd itself",
          test="True"),
)  # fmt: skip
