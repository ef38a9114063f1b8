"""Read what lspci prints: -vvv at best; -v, -n, -nn, -D, -x to -xxxx, and parts of it, as far as they go.

``lspci -vvvnn`` as root shows all that grouping needs. Text pasted from a mail (quoted, indented, wrapped), a device
listed twice and a listing cut off are common, and are read with warnings.
"""

from __future__ import annotations

import html
import re
from functools import lru_cache
from typing import NamedTuple

from vfiolab.model.pci.topology import Acs, TopologyError, normal_bdf
from vfiolab.readers.config import decode
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import lines_of
from vfiolab.readers.listing import Draft, PciInput, recorded_in, settle, with_acs_on
from vfiolab.readers.lspcilines import ACS_BITS, LABEL, LABELS, STARTS, Entry, loose_line, open_title, read_title
from vfiolab.readers.pciids import pci_ids

_DEVICE = re.compile(r"((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])(?:\s+(\S.*))?$")
_QUOTE = ">|" + "".join(one for one in map(chr, range(0x3001)) if one.isspace())
_DUMP = re.compile(r"([0-9a-fA-F]{2,3}):((?: [0-9a-fA-F]{2}){1,16})\s*$")
_NEEDED = {"SrcValid", "ReqRedir", "CmpltRedir", "UpstreamFwd"}
_PORTS = {"root-port", "downstream"}
_ONCE = {"Control", "Status", "Bus", "Secondary status", "BridgeCtl", "ACSCap", "ACSCtl"}
_NOISE = ("pcilib:", "lspci:")
MOST_LINES = 2_000_000
#: Lines that a title or a detail may be wrapped into.
_MOST_PIECES = 6


def looks_like_lspci(text: str) -> bool:
    """Return whether some line is a device line of lspci."""
    parts = (text[:2_000].rpartition("\n")[0], text[:200_000])  # most begin with one
    return any(found[2] for part in parts for line in lines_of(part) if (found := _DEVICE.match(_unquoted(line))))


def read_lspci(text: str, *, source: str = "lspci text") -> PciInput:
    """Read a listing. Raises InputError if there is no device in it or no tree can be built.

    >>> found = read_lspci('''
    ... 00:01.0 PCI bridge [0604]: Example [1234:5678]
    ...     Bus: primary=00, secondary=01, subordinate=01, sec-latency=0
    ...     Capabilities: [40] Express (v2) Root Port (Slot+), MSI 00
    ... 01:00.0 Network controller [0280]: Example [1234:9abc]
    ...     Capabilities: [40] Express (v2) Endpoint, MSI 00
    ... ''')
    >>> found.topology.parent("0000:01:00.0").kind
    'root-port'
    """
    lines = lines_of(text)
    if len(lines) > MOST_LINES:
        raise InputError(f"{len(lines)} lines: more than any lspci listing has", where=source)
    reader = _Reader(source)
    for number, line in enumerate(lines, start=1):
        reader.take(number, line)
    reader.whole = text.endswith(("\n", "\r"))
    return reader.finish()


def _unquoted(line: str) -> str:
    """Return a line without the marks of a mail that quotes it, and without the blanks around it."""
    if "&" in line:
        line = html.unescape(line)
    return line.lstrip(_QUOTE).rstrip() if line[:1] in "> |\t" else line.rstrip()


class _Sorted(NamedTuple):
    """A line without what a mail put around it, and what it may be by itself."""

    text: str
    device: re.Match[str] | None
    dump: re.Match[str] | None
    starts: bool
    labelled: bool


