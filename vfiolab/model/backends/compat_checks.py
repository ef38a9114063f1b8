"""What iommufd's compatibility layer tests before it maps: one ordered table (drivers/iommu/iommufd, 6.12; recorded)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from vfiolab.model.address import U64, Span, hexa
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.checks import Check
from vfiolab.model.uapi.requests import MapDma

if TYPE_CHECKING:
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


def _unaligned(r: MapDma) -> str | None:
    for name, number in (("size", r.size), ("iova", r.iova)):
        if number & r.backend.granule - 1:
            return f"{name} {number:#x} is not a multiple of {r.backend.granule:#x}"
    return None


def _wrap(name: str, start: int, size: int, limit: int) -> str | None:
    return f"{name} {hexa(start)} + size {size:#x} wraps past 2^64" if start + size > limit else None


def _in_reserved(r: MapDma) -> str | None:
    wanted = Span.sized(r.iova, r.size)
    if iova_list.in_one(r.backend.valid_iova, r.iova, r.size):
        return None
    return f"{wanted} is not inside one usable range: {', '.join(map(str, r.backend.valid_iova))}"


def _overlap(r: MapDma) -> str | None:
    hit = next(r.backend.areas_in(r.iova, r.size), None)
    return f"{Span.sized(r.iova, r.size)} overlaps the mapping {hit.span}" if hit else None


MAP_CHECKS = (
    Check("the struct can be read", "EFAULT", VX, lambda r: f"the pointer to the struct is {r.ptr}" if r.ptr != "good" else None),
    Check("argsz holds the whole struct (32 bytes)", "EINVAL", VX, lambda r: f"argsz {r.argsz} is below 32" if r.argsz < 32 else None, "set argsz = 32"),
    Check("only READ and WRITE are set", "EINVAL", VX, lambda r: f"flags {r.flags:#x} holds {r.flags & ~3:#x}, which the compatibility layer does not know" if r.flags & ~3 else None,
          "VADDR updates need the native container"),
    Check("the descriptor has an address space", "ENODEV", VX, lambda r: r.backend.no_space(), "GROUP_SET_CONTAINER with this descriptor first"),
    Check("the size is not 0", "EINVAL", IP, lambda r: "size 0 maps nothing" if not r.size else None, "give a size"),
    Check("the size leaves room to round up to pages", "EINVAL", f"iopt_alloc_pages, {PAGES}", lambda r: f"size {r.size:#x} is within a page of 2^64" if r.size > U64 - 1 - r.caller.page_size else None,
          "give a smaller size"),
    Check("vaddr + size does not wrap", "EOVERFLOW", IP, lambda r: _wrap("vaddr", r.vaddr, r.size, U64 - 1), "keep vaddr + size below 2^64"),
    Check("size and iova are multiples of the granule", "EINVAL", IP, _unaligned, "align them (the granule is 1 byte until a device is open)"),
    Check("iova + size does not wrap", "EOVERFLOW", IP, lambda r: _wrap("iova", r.iova, r.size, U64), "keep iova + size within 2^64"),
    Check("the range is usable", "EINVAL", IP, _in_reserved, "map around it: GET_INFO capability 1 lists the usable ranges"),
    Check("no existing mapping overlaps", "EEXIST", IP, _overlap, "unmap it first"),
    Check("the vaddr is a multiple of the granule", "EINVAL", IP,
          lambda r: f"vaddr {r.vaddr:#x} is not a multiple of {r.backend.granule:#x}" if r.vaddr & r.backend.granule - 1 else None, "align it"),
)  # fmt: skip
