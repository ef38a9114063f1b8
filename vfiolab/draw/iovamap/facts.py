"""One look at a live container: everything a picture needs, copied once, so that a later call cannot change a picture already made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter, itemgetter
from typing import Any, Protocol

from vfiolab.draw.iovamap.refusals import Attempt, attempts_of, calls_on
from vfiolab.model.address import U64, Span, hexa, human_size, joined
from vfiolab.model.backends.compat import Backend
from vfiolab.model.backends.compat_checks import Area
from vfiolab.model.backends.dmatree import Dma
from vfiolab.model.events import Call, EventLog
from vfiolab.model.iommu.domain import Domain, Mapping
from vfiolab.model.iommu.group import IommuGroup

SHOWN_ATTEMPTS = 3
IOVA, SIZE = itemgetter(Mapping._fields.index("iova")), itemgetter(Mapping._fields.index("size"))  # quicker than attributes


@dataclass(frozen=True, slots=True)
class Reserved:
    """A reserved region as one lane shows it: the span, its kind, and the groups that bring it."""

    span: Span
    kind: str
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Doorbell:
    """A doorbell page that the kernel mapped: where in iova, and which physical page."""

    span: Span
    physical: int


@dataclass(frozen=True, slots=True)
class DomainFacts:
    """One lane: a domain as it was when looked at.

    `unit` names its unit, or all of them; `places` says for each group which unit (and of what kind) is in front of it.
    `mapped` is None when the domain holds exactly the user's mappings, which is what mirroring promises; else what it
    holds. `refused` is the errno's name if the kernel turned the group away, and the domain is no more.
    """

    number: int
    unit: str
    unit_kind: str
    groups: tuple[int, ...]
    aperture: Span | None
    page_sizes: int
    coherency: str
    stage: int | None
    reserved: tuple[Reserved, ...] = ()
    doorbells: tuple[Doorbell, ...] = ()
    msi_base: int | None = None
    mapped: tuple[Span, ...] | None = None
    places: tuple[tuple[int, str, str], ...] = ()
    refused: str = ""

    @property
    def units(self) -> dict[str, str]:
        """The units whose devices use this domain, and their kinds: VT-d lets several units walk one page table."""
        return {unit: kind for _, unit, kind in self.places} or {self.unit: self.unit_kind}

    @property
    def name(self) -> str:
        """The word for this domain everywhere: `D1`."""
        return f"D{self.number}"


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A group that was refused: the domain that was tried for it, why, and the mapped spans that were in the way."""

    domain: DomainFacts
    why: str
    conflicts: tuple[Span, ...]


