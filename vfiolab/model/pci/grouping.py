"""IOMMU groups from topology, as Linux forms them; every join carries its reason.

Mirrors ``pci_device_group`` (drivers/iommu/iommu.c, the same from 4.4 to 6.19): aliases first, then
the climb to where the path to the root is isolated, then alias peers, then functions of the same slot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any

from vfiolab._table import Table
from vfiolab._text import count
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.acs import AcsTester, Verdict
from vfiolab.model.pci.aliases import FIRST_VMD_SEGMENT, AliasFinder, short, some
from vfiolab.model.pci.bootparams import AcsOverride, BootParameterError, apply_acs_parameters
from vfiolab.model.pci.quirks import QUIRKS, Quirks
from vfiolab.model.pci.reasons import Above, Cause, Reason
from vfiolab.model.pci.topology import Function, Topology, normal_bdf

__all__ = ["Grouping", "GroupingOptions", "NotComputableError", "iommu_groups"]


class NotComputableError(ValueError):
    """What is missing from the input decides the groups: two readings of the gap give two partitions.

    ``finest`` and ``coarsest`` are those two.
    """

    __module__ = "vfiolab"

    def __init__(self, message: str, finest: Grouping, coarsest: Grouping) -> None:
        super().__init__(message)
        self.finest, self.coarsest = finest, coarsest


_PCI_WORDS = {"disable_acs_redir", "config_acs"}
_BOOT_WORDS = ("pcie_acs_override=WORDS", "pci=disable_acs_redir=DEVICES", "pci=config_acs=BITS@DEVICES")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupingOptions:
    """How a machine is booted, and what-ifs.

    ``pcie_acs_override``, ``disable_acs_redir`` and ``config_acs`` are values of the boot parameters.
    ``proposal_2025`` groups a switch without isolation, and everything below it, together: the
    rule proposed on the linux-pci list in 2025 and in no kernel read so far. ``isolated`` are
    functions taken to pass the ACS test, ``dropped_aliases`` pairs (device, alias owner) taken not to exist. TopologyError (a
    ValueError) for what is no PCI address.

    >>> GroupingOptions(isolated={"3:0.0"}).isolated
    frozenset({'0000:03:00.0'})
    """

    pcie_acs_override: str = ""
    disable_acs_redir: str = ""
    config_acs: str = ""
    proposal_2025: bool = False
    quirks: Quirks = QUIRKS
    isolated: frozenset[str] = frozenset()
    dropped_aliases: frozenset[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "isolated", frozenset(map(normal_bdf, self.isolated)))
        object.__setattr__(self, "dropped_aliases", frozenset((normal_bdf(a), normal_bdf(b)) for a, b in self.dropped_aliases))

    @classmethod
    def parse(cls, text: str) -> GroupingOptions:
        """Read those words of a kernel's command line that shape groups. BootParameterError (a ValueError) for any other word.

        >>> GroupingOptions.parse("pcie_acs_override=downstream pci=disable_acs_redir=00:1c.0").disable_acs_redir
        '00:1c.0'
        """
        found: dict[str, Any] = {}
        for word in text.split():
            for one in word.removeprefix("pci=").split(",") if word.startswith("pci=") else [word]:
                name, _, value = one.partition("=")
                if not value or name not in (_PCI_WORDS if word.startswith("pci=") else {"pcie_acs_override"}):
                    raise BootParameterError(f"{one!r} of {text!r} shapes no groups: give {', '.join(_BOOT_WORDS)}")
                if name in found:
                    raise BootParameterError(f"{name} is given twice in {text!r}: Linux takes the last one, so give that alone")
                found[name] = value
        AcsOverride.parse(found.get("pcie_acs_override", ""))
        return cls(**found)

    @property
    def words(self) -> str:
        """The words of a kernel's command line that `parse` reads: "" without any. ValueError for what-ifs that no boot parameter does.

        >>> GroupingOptions.parse("pci=disable_acs_redir=00:1c.0").words
        'pci=disable_acs_redir=00:1c.0'
        """
        named = {"pcie_acs_override": self.pcie_acs_override} | {f"pci={name}": getattr(self, name) for name in sorted(_PCI_WORDS)}
        text = " ".join(f"{name}={value}" for name, value in named.items() if value)
        if GroupingOptions.parse(text) != self:
            raise ValueError("a what-if that is no boot parameter has no words")
        return text


@dataclass(frozen=True, slots=True)
class Grouping:
    """The groups of one machine, in the order in which Linux numbers them on a cold boot.

    ``reasons`` has one entry per device of a group. ``left_out`` says of the other devices why
    they take no part. ``topology`` is the machine as its boot parameters left it.
    """

    groups: tuple[tuple[str, ...], ...]
    reasons: dict[str, Reason]
    left_out: dict[str, str]
    warnings: tuple[str, ...]
    topology: Topology
    kernel: Kernel
    options: GroupingOptions
    verdicts: dict[str, Verdict] = field(repr=False)
    participants: frozenset[str] | None = field(default=None, repr=False)

    def group_of(self, bdf: str) -> int:
        """Return the index of a device's group; KeyError if it is in none."""
        mates = self.mates(bdf)
        if not mates:
            raise KeyError(f"{bdf} is in no group: {self.left_out.get(normal_bdf(bdf), 'no such device')}")
        return self.groups.index(mates)

    def mates(self, bdf: str) -> tuple[str, ...]:
        """Return the members of a device's group, the device included; () if it is in none."""
        name = normal_bdf(bdf)
        return next((members for members in self.groups if name in members), ())

    def verdict(self, bdf: str) -> Verdict:
        """Return what the ACS test says of a function, also where grouping did not need to ask; KeyError if there is no such function."""
        name = normal_bdf(bdf)
        return self.verdicts.get(name) or _tester(self.topology, self.kernel, self.options).test(name)

    def rows(self) -> Table:
        """Return the reasons as a table: one row a device, in the order of the groups."""
        rows = [
            (short(bdf), number, short(r.joins or ""), r.step, r.why.removeprefix("because "), " or ".join(map(str, r.causes)))
            for number, members in enumerate(self.groups)
            for bdf in members
            for r in [self.reasons[bdf]]
        ]
        return Table(["device", "group", "joins", "step", "because", "stays while"], rows)

    def without(self, *causes: Cause) -> Grouping:
        """Group again as if these causes were not there."""
        isolated = {cause.bdf for cause in causes if cause.kind == "acs"}
        dropped = {(cause.bdf, cause.owner) for cause in causes if cause.kind == "alias"}
        options = replace(self.options, isolated=self.options.isolated | isolated, dropped_aliases=self.options.dropped_aliases | dropped)
        return _Run(self.topology, self.kernel, options, self.participants, reading=False).grouping()


