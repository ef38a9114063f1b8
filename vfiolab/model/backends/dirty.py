"""Dirty-page bitmaps, with the shifted bits that a GET leaves behind.

Bitmaps are Python ints, bit n for page n, and behave as the kernel's arrays of 64-bit words: what a step leaves in a word stays there.
Source: update_user_bitmap, vfio_iova_dirty_bitmap, drivers/vfio/vfio_iommu_type1.c (5.8 and later; the leftover bits are recorded).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vfiolab.model.backends.dmatree import Dma
from vfiolab.model.backends.protocol import Caller
from vfiolab.model.uapi.requests import MAX_BITMAP, DirtyPages, UnmapDma

WORD = 64


def bitmap_bytes(pages: int) -> int:
    """Return the bytes of a bitmap for so many pages: whole 64-bit words."""
    return -(-pages // WORD) * 8


def _words(bits: int) -> int:
    return (1 << -(-bits // WORD) * WORD) - 1


def report(user: int, dma: Dma, base: int, granule: int, *, all_dirty: bool) -> int:
    """Put the dirty pages of one mapping into the user's bitmap, whose bit 0 is the page at iova `base`; return the bitmap."""
    pages = dma.size // granule
    offset = (dma.iova - base) // granule
    shift, word = offset % WORD, offset // WORD
    if all_dirty:
        dma.bitmap |= (1 << pages) - 1
    if shift:
        shifted = _words(pages + shift)
        dma.bitmap = (dma.bitmap & ~shifted) | ((dma.bitmap << shift) & shifted)
        dma.bitmap |= (user >> word * WORD) & _words(shift)
    copied = _words(pages + shift)
    return (user & ~(copied << word * WORD)) | (dma.bitmap & copied) << word * WORD


def get(dmas: Iterable[Dma], base: int, granule: int, tell: Callable[[int], None], *, all_dirty: bool) -> int:
    """Return the user's bitmap of a GET over some mappings, told after each; their own bitmaps keep what the kernel's would keep."""
    user = 0
    for dma in dmas:
        user = report(user, dma, base, granule, all_dirty=all_dirty)
        tell(user)
        dma.bitmap &= ~((1 << dma.size // granule) - 1)
    return user


def put(caller: Caller, r: UnmapDma | DirtyPages, bitmap: int) -> bool:
    """Write a bitmap to the address that a request gives; say whether it could be written."""
    pages = r.size // r.bm_pgsize if r.bm_pgsize else 0
    room = min(r.bm_size, MAX_BITMAP, -(-pages // 8))
    return caller.copy_out(r.bm_data, bitmap.to_bytes(max(-(-bitmap.bit_length() // 8), room), "little"))
