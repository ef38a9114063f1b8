"""What a container was refused: maps, and groups that could not join. Only what the last change left standing is drawn."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vfiolab.model.address import U64, Span
from vfiolab.model.events import Call, EventLog
from vfiolab.model.iommu.core import IommuGroup
from vfiolab.model.iommu.domain import Domain

if TYPE_CHECKING:
    from vfiolab.draw.iovamap.facts import DomainFacts
    from vfiolab.model.backends.type1 import Type1

RESERVED_FOR_USER = ("direct", "reserved", "msi", "sw-msi")  # a direct-relaxable region stops nobody
CHANGES = ("map", "unmap", "set_iommu", "set_container", "unset_container", "close_group")
MEMBERS = ("unset_container", "close_group")  # these name the group's descriptor, not the container's


@dataclass(frozen=True, slots=True)
class Attempt:
    """A map call that was refused: the range asked for, the errno's name, why, and the domains in whose way it was."""

    start: int
    end: int
    errno: str
    why: str
    source: str
    blockers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A group that was refused: the domain that was tried for it, the errno's name, why, and the mapped spans that were in the way."""

    domain: DomainFacts
    errno: str
    why: str
    conflicts: tuple[Span, ...] = ()


def calls_on(fd: int | None, log: EventLog | None) -> tuple[list[Call], list[Call]]:
    """Return the landmarks of a log that are on one container (all, without a descriptor): those up to its last change, and those since."""
    found: list[tuple[int, Call]] = []
    inside: set[str] = set()
    changed = -1
    if log is None:
        return [], []
    for at in log.landmarks:
        call = log.calls[at]
        if fd is not None and call.verb == "open_container" and call.args.get("fd") == fd:
            found, inside, changed = [], set(), -1  # the descriptor's number is used again
        if fd is not None and not _is_on(call, f"fd{fd}", inside):
            continue
        found.append((at, call))
        if call.verb in CHANGES and call.error is None and not call.died:
            changed = at
            if call.verb == "set_container":
                inside.add(call.target)
            inside -= {call.target} if call.verb in MEMBERS else set()
    mapped = log.changed.values() if fd is None else (log.changed.get(f"fd{fd}", -1),)
    changed = max((changed, *mapped))
    return [call for at, call in found if at <= changed], [call for at, call in found if at > changed]


def _is_on(call: Call, name: str, inside: set[str]) -> bool:
    if call.verb == "set_container":
        return call.args.get("container") == name
    if call.verb in MEMBERS:
        return call.target in inside
    return call.target == name or call.verb not in CHANGES


def attempts_of(calls: Iterable[Call], domains: tuple[DomainFacts, ...]) -> list[Attempt]:
    """Return the refused map calls among `calls`, the same one once, with the domains that stood in the way."""
    found: dict[tuple[int, int, str], Attempt] = {}
    for call in calls:
        if call.error is None or not call.verb.startswith("map"):
            continue
        start, size = call.args.get("iova"), call.args.get("size")
        if not isinstance(start, int) or not isinstance(size, int) or size <= 0 or not 0 <= start < U64:
            continue
        end = min(start + size, U64)
        name = call.error.name
        blockers = () if name in {"EEXIST", "ENOMEM", "ENOSPC"} else tuple(d.number for d in domains if in_the_way(d, Span(start, end)))
        found.pop((start, end, name), None)
        found[start, end, name] = Attempt(start, end, name, call.error.why, call.error.source, blockers)
    return list(found.values())


def in_the_way(domain: DomainFacts, span: Span) -> str:
    """Say what of this domain a mapping of `span` would meet: its aperture, a reserved region, or nothing (empty)."""
    if domain.aperture is not None and not (domain.aperture.start <= span.start and span.end <= domain.aperture.end):
        return "outside"
    hit = next((r for r in domain.reserved if r.kind in RESERVED_FOR_USER and r.span.overlaps(span)), None)
    return hit.kind if hit else ""


def tried_for(backend: Type1, call: Call) -> tuple[IommuGroup, Domain] | None:
    """Return the group that a refused attach was for, and a copy of the domain that was made for it; None if it came to no domain."""
    number = next((event.domain for event in call.events if event.kind == "alloc"), None)
    joined = next((event.group for event in call.events if event.kind == "attach"), None)
    group = backend.core.groups.get(joined) if joined is not None else None
    if number is None or group is None or group.unit is None:
        return None
    core, unit = backend.core, group.unit
    domain = Domain(number, unit, core.kernel, EventLog())
    domain.aperture = unit.aperture(core.kernel, nesting=backend.nesting)
    domain.page_sizes = unit.reported_page_sizes(core.kernel, core.units, core.page_size)
    domain.coherent = unit.coherency(core.kernel, core.units)
    domain.groups = [group]
    return group, domain


def conflicts_of(errno: str, call: Call, group: IommuGroup, domain: Domain, starts: Sequence[int], ends: Sequence[int]) -> list[Span]:
    """Return what the user has mapped where the refused group's domain would have had no place for it: one span for each obstacle."""
    if any(event.kind == "attach" and event.domain == domain.number and event.errno for event in call.events):
        return []  # the unit's driver said no, whatever is mapped
    obstacles: list[Span] = []
    if errno == "EINVAL" and domain.kernel.has("valid_iova"):
        obstacles = [region.span for region in group.reserved if region.kind in RESERVED_FOR_USER]
        obstacles += [Span(a, b) for a, b in ((0, domain.aperture.start), (domain.aperture.end, U64)) if a < b]
    elif errno == "EFAULT" and domain.reach < U64:
        obstacles = [Span(domain.reach, U64)]
    found = []
    for span in obstacles:
        first, last = bisect_right(ends, span.start), bisect_left(starts, span.end)
        if first < last:
            found.append(Span(max(starts[first], span.start), min(ends[last - 1], span.end)))
    return sorted(found)
