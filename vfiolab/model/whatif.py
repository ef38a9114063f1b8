"""What if: a machine before and after a change, its groups compared, and what isolation was gained or lost.

Groups come from the one rule for groups, each split and merge with the reasons that the rule gave. Who reaches whom is decided as for a
delivery: by where a request turns round (`peers`), and by whether the interrupt path checks the sender.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import permutations
from typing import Any, NamedTuple

from vfiolab._table import Table
from vfiolab._text import count
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Machine
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.changes import Change
from vfiolab.model.pci.grouping import Grouping, GroupingOptions, scan_order
from vfiolab.model.pci.peers import meeting, redirects
from vfiolab.model.pci.reasons import Reason
from vfiolab.model.pci.topology import Topology

__all__ = ["Merged", "Reach", "Split", "WhatIf", "what_if"]

Group = tuple[str, ...]
#: What a way to reach a peer rests on: Linux asks whether interrupts are isolated; where a request turns round it does not say.
RESTS = {"p2p": "inference", "interrupt": "rule"}
WAYS = {"p2p": "peer-to-peer DMA", "interrupt": "raising interrupts"}
_PLURAL = {"passes": "pass", "fails": "fail", "is": "are"}


class Split(NamedTuple):
    """A group of before whose devices are in several groups after, and the fact that did it."""

    group: Group
    into: tuple[Group, ...]
    because: str

    def __str__(self) -> str:
        return f"split: {_names(self.group)} into {' | '.join(map(_names, self.into))}, because {self.because}"


class Merged(NamedTuple):
    """A group of after whose devices were in several groups before, and the fact that did it."""

    groups: tuple[Group, ...]
    into: Group
    because: str

    def __str__(self) -> str:
        return f"merged: {' | '.join(map(_names, self.groups))} into {_names(self.into)}, because {self.because}"


class Reach(NamedTuple):
    """Whether `device` reaches `peer` past the IOMMU, before and after: by "p2p" (DMA to its BARs) or "interrupt" (raising its interrupts).

    rests: "rule" where the kernel itself decides by it, "inference" where none of its rules says where a request goes. `apart`: they are in
    two groups after.
    """

    device: str
    peer: str
    by: str
    before: bool
    after: bool
    rests: str
    apart: bool

    @property
    def became(self) -> str:
        """What the change did: "reaches now", "no longer reaches", or "still reaches"."""
        return "still reaches" if self.before and self.after else "reaches now" if self.after else "no longer reaches"

    def __str__(self) -> str:
        apart = ", though in another group" if self.after and self.apart else ""
        return f"{short(self.device)} {self.became} {short(self.peer)} by {self.by}{apart} [{self.rests}]"


@dataclass(frozen=True, repr=False)
class WhatIf:
    """A machine before and after a change: groups (with reasons), what split and merged, who reaches whom.

    `machine` is the changed one, to be booted; `notes` say what was taken for granted. `reach` has a row for every pair (of devices that
    one might hand to a user, there before and after) whose reach changed, and for every pair that now shares a group or no longer shares
    one and can still reach each other.
    """

    was: Machine
    machine: Machine
    before: Grouping
    after: Grouping
    notes: tuple[str, ...]

    @property
    def gone(self) -> Group:
        """The devices that are in no group any more."""
        return tuple(bdf for bdf in self.before.reasons if bdf not in self.after.reasons)

    @property
    def new(self) -> Group:
        """The devices that were in no group before."""
        return tuple(bdf for bdf in self.after.reasons if bdf not in self.before.reasons)

    @cached_property
    def split(self) -> tuple[Split, ...]:
        """The groups of before that are in pieces now, in their order; each piece is a whole group of after."""
        parts = _in_parts(self.before, self.after)
        return tuple(Split(group, into, self._because(self.before, self.after, group)) for group, into in parts)

    @cached_property
    def merged(self) -> tuple[Merged, ...]:
        """The groups of after that have devices of several groups of before, in their order."""
        parts = _in_parts(self.after, self.before)
        return tuple(Merged(groups, into, self._because(self.after, self.before, into)) for into, groups in parts)

    @cached_property
    def reach(self) -> tuple[Reach, ...]:
        """Which device's reach past the IOMMU changed, or stayed though the groups changed."""
        return tuple(self._reach())

    @cached_property
    def isolation(self) -> dict[str, list[str]]:
        """The reach in words: under what became of isolation and by which way, who reaches whom; those that all reach one another in one line."""
        titles = {"reaches now": "Isolation lost", "no longer reaches": "Isolation gained"}
        found: dict[str, list[Reach]] = {}
        for row in self.reach:
            still = "No isolation, though in two groups" if row.apart else "No isolation, as before, and now in one group"
            found.setdefault(f"{titles.get(row.became, still)}, by {WAYS[row.by]} ({row.rests})", []).append(row)
        return {title: _who(rows) for title, rows in found.items()}

    def _reach(self) -> Iterator[Reach]:
        was, now = _numbers(self.before), _numbers(self.after)
        users = [bdf for bdf in self.after.topology if bdf in was and bdf in now and self.after.topology[bdf].is_for_users]
        ways = {
            "p2p": (_peer_reach(self.before), _peer_reach(self.after)),
            "interrupt": (_interrupt_reach(self.was), _interrupt_reach(self.machine)),
        }
        for device, peer in permutations(users, 2):
            apart = now[device] != now[peer]
            regrouped = (was[device] != was[peer]) != apart
            for by, (reached, reaches) in ways.items():
                one, two = reached(device, peer), reaches(device, peer)
                if one != two or (regrouped and two):
                    yield Reach(device, peer, by, one, two, RESTS[by], apart)

    def _because(self, tied: Grouping, free: Grouping, members: Group) -> str:
        """Name the facts by which `tied` holds these together and `free` does not."""
        apart = _numbers(free)
        facts: dict[str, dict[str, None]] = {}
        for bdf in members:
            reason = tied.reasons[bdf]
            if reason.joins is not None and apart.get(bdf, bdf) != apart.get(reason.joins, reason.joins):
                for subject, what in self._facts(reason, free):
                    facts.setdefault(what, {})[short(subject)] = None
        listed = [_sentence(list(subjects), what) for what, subjects in facts.items()]
        return "; ".join(listed[:4]) + (f"; and {len(listed) - 4} more such facts" if len(listed) > 4 else "")

    def _facts(self, reason: Reason, free: Grouping) -> Iterator[tuple[str, str]]:
        failing = [cause.bdf for cause in reason.causes if cause.kind == "acs"] + [reason.joins or ""] * (reason.step == "sibling")
        flipped = [bdf for bdf in dict.fromkeys(failing) if bdf in free.topology and free.verdict(bdf).passed]
        places = [place for bdf in (reason.device, reason.joins) if bdf and (place := self._place(bdf))]
        if flipped:
            yield from ((bdf, self._verdicts(bdf)) for bdf in flipped)
        elif places:
            yield from places
        else:
            then, now = (grouping.reasons.get(reason.device, "in no group") for grouping in (self.before, self.after))
            yield "", f"{then} before, and now {now}"

    def _verdicts(self, bdf: str) -> str:
        then, now = self.before.verdict(bdf), self.after.verdict(bdf)
        return f"{'passes' if now.passed else 'fails'} the ACS test now: {now.why} (before: {then.why})"

    def _place(self, bdf: str) -> tuple[str, str] | None:
        """Say that a function, or what is above it, is gone, new or elsewhere; None if not."""
        then, now = self.before.topology, self.after.topology
        if bdf not in now or bdf not in then:
            return bdf, "is gone" if bdf not in now else "is new"
        for one in (bdf, *(f.bdf for f in now.path(bdf))):
            old, new = then.parent(one) if one in then else None, now.parent(one)
            if (old and old.bdf) != (new and new.bdf):
                return one, f"is below {short(new.bdf) if new else 'no port'} now (before: {short(old.bdf) if old else 'no port'})"
        return None

    def table(self) -> Table:
        """Return the reach as a table: one row a pair and way."""
        rows = [(short(r.device), r.became, short(r.peer), r.by, "yes" if r.apart else "no", r.rests) for r in self.reach]
        return Table(["device", "it", "peer", "by", "in two groups now", "rests on"], rows)

    def __repr__(self) -> str:
        lines = [f"{count(len(self.before.groups), 'group')} before, {len(self.after.groups)} after"]
        lines += [f"{word}: {_names(devices)}" for word, devices in (("gone", self.gone), ("new", self.new)) if devices]
        lines += [*map(str, self.split), *map(str, self.merged), *map(str, self.reach[:12])]
        more = [f"and {len(self.reach) - 12} more: see table()"] if len(self.reach) > 12 else []
        return "\n".join([*lines, *more])

    def json(self) -> dict[str, Any]:
        """Return the comparison as plain values: before, split, merged, reach.

        >>> import vfiolab as vl
        >>> list(vl.load("amd-matisse-desktop").what_if(remove="01:00.0").json())
        ['before', 'split', 'merged', 'reach']
        """
        return {
            "before": [list(group) for group in self.before.groups],
            "split": [{"group": list(one.group), "into": list(map(list, one.into)), "because": one.because} for one in self.split],
            "merged": [{"groups": list(map(list, one.groups)), "into": list(one.into), "because": one.because} for one in self.merged],
            "reach": [
                {"from": one.device, "to": one.peer, "by": one.by, "before": one.before, "after": one.after, "rests": one.rests}
                for one in self.reach
            ],
        }


