"""The valid-iova list: which iovas a container's user may map (Linux 5.4 and later).

Lists are tuples of half-open spans, ascending and disjoint; an empty list means that no restriction is known.
"""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab.model.address import U64, Span
from vfiolab.model.backends.dmatree import Dma, DmaTree

IovaList = tuple[Span, ...]


def exclude(iovas: IovaList, holes: Iterable[Span]) -> IovaList:
    """Cut holes out of a list (vfio_iommu_resv_exclude).

    >>> exclude((Span(0, 0x10000),), [Span(0x2000, 0x3000)])
    (Span(0x0, 0x2000), Span(0x3000, 0x1_0000))
    """
    for hole in holes:
        kept: list[Span] = []
        for span in iovas:
            if not span.overlaps(hole):
                kept.append(span)
                continue
            if hole.start > span.start:
                kept.append(Span(span.start, hole.start))
            if hole.end < span.end:
                kept.append(Span(hole.end, span.end))
        iovas = tuple(kept)
    return iovas


def shrink(iovas: IovaList, aperture: Span) -> IovaList:
    """Cut a list down to an aperture (vfio_iommu_aper_resize); an empty list becomes the aperture."""
    if not iovas:
        return (aperture,)
    return tuple(part for span in iovas if (part := span.intersection(aperture)) is not None)


def expand(iovas: IovaList, apertures: list[Span]) -> IovaList:
    """Move the outer ends of a list to what the remaining apertures share (vfio_iommu_aper_expand)."""
    if not iovas:
        return iovas
    start = max((aperture.start for aperture in apertures), default=0)
    end = min((aperture.end for aperture in apertures), default=U64)
    ends = [edge for span in iovas for edge in (span.start, span.end)]
    ends[0], ends[-1] = start, end
    return tuple(Span(first, last) for first, last in zip(ends[::2], ends[1::2], strict=True) if first < last)


def cut_off_by(iovas: IovaList, aperture: Span) -> list[Span]:
    """Return the outer parts that a list would lose to an aperture: [first start, new start) and [new end, last end)."""
    if not iovas:
        return []
    first, last = iovas[0].start, iovas[-1].end
    if aperture.end <= first or last <= aperture.start:
        return [Span(first, last)]
    parts = []
    if aperture.start > first:
        parts.append(Span(first, aperture.start))
    if aperture.end < last:
        parts.append(Span(aperture.end, last))
    return parts


def disjoint(iovas: IovaList, aperture: Span) -> bool:
    """Say whether an aperture lies wholly outside a non-empty list."""
    return bool(iovas) and (aperture.end <= iovas[0].start or iovas[-1].end <= aperture.start)


def in_one(iovas: IovaList, iova: int, size: int) -> bool:
    """Say whether a range lies wholly inside one entry of a list; always for an empty list (vfio_iommu_iova_dma_valid)."""
    for span in iovas:
        if span.start <= iova and iova + size <= span.end:
            return True
    return not iovas


def first_overlap(dmas: DmaTree, spans: Iterable[Span]) -> tuple[Dma, Span] | None:
    """Return a mapping that overlaps one of the spans, with that span, as the kernel's own look-up finds it (vfio_find_dma)."""
    for span in spans:
        dma = dmas.find(span.start, span.size)
        if dma is not None:
            return dma, span
    return None