@lru_cache(maxsize=1 << 13)  # most lines of a listing are in it again and again
def _sorted(raw: str) -> _Sorted:
    line = _unquoted(raw)
    return _Sorted(line, _DEVICE.match(line), _DUMP.match(line), bool(STARTS.match(line)), bool(LABEL.match(line)))


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.entries: list[Entry] = []
        self.warnings: list[str] = []
        self.now: Entry | None = None
        self.titled = False
        self.pieces: list[str] = []
        self.whole = True
        self.apart = True

    def take(self, number: int, raw: str) -> None:
        line, device, dump, starts, labelled = _sorted(raw)
        if not line:
            self._close()
            self.apart = True
            if self.now is not None:
                self.now.ended = self.now.parted = True
            return
        if device is not None and dump is None:
            self._begin(number, device)
            return
        if self.now is None or line.startswith(_NOISE):
            return
        if dump is not None:
            self._close()
            self.now.last = number
            self.now.details += 1
            self._dump(number, dump)
        elif self.titled and not (starts or (labelled and ":" in self.now.pieces[0])):
            if len(self.now.pieces) < _MOST_PIECES and open_title(" ".join(self.now.pieces)):
                self.now.pieces.append(line)
        elif labelled or starts or not self.pieces:
            self._close()
            self.now.last = number
            self.now.details += 1
            self.now.ended = self.now.parted = False
            self.pieces = [line]
        elif len(self.pieces) < _MOST_PIECES:
            self.pieces.append(line)

    def _close(self) -> None:
        """Read the line that was open, with all that it was wrapped into."""
        self.titled = False
        if self.now is None or not self.pieces:
            return
        line, self.pieces = self.pieces[0] if len(self.pieces) == 1 else " ".join(self.pieces), []
        label, _, rest = line.partition(":")
        if label in _ONCE:
            if label in self.now.labels:
                self.now.cut, self.now.mixed = f"it has two lines '{label}:', so lines of another device are among its own", True
            self.now.labels.add(label)
        handler = LABELS.get(label)
        if handler is not None:
            handler(self.now, rest.strip(), line)
        else:
            loose_line(self.now, line)

    def _begin(self, number: int, match: re.Match[str]) -> None:
        self._close()
        try:
            draft = Draft(bdf=normal_bdf(match[1]), line=number)
        except TopologyError as error:  # a slot or bus beyond what PCI has
            self.warnings.append(f"line {number}: {error}; the entry is left out")
            self.now = None
            return
        self.now = Entry(draft, number)
        self.now.apart, self.apart = self.apart, False
        self.now.pieces = [(match[2] or "").strip()]
        self.titled = True
        self.entries.append(self.now)

    def _dump(self, number: int, match: re.Match[str]) -> None:
        entry = self.now
        if entry is None:
            return
        at, data = int(match[1], 16), bytes.fromhex(match[2])
        if at == len(entry.dump) and at + len(data) <= 4096:
            entry.dump += data
        elif at == 0 or at > len(entry.dump):
            self.warnings.append(
                f"line {number}: hex dump of {entry.draft.bdf} has a gap before {at:02x}; the bytes from there on are not used"
            )

    def finish(self) -> PciInput:
        self._close()
        if not self.entries:
            raise InputError("no PCI device in it", where=self.source, advice="give the output of 'lspci -vvvnn', best run as root")
        verbose = any(entry.capabilities for entry in self.entries)
        registers = any(entry.registers for entry in self.entries)
        self._find_holes()
        for entry in self.entries:
            read_title(entry.draft, entry.pieces)
            self._conclude(entry, verbose=verbose, registers=registers)
        self._look_at_the_end()
        drafts = self._merge()
        self._complain(drafts, verbose=verbose)
        topology = settle(drafts, self.warnings, where=self.source)
        self.warnings += [
            f"{f.bdf}: its title does not say who made it; rules for particular devices do not apply to it"
            for f in topology.values()
            if f.vendor is None and f.name and pci_ids().vendors and (f.kind in _PORTS or topology.is_multifunction(f.bdf))
        ]
        recorded = recorded_in((draft.bdf, draft.group) for draft in drafts)
        topology = with_acs_on(topology, recorded, self.warnings)
        return PciInput(source=self.source, form="lspci", topology=topology, warnings=tuple(self.warnings), recorded=recorded)

    def _conclude(self, entry: Entry, *, verbose: bool, registers: bool) -> None:
        draft = entry.draft
        is_bridge = (draft.class_code or 0) >> 8 in {0x0604, 0x0609} or draft.secondary is not None
        # An entry of which only the title is there says nothing, however much its neighbours say; between blank lines, as only a verbose
        # listing prints entries, it says that there is no more.
        told = entry.details > 0 or (entry.apart and entry.ended)
        draft.caps_known = verbose and told and not entry.denied and (entry.capabilities > 0 or not entry.listed)
        if verbose and entry.listed and not entry.capabilities:
            draft.notes.append("it has capabilities (Status: Cap+), and its entry shows none")
        if entry.extended and not (entry.express or entry.pcix or entry.dump):
            entry.cut = entry.cut or "it has extended capabilities but no Express line"
        if entry.cut and not entry.dump:
            draft.caps_known = False
            draft.notes.append(f"{entry.cut}; part of its entry is missing")
            if entry.mixed:  # what it says may be said of another device
                draft.kind = draft.secondary = draft.subordinate = None
        if entry.asleep and not entry.express:
            draft.kind = "endpoint"
            draft.notes.append("it did not answer (powered down); taken to be a PCIe endpoint without ACS")
        if draft.kind is None and not entry.express and draft.caps_known:
            draft.kind = "pci-bridge" if is_bridge else "pci"
        if entry.has_acs:
            cap, ctrl = entry.words.get("ACSCap", {}), entry.words.get("ACSCtl", {})
            shown = cap.keys() & ctrl.keys() & _NEEDED
            if shown:
                draft.acs = Acs(
                    *(sum(ACS_BITS[name] for name, on in word.items() if on and name in cap and name in ctrl) for word in (cap, ctrl))
                )
                if shown < _NEEDED:
                    cut = " ".join(sorted(_NEEDED - shown))
                    draft.notes.append(
                        f"its ACS lines are cut off before {cut}; taken to be as Linux sets it: on where the hardware has it"
                    )
            else:
                draft.caps_known = False
                draft.notes.append("its ACS registers are not shown" + ("" if registers else " (lspci -vvv shows them)"))
        if entry.dump:
            self._decode(entry)
        if draft.kind is None and draft.caps_known:
            draft.caps_known = False

    def _decode(self, entry: Entry) -> None:
        found = decode(bytes(entry.dump))
        draft = entry.draft
        if found is None:
            draft.notes.append("its hex dump holds no configuration header")
            return
        draft.take(found, "vendor", "device", "class_code", "multifunction", "secondary", "subordinate")
        draft.kind = found.kind or draft.kind
        if found.caps_known:
            draft.take(found, "acs", "caps_known", "sriov_totalvfs", "sriov_numvfs", "vf_offset", "vf_stride")
        draft.intx = found.intx or draft.intx
        draft.msi, draft.msix = found.msi or draft.msi, found.msix or draft.msix

    def _merge(self) -> list[Draft]:
        """One draft a device: of several entries the longest, filled up from the others."""
        found: dict[str, Entry] = {}
        for entry in self.entries:
            first = found.get(entry.draft.bdf)
            if first is None:
                found[entry.draft.bdf] = entry
                continue
            best, other = (entry, first) if _told(entry) >= _told(first) else (first, entry)
            self._compare(best, other)
            names = ("vendor", "device", "group", "driver", "secondary", "subordinate", "multifunction")
            best.draft.take(other.draft, *(name for name in names if getattr(best.draft, name) is None))
            found[entry.draft.bdf] = best
        return [entry.draft for entry in found.values()]

    def _compare(self, best: Entry, other: Entry) -> None:
        a, b = best.draft, other.draft
        differ = [
            what
            for what in ("vendor", "device", "class_code")
            if None not in {getattr(a, what), getattr(b, what)} and getattr(a, what) != getattr(b, what)
        ]
        if differ or (best.capabilities and other.capabilities and (a.kind, a.acs, a.secondary) != (b.kind, b.acs, b.secondary)):
            self.warnings.append(
                f"{a.bdf} is listed twice, at lines {min(a.line, b.line)} and {max(a.line, b.line)}, with different"
                f" content; the entry at line {a.line} is used"
            )

    def _find_holes(self) -> None:
        """Mark the entries of which a part must be missing, by what the others have: a blank line at their end, a chain from [100] on."""
        told = [entry for entry in self.entries if entry.details]
        apart = 2 * sum(entry.parted for entry in told) > len(told)
        extended = [entry for entry in told if entry.extended]
        chained = 2 * sum("100" in entry.offsets for entry in extended) > len(extended)
        for entry in told:
            if entry.cut or entry.has_acs or entry.denied:
                continue
            beyond = {offset for offset in entry.offsets if len(offset) > 2}
            if apart and not entry.ended and entry is not self.entries[-1]:
                entry.cut = "its entry ends as no other one does"
            elif chained and beyond and "100" not in beyond:
                entry.cut = "the first of its extended capabilities is not at [100]"
            elif entry.null and beyond == {"100"} and entry.express:
                entry.cut = "its extended capabilities end with the first one, which is none (Null)"

    def _look_at_the_end(self) -> None:
        """Name the last entry if the text may end inside it, and what it would go on with matters."""
        last = self.entries[-1]
        ends = any(entry.ended for entry in self.entries[:-1])
        if last.ended or not last.details or last.has_acs or last.dump or (self.whole and not ends):
            return
        slot = last.draft.bdf[:-2]
        if last.draft.kind in _PORTS or sum(entry.draft.bdf[:-2] == slot for entry in self.entries) > 1:
            last.draft.notes.append("the text ends with its entry; if that is cut off, an ACS capability of it is missing here")

    def _complain(self, drafts: list[Draft], *, verbose: bool) -> None:
        denied = [entry.draft.bdf for entry in self.entries if entry.denied]
        if denied:
            self.warnings.append(f"capabilities of {len(denied)} devices are denied ({denied[0]} first): lspci was not run as root")
        if not verbose and not any(entry.dump for entry in self.entries):
            self.warnings.append("the listing shows no capabilities: made without -vvv, or not as root")
        self.warnings += [f"{draft.bdf}: {note}" for draft in drafts for note in draft.notes]
        if not pci_ids().vendors and any(draft.vendor is None for draft in drafts):
            self.warnings.append(
                "no ids in the listing, and no pci.ids to look names up in (install pypci-ng): rules for particular devices do not apply"
            )
        dead = [draft.bdf for draft in drafts if draft.kind is None and draft.class_code is None and not draft.name]
        if dead:
            self.warnings.append(f"nothing but an address is known of {', '.join(dead)}")


def _told(entry: Entry) -> tuple[bool, int]:
    return entry.draft.caps_known, entry.details
