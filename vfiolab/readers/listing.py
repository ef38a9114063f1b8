"""From what a reader found to a topology: fill gaps where there is one sensible way, and say so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import PurePath

from vfiolab.model.machine import Machine
from vfiolab.model.pci.acs import REQUIRED
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.quirks import QUIRKS
from vfiolab.model.pci.topology import Acs, Function, Topology, TopologyError, bdf_key
from vfiolab.readers.errors import InputError
from vfiolab.readers.pciids import pci_ids

Recorded = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PciInput:
    """What a file, a tree or this machine says about PCI.

    ``recorded`` are the groups written in the input, for comparison only. ``participants`` are
    the devices behind an IOMMU where the input names the units; ``not_computable`` says why groups
    cannot be computed from it ("" if they can); ``name`` is what a machine file calls the machine.
    """

    source: str
    form: str
    topology: Topology
    recorded: Recorded = ()
    warnings: tuple[str, ...] = ()
    kernel: str | None = None
    participants: frozenset[str] | None = None
    not_computable: str = ""
    name: str = ""

    def machine(self, name: str = "input") -> Machine:
        """Return the machine that this describes, its IOMMU units unknown; `notes` are the warnings."""
        return Machine(
            name=name, topology=self.topology, source=PurePath(self.source).name, kernel=self.kernel, participants=self.participants,
            notes=self.warnings,
        )  # fmt: skip


_FIELDS = tuple(one.name for one in fields(Function) if one.init)


@dataclass(slots=True, kw_only=True)
class Draft:
    """One function while it is being read, with the fields of `Function` and more. ``line``: where its entry begins; 0 if it has none."""

    bdf: str
    line: int = 0
    vendor: int | None = None
    device: int | None = None
    class_code: int | None = None
    name: str = ""
    kind: str | None = None
    multifunction: bool | None = None
    acs: Acs | None = None
    caps_known: bool = False
    secondary: int | None = None
    subordinate: int | None = None
    parent: str | None = None
    driver: str | None = None
    intx: int = 0
    msi: int = 0
    msix: int = 0
    physfn: str | None = None
    sriov_totalvfs: int = 0
    sriov_numvfs: int = 0
    vf_offset: int = 0
    vf_stride: int = 0
    real_dma: str | None = None
    candidates: tuple[int, ...] = ()
    group: int | None = None
    notes: list[str] = field(default_factory=list)

    def function(self) -> Function:
        """Return the finished value."""
        return Function(**{name: getattr(self, name) for name in _FIELDS})

    def take(self, other: Draft, *names: str) -> None:
        """Set fields to what another one says."""
        for name in names:
            setattr(self, name, getattr(other, name))


def recorded_in(pairs: Iterable[tuple[str, int | None]]) -> Recorded:
    """Return the groups, by number, that functions are said to be in: pairs of an address and a group's number, None if none is said."""
    groups: dict[int, list[str]] = {}
    for bdf, group in pairs:
        if group is not None:
            groups.setdefault(group, []).append(bdf)
    return tuple(tuple(members) for _, members in sorted(groups.items()))


def settle(drafts: Iterable[Draft], warnings: list[str], *, where: str) -> Topology:
    """Make a topology: find virtual functions, missing bus numbers and ids; append a warning for each assumption.

    Raises InputError if no machine can be made of the functions (naming the line of one that is in the way).
    """
    found = sorted(drafts, key=lambda d: bdf_key(d.bdf))
    _mark_virtual_functions(found)
    for draft in found:
        _identify(draft)
    _number_bridges(found, warnings)
    _hang_orphans(found, warnings)
    try:
        return Topology(draft.function() for draft in found)
    except TopologyError as error:
        line = next((d.line for d in found if d.line and d.bdf in str(error)), None)
        raise InputError(str(error), where=where, line=line, advice="no tree can be built from these bus numbers") from error


def with_acs_on(topology: Topology, recorded: Recorded, warnings: list[str]) -> Topology:
    """Return the machine as it is once an IOMMU is in use, if it was described while none was; append what was assumed.

    Linux turns ACS on only when an IOMMU driver asks for it (``pci_request_acs``; ``pci_enable_acs``, drivers/pci/pci.c, 4.4 to 6.19), and
    then everywhere. So: no groups, and no function whose ACS is on although some have it. Ports that keep their control word elsewhere
    (`AcsQuirk` wide-registers) look so on every machine.
    """
    able = [f for f in topology.values() if f.acs is not None and f.acs.cap & REQUIRED and not is_wide(f)]
    if recorded or not able or any(f.acs is not None and f.acs.ctrl & REQUIRED for f in able):
        return topology
    warnings.append(
        "no IOMMU was in use when this was taken: it shows no groups, and ACS is there but off in every device that has it"
        f" ({len(able)}, {short(able[0].bdf)} first). These are the groups as they will be once one is in use (turn it on in the firmware;"
        " Intel also needs intel_iommu=on): Linux turns ACS on then"
    )
    return topology.replace(*(replace(f, acs=_turned_on(f.acs)) for f in able if f.acs is not None))


def is_wide(function: Function) -> bool:
    """Return whether Linux knows (or may know) that this port keeps its ACS control word at offset 8."""
    rows = [*QUIRKS.acs_rows(function), *QUIRKS.possible_rows(function)]
    return any(row.rule == "wide-registers" for row in rows)


