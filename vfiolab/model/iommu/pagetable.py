"""Which hardware pages a mapped run becomes: the IOMMU core's choice, page by page, and why not a larger one."""

from __future__ import annotations

from dataclasses import dataclass

from vfiolab.model.address import U64, hexa, human_size


@dataclass(frozen=True, slots=True)
class PageRun:
    """Equal hardware pages, one after the other: `count` pages of `page` bytes from `iova` and `physical`.

    `why` says what kept the next larger page size away; empty if there is no larger one.
    """

    iova: int
    physical: int
    page: int
    count: int
    why: str

    @property
    def size(self) -> int:
        """Bytes of all pages together."""
        return self.page * self.count

    def __str__(self) -> str:
        return f"{self.count} x {human_size(self.page)}"


def hardware_pages(iova: int, physical: int, size: int, bitmap: int) -> tuple[PageRun, ...]:
    """Split a physically contiguous run into hardware pages, as the IOMMU core does (iommu_pgsize, 4.4 and later).

    Repeatedly the largest page of `bitmap` (bit n: pages of 2^n bytes) that is no larger than what is left and to
    which both iova and physical address are aligned. All numbers in bytes. ValueError if the smallest page does not
    fit the run.

    >>> [str(run) for run in hardware_pages(0x100000, 0x40100000, 4 << 20, 0x40201000)]
    ['256 x 4 KiB', '1 x 2 MiB', '256 x 4 KiB']
    """
    _check_run(iova, physical, size, bitmap)
    sizes = [1 << bit for bit in range(bitmap.bit_length() - 1, -1, -1) if bitmap >> bit & 1]
    runs: list[PageRun] = []
    end = iova + size
    while iova < end:
        number = next(n for n, page in enumerate(sizes) if page <= end - iova and not (iova | physical) & (page - 1))
        page, larger = sizes[number], sizes[number - 1] if number else 0
        count = _how_many(iova, physical, end, page, larger)
        runs.append(PageRun(iova, physical, page, count, _why(iova, physical, end, larger)))
        iova, physical = iova + page * count, physical + page * count
    return tuple(runs)


def _check_run(iova: int, physical: int, size: int, bitmap: int) -> None:
    if bitmap <= 0:
        raise ValueError(f"a page-size bitmap has at least one bit set, not {bitmap!r}")
    least = bitmap & -bitmap
    for name, number in (("iova", iova), ("physical address", physical), ("size", size)):
        if number % least:
            raise ValueError(f"{name} {hexa(number)} is not a multiple of the smallest page, {human_size(least)}")
    if size <= 0 or iova < 0 or physical < 0 or max(iova, physical) + size > U64:
        raise ValueError(f"a run lies within 0..2^64 and is not empty, not {hexa(iova)} -> {hexa(physical)}, size {hexa(size)}")


def _how_many(iova: int, physical: int, end: int, page: int, larger: int) -> int:
    """Count the pages up to the point where a larger one may begin, which is only where both addresses are aligned to it at once."""
    whole = (end - iova) // page
    if not larger or (iova ^ physical) & (larger - 1):
        return whole
    to_boundary = -iova % larger
    if not to_boundary or iova + to_boundary + larger > end:
        return whole
    return to_boundary // page


def _why(iova: int, physical: int, end: int, larger: int) -> str:
    if not larger:
        return ""
    words = human_size(larger)
    if (iova ^ physical) & (larger - 1):
        return f"iova and physical address lie at different offsets within {words}"
    if iova & (larger - 1):
        boundary = iova + -iova % larger
        if boundary + larger > end:
            return f"no whole, aligned {words} is left"
        return f"the next {words} boundary is {hexa(boundary)}"
    return f"less than {words} is left"