@dataclass(frozen=True)
class SpaceFacts:
    """A container as it was when looked at. The user's mappings are parallel tuples in iova order, ends half-open.

    `attempts` are the last refused maps since the last change, `attempts_before` more since then are not shown, and `attempts_earlier`
    were refused before it. `newcomer` is the last group refused since then. `counted`: the mappings were only counted (how many, bytes).
    """

    backend: str
    groups: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    prots: tuple[int, ...] = ()
    domains: tuple[DomainFacts, ...] = ()
    valid: tuple[Span, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    attempts_before: int = 0
    attempts_earlier: int = 0
    newcomer: Newcomer | None = None
    faults: tuple[int, ...] = ()
    appeared: frozenset[tuple[int, int]] = field(default_factory=frozenset)
    gone: tuple[tuple[int, int, str], ...] = ()
    new_domains: frozenset[int] = field(default_factory=frozenset)
    gone_domains: frozenset[int] = field(default_factory=frozenset)
    title: str = ""
    said: tuple[str, ...] = ()
    counted: tuple[int, int] | None = None

    @property
    def number(self) -> int:
        """How many mappings the user has."""
        return len(self.starts) if self.counted is None else self.counted[0]

    @property
    def mapped_bytes(self) -> int:
        """Bytes in the user's mappings."""
        return sum(self.ends) - sum(self.starts) if self.counted is None else self.counted[1]

    @property
    def lane_domains(self) -> tuple[DomainFacts, ...]:
        """The domains that get a lane: newest first, then the one of a group that was refused."""
        return (*self.domains, self.newcomer.domain) if self.newcomer is not None else self.domains

    @property
    def top(self) -> int:
        """End of the space that is drawn: the highest aperture, or what lies beyond it, else 2^64."""
        ends = [d.aperture.end for d in self.lane_domains if d.aperture is not None]
        ends += self.ends[-1:]
        ends += [a.end for a in self.attempts]
        ends += [f + 1 for f in self.faults]
        known = any(d.aperture is not None for d in self.lane_domains)
        return min(max(ends), U64) if known else U64


class Viewed(Protocol):
    """What a picture reads of a container: VFIO's own, or anything with a backend and groups."""

    @property
    def backend(self) -> Backend | None:
        """The address space; None before there is one."""

    @property
    def groups(self) -> Sequence[Any]:
        """VFIO or IOMMU groups."""


def observe(container: Viewed, log: EventLog | None = None, faults: Iterable[int] = ()) -> SpaceFacts:
    """Copy what a picture needs from a live container; `log` adds its refused maps and faults, `faults` more iovas at which DMA failed."""
    facts, backend = count_only(container), container.backend
    if backend is None:
        return facts
    dmas: list[Dma | Area] = sorted(backend.dmas, key=attrgetter("iova"))  # old kernels let overlaps in, out of order
    starts, sizes = [d.iova for d in dmas], [d.size for d in dmas]
    looked = zip(facts.domains, backend.domains, strict=True)
    before, since = calls_on(getattr(container, "fd", None), log)
    attempts, met = attempts_of(since), _refused(since)
    hit = [e.iova for c in (*before, *since) for e in c.events if e.kind == "fault" and e.iova is not None]
    return replace(
        facts, counted=None, starts=tuple(starts), ends=tuple([start + size for start, size in zip(starts, sizes, strict=True)]),
        names=tuple([d.name for d in dmas]), prots=tuple([d.prot for d in dmas]),
        domains=tuple(replace(known, mapped=_different(d, starts, sizes)) for known, d in looked),
        attempts=tuple(attempts[-SHOWN_ATTEMPTS:]), attempts_before=max(0, len(attempts) - SHOWN_ATTEMPTS),
        attempts_earlier=len(attempts_of(before)), newcomer=None if met is None else met[1], faults=tuple(sorted({*faults, *hit})),
    )  # fmt: skip


def count_only(container: Viewed) -> SpaceFacts:
    """Copy what a picture without mappings needs: groups, domains, and how much is mapped."""
    backend = container.backend
    groups = tuple(sorted(iommu_group(g).id for g in container.groups))
    if backend is None:
        return SpaceFacts("none", groups)
    domains, counted = tuple(map(_domain, backend.domains)), (len(backend.dmas), backend.mapped_bytes)
    return SpaceFacts(backend_word(backend), groups, domains=domains, valid=tuple(backend.valid_iova), counted=counted)


def _refused(calls: Sequence[Call]) -> tuple[IommuGroup, Newcomer] | None:
    """Return the last group that was refused, if a domain was made for it."""
    error = next((c.error for c in reversed(calls) if c.verb == "set_container" and c.error is not None), None)
    if error is None or error.tried is None:
        return None
    group, domain = error.tried
    facts = replace(_domain(domain, [group]), refused=error.name)
    return group, Newcomer(facts, error.why, tuple(sorted(obstacle.span for obstacle in error.obstacles)))


def refused_group(container: Viewed, log: EventLog) -> tuple[IommuGroup, DomainFacts] | None:
    """Return the last group that a container refused, with the domain that was tried for it; None if none was."""
    met = _refused(calls_on(getattr(container, "fd", None), log)[1]) if container.backend is not None else None
    return None if met is None else (met[0], met[1].domain)


def backend_word(backend: Backend) -> str:
    """Return what the backend is called: type1, type1v2, iommufd-compat or noiommu."""
    return "type1v2" if backend.name == "type1" and backend.v2 else backend.name


def iommu_group(group: Any) -> IommuGroup:
    """Return the IOMMU group behind a VFIO group, or the group itself."""
    found: IommuGroup = getattr(group, "group", group)
    return found


def page_words(bitmap: int) -> str:
    """Return a page-size bitmap as words, smallest first.

    >>> page_words(0x40201000), page_words(0xfffffffffffff000)
    ('4K 2M 1G', 'any multiple of 4K')
    """
    sizes = [1 << bit for bit in range(bitmap.bit_length()) if bitmap >> bit & 1]
    if len(sizes) > 6:
        return f"any multiple of {short_size(sizes[0])}" if len(sizes) > 40 else f"{short_size(sizes[0])}…{short_size(sizes[-1])}"
    return " ".join(short_size(size) for size in sizes)


def short_size(size: int) -> str:
    """Return a size in the kernel's short form.

    >>> short_size(4096), short_size(1 << 30)
    ('4K', '1G')
    """
    return human_size(size).replace(" ", "").replace("iB", "")


def width_words(aperture: Span | None) -> str:
    """Return an aperture as a width where it is one, else as a range.

    >>> width_words(Span(0, 1 << 44)), width_words(Span(0x1000, 0x10000))
    ('44-bit', '0x1000-0xffff')
    """
    if aperture is None:
        return "aperture unknown"
    if aperture.start == 0 and aperture.end & (aperture.end - 1) == 0:
        return f"{aperture.end.bit_length() - 1}-bit"
    return f"{hexa(aperture.start)}-{hexa(aperture.last)}"


def _different(domain: Domain, starts: list[int], sizes: list[int]) -> tuple[Span, ...] | None:
    """Return what a domain holds, joined where it touches; None if that is the user's mappings."""
    mappings = list(domain.mappings)
    own_starts, own_sizes = list(map(IOVA, mappings)), list(map(SIZE, mappings))
    if own_starts == starts and own_sizes == sizes:
        return None
    held = joined(own_starts, own_sizes)  # one mapping may be several physical runs
    return None if held == joined(starts, sizes) else tuple(Span(a, b) for a, b in held)


def _domain(domain: Domain, tried: Sequence[IommuGroup] = ()) -> DomainFacts:
    groups = domain.groups or tried
    doorbells = tuple(Doorbell(Span.sized(d.iova, d.size), d.physical) for d in domain.doorbells)
    places = tuple((g.id, g.unit.name, g.unit.kind) for g in sorted(groups, key=attrgetter("id")) if g.unit is not None)
    units = ", ".join(dict.fromkeys(unit for _, unit, _ in places)) or domain.unit.name
    return DomainFacts(
        domain.number, units, domain.unit.kind, tuple(sorted(g.id for g in groups)), domain.aperture, domain.page_sizes,
        coherency_word(domain), domain.stage, _reserved(groups), doorbells, domain.msi_base, places=places,
    )  # fmt: skip


def coherency_word(domain: Domain) -> str:
    """Return the flag by which type1 compares domains, in the words of its era (5.19 changed what it means)."""
    if domain.kernel.has("enforced_coherency"):
        return "snoop enforced" if domain.enforces_coherency else "snoop not enforced"
    return "cache coherent" if domain.enforces_coherency else "not cache coherent"


def _reserved(groups: Iterable[IommuGroup]) -> tuple[Reserved, ...]:
    found: dict[tuple[Span, str], list[int]] = {}
    for group in groups:
        for region in group.reserved:
            found.setdefault((region.span, region.kind), []).append(group.id)
    return tuple(Reserved(span, kind, tuple(sorted(ids))) for (span, kind), ids in sorted(found.items(), key=lambda f: (f[0][0], f[0][1])))