def iommu_groups(
    topology: Topology, kernel: Kernel | None = None, options: GroupingOptions | None = None, *, participants: Collection[str] | None = None
) -> Grouping:
    """Compute the IOMMU groups of a machine.

    ``participants``: the devices behind an IOMMU, where that is known (a machine file's units);
    else a rule decides: IOMMUs themselves take no part, nor an AMD root complex beside its IOMMU.
    Raises NotComputableError (a ValueError) if unknown capabilities decide the partition.

    >>> from vfiolab.model.pci.topology import Function
    >>> port = Function(bdf="00:01.0", kind="root-port", secondary=1)
    >>> card = [Function(bdf=f"01:00.{n}", kind="endpoint", multifunction=True) for n in (0, 1)]
    >>> found = iommu_groups(Topology([port, *card]))
    >>> found.groups
    (('0000:00:01.0', '0000:01:00.0', '0000:01:00.1'),)
    >>> print(found.reasons["0000:01:00.1"])
    01:00.1 joins 00:01.0 because the path to the root fails at 00:01.0: no ACS capability
    """
    kernel = kernel or Kernel()
    options = options or GroupingOptions()
    behind = None if participants is None else frozenset(participants)
    topology, options, warnings = booted(topology, kernel, options)
    coarse = _Run(topology, kernel, options, behind, reading=False)
    found = coarse.grouping(warnings)
    unsure = [bdf for bdf, verdict in coarse.acs.verdicts().items() if verdict.uncertain]
    if not unsure:
        return found
    fine = _Run(topology, kernel, options, behind, reading=True).grouping(warnings)
    if set(fine.groups) == set(found.groups):
        note = f"the capabilities of {some(unsure, 4)} are not known; whatever they are, the groups come out the same"
        return replace(found, warnings=(*found.warnings, note))
    raise NotComputableError(_undecided(unsure, fine, found), fine, found)


def booted(topology: Topology, kernel: Kernel, options: GroupingOptions) -> tuple[Topology, GroupingOptions, tuple[str, ...]]:
    """Return the machine as its boot parameters leave it, the options that are not done by that, and warnings.

    ``disable_acs_redir`` and ``config_acs`` change ACS registers: a host boots once, and everything that looks at them sees the change.
    ``pcie_acs_override`` changes none: it makes the kernel believe what no register says.
    """
    changed, warnings = apply_acs_parameters(topology, kernel, disable_acs_redir=options.disable_acs_redir, config_acs=options.config_acs)
    return changed, replace(options, disable_acs_redir="", config_acs=""), tuple(warnings)


def _tester(topology: Topology, kernel: Kernel, options: GroupingOptions, *, reading: bool = False) -> AcsTester:
    override = AcsOverride.parse(options.pcie_acs_override) if options.pcie_acs_override else None
    return AcsTester(topology, kernel, quirks=options.quirks, override=override, isolated=options.isolated, reading=reading)


