"""Why an answer is right and the others are wrong, from what the model knew: checks in the kernel's order, a journey, a group's joins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vfiolab._text import count
from vfiolab.course.predict import Option
from vfiolab.draw import sentences
from vfiolab.model.backends.native import ENTER_CHECKS
from vfiolab.model.backends.type1_checks import Rules
from vfiolab.model.checks import Check, of_kernel
from vfiolab.model.errors import VfioError
from vfiolab.model.iommu.core import CLAIM_CHECKS
from vfiolab.model.irq.delivery import OUTCOMES, PLACES
from vfiolab.model.kernel import Kernel
from vfiolab.model.user.checks import OPEN_DEVICE_CHECKS, SET_CONTAINER_CHECKS
from vfiolab.model.user.drivers import NATIVE_PROBE_CHECKS, VFIO_PROBE_CHECKS

__all__ = ["Names", "Reasons", "by_checks", "by_domains", "by_group", "by_journey"]

#: What a problem's code left, by name; the answer is `truth`.
Names = Mapping[str, Any]
#: Why the truth is so, and what is wrong with the other options: one text for all of them, or who is asked about each.
Reasons = tuple[str, str | Callable[[Option], str]]
WHERE = {"fault": "IOMMU", "p2p": "bus"}  # the station at which an outcome is decided; the others at the target


def _checks(verb: str, kernel: Kernel) -> tuple[Check, ...]:
    """Return what a call tests on a kernel, in order; that of an attach is what SET_CONTAINER or SET_IOMMU tests."""
    if verb == "map":
        return Rules(kernel).map.whole
    if verb == "unmap":
        return Rules(kernel).unmap.whole
    if verb == "bind":
        return of_kernel((*VFIO_PROBE_CHECKS, *NATIVE_PROBE_CHECKS), kernel)
    if verb == "get_device_fd":
        return of_kernel(OPEN_DEVICE_CHECKS, kernel)
    return (*of_kernel((*SET_CONTAINER_CHECKS, *ENTER_CHECKS, *CLAIM_CHECKS), kernel), *Rules(kernel).attach.whole)


def by_checks(names: Names) -> Reasons:
    """Explain by the checks of the call whose answer is `said`: which one decided, and what the others would have answered."""
    error: VfioError | None = names["said"].error
    host, truth = names["host"], names["truth"]
    known = ("map", "unmap", "bind", "get_device_fd", "set_container", "set_iommu")
    made = [call for call in host.log.calls if call.verb in known and (call.error is error or error is None)]
    rows = _checks(made[-1].verb if made else "", host.kernel)
    states = dict(error.checks) if error is not None else {}
    failed = error.failed if error is not None else ""
    because = f"{count(len(rows), 'check')} of this call hold on Linux {host.kernel}." if error is None else f"{error.why}."
    if failed:
        because += f" That is check {list(states).index(failed) + 1} of {len(states)}, “{failed}” ({error.source if error else ''})."

    def why(option: Option) -> str:
        if error is None and not str(option).startswith("E"):
            return f"It answers {truth}: {' '.join(sentences(made[-1:])) or 'nothing was there to be done.'}"
        if not str(option).startswith("E"):
            return f"A call succeeds where every check holds. Here one does not: {error.why if error else ''}."
        mine = list(dict.fromkeys(row.text for row in rows if row.errno == option)) or [row.text for row in rows if not row.errno]
        if not mine:
            return f"No check of this call answers {option} on Linux {host.kernel}."
        later = [text for text in mine if states.get(text) == "not reached"]
        held = [text for text in mine if text not in later and text != failed]
        if later and len(held) == 1:
            return f"“{held[0]}” answers {option}, and it holds here; “{later[0]}”, which answers it too, was not reached."
        if later:
            return f"{option} would be the answer of “{later[0]}”. The kernel had stopped before it came to that check."
        if not held:
            return f"“{failed}” does answer {option} inside the kernel, and {truth} is what reaches the caller."
        which = (
            f"“{held[0]}” answers {option}, and it holds" if len(held) == 1 else f"{len(held)} checks answer {option}, and all of them hold"
        )
        return f"{which} here."

    return because, why


def by_domains(names: Names) -> Reasons:
    """Explain a number of domains: who was taken into which, and why each domain that was kept could not be one of the older ones."""
    domains = names["space"].domains[::-1]
    shared = [
        f"group {group.id} was taken into D{domain.number}, which serves {' and '.join(dict.fromkeys((domain.unit.name, group.unit.name)))}"
        for domain in domains for group in domain.groups[1:]
    ]  # fmt: skip
    apart = [f"D{new.number} is not D{old.number}: {old.why_apart(new)}" for n, new in enumerate(domains) for old in domains[:n]]
    everything = "; ".join([*shared, *apart]) or f"one group alone is in D{domains[0].number}"

    def why(option: Option) -> str:
        if int(option) > names["truth"]:
            return f"For that, a group would need a domain of its own that has none: {'; '.join(shared) or everything}."
        return f"For that, two domains would have to be one: {apart[0]}."

    return f"{everything[0].upper()}{everything[1:]}.", why


def by_journey(names: Names) -> Reasons:
    """Explain what became of a request: by its journey, or by the refusal before it."""
    trip, said = names.get("trip"), names["said"]
    if trip is None:
        return f"{said.error}.", f"It does not come to that: {said.error}."
    because = f"{trip.act}: {trip.outcome}. {'; '.join(f'{step.place}: {step.why}' for step in trip.steps)}."

    def why(option: Option) -> str:
        if option not in OUTCOMES:
            return "The call was accepted: every check of it holds on this kernel."
        place = WHERE.get(str(option), "target")
        steps = [step for step in trip.steps if PLACES.index(step.place) >= PLACES.index(place)]
        here = (trip.at(place) or steps or trip.steps[-1:])[0]
        return f"That would be: {OUTCOMES[str(option)]}. But {here.why}."

    return because, why


def by_group(names: Names) -> Reasons:
    """Explain a device's group by its joins; an option that is a device by its own."""
    host, about = names["host"], names["about"]
    found = host.why(about)
    joins = "; ".join(map(str, found.joins())) or found.note or "nothing joins it to another"
    because = f"{found.headline(6)}: {joins}."

    def why(option: Option) -> str:
        if option in host.drivers:
            other = host.why(str(option))
            return f"{other.headline(4)}: {other.steps[0] if other.steps else other.note or 'nothing joins it to another'}."
        return f"{count(len(found.mates), 'other')} {'is' if len(found.mates) == 1 else 'are'} tied to it: {found.headline(6)}."

    return because, why