def what_if(
    machine: Machine,
    *changes: Change,
    kernel: Kernel,
    options: GroupingOptions | None = None,
    before: tuple[Kernel, GroupingOptions | None] | None = None,
) -> WhatIf:
    """Compare a machine with itself after changes, in their order, and with another kernel and other boot parameters.

    `before`: kernel and options of the other side, by default the same. TopologyError (a ValueError) for a change that makes no sense,
    NotComputableError (a ValueError) if the input does not decide the groups, ValueError where groups do not follow from registers.

    >>> from vfiolab.model.builder import MachineBuilder
    >>> from vfiolab.model.pci.changes import SetAcs
    >>> m = MachineBuilder("demo")
    >>> port = m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"))
    >>> m.endpoint("01:00.0", below=port)
    >>> what_if(m.machine(), SetAcs(port, "-RR"), kernel=Kernel("6.12"))
    2 groups before, 1 after
    merged: 00:01.0 | 01:00.0 into 00:01.0 01:00.0, because 00:01.0 fails the ACS test now: ACS is there but RR is off (before: ACS has SV RR CR UF on)
    """
    if machine.groups_from == "recorded":
        raise ValueError(
            f"machine {machine.name}: its groups are recorded and do not follow from ACS registers, so no change can be computed"
        )
    topology, notes = machine.topology, list[str]()
    for change in changes:
        topology = change.on(topology, notes)
    if any(f.is_for_users and f.bdf not in machine.bars for f in topology.values()):
        notes.append("where devices answer (their BARs) is not known of all: each is taken to answer at an address of its own")
    if not machine.units:
        notes.append("which IOMMU units there are is not known: who can raise whose interrupts is not compared")
    changed = _behind_the_same_units(machine, topology)
    old = machine.grouping(*(before or (kernel, options)))
    return WhatIf(machine, changed, old, changed.grouping(kernel, options), tuple(dict.fromkeys(notes)))