class _Run:
    """One pass over a machine: Linux probing device after device."""

    def __init__(
        self, topology: Topology, kernel: Kernel, options: GroupingOptions, participants: frozenset[str] | None, *, reading: bool
    ) -> None:
        self.topology, self.kernel, self.options, self.participants = topology, kernel, options, participants
        self.acs = _tester(topology, kernel, options, reading=reading)
        self.aliases = AliasFinder(self.topology, kernel, quirks=options.quirks, dropped=options.dropped_aliases)
        self.groups: list[list[str]] = []
        self.member: dict[str, int] = {}
        self.reasons: dict[str, Reason] = {}
        self.left_out: dict[str, str] = {}
        self._failing: dict[str, Above | None] = {}

    def grouping(self, warnings: tuple[str, ...] = ()) -> Grouping:
        for f in scan_order(self.topology):
            excuse = leaves_out(f, self.aliases, self.participants)
            if excuse:
                self.left_out[f.bdf] = excuse
            else:
                self._place(f.bdf)
        verdicts = self.acs.verdicts()
        assumed = sorted({v.assumption for v in verdicts.values() if v.assumption})
        doubts = [*self.acs.doubts.values(), *self.aliases.doubts.values()]
        if self.options.proposal_2025:
            self._join_open_switches()
        return Grouping(
            tuple(tuple(members) for members in self.groups if members), self.reasons, self.left_out,
            (*self.topology.warnings, *warnings, *doubts, *assumed),
            self.topology, self.kernel, self.options, verdicts, self.participants,
        )  # fmt: skip

    def _place(self, bdf: str) -> None:
        reason = self._find(bdf)
        if reason.joins is None:
            number = len(self.groups)
            self.groups.append([])
        else:
            number = self.member[reason.joins]
        self.groups[number].append(bdf)
        self.member[bdf] = number
        self.reasons[bdf] = reason

    def _find(self, bdf: str) -> Reason:
        at = bdf
        for alias in self.aliases.of_others(bdf):  # step 1
            at = alias.owner
            if at in self.member:
                rest = [a.owner for a in self.aliases.of_others(bdf) if a.owner != at]
                causes = tuple(Cause("alias", bdf, owner) for owner in (at, *rest))
                return Reason(bdf, at, "alias", f"because {alias.why}", causes, self._above(bdf))
        bridge = self.topology.parent(at)
        while bridge is not None:  # step 2
            failing = self.acs.first_failure(bridge.bdf)
            if failing is None:
                break
            at = bridge.bdf
            if at in self.member:
                why = f"because the path to the root fails at {short(failing)}: {self.acs.test(failing).why}"
                return Reason(bdf, at, "path", why, (), self._above(bdf))
            bridge = self.topology.parent(at)
        seen: set[str] = set()
        return self._peer(bdf, at, at, seen) or self._sibling(bdf, at, seen) or self._alone(bdf)

    def _peer(self, bdf: str, origin: str, at: str, seen: set[str]) -> Reason | None:
        """Step 3: whoever shares an id on the same bus, and whoever shares one with them."""
        if at in seen:
            return None
        seen.add(at)
        if at in self.member:
            return Reason(bdf, at, "peer", f"because {short(origin)} and {short(at)} may both use one id", (Cause("alias", origin, at),))
        for other in self.aliases.peers(at):
            found = self._peer(bdf, at, other.bdf, seen) or self._sibling(bdf, other.bdf, seen)
            if found:
                return found
        return None

    def _sibling(self, bdf: str, at: str, seen: set[str]) -> Reason | None:
        """Step 4: functions of one slot that are not isolated from each other."""
        verdict = self.acs.test(at)
        if verdict.passed or not self.topology.is_multifunction(at):
            return None
        for other in self.topology.siblings(at):
            if self.acs.test(other.bdf).passed:
                continue
            found = self._peer(bdf, at, other.bdf, seen)
            if found and found.joins == other.bdf:
                whose = "neither is" if at == bdf else f"neither {short(at)} nor {short(other.bdf)} is"
                why = f"because {whose} isolated from the other functions of the slot: {verdict.why}"
                return Reason(bdf, other.bdf, "sibling", why, (Cause("acs", at),), None if at == bdf else self._above(bdf))
            if found:
                return replace(found, own=(Cause("acs", at), *found.own))
        return None

    def _alone(self, bdf: str) -> Reason:
        above = self.topology.parent(bdf)
        verdict = self.acs.test(bdf)
        if not self.topology.is_multifunction(bdf):
            why = "it is alone in its slot"
        elif verdict.passed:
            why = f"it is isolated from the other functions of its slot ({verdict.why})"
        else:
            open_ones = [f for f in self.topology.siblings(bdf) if not self.acs.test(f.bdf).passed]
            first = any(not leaves_out(f, self.aliases, self.participants) for f in open_ones)
            why = f"it is the {'first' if first else 'only'} function of its slot that is not isolated from the others"
        if above is None:
            why += ", on a root bus"
        elif self.acs.first_failure(above.bdf) is None:
            why += f", and the path from {short(above.bdf)} to the root is isolated"
        return Reason(bdf, None, "new", f"because {why}", ())

    def _above(self, bdf: str) -> Above | None:
        """Return every failing bridge above: as long as one is left on the way, the device does not get free of it."""
        above = self.topology.parent(bdf)
        if above is None:
            return None
        if above.bdf not in self._failing:
            for bridge in reversed(list(takewhile(lambda f: f.bdf not in self._failing, self.topology.path(bdf)))):
                rest = self._above(bridge.bdf)
                self._failing[bridge.bdf] = rest if self.acs.test(bridge.bdf).passed else Above(Cause("acs", bridge.bdf), rest)
        return self._failing[above.bdf]

    def _join_open_switches(self) -> None:
        """Put a switch with a port that lacks isolation, and all below it, into one group (a proposal of 2025)."""
        for upstream in [f for f in self.topology.values() if f.kind == "upstream" and f.bdf in self.member]:
            ports = [f for f in self.topology.children(upstream.bdf) if f.kind == "downstream"]
            opened = next((f for f in ports if not self.acs.test(f.bdf).passed), None)
            if opened is None:
                continue
            verdict = self.acs.test(opened.bdf)
            why = f"because port {short(opened.bdf)} of the switch does not isolate (proposal of 2025): {verdict.why}"
            for f in below(self.topology, upstream.bdf):
                if f.bdf in self.member:
                    self._merge(f.bdf, upstream.bdf, Reason(f.bdf, upstream.bdf, "proposal", why, (Cause("acs", opened.bdf),)))

    def _merge(self, bdf: str, into: str, reason: Reason) -> None:
        old, new = self.member[bdf], self.member[into]
        if old != new:
            self.reasons[bdf] = reason
            for member in self.groups[old]:
                self.member[member] = new
            self.groups[new] = sorted([*self.groups[new], *self.groups[old]], key=lambda one: self.topology[one].key)
            self.groups[old] = []


