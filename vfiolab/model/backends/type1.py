"""The type1 backend: one user's mappings, mirrored into one or more IOMMU domains.

State of one backend: the tree of mappings, the list of domains (newest first), the valid-iova list, the budget of mappings, dirty tracking,
the emulated groups. Every verb runs its table of checks (`type1_checks`) and only then changes anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import takewhile

from vfiolab.model.address import U64, Span
from vfiolab.model.backends import dirty, iova
from vfiolab.model.backends import type1_checks as tests
from vfiolab.model.backends.dmatree import Dma, DmaTree
from vfiolab.model.errors import NAMES, NotModelledError, VfioError, for_kernel, run_checks
from vfiolab.model.iommu.core import IommuCore, IommuGroup
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.domain import Mapping as DomainRun
from vfiolab.model.iommu.unit import ReservedRegion
from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.info import Info, describe
from vfiolab.model.uapi.requests import (
    DIRTY_START,
    DIRTY_STOP,
    MAP_VADDR,
    UNMAP_ALL,
    UNMAP_DIRTY,
    UNMAP_VADDR,
    AttachRequest,
    DirtyRequest,
    EntryRequest,
    MapRequest,
    UnmapRequest,
    switched_on,
)
from vfiolab.model.user.process import Process

TYPE1, TYPE1v2, NESTING = 1, 3, 6
ALLOW_UNSAFE = "vfio_iommu_type1.allow_unsafe_interrupts"
ENTRY_LIMIT = "vfio_iommu_type1.dma_entry_limit"


class Type1:
    """One container's type1 backend.

    `dmas`: the mappings; `domains`: newest first; `valid_iova`: half-open spans, empty = no restriction known; `dma_avail`: mappings still
    allowed, None where there is no limit (before 5.3); `page_sizes`: bitmap; `granule`: the smallest page in bytes.
    """

    name = "type1"

    def __init__(self, core: IommuCore, params: Mapping[str, str], kind: int) -> None:
        self.core, self.params = core, params
        self.kernel: Kernel = core.kernel
        self.page_size = core.page_size
        self.v2 = kind != TYPE1
        self.nesting = kind == NESTING
        self.entry_limit = int(params.get(ENTRY_LIMIT, "65535")) if self.kernel.has("dma_entry_limit") else None
        self.dma_avail = self.entry_limit
        self.dmas = DmaTree(wraps=not self.kernel.has("inclusive_ends"))
        self.domains: list[Domain] = []
        self.emulated: list[IommuGroup] = []
        self.valid_iova: iova.IovaList = ()
        self.dirty_tracking = False
        self.invalid_vaddrs = 0
        own_page = self.kernel.has("read_pin_breaks_cow") and not self.kernel.has("zero_page_pinned")
        self._pins_zeros = not own_page and not self.kernel.has("long_term_cow")
        self._lost = 0
        self._set_page_sizes()
        self._map_checks = for_kernel(tests.MAP_CHECKS, self.kernel)
        self._new_mapping_checks = for_kernel(tests.NEW_MAPPING_CHECKS, self.kernel)
        self._pin_checks = for_kernel(tests.PIN_CHECKS, self.kernel)
        self.map_checks = (*self._map_checks, *self._new_mapping_checks, *self._pin_checks)
        self._unmap_checks = for_kernel(tests.UNMAP_CHECKS, self.kernel)
        self._dirty_checks = for_kernel(tests.DIRTY_CHECKS, self.kernel)
        self._dirty_get_checks = for_kernel(tests.DIRTY_GET_CHECKS, self.kernel)
        self._entry_checks = for_kernel(tests.ENTRY_CHECKS, self.kernel)
        self._attach_checks = for_kernel(tests.ATTACH_CHECKS, self.kernel)

    # what the checks and the views ask

    @property
    def mapped_bytes(self) -> int:
        """Bytes in the user's mappings."""
        return self.dmas.size

    @property
    def groups(self) -> list[IommuGroup]:
        """Every attached group, emulated ones last."""
        return [group for domain in self.domains for group in domain.groups] + self.emulated

    def allow_unsafe_interrupts(self) -> bool:
        """Say whether the module parameter lets groups in whose interrupts are not isolated."""
        return switched_on(self.params, ALLOW_UNSAFE)

    def region_at(self, span: Span) -> ReservedRegion | None:
        """Return a reserved region of an attached group that shares a byte with `span`."""
        for group in self.groups:
            for region in group.reserved:
                if region.kind != "direct-relaxable" and region.span.overlaps(span):
                    return region
        return None

    def bad_page(self, request: MapRequest) -> int | None:
        """Return the index of the first page of a map request that cannot be pinned."""
        bars = "on" if self.kernel.has("bar_needs_memory_space") else "always"
        write = bool(request.flags & 2)
        return request.caller.memory.first_bad(request.vaddr, request.size, write=write, page_size=self.page_size, bars=bars)

    def charged_pages(self, request: MapRequest, pages: int | None = None) -> int:
        """Return how many of a request's pages (of the first `pages`) count as locked memory: BARs do not, nor does the page of zeros."""
        pages = -(-request.size // self.page_size) if pages is None else pages
        if request.caller.memory.plain:
            return pages
        zeros = not request.flags & 2 and self._pins_zeros
        return pages - request.caller.memory.uncharged(request.vaddr, pages * self.page_size, zeros=zeros, page_size=self.page_size)

    def untranslatable_page(self, request: MapRequest) -> int:
        """Return the index of the first page past the width of a domain's unit (mapping goes page by page), or one past the last page."""
        reach = min((domain.reach for domain in self.domains), default=U64)
        return max(0, min(request.size, reach - request.iova)) // self.page_size

    # groups

    def attach(self, group: IommuGroup) -> None:
        """Let a group in: a new domain is tried first, then each existing one; the mappings are replayed into a domain that stays.

        EINVAL (mapping outside the aperture or over a reserved region), EPERM (interrupts not isolated), or the IOMMU driver's errno.
        Source: vfio_iommu_type1_attach_group. A refusal leaves the container as it was.
        """
        run_checks(self._entry_checks, EntryRequest(self, group))
        if group.emulated:
            self.emulated.append(group)
            return
        domain = self._new_domain(group)
        try:
            iovas = iova.exclude(iova.shrink(self.valid_iova, domain.aperture), iova.binding(group.reserved))
            run_checks(self._attach_checks, AttachRequest(self, group, domain, iovas))
            self._page_sizes_with(domain)
            shared = self._join_existing(domain, group)
            if not shared:
                self._keep(domain, group, iovas)
        except BaseException:
            self.core.detach(domain, group)
            self.core.free(domain)
            raise
        if self.kernel.has("valid_iova"):
            self.valid_iova = iovas
        self._set_page_sizes()

    def _new_domain(self, group: IommuGroup) -> Domain:
        unit = self.core.unit_of(group)
        domain = self.core.alloc(group)
        refused = unit.nesting_errno(self.kernel) if self.nesting else None
        if refused is not None:
            self.core.free(domain)
            raise VfioError(
                refused,
                f"{unit.name} ({unit.kind}) does not offer nesting (type 6) on kernel {self.kernel}",
                tests.ATTACH,
                "SET_IOMMU with type 3",
            )
        domain.nesting = self.nesting
        errno = self.core.attach(domain, group)
        if errno:
            self.core.free(domain)
            why = self.core.why_refused(group) or f"{unit.name} refuses group {group.id}"
            raise VfioError(NAMES[-errno], why, tests.ATTACH, "see the driver's own kernel message")
        return domain

    def _join_existing(self, domain: Domain, group: IommuGroup) -> bool:
        for existing in self.domains:
            if existing.kind != domain.kind or existing.coherent != domain.coherent:
                continue
            self.core.detach(domain, group)
            if not self.core.attach(existing, group):
                self.core.free(domain)
                return True
            self.core.attach(domain, group)
        return False

    def _keep(self, domain: Domain, group: IommuGroup, iovas: iova.IovaList) -> None:
        if not self.kernel.has("no_superpage_probe"):
            place = self._probe_place(iovas)
            if place is not None:
                self.core.probe_superpages(domain, place)
        self._replay(domain)
        window = group.software_msi(self.kernel)
        if window is not None:
            self.core.get_msi_cookie(domain, window.start)
        self.domains.insert(0, domain)

    def _probe_place(self, iovas: iova.IovaList) -> int | None:
        if not self.kernel.has("probe_in_valid_iova"):
            return 0
        pages = 2 * self.page_size
        starts = (-(-span.start // pages) * pages for span in iovas)
        return next((start for start, span in zip(starts, iovas, strict=True) if start + pages <= span.end), None)

    def _replay(self, domain: Domain) -> None:
        """Map every existing mapping into a new domain, in iova order; pin those that never were (vfio_iommu_replay)."""
        first = self.domains[0] if self.domains else None
        if first is not None and not self._lost and domain.takes_all_of(first):
            domain.map_many(list(first.mappings))
            return
        runs: list[DomainRun] = []
        pinned: list[Dma] = []
        try:
            for dma in self.dmas:
                if not dma.pinned:
                    self._pin(dma)
                    pinned.append(dma)
                runs += self._runs_for(domain, dma)
        except BaseException:
            for dma in pinned:
                self._uncharge(dma)
                dma.pinned = False
            raise
        domain.map_many(runs)

    def _runs_for(self, domain: Domain, dma: Dma) -> list[DomainRun]:
        """Choose a mapping's runs: pages pinned before are asked of the newest domain, for the process may have remapped its memory since."""
        runs, at, prot = [], dma.iova, dma.prot | domain.prot
        known = self.domains[0].physical_runs(at, dma.size) if self.domains else dma.process.memory.physical_runs(dma.vaddr, dma.size)
        for physical, size in known:
            errno = domain.map_errno(at, size)
            if errno:
                why = f"the mapping {dma.span} does not fit {domain.unit}"
                raise VfioError(NAMES[-errno], why, f"vfio_iommu_replay, {tests.T1}", "unmap it, then attach")
            runs.append(DomainRun(at, size, physical, prot))
            at += size
        return runs

    def detach(self, group: IommuGroup) -> None:
        """Let a group go. Its domain dies with its last group; the last domain takes all mappings along (unless emulated groups remain).

        Source: vfio_iommu_type1_detach_group. A reserved region at the very edge of the space is not given back while its domain lives.
        """
        if group in self.emulated:
            self.emulated.remove(group)
            if not self.groups:
                self._unmap_everything()
            return
        domain = next(domain for domain in self.domains if group in domain.groups)
        self.core.detach(domain, group)
        if not domain.groups:
            if len(self.domains) == 1:
                if self.emulated:
                    self._unpin_everything()
                else:
                    self._unmap_everything()
            self.domains.remove(domain)
            self.core.free(domain)
            self.valid_iova = iova.expand(self.valid_iova, [other.aperture for other in self.domains])
            self._set_page_sizes()
        if self.kernel.has("valid_iova") and self.valid_iova:
            whole = (Span(self.valid_iova[0].start, self.valid_iova[-1].end),)
            holes = {span for domain in self.domains for span in domain.holes}
            self.valid_iova = iova.exclude(whole, holes) or self.valid_iova

    def close(self) -> None:
        """Let every group go, newest domain first."""
        for group in self.groups:
            self.detach(group)

    def _set_page_sizes(self) -> None:
        """Recompute the container's page sizes, and its granule in bytes: what MAP and UNMAP must be aligned to."""
        self.page_sizes = self._shared_page_sizes()
        self.granule = self.page_sizes & -self.page_sizes

    def _shared_page_sizes(self, *more: Domain) -> int:
        bitmap = U64 - 1
        for domain in (*self.domains, *more):
            bitmap &= domain.page_sizes
        if bitmap & (self.page_size - 1):
            bitmap = bitmap & ~(self.page_size - 1) | self.page_size
        return bitmap

    def _page_sizes_with(self, domain: Domain) -> None:
        if not self._shared_page_sizes(domain):
            raise NotModelledError(
                f"no page size is shared by {domain.unit} and the container's other domains: the kernel takes the lowest bit of 0, which C leaves undefined"
            )

    # map and unmap

    def map(
        self, caller: Process, iova: int, size: int, vaddr: int, flags: int = 3, argsz: int = 32, ptr: str = "good", name: str = ""
    ) -> None:
        """Map `size` bytes of the caller's memory at `vaddr` to `iova`, in every domain. All arguments are numbers of 64 (32) bits.

        EFAULT, EINVAL, EOVERFLOW (6.19+), EEXIST, ENOSPC, ENOMEM, ENOENT (VADDR flag): see `type1_checks`. Source: vfio_dma_do_map.
        """
        granule = self.granule
        request = MapRequest(self, caller, iova, size, vaddr, flags, argsz, ptr, granule)
        run_checks(self._map_checks, request, self.map_checks)
        if flags & MAP_VADDR:
            self._update_vaddr(request)
            return
        run_checks(self._new_mapping_checks, request, self.map_checks)
        dma = Dma(iova, size, vaddr, flags & 3, caller, name)
        self.dmas.insert(dma)
        if self.domains:
            try:
                run_checks(self._pin_checks, request, self.map_checks)
            except BaseException as refused:
                self.dmas.remove(dma)
                if isinstance(refused, VfioError):
                    refused.either = self._either(request)
                raise
            self._charge(dma, request)
            self._map_in_domains(dma)
        if self.dma_avail is not None:
            self.dma_avail -= 1

    def _either(self, r: MapRequest) -> tuple[str, ...]:
        """Return the answers among which the contiguity of the memory decides, on VT-d before 5.10; none where a rule does.

        A contiguous run is charged, and tested against the width, as a whole (recorded on 4.14, 4.19 and 5.4).
        """
        reach = min((domain.reach for domain in self.domains), default=U64)
        if r.iova + r.size <= reach or not self.kernel.has("runs_are_charged") or self.kernel.has("intel_aperture_by_width"):
            return ()
        if r.iova + r.size == U64 and r.size > self.page_size and not self.kernel.has("valid_iova"):
            return ("EFAULT", "ENOMEM", "crash")
        room = r.caller.room()
        return ("EFAULT", "ENOMEM") if room is not None and self.charged_pages(r) > room else ()

    def _map_in_domains(self, dma: Dma) -> None:
        at = dma.iova
        for physical, size in dma.process.memory.physical_runs(dma.vaddr, dma.size):
            for domain in self.domains:
                errno = domain.map(at, size, physical, dma.prot | domain.prot)
                assert not errno, "the checks ask every domain first"
            at += size

    def _pin(self, dma: Dma) -> None:
        request = MapRequest(self, dma.process, dma.iova, dma.size, dma.vaddr, dma.prot, 32, "good", self.granule)
        run_checks(self._pin_checks[:2], request)
        self._charge(dma, request)

    def _charge(self, dma: Dma, request: MapRequest) -> None:
        dma.pinned = True
        dma.charged = self.charged_pages(request)
        dma.process.locked_pages += dma.charged
        if dma.prot & 2 and not dma.process.memory.plain:
            dma.process.memory.written(Span.sized(dma.vaddr, dma.size))

    @staticmethod
    def _uncharge(dma: Dma) -> None:
        dma.process.locked_pages -= dma.charged
        dma.charged = 0

    def _update_vaddr(self, r: MapRequest) -> None:
        dma = self.dmas.find(r.iova, r.size)
        fix = "invalidate it first: UNMAP with flag VADDR, same iova and size"
        if dma is None:
            raise VfioError("ENOENT", f"no mapping at {Span.sized(r.iova, r.size)} whose vaddr could be updated", tests.DO_MAP, fix)
        if not dma.vaddr_invalid or (dma.iova, dma.size) != (r.iova, r.size):
            what = (
                f"{Span.sized(r.iova, r.size)} is not exactly the mapping {dma.span}"
                if dma.vaddr_invalid
                else f"the vaddr of {dma.span} was not invalidated"
            )
            raise VfioError("EINVAL", what, tests.DO_MAP, fix)
        if dma.process is not r.caller and self.kernel.has("vaddr_changes_owner"):
            self._change_owner(dma, r.caller)
        dma.vaddr, dma.vaddr_invalid = r.vaddr, False
        self.invalid_vaddrs -= 1

    def _change_owner(self, dma: Dma, caller: Process) -> None:
        """Move a mapping's pages to the account of who updates its vaddr (vfio_change_dma_owner); ENOMEM leaves it invalid."""
        room = caller.room()
        if room is not None and dma.charged > room:
            why = f"{dma.charged} pages of {dma.span} on top of {caller.locked_pages} locked ones exceed RLIMIT_MEMLOCK of process {caller}, {caller.memlock:#x} bytes"
            raise VfioError("ENOMEM", why, f"vfio_change_dma_owner, {tests.T1}", "raise the limit of the process that updates the vaddr")
        dma.process.locked_pages -= dma.charged
        caller.locked_pages += dma.charged
        dma.process = caller

    def unmap(
        self,
        caller: Process,
        iova: int = 0,
        size: int = 0,
        flags: int = 0,
        argsz: int = 24,
        bm_pgsize: int = 0,
        bm_size: int = 0,
        ptr: str = "good",
    ) -> tuple[int, int | None]:
        """Unmap; return (bytes unmapped, dirty bitmap or None). v2 removes what lies wholly inside the range; v1 whole mappings from its start.

        EFAULT, EINVAL, EOVERFLOW (6.19+), EBUSY: see `type1_checks`. Source: vfio_dma_do_unmap.
        """
        r = UnmapRequest(self, iova, size, flags, argsz, bm_pgsize, bm_size, ptr, self.granule)
        run_checks(self._unmap_checks, r)
        if flags & UNMAP_VADDR:
            return self._invalidate(list(self._takes(r, caller))), None
        removed, user = 0, 0
        for dma in self._takes(r, caller):
            if flags & UNMAP_DIRTY:
                user = dirty.report(user, dma, iova, self.granule, all_dirty=dma.pinned)
            self._remove(dma)
            removed += dma.size
        return removed, user if flags & UNMAP_DIRTY else None

    def _takes(self, r: UnmapRequest, caller: Process) -> Iterator[Dma]:
        """Return what UNMAP takes of the mappings in its range: up to 5.19 it ends at the first that another process made (recorded)."""
        found = self._in_range(r)
        return found if self.kernel.has("unmap_by_anyone") else takewhile(lambda dma: dma.process is caller, found)

    def _in_range(self, r: UnmapRequest) -> Iterator[Dma]:
        """Yield the mappings that UNMAP takes, in the kernel's order; the consumer may remove each."""
        everything = bool(r.flags & UNMAP_ALL)
        if not self.kernel.has("unmap_in_iova_order") and not r.flags & (UNMAP_ALL | UNMAP_VADDR):  # these flags came with the order
            while (met := self.dmas.find(r.iova, r.size)) is not None and (self.v2 or met.iova >= r.iova):
                yield met
            return
        dma = self.dmas.first_from(r.iova)
        last = (r.end - 1) % U64 if self.kernel.has("inclusive_ends") else r.end - 1
        while dma is not None:
            if not everything and (dma.iova > last or (not self.v2 and dma.iova < r.iova)):
                return
            following = self.dmas.after(dma)
            yield dma
            dma = following

    def _invalidate(self, dmas: list[Dma]) -> int:
        for dma in dmas:
            if dma.vaddr_invalid:
                raise VfioError(
                    "EINVAL", f"the vaddr of {dma.span} is invalidated already", tests.DO_UNMAP, "update it first: MAP with flag VADDR"
                )
        for dma in dmas:
            dma.vaddr_invalid = True
        self.invalid_vaddrs += len(dmas)
        return sum(dma.size for dma in dmas)

    def _remove(self, dma: Dma) -> None:
        """Take a mapping out: from every domain but the newest, then from the newest, then unpin (vfio_unmap_unpin).

        Up to 6.13 a mapping that ends at 2^64 is neither unmapped nor unpinned (recorded on 6.1).
        """
        self.dmas.remove(dma)
        self.invalid_vaddrs -= dma.vaddr_invalid
        if self.dma_avail is not None:
            self.dma_avail += 1
        if dma.iova + dma.size == U64 and not self.kernel.has("inclusive_ends"):
            self._lost += 1
            return
        if dma.pinned:
            self._unmap_in_domains(dma)
        self._uncharge(dma)

    def _unmap_in_domains(self, dma: Dma) -> None:
        for domain in (*self.domains[1:], *self.domains[:1]):
            domain.unmap(dma.iova, dma.size)

    def _unmap_everything(self) -> None:
        while (dma := self.dmas.first()) is not None:
            self._remove(dma)

    def _unpin_everything(self) -> None:
        for dma in self.dmas:
            if dma.pinned:
                self._unmap_in_domains(dma)
                self._uncharge(dma)
                dma.pinned = False

    # dirty pages

    def dirty(
        self, flags: int, argsz: int = 8, iova: int = 0, size: int = 0, bm_pgsize: int = 0, bm_size: int = 0, ptr: str = "good"
    ) -> int | None:
        """DIRTY_PAGES: start (1) or stop (2) tracking, or get (4) the bitmap of a range; returns the bitmap for GET. ENOTTY before 5.8."""
        r = DirtyRequest(self, flags, argsz, iova, size, bm_pgsize, bm_size, ptr, self.granule)
        run_checks(self._dirty_checks, r)
        if flags in (DIRTY_START, DIRTY_STOP):
            start = flags == DIRTY_START
            if start != self.dirty_tracking:
                for dma in self.dmas:
                    dma.bitmap = 0
            self.dirty_tracking = start
            return None
        run_checks(self._dirty_get_checks, r, (*self._dirty_checks, *self._dirty_get_checks))
        inside = [dma for dma in self.dmas if dma.iova < iova + size and iova < dma.iova + dma.size]
        return dirty.get(inside, iova, self.granule, all_dirty=bool(self.domains))

    def info(self, argsz: int, ptr: str) -> Info:
        """GET_INFO: page sizes and the capability chain. EFAULT (unreadable struct), EINVAL (below 16 bytes)."""
        return describe(self, argsz, ptr)

    def dma_cc(self) -> int:
        """Extension 4 (DMA_CC_IOMMU): 1 if every domain is coherent, also with no domain at all."""
        return int(all(domain.coherent for domain in self.domains))

    def __repr__(self) -> str:
        return f"Type1(v{2 if self.v2 else 1}, {len(self.dmas)} mappings, {len(self.domains)} domains)"

    def _check(self) -> None:
        self.dmas._check()
        assert self.invalid_vaddrs == sum(dma.vaddr_invalid for dma in self.dmas)
        limit = self.entry_limit
        assert limit is None or self.dma_avail == limit - len(self.dmas), (
            f"{self.dma_avail} mappings left of {limit} with {len(self.dmas)} in use"
        )
        odd = self._lost > 0 or any(dma.iova + dma.size == U64 for dma in self.dmas)
        wanted = [(dma.iova, dma.size) for dma in self.dmas if dma.pinned]
        for domain in self.domains:
            domain._check()
            assert domain.groups, f"{domain} has no group"
            assert odd or _merged((run.iova, run.size) for run in domain.mappings) == _merged(wanted), (
                f"D{domain.number} does not mirror the container"
            )
        for dma in self.dmas:
            assert dma.pinned == bool(self.domains), f"{dma} is {'' if dma.pinned else 'not '}pinned with {len(self.domains)} domains"
            assert not self.valid_iova or iova.in_one(self.valid_iova, dma.iova, dma.size), f"{dma} lies outside the valid iovas"


def _merged(runs: Iterator[tuple[int, int]] | list[tuple[int, int]]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    for start, size in runs:
        if out and out[-1][0] + out[-1][1] == start:
            out[-1] = (out[-1][0], out[-1][1] + size)
        else:
            out.append((start, size))
    return out
