"""Changes to a machine's functions as values: what one would else open the case, the firmware's menus or a configuration space for.

A change says what is so when the kernel boots: boot parameters come after it. Linux itself turns ACS on at boot where there is a
capability, so bits that are set here stand for what a kernel, a quirk or the firmware left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from typing import NamedTuple, Protocol

from vfiolab.model.pci.acs import REQUIRED
from vfiolab.model.pci.aliases import FIRST_VMD_SEGMENT, short, some
from vfiolab.model.pci.bootparams import with_acs
from vfiolab.model.pci.grouping import below
from vfiolab.model.pci.quirks import QUIRKS
from vfiolab.model.pci.topology import ACS_BITS, Acs, Function, Topology, TopologyError, normal_bdf

__all__ = ["Change", "DropAcs", "EnableVfs", "Move", "Remove", "SetAcs", "acs_words", "planned"]

_CONVENTIONAL = frozenset({"pcie-to-pci", "pci-bridge"})
_FIXED = {
    "root-port": "part of the root complex", "rc-endpoint": "part of the root complex", "rc-event-collector": "part of the root complex",
    "downstream": "part of its switch: move the switch's upstream port", "vf": "a virtual function: move its physical function",
}  # fmt: skip
#: The long words of lspci, for those who copy them.
_LONG = {
    "SOURCEVALID": "SV", "TRANSBLK": "TB", "REQREDIR": "RR", "CMPLTREDIR": "CR", "UPSTREAMFWD": "UF", "EGRESSCTRL": "EC",
    "DIRECTTRANS": "DT",
}  # fmt: skip
#: Slot and function of the first virtual function, as many cards have it: slot 10.
_FIRST_VF = 0x80


class Change(Protocol):
    """Something that can be done to a machine's functions."""

    def on(self, topology: Topology, notes: list[str]) -> Topology:
        """Return the changed machine, and add what is to be known of the change to `notes`. TopologyError (a ValueError) for nonsense."""


def planned(
    *, set_acs: Iterable[tuple[str, str]] = (), drop_acs: Iterable[str] = (),
    move: Iterable[tuple[str, str]] = (), remove: Iterable[str] = (), vfs: Iterable[tuple[str, int]] = (),
) -> tuple[Change, ...]:  # fmt: skip
    """Return changes in the order in which they make sense together: hardware first, registers last.

    >>> planned(set_acs=[("00:01.0", "+SV")], remove=["02:00.0"])
    (Remove(device='02:00.0'), SetAcs(device='00:01.0', words='+SV'))
    """
    return (
        *map(Remove, remove), *(Move(*one) for one in move), *(EnableVfs(*one) for one in vfs),
        *map(DropAcs, drop_acs), *(SetAcs(*one) for one in set_acs),
    )  # fmt: skip


def acs_words(text: str) -> tuple[int, int]:
    """Read ACS bits as (those named, those set among them); TopologyError names a word that is none.

    >>> acs_words("+SV+RR-EC")
    (37, 5)
    """
    found: dict[str, bool] = {}
    if not re.fullmatch(r"(\s*[+-]\s*\w+)+\s*", text):
        raise TopologyError(f"ACS bits {text!r}: write each as a sign and a word of {' '.join(ACS_BITS)}, such as +SV+RR+CR+UF-EC")
    for sign, word in re.findall(r"([+-])\s*(\w+)", text):
        name = word.upper()
        if name not in ACS_BITS:
            close = _LONG.get(name) or next(iter(get_close_matches(name, ACS_BITS, cutoff=0.5)), "")
            meant = f"did you mean {sign}{close}?" if close else f"words: {' '.join(ACS_BITS)}"
            raise TopologyError(f"ACS bits {text!r}: {word!r} is no ACS bit; {meant}")
        if found.setdefault(name, sign == "+") != (sign == "+"):
            raise TopologyError(f"ACS bits {text!r}: {name} is set and cleared; name it once")
    return sum(ACS_BITS[name] for name in found), sum(ACS_BITS[name] for name, on in found.items() if on)