def _turned_on(acs: Acs) -> Acs:
    return replace(acs, ctrl=acs.ctrl | acs.cap & REQUIRED)


def _mark_virtual_functions(drafts: list[Draft]) -> None:
    by_id = {}
    for d in drafts:
        segment, bus, slot, function = bdf_key(d.bdf)
        by_id[segment, bus << 8 | slot << 3 | function] = d
    for pf in [d for d in drafts if d.sriov_numvfs and d.vf_offset]:
        owner = Function(bdf=pf.bdf)
        for n in range(min(pf.sriov_numvfs, 256)):
            vf = by_id.get((owner.segment, owner.requester_id + pf.vf_offset + n * pf.vf_stride))
            if vf is not None and vf is not pf:
                vf.kind, vf.physfn, vf.multifunction = "vf", pf.bdf, False
    for draft in drafts:
        if draft.kind == "endpoint" and draft.physfn is None and "Virtual Function" in draft.name:
            draft.kind = "vf"


def _identify(draft: Draft) -> None:
    """Find the ids that a name stands for."""
    if draft.vendor is not None and draft.device is not None:
        return
    ids = pci_ids()
    name = draft.name.partition(": ")[2]
    if draft.vendor is None:
        vendor = ids.find_vendor(name)
        if vendor is None:
            return
        draft.vendor, name = vendor
    else:
        name = name.removeprefix(ids.vendors.get(draft.vendor, "")).strip()
    if draft.device is None and name:
        candidates = ids.find_devices(draft.vendor, name)
        if len(candidates) == 1:
            draft.device = candidates[0]
        else:
            draft.candidates = candidates


def _bus(draft: Draft) -> tuple[int, int]:
    segment, bus, _, _ = bdf_key(draft.bdf)
    return segment, bus


def _is_bridge(draft: Draft) -> bool:
    kinds = {"root-port", "upstream", "downstream", "pcie-to-pci", "pci-to-pcie", "pci-bridge"}
    return (draft.class_code or 0) >> 8 in {0x0604, 0x0609} or draft.kind in kinds


def _orphans(drafts: list[Draft]) -> dict[tuple[int, int], list[Draft]]:
    """Map buses whose bridge is not among the functions to what is on them; what looks like root buses excluded."""
    above = {(_bus(d)[0], d.secondary) for d in drafts if d.secondary}
    known = {d.bdf for d in drafts}
    buses: dict[tuple[int, int], list[Draft]] = {}
    for d in drafts:
        if _bus(d) not in above and d.parent not in known and d.physfn not in known:
            buses.setdefault(_bus(d), []).append(d)
    return {bus: on for bus, on in buses.items() if bus[1] != 0 and not _looks_like_root(on)}


def _looks_like_root(on: list[Draft]) -> bool:
    """Return whether this is a root bus: root ports or the like are on it, or nothing that needs a link above."""
    if any(d.kind in {"root-port", "rc-endpoint", "rc-event-collector"} or (d.class_code or 0) >> 8 == 0x0600 for d in on):
        return True
    return not any(d.kind in {"endpoint", "legacy-endpoint", "upstream", "downstream", "pcie-to-pci", "vf", None} for d in on)


def _number_bridges(drafts: list[Draft], warnings: list[str]) -> None:
    """Give bridges without a 'Bus:' line the buses that no other bridge leads to, both in ascending order."""
    for segment in sorted({_bus(d)[0] for d in drafts}):
        blind = [d for d in drafts if _bus(d)[0] == segment and _is_bridge(d) and d.secondary is None]
        buses = sorted(bus for (seg, bus) in _orphans(drafts) if seg == segment)
        if not blind:
            continue
        if len(blind) == len(buses):
            for bridge, bus in zip(blind, buses, strict=True):
                bridge.secondary = bridge.subordinate = bus
                warnings.append(
                    f"{bridge.bdf}: the input does not say which bus lies below it; taken to be {bus:02x}, the one"
                    " left over, in ascending order"
                )
        elif buses:
            names = ", ".join(d.bdf for d in blind[:4]) + (f" and {len(blind) - 4} more" if len(blind) > 4 else "")
            listed = ", ".join(f"{bus:02x}" for bus in buses[:6]) + (" ..." if len(buses) > 6 else "")
            warnings.append(f"{names}: the input does not say which buses lie below; what is on bus {listed} may be below any of them")


def _hang_orphans(drafts: list[Draft], warnings: list[str]) -> None:
    bridges = [(_bus(d), d.secondary, d.subordinate or 0, d) for d in drafts if d.secondary]
    for (segment, bus), on in sorted(_orphans(drafts).items()):
        covering = [
            (low, bridge) for (home, home_bus), low, high, bridge in bridges if home == segment and home_bus != bus and low < bus <= high
        ]
        if covering:
            nearest = max(covering, key=lambda pair: pair[0])[1]
            for d in on:
                d.parent = nearest.bdf
            warnings.append(
                f"bus {bus:02x}: the bridge that leads to it is not in the input; it lies below {nearest.bdf} and the"
                " missing bridge is taken to isolate"
            )
        else:
            warnings.append(
                f"bus {bus:02x}: the bridge that leads to it is not in the input; everything above is taken to"
                f" isolate ({on[0].bdf} and the others there might share groups with more)"
            )