def _behind_the_same_units(machine: Machine, topology: Topology) -> Machine:
    """Return the machine with other functions: what was moved is behind the IOMMU of its new port, a virtual function behind its owner's."""
    stands_for: dict[str, str] = {}
    for f in scan_order(topology):
        above, bdf = topology.parent(f.bdf), f.bdf
        old = machine.topology.parent(bdf) if bdf in machine.topology else None
        if f.physfn is not None and bdf not in machine.topology:
            stands_for[bdf] = stands_for.get(f.physfn, f.physfn)
        elif above is not None and (old is None or old.bdf != above.bdf or above.bdf in stands_for):
            stands_for[bdf] = stands_for.get(above.bdf, above.bdf)

    def behind(devices: Iterable[str]) -> frozenset[str]:
        listed = frozenset(devices)
        return frozenset(bdf for bdf in topology if stands_for.get(bdf, bdf) in listed)

    units = tuple(replace(unit, devices=behind(unit.devices)) for unit in machine.units)
    participants = None if machine.participants is None else behind(machine.participants)
    return replace(machine, topology=topology, units=units, participants=participants)


def _numbers(grouping: Grouping) -> dict[str, int]:
    return {bdf: number for number, members in enumerate(grouping.groups) for bdf in members}


def _in_parts(whole: Grouping, other: Grouping) -> Iterator[tuple[Group, tuple[Group, ...]]]:
    """Yield the groups of `whole` whose devices are in several groups of `other`, and those groups."""
    number = _numbers(other)
    for group in whole.groups:
        parts = sorted({number[bdf] for bdf in group if bdf in number})
        if len(parts) > 1:
            yield group, tuple(other.groups[part] for part in parts)


def _peer_reach(grouping: Grouping) -> Callable[[str, str], bool]:
    """Return who can write to whose BARs past the IOMMU: where the two ways join, and no ACS there sends the request upstream."""

    @cache
    def turned(where: str) -> bool:
        return not redirects(grouping.topology, grouping.kernel, grouping.topology[where])[0]

    return lambda device, peer: turned(meeting(grouping.topology, device, peer).bdf)


def _interrupt_reach(machine: Machine) -> Callable[[str, str], bool]:
    """Return who can raise whose interrupts: on x86 whoever is not remapped, on Arm those that share a GICv2m frame."""
    unit_of = {bdf: unit for unit in machine.units for bdf in unit.devices}
    controller = machine.interrupts

    def reaches(device: str, peer: str) -> bool:
        unit = unit_of.get(device)
        if unit is not None and not unit.translates_msi:
            return not unit.isolated_msi and (controller is None or controller.doorbell is None)
        if unit is None or controller is None:
            return False
        return not controller.of(device).isolated and controller.of(device) == controller.of(peer)

    return reaches


def _who(rows: Iterable[Reach]) -> list[str]:
    peers: dict[str, list[str]] = {}
    for row in rows:
        peers.setdefault(row.device, []).append(row.peer)
    alike: dict[tuple[frozenset[str], bool], list[str]] = {}
    for device, others in peers.items():
        circle = frozenset([device, *others])
        each = all(circle == {one, *peers.get(one, ())} for one in circle)
        alike.setdefault((circle if each else frozenset(others), each), []).append(device)
    return [
        f"{', '.join(map(short, devices))}" + (": one another" if each else f" -> {', '.join(map(short, peers[devices[0]]))}")
        for (_, each), devices in alike.items()
    ]


def _sentence(subjects: list[str], what: str) -> str:
    verb, _, rest = what.partition(" ")
    if len(subjects) > 1:
        what = f"{_PLURAL.get(verb, verb)} {rest}"
    return f"{', '.join(sorted(subjects))} {what}".lstrip()


def _names(group: Group) -> str:
    return " ".join(map(short, group))