class SetAcs(NamedTuple):
    """Set and clear ACS control bits of a function: words as `+SV+RR-EC`.

    A bit that its capability does not have stays off. A PCI Express function without the capability is given one that has the bits named.
    """

    device: str
    words: str

    def on(self, topology: Topology, notes: list[str]) -> Topology:
        """Return the machine with these bits. TopologyError: no such function or bit, capabilities not known, no PCI Express."""
        f, (mask, bits) = _find(topology, self.device), acs_words(self.words)
        if f.acs is None and not f.caps_known:
            raise TopologyError(
                f"{short(f.bdf)}: its capabilities are not in the input, so there is no ACS word to change; list it with 'lspci -vvv' as root"
            )
        if f.acs is None and f.express_type is None:
            raise TopologyError(f"{short(f.bdf)} is no PCI Express function ({f.kind or 'unknown'}): it can have no ACS capability")
        if f.acs is None:
            notes.append(f"{f.bdf}: has no ACS capability; computed as if it had one with these bits")
            return topology.replace(replace(f, acs=Acs(mask, bits)))
        missing = [name for name, bit in ACS_BITS.items() if bits & bit & ~f.acs.cap]
        if missing:
            notes.append(f"{f.bdf}: its ACS capability has no {' '.join(missing)}: what it does not have stays off")
        wide = any(row.rule == "wide-registers" for row in QUIRKS.acs_rows(f)) and f.acs.wide_ctrl is None
        acs = replace(f.acs, wide_ctrl=f.acs.cap & REQUIRED) if wide else f.acs  # where nobody read that word, Linux has turned it on
        return topology.replace(with_acs(f, acs, mask, bits))


class DropAcs(NamedTuple):
    """Take a function's ACS capability away."""

    device: str

    def on(self, topology: Topology, notes: list[str]) -> Topology:  # noqa: ARG002 -- every change is called alike
        """Return the machine without the capability. TopologyError: no such function, or it has none."""
        f = _find(topology, self.device)
        if f.acs is None:
            raise TopologyError(f"{short(f.bdf)} has no ACS capability that could be dropped")
        return topology.replace(replace(f, acs=None))


class Move(NamedTuple):
    """Put a card (all functions of the slot, and all that is below them) below another port. It keeps its addresses here."""

    device: str
    port: str

    def on(self, topology: Topology, notes: list[str]) -> Topology:
        """Return the machine with the card elsewhere. TopologyError: no such function, no bridge, soldered in, or below itself."""
        f, port = _find(topology, self.device), _find(topology, self.port)
        if f.kind in _FIXED or f.is_iommu:
            raise TopologyError(f"{short(f.bdf)} cannot be moved: it is {_FIXED.get(f.kind or '', 'an IOMMU')}")
        if not port.is_bridge:
            bridges = [one.bdf for one in topology.values() if one.is_bridge]
            raise TopologyError(f"{short(port.bdf)} is no bridge, so nothing can be below it; bridges: {some(bridges, 8)}")
        card = [one for one in topology.slot(f.bdf) if one.physfn is None]
        if any(one.bdf in {port.bdf, *(up.bdf for up in topology.path(port.bdf))} for one in card):
            raise TopologyError(f"{short(f.bdf)} cannot be moved below {short(port.bdf)}, which is itself or lies below it")
        if f.segment != port.segment and max(f.segment, port.segment) >= FIRST_VMD_SEGMENT:
            raise TopologyError(f"{short(f.bdf)} cannot be moved to {short(port.bdf)}: moves across a VMD controller are not modelled")
        there = [one.bdf for one in topology.children(port.bdf) if one not in card and one.physfn is None]
        if there and port.kind in {"root-port", "downstream"}:
            notes.append(f"{port.bdf}: holds {some(there, 8)} already, and a link has one device; computed as if both were there")
        if (port.kind in _CONVENTIONAL) != (f.kind in {"pci", "pci-bridge", "pci-to-pcie"}) and f.kind is not None:
            notes.append(f"{f.bdf}: is no card for a slot below {short(port.bdf)} ({f.kind} below {port.kind}); computed as if it fitted")
        notes.append(f"{f.bdf}: is below {short(port.bdf)} now and would get a new address there; it is named by the old one")
        return topology.replace(*(replace(one, parent=port.bdf) for one in card))


