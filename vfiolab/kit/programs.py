"""What known programs map, as data: where a guest's memory or a driver's queues stand in iova space. Each with its source.

What no source fixes, such as how deep a driver's queues are, is our choice, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["PROGRAMS", "layout"]

GiB = 1 << 30
Range = tuple[int, int, str]


MOST_PAGES = 0x1_0000  # one mapping more than dma_entry_limit allows unless it was changed


def _q35(size: int) -> Iterator[Range]:
    """QEMU, x86: RAM below 4 GiB is all of it, or 2 GiB if it has 2.75 GiB or more; the rest from 4 GiB on (pc_q35_init, QEMU 6.2).

    The four pieces below 4 GiB are those that QEMU's memory listener printed (data/captures/qemu-listener-x86.txt): VGA's window at
    0xa0000 is left out, and the firmware's shadow is RAM. QEMU 7.1 and later move the memory above 4 GiB past 1 TiB on AMD guests that
    would not fit below the HyperTransport range: not done here.
    """
    low = 2 * GiB if size >= 0xB000_0000 else size
    edges = (0, 0xA_0000), (0xC_0000, 0xE_0000), (0xE_0000, 0x10_0000), (0x10_0000, low)
    yield from ((start, min(end, low) - start, "RAM below 4G") for start, end in edges if start < low)
    if size > low:
        yield 4 * GiB, size - low, "RAM above 4G"


def _virt(size: int) -> Iterator[Range]:
    """QEMU, Arm virt: RAM in one piece from 1 GiB on (data/captures/qemu-arm-smmuv3-vfio.log, its first vfio_dma_map_ram)."""
    yield GiB, size, "guest RAM"


def _hugepages(page: int) -> Callable[[int], Iterator[Range]]:
    """DPDK, iova as va: a mapping for each huge page, from 4 GiB on.

    Source: eal_get_baseaddr, lib/eal/linux/eal_memory.c; vfio_type1_dma_mem_map.
    """

    def pages(size: int) -> Iterator[Range]:
        if size > MOST_PAGES * page:
            most = f"{MOST_PAGES:,} huge pages: dma_entry_limit allows {MOST_PAGES - 1:,} mappings"
            raise ValueError(f"{size:#_x} bytes are more than {most}")
        return ((4 * GiB + at, page, "") for at in range(0, size, page))

    return pages


def _nvme(size: int) -> Iterator[Range]:
    """User-space NVMe driver: iovas from 0x10000 up (QEMU_VFIO_IOVA_MIN, util/vfio-helpers.c; IOVA_MIN of libvfn's iommu/context.c).

    The depths of the queues are our choice: 64 entries for the administrator, 1,024 for I/O; a submission is 64 bytes, a completion 16
    (NVM Express base specification), and each queue stands on pages of its own.
    """
    at, queues = 0x1_0000, ("admin submission", "admin completion", "I/O submission", "I/O completion")
    for name, length in zip(queues, (0x1000, 0x1000, 0x1_0000, 0x4000), strict=True):
        yield at, length, name
        at += length
    yield at, size, "data"


#: The programs by their names: what they are, and which ranges (iova, size in bytes, name) they map for so many bytes of memory.
PROGRAMS: dict[str, tuple[str, Callable[[int], Iterator[Range]]]] = {
    "qemu-q35": ("QEMU, x86 guest (q35)", _q35),
    "qemu-virt": ("QEMU, Arm guest (virt)", _virt),
    "dpdk-2M": ("DPDK, huge pages of 2 MiB", _hugepages(2 << 20)),
    "dpdk-1G": ("DPDK, huge pages of 1 GiB", _hugepages(GiB)),
    "nvme": ("user-space NVMe driver", _nvme),
}


def layout(program: str, size: int) -> Iterator[Range]:
    """Return the ranges that a program maps for `size` bytes of memory: iova, size in bytes, name. ValueError for a program not known.

    >>> [(hex(iova), hex(size)) for iova, size, _ in layout("qemu-q35", 4 << 30)][-2:]
    [('0x100000', '0x7ff00000'), ('0x100000000', '0x80000000')]
    """
    if program not in PROGRAMS:
        raise ValueError(f"no layout of {program!r} is known: there are {', '.join(PROGRAMS)}")
    return PROGRAMS[program][1](size)
