"""What there is to be seen in an iova map, in sentences: the title, the finding under it, and the description."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from vfiolab._text import count
from vfiolab.draw.iovamap.facts import DomainFacts, SpaceFacts, page_words, width_words
from vfiolab.draw.iovamap.kinds import KINDS
from vfiolab.draw.iovamap.refusals import Attempt
from vfiolab.model.address import hexa, human_size


def listed(words: Sequence[str]) -> str:
    """Join words as a sentence does.

    >>> listed(["unit", "stage", "aperture"])
    'unit, stage and aperture'
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def traits(domain: DomainFacts) -> dict[str, str]:
    """Return what can set a domain apart from another one, in words."""
    found = {"unit": domain.unit}
    if domain.stage is not None:
        found["stage"] = f"stage {domain.stage}"
    found["aperture"] = width_words(domain.aperture)
    found["page sizes"] = f"pages {page_words(domain.page_sizes)}"
    found["coherency"] = domain.coherency
    return found


def differing(domains: Sequence[DomainFacts]) -> list[str]:
    """Return the names of the traits in which not all domains agree, and of reserved regions that not all have."""
    each = [traits(d) for d in domains]
    names = dict.fromkeys(name for one in each for name in one)
    found = [name for name in names if len({one.get(name, "") for one in each}) > 1]
    for name, kind in KINDS.items():
        if len({tuple(r.span for r in d.reserved if r.kind == name) for d in domains}) > 1:
            found.append(kind.noun)
    if len({tuple(d.span for d in domain.doorbells) for domain in domains}) > 1:
        found.append("doorbell pages")
    return found


def kinds(names: Sequence[str]) -> str:
    """Return traits that differ, as a sentence counts them.

    >>> kinds(["unit", "aperture", "coherency", "doorbell pages"])
    'IOMMU units, apertures, coherency and doorbell pages'
    """
    known = {"unit": "IOMMU units", "coherency": "coherency"}
    return listed([known.get(name, name if name.endswith("s") else f"{name}s") for name in names])


def groups_word(groups: Sequence[int]) -> str:
    """Return groups by number.

    >>> groups_word((3,)), groups_word((3, 5))
    ('group 3', 'groups 3, 5')
    """
    if not groups:
        return "no group"
    return ("group " if len(groups) == 1 else "groups ") + ", ".join(map(str, groups))


def headline(facts: SpaceFacts) -> str:
    """Return the title: the one thing to see."""
    if facts.title:
        return facts.title
    number = facts.number
    user = f"the user's {count(number, 'mapping')} ({human_size(facts.mapped_bytes)})" if number else "nothing yet"
    if facts.backend == "none":
        joined = count(len(facts.groups), "group") if facts.groups else "no group"
        follow = "there is no address space yet" if facts.groups else "attach a group to begin"
        return f"A container with {joined} and no backend: {follow}"
    if facts.backend == "noiommu":
        return "A container without an IOMMU: nothing is translated and nothing is protected"
    if not facts.domains:
        article = "An" if facts.backend[0] in "aeiou" else "A"
        return f"{article} {facts.backend} container without a domain: {user if number else 'nothing is mapped'}"
    domains = count(len(facts.domains), "domain")
    if not number:
        return f"{domains}, nothing mapped yet"
    return f"{domains} {'holds' if len(facts.domains) == 1 else 'mirror'} {user}"


def findings(facts: SpaceFacts, merged: int = 0, window: tuple[int, int] | None = None) -> list[str]:
    """Return the sentences under the title: what differs, what was refused, what was merged."""
    said = list(facts.said)
    if not said and len(facts.domains) > 1:
        names = differing(facts.domains)
        who = "They" if len(facts.domains) > 2 else f"{facts.domains[0].name} and {facts.domains[1].name}"
        said.append(f"{who} have different {kinds(names)}." if names else f"{who} do not differ in anything a user can see.")
    if facts.attempts and not facts.said:
        refused = len(facts.attempts) + facts.attempts_before
        since = " since the last change" if facts.attempts_earlier else ""
        said.append(f"{count(refused, 'map')} {'was' if refused == 1 else 'were'} refused{since}.")
    if facts.newcomer is not None and not facts.said:
        met = facts.newcomer
        said.append(f"{groups_word(met.domain.groups).capitalize()} was refused with {met.domain.refused}: {met.why}.")
    if facts.faults:
        said.append(f"{count(len(facts.faults), 'DMA fault')}.")
    if window is not None:
        said.append(f"Cut to {hexa(window[0])}-{hexa(window[1] - 1)}.")
    if merged:
        said.append(f"{merged:,} mappings are thinner than a pixel: merged, shaded by how much is mapped.")
    return said


def blame(attempt: Attempt, domains: Sequence[DomainFacts]) -> str:
    """Say which domain's what was in the way of a refused map, or nothing."""
    kinds = {obstacle.domain: obstacle.kind for obstacle in attempt.met}
    parts: dict[str, list[str]] = {}
    for domain in domains:
        if domain.number in kinds:
            parts.setdefault(KINDS[kinds[domain.number]].noun, []).append(domain.name)
    return "; ".join(f"{'outside the' if what == 'aperture' else 'meets the'} {what} of {listed(names)}" for what, names in parts.items())


def details(facts: SpaceFacts) -> list[str]:
    """Return the rest of the description: the mappings, the domains, what was refused, in sentences."""
    said = []
    shown = 6
    for start, end, name in islice(zip(facts.starts, facts.ends, facts.names, strict=True), shown):
        said.append(f"Mapping {name + ' ' if name else ''}{hexa(start)}-{hexa(end - 1)} ({human_size(end - start)}).")
    if len(facts.starts) > shown:
        said.append(f"{len(facts.starts) - shown:,} more mappings, the last ends at {hexa(facts.ends[-1] - 1)}.")
    said += [_domain_sentence(d) for d in facts.domains]
    said += [f"{d.name} holds other ranges than the user's mappings." for d in facts.domains if d.mapped is not None]
    for a in facts.attempts:
        why = blame(a, facts.domains) or a.why
        said.append(f"Refused: map {hexa(a.start)}-{hexa(a.end - 1)} ({human_size(a.end - a.start)}), {a.errno}, {why}.")
    if facts.newcomer is not None:
        said.append(f"Refused: {_domain_sentence(facts.newcomer.domain)}")
        said += [f"In its way: {span}, {human_size(span.size)}." for span in facts.newcomer.conflicts]
    if facts.attempts_earlier:
        said.append(f"Not drawn: {count(facts.attempts_earlier, 'map')} refused before the last change.")
    return said + [f"DMA fault at {hexa(f)}." for f in facts.faults]


def _domain_sentence(domain: DomainFacts) -> str:
    words = [groups_word(domain.groups), *traits(domain).values()]
    words += [f"{KINDS[region.kind].noun} {region.span}" for region in domain.reserved]
    words += [f"doorbell page {hexa(bell.physical)} at {bell.span}" for bell in domain.doorbells]
    return f"{domain.name[0].upper()}{domain.name[1:]}: {', '.join(words)}."
