"""The type1 backend: one user's mappings, mirrored into one or more IOMMU domains.

State of one backend: the tree of mappings, the list of domains (newest first), the valid-iova list, the budget of mappings, dirty tracking,
the emulated groups. Every verb runs its table of checks (`type1_checks`) and only then changes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from itertools import takewhile

from vfiolab.model.address import U64, Span, joined
from vfiolab.model.backends import dirty
from vfiolab.model.backends import iova as iova_list
from vfiolab.model.backends import type1_checks as tests
from vfiolab.model.backends.dmatree import Dma, DmaTree
from vfiolab.model.backends.protocol import Caller, UserMemory
from vfiolab.model.checks import table
from vfiolab.model.errors import NAMES, NotModelledError, Refusal, VfioError
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.domain import Mapping as DomainRun
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import ReservedRegion, binding
from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.info import DMA_AVAIL, FLAG_PGSIZES, INFO_CHECKS, MIGRATION, Info, Part, answer, chain, iova_part
from vfiolab.model.uapi.requests import (
    DIRTY_START,
    DIRTY_STOP,
    MAP_VADDR,
    MAX_BITMAP,
    UNMAP_ALL,
    UNMAP_DIRTY,
    UNMAP_VADDR,
    DirtyPages,
    IommuInfo,
    MapDma,
    UnmapDma,
    switched_on,
)

TYPE1, TYPE1v2, NESTING = 1, 3, 6
ALLOW_UNSAFE = "vfio_iommu_type1.allow_unsafe_interrupts"
ENTRY_LIMIT = "vfio_iommu_type1.dma_entry_limit"


class Type1:
    """One container's type1 backend.

    `dmas`: the mappings; `domains`: newest first; `valid_iova`: half-open spans, empty = no restriction known; `dma_avail`: mappings still
    allowed, None where there is no limit (before 5.1); `page_sizes`: bitmap; `granule`: the smallest page in bytes.
    """

    name = "type1"

    def __init__(self, core: IommuCore, params: Mapping[str, str], kind: int) -> None:
        self.core, self.params = core, params
        self.kernel: Kernel = core.kernel
        self.page_size = core.page_size
        self.v2 = kind != TYPE1
        self.nesting = kind == NESTING
        self.entry_limit = int(params.get(ENTRY_LIMIT, "65535")) if self.kernel.has("dma_entry_limit") else None
        self.dmas = DmaTree(wraps=not self.kernel.has("inclusive_ends"))
        self.domains: list[Domain] = []
        self.emulated: list[IommuGroup] = []
        self.valid_iova: iova_list.IovaList = ()
        self.dirty_tracking = False
        self.invalid_vaddrs = 0
        self._lost = 0
        self.rules = tests.Rules(self.kernel, watched=core.doorbells.watches)
        self._set_page_sizes()

    in_one = staticmethod(iova_list.in_one)

    # what the checks and the views ask

    @property
    def mapped_bytes(self) -> int:
        """Bytes in the user's mappings."""
        return self.dmas.size

    @property
    def dma_avail(self) -> int | None:
        """Mappings still allowed."""
        return None if self.entry_limit is None else self.entry_limit - len(self.dmas)

    @property
    def groups(self) -> list[IommuGroup]:
        """Every attached group, emulated ones last."""
        return [group for domain in self.domains for group in domain.groups] + self.emulated

    def at(self, iova: int) -> Iterator[Dma]:
        """Yield the mappings that hold an iova; several, where a kernel that loses track of ends let them overlap."""
        met = self.dmas.find(iova, 1)
        if met is not None:
            yield met
        if self.dmas.reaches_top:
            yield from (dma for dma in self.dmas if dma is not met and dma.iova <= iova < dma.iova + dma.size)

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

    def kept_from_user(self, iova: int, size: int) -> str | None:
        """Say why the doorbells' policy keeps a range from the user, None if it does not."""
        asked = (self.core.doorbells.user_maps(domain, Span.sized(iova, size)) for domain in self.domains)
        return next((why for why in asked if why is not None), None)

    def bad_page(self, request: MapDma) -> int | None:
        """Return the index of the first page of a map request that cannot be pinned."""
        memory: UserMemory = request.caller.memory
        return memory.first_bad(request.vaddr, request.size, request.flags, self.rules.bars, self.page_size)

    def whole(self, r: UnmapDma) -> Dma | None:
        """Return the mapping that an unmap's range is, None if it is more or less than one (or one may hide behind a wrapped end)."""
        met = self.dmas.starts.get(r.iova)
        if met is not None and met.size == r.size and not self.dmas.reaches_top:
            r.whole = met
            return met
        return None

    def charged_pages(self, request: MapDma, pages: int | None = None) -> int:
        """Return how many of a request's pages (of the first `pages`) count as locked memory: BARs do not, nor does the page of zeros."""
        if pages is None:
            pages = -(-request.size // self.page_size)
        memory: UserMemory = request.caller.memory
        if memory.plain:
            return pages
        zeros = not request.flags & 2 and self.rules.zeros_pinned
        return pages - memory.uncharged(request.vaddr, pages * self.page_size, zeros=zeros, page_size=self.page_size)

    def untranslatable_page(self, request: MapDma) -> int:
        """Return the index of the first page past the width of a domain's unit (mapping goes page by page), or one past the last page."""
        reach = min((domain.reach for domain in self.domains), default=U64)
        return max(0, min(request.size, reach - request.iova)) // self.page_size

    # groups

    def attach(self, group: IommuGroup) -> None:
        """Let a group in: a new domain is tried first, then each existing one; the mappings are replayed into a domain that stays.

        EINVAL (mapping outside the aperture or over a reserved region), EPERM (interrupts not isolated), or the IOMMU driver's errno.
        Source: vfio_iommu_type1_attach_group. A refusal leaves the container as it was.
        """
        self.rules.entry.run(tests.EntryRequest(self, group))
        if group.emulated:
            self.emulated.append(group)
            return
        domain = self._new_domain(group)
        try:
            iovas = iova_list.exclude(iova_list.shrink(self.valid_iova, domain.aperture), binding(group.reserved))
            self.rules.attach.run(tests.AttachRequest(self, group, domain, iovas))
            self._page_sizes_with(domain)
            shared = self._join_existing(domain, group)
            if not shared:
                self._keep(domain, group, iovas)
        except BaseException as refused:
            if isinstance(refused, VfioError):
                refused.tried = group, domain
            self.core.detach(domain, group)
            self.core.free(domain)
            raise
        if self.kernel.has("valid_iova"):
            self.valid_iova = iovas
        self._set_page_sizes()

    def _new_domain(self, group: IommuGroup) -> Domain:
        unit = self.core.unit_of(group)
        domain = self.core.alloc(group)
        asked = tests.DriverRequest(self, group, domain, unit.nesting_errno(self.kernel) or "" if self.nesting else "", nesting=True)
        try:
            self.rules.driver.run(asked)
            domain.nesting = self.nesting
            errno = self.core.attach(domain, group)
            asked.errno, asked.nesting = NAMES[-errno] if errno else "", False
            self.rules.driver.run(asked)
        except VfioError as refused:
            self.core.free(domain)
            if not asked.nesting:
                refused.tried = group, self.core.configured(domain, unit)
            raise
        return domain

    def _join_existing(self, domain: Domain, group: IommuGroup) -> bool:
        for existing in self.domains:
            if existing.kind != domain.kind or existing.coherent != domain.coherent:
                continue
            if not self.core.doorbells.group_joins(existing, group):
                continue
            self.core.detach(domain, group)
            if not self.core.attach(existing, group):
                self.core.free(domain)
                return True
            self.core.attach(domain, group)
        return False

    def _keep(self, domain: Domain, group: IommuGroup, iovas: iova_list.IovaList) -> None:
        if not self.kernel.has("no_superpage_probe"):
            place = self._probe_place(iovas)
            if place is not None:
                self.core.probe_superpages(domain, place)
        pinned: list[Dma] = []
        try:
            self._replay(domain, pinned)
            self.core.doorbells.domain_made(domain, group, self.domains)
        except BaseException:
            for dma in pinned:
                self._uncharge(dma)
                dma.pinned = False
            raise
        self.domains.insert(0, domain)

    def _probe_place(self, iovas: iova_list.IovaList) -> int | None:
        if not self.kernel.has("probe_in_valid_iova"):
            return 0
        pages = 2 * self.page_size
        starts = (-(-span.start // pages) * pages for span in iovas)
        return next((start for start, span in zip(starts, iovas, strict=True) if start + pages <= span.end), None)

    def _replay(self, domain: Domain, pinned: list[Dma]) -> None:
        """Map every existing mapping into a new domain, in iova order; pin those that never were, and list them (vfio_iommu_replay)."""
        first = self.domains[0] if self.domains else None
        if first is not None and not self._lost and domain.takes_all_of(first):
            domain.map_many(list(first.mappings))
            return
        runs: list[DomainRun] = []
        for dma in self.dmas:
            if not dma.pinned:
                self._pin(dma)
                pinned.append(dma)
            runs += self._runs_for(domain, dma)
        domain.map_many(runs)

    def _runs_for(self, domain: Domain, dma: Dma) -> list[DomainRun]:
        """Choose a mapping's runs: pages pinned before are asked of the newest domain, for the process may have remapped its memory since."""
        runs, at, prot = [], dma.iova, dma.prot | domain.prot
        known = self.domains[0].physical_runs(at, dma.size) if self.domains else dma.process.memory.physical_runs(dma.vaddr, dma.size)
        for physical, size in known:
            errno = domain.map_errno(at, size)
            if errno:
                self.rules.replay.run(tests.DriverRequest(self, None, domain, NAMES[-errno], dma=dma))
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
            self.valid_iova = iova_list.expand(self.valid_iova, [other.aperture for other in self.domains])
            self._set_page_sizes()
        if self.kernel.has("valid_iova") and self.valid_iova:
            whole = (Span(self.valid_iova[0].start, self.valid_iova[-1].end),)
            holes = {span for domain in self.domains for span in domain.holes}
            self.valid_iova = iova_list.exclude(whole, holes) or self.valid_iova

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

    def map(self, caller: Caller, r: MapDma) -> None:
        """Map the caller's memory, in every domain.

        EFAULT, EINVAL, EOVERFLOW (6.18+), EEXIST, ENOSPC, ENOMEM, ENOENT (VADDR flag): see `type1_checks`. Source: vfio_dma_do_map.
        """
        r.caller, r.backend, r.granule = caller, self, self.granule
        if r.flags & MAP_VADDR:
            self._update_vaddr(r)
            return
        self.rules.map.run(r)
        dma = Dma(r.iova, r.size, r.vaddr, r.flags, caller, r.name)
        self.dmas.insert(dma)
        if self.domains:
            r.runs = caller.memory.pinned(r.vaddr, r.size, r.flags, self.rules.bars)
            try:
                self.rules.memory.run(r)
            except BaseException as refused:
                self.dmas.remove(dma)
                if isinstance(refused, Refusal):
                    refused.either = self._either(r)
                raise
            self._charge(dma, r)
            self._map_in_domains(dma, r.runs)
            r.runs = None  # the log keeps the request

    def _either(self, r: MapDma) -> tuple[str, ...]:
        """Return the answers among which the contiguity of the memory decides, on VT-d before 5.11; none where a rule does.

        A contiguous run is charged, and tested against the width, as a whole (recorded on 4.14, 4.19 and 5.4).
        """
        reach = min((domain.reach for domain in self.domains), default=U64)
        if r.iova + r.size <= reach or not self.kernel.has("runs_are_charged") or self.kernel.has("intel_aperture_by_width"):
            return ()
        if r.iova + r.size == U64 and r.size > self.page_size and not self.kernel.has("valid_iova"):
            return ("EFAULT", "ENOMEM", "crash")
        room = r.caller.room()
        return ("EFAULT", "ENOMEM") if room is not None and self.charged_pages(r) > room else ()

    def _map_in_domains(self, dma: Dma, runs: list[tuple[int, int]] | None) -> None:
        at = dma.iova
        for physical, size in runs or ():
            for domain in self.domains:
                errno = domain.map(at, size, physical, dma.prot | domain.prot)
                assert not errno, "the checks ask every domain first"
            at += size

    def _pin(self, dma: Dma) -> None:
        r = MapDma(flags=dma.prot, vaddr=dma.vaddr, iova=dma.iova, size=dma.size)
        r.caller, r.backend = dma.process, self
        r.runs = dma.process.memory.pinned(dma.vaddr, dma.size, dma.prot, self.rules.bars)
        self.rules.pins.run(r)
        self._charge(dma, r)

    def _charge(self, dma: Dma, request: MapDma) -> None:
        process = dma.process
        dma.pinned = True
        dma.charged = self.charged_pages(request)
        process.locked_pages += dma.charged
        if dma.prot & 2 and not process.memory.plain:
            process.memory.written(Span.sized(dma.vaddr, dma.size))

    @staticmethod
    def _uncharge(dma: Dma) -> None:
        dma.process.locked_pages -= dma.charged
        dma.charged = 0

    def _update_vaddr(self, r: MapDma) -> None:
        self.rules.arguments.run(r)
        r.found = self.dmas.find(r.iova, r.size)
        table(tests.VADDR_CHECKS, self.kernel, before=tests.MAP_CHECKS).run(r)
        dma: Dma = r.found
        if dma.process is not r.caller and self.kernel.has("vaddr_changes_owner"):
            self._change_owner(dma, r.caller)
        dma.vaddr, dma.vaddr_invalid = r.vaddr, False
        self.invalid_vaddrs -= 1

    def _change_owner(self, dma: Dma, caller: Caller) -> None:
        """Move a mapping's pages to the account of who updates its vaddr (vfio_change_dma_owner); ENOMEM leaves it invalid."""
        table(tests.OWNER_CHECKS, self.kernel, before=tests.MAP_CHECKS + tests.VADDR_CHECKS).run(tests.NewOwner(dma, caller))
        dma.process.locked_pages -= dma.charged
        caller.locked_pages += dma.charged
        dma.process = caller

    def unmap(self, caller: Caller, r: UnmapDma) -> tuple[int, int | None]:
        """Unmap; return (bytes unmapped, dirty bitmap or None). v2 removes what lies wholly inside the range; v1 whole mappings from its start.

        EFAULT, EINVAL, EOVERFLOW (6.18+), EBUSY: see `type1_checks`. A bitmap that cannot be written is EFAULT at the first mapping, which
        stays, with all after it. Source: vfio_dma_do_unmap.
        """
        r.backend, r.granule, r.whole = self, self.granule, None
        self.rules.unmap.run(r)
        if r.flags & UNMAP_VADDR:
            return self._invalidate(list(self._takes(r, caller))), None
        removed, user = 0, 0
        asked = r.flags & UNMAP_DIRTY
        for dma in self._takes(r, caller):
            if asked:
                user = dirty.report(user, dma, r.iova, self.granule, all_dirty=dma.pinned)
                self._tell_dirty(caller, r, user)
            self._remove(dma)
            removed += dma.size
        r.whole = None  # the log keeps the request
        return removed, user if asked else None

    def _takes(self, r: UnmapDma, caller: Caller) -> Iterable[Dma]:
        """Return what UNMAP takes of the mappings in its range: from 4.10 to 5.19 it ends at the first that another process made (recorded)."""
        found = self._in_range(r) if r.whole is None else (r.whole,)
        return found if self.rules.unmap_by_anyone else takewhile(lambda dma: dma.process is caller, found)

    def _in_range(self, r: UnmapDma) -> Iterator[Dma]:
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
        table(tests.INVALIDATE_CHECKS, self.kernel, before=tests.UNMAP_CHECKS).run(dmas)
        for dma in dmas:
            dma.vaddr_invalid = True
        self.invalid_vaddrs += len(dmas)
        return sum(dma.size for dma in dmas)

    def _remove(self, dma: Dma) -> None:
        """Take a mapping out: from every domain but the newest, then from the newest, then unpin (vfio_unmap_unpin).

        Up to 6.17 a mapping that ends at 2^64 is neither unmapped nor unpinned (recorded on 6.1).
        """
        self.dmas.remove(dma)
        if dma.vaddr_invalid:
            self.invalid_vaddrs -= 1
        if self.dmas.reaches_top and dma.end == U64:
            self._lost += 1
            return
        if dma.pinned:
            self._unmap_in_domains(dma)
        self._uncharge(dma)

    def _unmap_in_domains(self, dma: Dma) -> None:
        for domain in self.domains[1:]:
            domain.unmap(dma.iova, dma.size)
        self.domains[0].unmap(dma.iova, dma.size)

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

    def _tell_dirty(self, caller: Caller, r: UnmapDma | DirtyPages, bitmap: int) -> None:
        self.rules.bitmap.run(dirty.put(caller, r, bitmap))

    def dirty(self, caller: Caller, r: DirtyPages) -> int | None:
        """DIRTY_PAGES: start (1) or stop (2) tracking, or get (4) the bitmap of a range; returns the bitmap for GET. ENOTTY before 5.8."""
        r.backend, r.granule = self, self.granule
        self.rules.dirty.run(r)
        if r.flags in (DIRTY_START, DIRTY_STOP):
            start = r.flags == DIRTY_START
            if start != self.dirty_tracking:
                for dma in self.dmas:
                    dma.bitmap = 0
            self.dirty_tracking = start
            return None
        self.rules.dirty_get.run(r)
        inside = [dma for dma in self.dmas if dma.iova < r.iova + r.size and r.iova < dma.iova + dma.size]
        return dirty.get(inside, r.iova, self.granule, partial(self._tell_dirty, caller, r), all_dirty=bool(self.domains))

    def info(self, request: IommuInfo) -> Info:
        """GET_INFO: page sizes and the capability chain. EFAULT (unreadable struct), EINVAL (below 16 bytes).

        Source: vfio_iommu_type1_get_info (4.4: flags 0; 5.4, 5.8, 5.10, 6.6 and stable 5.4 added to the chain).
        """
        has = self.kernel.has
        table(INFO_CHECKS, self.kernel).run(request)
        parts: list[Part] = []
        if has("info_migration"):
            fields: list[tuple[str, object]] = [("flags", 0), ("pgsize_bitmap", self.granule), ("max_dirty_bitmap_size", MAX_BITMAP)]
            parts.append((MIGRATION, 32, fields))
        ranges = [iova_part(self.valid_iova)] if has("info_iova_ranges") and self.valid_iova else []
        avail: list[Part] = [(DMA_AVAIL, 12, [("avail", self.dma_avail)])] if has("info_dma_avail") else []
        parts += avail + ranges if has("info_avail_first") else ranges + avail
        caps, total = chain(parts, padded=has("info_caps_padded"))
        return answer(request.argsz, FLAG_PGSIZES if has("info_pgsizes_flag") else 0, self.page_sizes, caps, total)

    def dma_cc(self) -> int:
        """Extension 4 (DMA_CC_IOMMU): 1 if every domain is coherent, also with no domain at all."""
        return int(all(domain.coherent for domain in self.domains))

    def __repr__(self) -> str:
        return f"Type1(v{2 if self.v2 else 1}, {len(self.dmas)} mappings, {len(self.domains)} domains)"

    def _check(self) -> None:
        self.dmas._check()
        assert self.invalid_vaddrs == sum(dma.vaddr_invalid for dma in self.dmas)
        odd = self._lost > 0 or any(dma.iova + dma.size == U64 for dma in self.dmas)
        pinned = [dma for dma in self.dmas if dma.pinned]
        wanted = joined([dma.iova for dma in pinned], [dma.size for dma in pinned])
        for domain in self.domains:
            domain._check()
            assert domain.groups, f"{domain} has no group"
            runs = list(domain.mappings)
            held = joined([run.iova for run in runs], [run.size for run in runs])
            assert odd or held == wanted, f"D{domain.number} does not mirror the container"
        for dma in self.dmas:
            assert dma.pinned == bool(self.domains), f"{dma} is {'' if dma.pinned else 'not '}pinned with {len(self.domains)} domains"
            assert not self.valid_iova or iova_list.in_one(self.valid_iova, dma.iova, dma.size), f"{dma} lies outside the valid iovas"
