"""iommufd's I/O address space (IOAS): its mappings, the domains that carry them, and the iovas that stay usable.

Sources: drivers/iommu/iommufd/io_pagetable.c and pages.c (6.12); recorded runs of 6.8 and 6.12 through the compatibility layer. What only
iommufd's own ioctls reach (copies, places that the kernel chooses, allowed ranges) is a reading: nothing recorded tests it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from typing import NamedTuple

from vfiolab.model.address import U64, Span
from vfiolab.model.backends import compat_checks as rows
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends.compat_checks import Area, Asked, Pages
from vfiolab.model.backends.protocol import System
from vfiolab.model.checks import Check, table
from vfiolab.model.errors import NAMES
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import binding
from vfiolab.model.uapi.requests import MapDma, UnmapDma

_start = attrgetter("iova")


class Part(NamedTuple):
    """A piece of memory that is mapped: a new mapping has one, a copy one for each mapping that it takes from."""

    pages: Pages
    vaddr: int
    size: int


@dataclass(slots=True, eq=False)
class Hwpt:
    """One domain of an address space (iommufd's HWPT object `number`). `auto`: made for an attach, and gone with its last device."""

    number: int
    ioas: Ioas
    domain: Domain
    aperture: Span
    auto: bool

    def __repr__(self) -> str:
        return f"Hwpt({self.number}, {self.domain!r})"


class Ioas:
    """One address space, object `number` of its iommufd. `v1`: its mappings may be cut, no large pages. `allowed`: must stay usable.

    `domains` are those of `hwpts`, newest first; `groups` the IOMMU groups with a device attached to one of them.
    """

    name = "iommufd-compat"

    def __init__(self, system: System, number: int) -> None:
        self.system, self.number, self.page_size = system, number, system.core.page_size
        self.areas: list[Area] = []
        self.hwpts: list[Hwpt] = []
        self.domains: list[Domain] = []
        self.groups: list[IommuGroup] = []
        self.allowed: tuple[Span, ...] = ()
        self.v1 = False

    @property
    def backend(self) -> Ioas:
        """The address space itself: pictures take it for a container."""
        return self

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
    def dma_avail(self) -> int:
        """What capability 3 says: no limit."""
        return 0xFFFFFFFF

    @property
    def page_sizes(self) -> int:
        """Bitmap that GET_INFO reports: what the domains share, else whole pages of any size."""
        bitmap, page = U64 - 1, self.page_size
        for domain in self.domains:
            bitmap &= domain.page_sizes
        return max(bitmap & -page | page if bitmap & page - 1 else bitmap, self.granule)

    @property
    def granule(self) -> int:
        """Alignment of a mapping: the largest of the domains' smallest pages; without a domain 1 byte, or a page where mappings may be cut."""
        if self.domains:
            return max(domain.page_sizes & -domain.page_sizes for domain in self.domains)
        return self.page_size if self.v1 else 1

    @property
    def valid_iova(self) -> iova_list.IovaList:
        """Usable iovas: everything but what lies outside the domains' apertures, and the reserved regions of attached devices."""
        return self.usable_with()

    def usable(self, iova: int, size: int) -> bool:
        """Say whether a range lies inside one usable range."""
        return iova_list.in_one(self.valid_iova, iova, size)

    def usable_with(self, *more: IommuGroup) -> iova_list.IovaList:
        """Return what would be usable if devices of some more groups were attached too."""
        iovas: iova_list.IovaList = (Span(0, U64),)
        for hwpt in self.hwpts:
            iovas = iova_list.shrink(iovas, hwpt.aperture)
        for group in (*self.groups, *more):
            iovas = iova_list.exclude(iovas, binding(group.reserved))
        return iovas

    def areas_in(self, iova: int, size: int) -> Iterator[Area]:
        """Yield the areas that share a byte with a range, ascending."""
        first = max(bisect_right(self.areas, iova, key=_start) - 1, 0)
        found = self.areas[first : bisect_left(self.areas, iova + size, key=_start)]
        return (area for area in found if iova < area.end)

    def at(self, iova: int) -> Iterator[Area]:
        """Yield the area that holds an iova."""
        return self.areas_in(iova, 1)

    def _ask(self, checks: tuple[Check, ...], request: object, before: tuple[Check, ...] = ()) -> None:
        table(checks, self.system.kernel, before).run(request)

    # a place that the kernel chooses

    def alignment(self, size: int, vaddr: int) -> int:
        """Return what a chosen iova is a multiple of: the size rounded up, within the memory's own alignment; later kernels: within a huge page."""
        found = 1 << (size - 1).bit_length()
        found = min(found, vaddr & -vaddr) if vaddr else found
        huge = self.page_size * self.page_size // 8
        return min(found, huge) if self.system.kernel.has("chosen_iova_within_huge_page") else found

    def chosen(self, size: int, vaddr: int) -> int | None:
        """Return the iova that the kernel chooses: the first place that is large enough, never 0; None if there is none."""
        step, offset, page = self.alignment(size, vaddr), vaddr % self.page_size, self.page_size
        for part in self.allowed or (Span(0, U64),):
            low, last = -(-max(part.start, page) // step) * step | offset, min(part.last, U64 - 1 - page)
            for usable in self.valid_iova:
                at = max(low, usable.start)
                for area in (*self.areas_in(at, max(usable.end - at, 0)), None):
                    start = -(-at // step) * step | offset
                    if start + size - 1 <= min(last, usable.last, area.iova - 1 if area else last):
                        return start
                    at = max(at, area.end) if area else at
        return None

    # domains

    def check_domain(self, name: str, smallest: int, aperture: Span, before: tuple[Check, ...]) -> None:
        """Refuse a new domain (of unit `name`) that cannot take every mapping; change nothing. EADDRINUSE, EINVAL, EFAULT, ENOMEM."""
        if smallest > self.granule:
            self._ask(rows.ALIGNED_CHECKS, Asked(self, at=smallest), before)
        self._ask(rows.APERTURE_CHECKS, Asked(self, name=name, aperture=aperture), before + rows.ALIGNED_CHECKS)
        if not self.domains:
            self.check_pin(self.areas)

    def add(self, hwpt: Hwpt) -> None:
        """Take a domain in that `check_domain` let pass: the first pins every mapping."""
        if not self.domains:
            for area in self.areas:
                self._pin(area)
        self.hwpts.append(hwpt)
        self.domains.insert(0, hwpt.domain)
        for area in self.areas:
            self._map_in(hwpt.domain, area)

    def drop(self, hwpt: Hwpt) -> None:
        """Let a domain go; the last unpins every mapping."""
        self.hwpts.remove(hwpt)
        self.domains.remove(hwpt.domain)
        self.system.core.free(hwpt.domain)
        if not self.domains:
            for area in self.areas:
                self._unpin(area)

    # pinning

    def check_pin(self, areas: Sequence[Area]) -> None:
        """Refuse mappings whose memory cannot be pinned, or not within the limit. EINVAL, EFAULT, ENOMEM."""
        more: dict[object, int] = {}
        before: dict[Pages, list[Area]] = {}
        for area in areas:
            pages, earlier = area.pages, before.setdefault(area.pages, [])
            who: object = pages.process if pages.account == "mm" else pages.account
            charged = (pages.process.locked_pages if pages.account == "mm" else self.system.user_pages) + more.get(who, 0)
            need = pages.locked(*earlier, area) - pages.locked(*earlier)
            self._ask(rows.PIN_CHECKS, Asked(self, area=area, charged=charged, need=need))
            earlier.append(area)
            more[who] = more.get(who, 0) + need

    def _pin(self, area: Area) -> None:
        pages, end = area.pages, area.vaddr + area.size
        known = next((one for one in pages.pinned if one.vaddr <= area.vaddr and end <= one.vaddr + one.size), None)
        before = pages.locked()
        if known is None:
            area.runs = pages.process.memory.physical_runs(area.vaddr, area.size)
        else:  # its pages stay what they were, whatever the process has mapped there since
            area.runs = _slice(known.runs, area.vaddr - known.vaddr, area.size)
        pages.pinned.append(area)
        self._charge(pages, pages.locked() - before)
        if pages.write:
            pages.process.memory.written(Span.sized(area.vaddr, area.size))

    def _unpin(self, area: Area) -> None:
        if area.pinned:
            before = area.pages.locked()
            area.pages.pinned.remove(area)
            area.runs = []
            self._charge(area.pages, area.pages.locked() - before)

    def _charge(self, pages: Pages, number: int) -> None:
        if pages.account == "mm":
            pages.process.locked_pages += number
        elif pages.account:
            self.system.user_pages += number

    @staticmethod
    def _map_in(domain: Domain, area: Area) -> None:
        at = area.iova
        for physical, size in area.runs:
            errno = domain.map(at, size, physical, area.prot | domain.prot)
            assert not errno, "map asks every domain first, and a new domain takes what is usable"
            at += size

    # mappings

    def map(self, r: MapDma, parts: Sequence[Part], before: tuple[Check, ...], *, fixed: bool = True) -> int:
        """Map pieces of memory one behind the other at `r.iova`, or where the kernel chooses; return the iova. Pinned at once if there is a domain."""
        r.backend, r.parts = self, parts
        self._ask(rows.LENGTH_CHECKS + (rows.PLACE_CHECKS if fixed else rows.CHOOSE_CHECKS) + rows.AREA_CHECKS, r, before)
        chosen = r.iova if fixed else self.chosen(r.size, r.vaddr)
        assert chosen is not None
        at, areas = chosen, []
        for part in parts:
            areas.append(Area(at, part.size, part.vaddr, r.flags, part.pages, r.name))
            at += part.size
        if self.domains:
            self.check_pin(areas)
            for area, domain in product(areas, self.domains):
                errno = domain.map_errno(area.iova, area.size)
                self._ask(rows.FIT_CHECKS, Asked(self, area=area, domain=domain, errno=NAMES[-errno] if errno else ""))
        for area in areas:
            if self.domains:
                self._pin(area)
            for domain in self.domains:
                self._map_in(domain, area)
            insort(self.areas, area, key=_start)
        return chosen

    def parts(self, iova: int, size: int) -> list[Part] | None:
        """Return the memory that is mapped in a range, piece by piece; None if some of it is not mapped."""
        found, at = [], iova
        for area in self.areas_in(iova, size):
            if area.iova > at:
                return None
            take = min(area.end, iova + size) - at
            found.append(Part(area.pages, area.vaddr + at - area.iova, take))
            at += take
        return found if at == iova + size else None

    def unmap(self, r: UnmapDma, before: tuple[Check, ...], after: tuple[Check, ...] = ()) -> int:
        """Unmap whole areas; return the bytes. Before it meets one that sticks out, the kernel has removed others: they stay removed (ENOENT)."""
        r.backend, r.whole = self, None
        self._ask(rows.RANGE_CHECKS, r, before)
        inside: list[Area] = []
        for area in self.areas_in(r.iova, r.size):
            if area.iova < r.iova or area.end > r.iova + r.size:
                r.whole = area
                self.remove(inside)
                break
            inside.append(area)
        self._ask(rows.WHOLE_CHECKS + after, r, before + rows.RANGE_CHECKS)
        return self.remove(inside)

    def cut(self, at: int, before: tuple[Check, ...]) -> None:
        """Cut the mapping that holds an iova in two, at the iova."""
        area = next(self.at(at), None)
        if area is None or area.iova == at:
            return
        self._ask(rows.CUT_CHECKS, Asked(self, area=area, at=at), before)
        offset, pinned = at - area.iova, area.pinned
        rest = Area(at, area.size - offset, area.vaddr + offset, area.prot, area.pages, area.name)
        for domain in self.domains:
            domain.unmap(area.iova, area.size)
        rest.runs, area.runs, area.size = _slice(area.runs, offset, rest.size), _slice(area.runs, 0, offset), offset
        if pinned:
            area.pages.pinned.append(rest)
        for domain in self.domains:
            self._map_in(domain, area)
            self._map_in(domain, rest)
        insort(self.areas, rest, key=_start)

    def remove(self, areas: Sequence[Area]) -> int:
        """Remove areas that stand side by side; return their bytes."""
        total = 0
        for area in areas:
            for domain in self.domains:
                domain.unmap(area.iova, area.size)
            self._unpin(area)
            total += area.size
        if areas:
            first = bisect_left(self.areas, areas[0].iova, key=_start)
            self.areas = self.areas[:first] + self.areas[first + len(areas) :]
        return total

    def __repr__(self) -> str:
        return f"Ioas({self.number}, {len(self.areas)} mappings, {len(self.domains)} domains)"

    def _check(self) -> None:
        end = 0
        for area in self.areas:
            assert area.size > 0, f"empty area at {area.iova:#_x}"
            assert end <= area.iova, f"areas overlap at {area.iova:#_x}"
            end = area.end
            assert area.pinned == bool(self.domains) == (area in area.pages.pinned), f"{area} pinned with {self.domains}"
            for domain in self.domains[:1]:
                assert sum(size for _, size in domain.physical_runs(area.iova, area.size)) == area.size
        assert self.domains == [hwpt.domain for hwpt in reversed(self.hwpts)]
        for span in self.allowed:
            assert iova_list.in_one(self.valid_iova, span.start, span.size), f"{span} was allowed and is not usable"
        for domain in self.domains:
            domain._check()


def _slice(runs: Iterable[tuple[int, int]], offset: int, size: int) -> list[tuple[int, int]]:
    """Return the part of contiguous pieces of memory that begins `offset` bytes in and is `size` bytes long."""
    found = []
    for physical, length in runs:
        first, last = max(offset, 0), min(offset + size, length)
        if first < last:
            found.append((physical + first, last - first))
        offset -= length
    return found