class Remove(NamedTuple):
    """Take a function away, and all that is below it; an address without a function number (01:00) is the whole card."""

    device: str

    def on(self, topology: Topology, notes: list[str]) -> Topology:
        """Return the machine without the function. TopologyError: no such function."""
        whole = "." not in self.device
        names = [f"{self.device}.{number}" for number in range(8)] if whole else [self.device]
        f = _find(topology, next((name for name in names if normal_bdf(name) in topology), names[0]))
        card = [one for one in topology.slot(f.bdf) if one.physfn is None and f.physfn is None]
        gone = {one.bdf for one in (card if whole else [f])}
        gone |= {one.bdf for bdf in gone for one in below(topology, bdf)}
        gone |= {one.bdf for one in topology.values() if one.physfn in gone}
        rest = [one.bdf for one in card if one.bdf not in gone]
        if rest and topology.parent(f.bdf) is not None:
            notes.append(f"{f.bdf}: {some(rest, 8)} of the same card stays; {short(f.bdf)[:-2]} takes the whole card")
        return Topology(one for one in topology.values() if one.bdf not in gone)


class EnableVfs(NamedTuple):
    """Enable virtual functions of a function (its sriov_numvfs). Their addresses are invented: a listing does not say all that makes them."""

    device: str
    number: int

    def on(self, topology: Topology, notes: list[str]) -> Topology:
        """Return the machine with virtual functions. TopologyError: no such function, no SR-IOV, too many, or enabled already."""
        f = _find(topology, self.device)
        if not f.sriov_totalvfs:
            raise TopologyError(f"{short(f.bdf)} has no SR-IOV capability, so it has no virtual functions to enable")
        if f.sriov_numvfs or any(one.physfn == f.bdf for one in topology.values()):
            raise TopologyError(f"{short(f.bdf)} has its virtual functions enabled already ({f.sriov_numvfs}); Linux wants 0 first (EBUSY)")
        if not 0 < self.number <= f.sriov_totalvfs:
            raise TopologyError(f"{short(f.bdf)}: it has 1 to {f.sriov_totalvfs} virtual functions to enable, not {self.number}")
        notes.append(f"{f.bdf}: the addresses of its virtual functions are invented")
        one = Function(bdf=f.bdf, kind="vf", physfn=f.bdf, vendor=f.vendor, class_code=f.class_code, multifunction=False)
        vfs = [replace(one, bdf=bdf) for bdf in islice(_free(topology, f), self.number)]
        return Topology([*topology.replace(replace(f, sriov_numvfs=self.number)).values(), *vfs])


def _free(topology: Topology, f: Function) -> Iterator[str]:
    """Yield addresses that no function has, from slot 10 of the bus on; no bus that a bridge leads to but this one."""
    led = {one.secondary for one in topology.values() if one.segment == f.segment} - {f.bus}
    for number in range(f.bus << 8 | _FIRST_VF, 1 << 16):
        bdf = f"{f.segment:04x}:{number >> 8:02x}:{number >> 3 & 0x1F:02x}.{number & 7}"
        if number >> 8 not in led and bdf not in topology:
            yield bdf
    raise TopologyError(f"{short(f.bdf)}: no bus number is left for its virtual functions")


def _find(topology: Topology, name: str) -> Function:
    bdf = normal_bdf(name)
    if bdf not in topology:
        alike = [one for one in topology if one.endswith(bdf[-7:]) or one.startswith(bdf[:8])] or get_close_matches(bdf, topology, n=3)
        raise TopologyError(f"{name}: no such function; on that bus or like it: {some(alike, 8) or 'none'}")
    return topology[bdf]
