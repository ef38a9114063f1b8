"""A call told in sentences, and the moments between what was before it and after: what each request to the IOMMU core changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vfiolab.draw.calls import Step, steps
from vfiolab.draw.iovamap.facts import DomainFacts, SpaceFacts
from vfiolab.model.address import Span, hexa, human_size
from vfiolab.model.errors import NAMES, STRERROR
from vfiolab.model.events import Call, Event

__all__ = ["Moment", "moments", "sentences"]


@dataclass(frozen=True, slots=True)
class Moment:
    """What one request did, in words, and the address space as it was then; `refused`: the domain whose driver said no just now."""

    words: str
    facts: SpaceFacts
    refused: DomainFacts | None = None


def sentences(calls: Iterable[Call]) -> list[str]:
    """Say what the calls asked of the IOMMU core, a sentence for each request; runs of maps are one.

    >>> call = Call("set_container")
    >>> call.events = [Event("alloc", 2), Event("attach", 1, group=10, errno=-22)]
    >>> sentences([call])
    ['Domain D2 was made.', 'Group 10 was tried in D1, and the driver answered EINVAL (Invalid argument).']
    """
    return [words for call in calls for step in steps(call) if (words := _told(step))]


def _told(step: Step) -> str:
    e = step.event
    domain, group = f"D{e.domain}", f"Group {e.group}"
    size, where = human_size(step.size), hexa(e.iova or 0)
    memory = f"{size} at {where} was" if step.number == 1 else f"{step.number:,} pieces of memory ({size}) were"
    if e.kind == "attach" and e.errno:
        name = NAMES.get(-e.errno, str(e.errno))
        return f"{group} was tried in {domain}, and the driver answered {name} ({STRERROR.get(name, 'unknown')})."
    said = {
        "claim": f"{group} was claimed for user space.",
        "release": f"{group} was given back to the kernel.",
        "alloc": f"Domain {domain} was made.",
        "free": f"Domain {domain} was freed.",
        "attach": f"{group} was attached to {domain}.",
        "detach": f"{group} was detached from {domain}.",
        "map": f"{memory} mapped in {domain}.",
        "unmap": f"{memory} unmapped from {domain}.",
        "msi_cookie": f"Doorbells of interrupts may appear in {domain} from {where} on.",
        "msi_map": f"The doorbell page {hexa(e.physical or 0)} was mapped at {where} in {domain}.",
    }
    return said.get(e.kind, "")


def moments(before: SpaceFacts, after: SpaceFacts, calls: Sequence[Call]) -> list[Moment]:
    """Return the moments of calls on an address space that was looked at before and after: the start, each request, the end."""
    return list(_Moments(before, after).walk(calls))


class _Moments:
    """The address space between two looks. What a domain is (its unit, its width) is taken from the look that has it."""

    def __init__(self, before: SpaceFacts, after: SpaceFacts) -> None:
        self.before, self.after, self.now = before, after, before
        self.known: Mapping[int, DomainFacts] = {d.number: d for d in (*before.domains, *after.lane_domains)}

    def walk(self, calls: Sequence[Call]) -> Iterator[Moment]:
        yield Moment("Before the call.", self.before)
        for call in calls:
            for step in steps(call):
                words = _told(step)
                refused = self._take(step.event)
                if words:
                    yield Moment(words, self.now, refused)
            if call.error is not None:
                yield Moment(f"The kernel answers {call.error}.", self.after)
        yield Moment("After the call.", self.after)

    def _take(self, e: Event) -> DomainFacts | None:
        """Bring the picture to what it is after a request; return the domain that refused, if one did."""
        domains = {d.number: d for d in self.now.domains}
        if e.domain is None:
            return None
        if e.kind == "alloc":
            made = self._made(e.domain)
            if made is not None:
                domains = {e.domain: made, **domains}
        elif e.kind == "free":
            domains.pop(e.domain, None)
        elif e.domain in domains:
            domain = domains[e.domain]
            if e.kind == "attach" and e.errno:
                return replace(domain, groups=(e.group or 0,), refused=NAMES.get(-e.errno, str(e.errno)))
            domains[e.domain] = self._changed(domain, e)
        inside = {*self.now.groups, *(g for d in domains.values() for g in d.groups)}
        self.now = replace(self.now, domains=tuple(domains.values()), groups=tuple(sorted(inside)))
        return None

    def _made(self, number: int) -> DomainFacts | None:
        """Return a domain as it is when it is made: with no group, and empty."""
        like = self.known.get(number) or next(iter(self.known.values()), None)
        empty: tuple[Span, ...] | None = () if self.now.starts else None
        return None if like is None else replace(like, number=number, groups=(), doorbells=(), msi_base=None, mapped=empty, refused="")

    def _changed(self, domain: DomainFacts, e: Event) -> DomainFacts:
        known = self.known.get(domain.number, domain)
        if e.kind == "attach":
            return replace(domain, groups=tuple(sorted({*domain.groups, e.group or 0})))
        if e.kind == "detach":
            return replace(domain, groups=tuple(g for g in domain.groups if g != e.group))
        if e.kind == "msi_cookie":
            return replace(domain, msi_base=e.iova)
        if e.kind == "msi_map":
            return replace(domain, doorbells=known.doorbells)
        if e.kind in {"map", "unmap"}:
            self._mapped()
        return replace(domain, mapped=known.mapped) if e.kind == "map" else domain

    def _mapped(self) -> None:
        """Let the user's mappings be those of the end; a domain that has not followed yet holds what it held."""
        after, old = self.after, tuple(map(Span, self.now.starts, self.now.ends))
        if (self.now.starts, self.now.ends) == (after.starts, after.ends):
            return
        held = tuple(replace(d, mapped=old if d.mapped is None else d.mapped) for d in self.now.domains)
        self.now = replace(self.now, starts=after.starts, ends=after.ends, names=after.names, prots=after.prots, domains=held)