def _undecided(unsure: list[str], fine: Grouping, coarse: Grouping) -> str:
    split = [bdf for bdf in coarse.reasons if fine.mates(bdf) != coarse.mates(bdf)]
    return (
        f"not computable: the capabilities of {some(unsure, 4)} are not in the input, and they decide the groups of {some(split, 4)}"
        f" ({count(len(coarse.groups), 'group')} if those devices do not isolate, {len(fine.groups)} if they do);"
        " list them with 'lspci -vvv' as root"
    )


def scan_order(topology: Topology) -> Iterator[Function]:
    """Yield functions as Linux adds them: a bus in slot order, then bridge by bridge the buses below.

    Sources: pci_scan_child_bus_extend, drivers/pci/probe.c; bus_iommu_probe, drivers/iommu/iommu.c.
    """
    roots: dict[tuple[int, int], list[Function]] = {}
    for f in topology.values():
        if topology.parent(f.bdf) is None:
            roots.setdefault((f.segment, f.bus), []).append(f)
    stack: list[tuple[Function, ...]] = [tuple(bus) for _, bus in sorted(roots.items(), reverse=True)]
    while stack:
        bus = stack.pop()
        yield from bus
        stack.extend(children for f in reversed(bus) if (children := topology.children(f.bdf)))


def below(topology: Topology, bdf: str) -> Iterator[Function]:
    """Yield everything below a bridge."""
    stack = list(topology.children(bdf))
    while stack:
        f = stack.pop()
        yield f
        stack.extend(topology.children(f.bdf))


def leaves_out(f: Function, aliases: AliasFinder, participants: Collection[str] | None) -> str:
    """Return why a function takes no part in groups; "" if it does.

    ``participants``: the devices behind an IOMMU, where somebody recorded them.
    """
    if participants is not None:
        return "" if f.bdf in participants else "it is not behind an IOMMU on this machine"
    if f.is_iommu:
        return "it is an IOMMU itself"
    if f.vendor == 0x1022 and (f.class_code or 0) >> 8 == 0x0600 and f.key[2:] == (0, 0):
        iommu = next((o for o in aliases.topology.siblings(f.bdf) if o.is_iommu), None)
        if iommu is not None:
            return f"AMD's firmware tables leave the root complex beside the IOMMU {short(iommu.bdf)} out"
    if f.segment >= FIRST_VMD_SEGMENT and aliases.vmd(f) and not aliases.kernel.has("vmd_real_dma"):
        return f"kernel {aliases.kernel} gives no group to what is behind a VMD controller"
    return ""
