"""Read what lspci prints: -vvv at best; -v, -n, -nn, -D, -x to -xxxx, and parts of it, as far as they go.

``lspci -vvvnn`` as root shows all that grouping needs. Text pasted from a mail (quoted, indented, wrapped), a device
listed twice and a listing cut off are common, and are read with warnings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from vfiolab.model.pci import Acs, TopologyError, normal_bdf
from vfiolab.readers.config import decode
from vfiolab.readers.errors import InputError
from vfiolab.readers.listing import Draft, PciInput, settle
from vfiolab.readers.pciids import pci_ids

__all__ = ["looks_like_lspci", "read_lspci"]

_DEVICE = re.compile(r"((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])\s+(\S.*)")
_DUMP = re.compile(r"([0-9a-fA-F]{2,3}):((?: [0-9a-fA-F]{2}){1,16})\s*$")
_TITLE = re.compile(r"(?P<klass>.*?)(?: \[(?P<code>[0-9a-fA-F]{4})\])?: (?P<name>.*)")
_NUMERIC = re.compile(r"([0-9a-fA-F]{4}): ([0-9a-fA-F]{4}):([0-9a-fA-F]{4})")
_IDS = re.compile(r"\[([0-9a-fA-F]{4}):([0-9a-fA-F]{4})\]")
_TAIL = re.compile(r"(?: \((?:rev|prog-if) [^)]*\))+\s*$|\s+\((?:rev|prog-if)[^)]*$")
_BUS = re.compile(r"primary=([0-9a-fA-F]+), secondary=([0-9a-fA-F]+), subordinate=([0-9a-fA-F]+)")
_CAPABILITY = re.compile(r"\[([0-9a-fA-F]+)(?: v\d+)?\] (.*)")
_COUNT = re.compile(r"Count=(?:\d+/)?(\d+)")
_SRIOV = re.compile(r"Total VFs: (\d+).*Number of VFs: (\d+)")
_OFFSET = re.compile(r"offset: (\d+), stride: (\d+)")
_GROUP = re.compile(r"IOMMU group:? (\d+)")
_BITS = {"SrcValid": 0x01, "TransBlk": 0x02, "ReqRedir": 0x04, "CmpltRedir": 0x08, "UpstreamFwd": 0x10, "EgressCtrl": 0x20, "DirectTrans": 0x40}
_NEEDED = {"SrcValid", "ReqRedir", "CmpltRedir", "UpstreamFwd"}
_PORTS = (  # the first that fits the beginning of what follows "Express (v2) "; longer names first
    ("Legacy Endpoint", "legacy-endpoint"), ("Endpoint", "endpoint"), ("Root Port", "root-port"), ("Upstream Port", "upstream"),
    ("Downstream Port", "downstream"), ("PCI-Express to PCI/PCI-X Bridge", "pcie-to-pci"), ("PCI/PCI-X to PCI-Express Bridge", "pci-to-pcie"),
    ("PCI-Express to PCI", "pcie-to-pci"), ("PCI/PCI-X to PCI", "pci-to-pcie"), ("Root Complex Integrated", "rc-endpoint"),
    ("Root Complex Event", "rc-event-collector"),
)  # fmt: skip
_CLASSES = {"PCI bridge": 0x0604, "Host bridge": 0x0600, "IOMMU": 0x0806, "RAID bus controller": 0x0104, "ISA bridge": 0x0601}
MOST_LINES = 2_000_000


def looks_like_lspci(text: str) -> bool:
    """Return whether some line is a device line of lspci."""
    return any(_device_line(line) for line in text[:200_000].splitlines())


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
    lines = text.splitlines()
    if len(lines) > MOST_LINES:
        raise InputError(f"{len(lines)} lines: more than any lspci listing has", where=source)
    reader = _Reader(source)
    for number, line in enumerate(lines, start=1):
        reader.take(number, line)
    return reader.finish()


def _device_line(line: str) -> re.Match[str] | None:
    return _DEVICE.match(line.lstrip("> \t"))


class _Entry:
    """One device's lines: what they said so far."""

    def __init__(self, draft: Draft, number: int) -> None:
        self.draft, self.number, self.last = draft, number, number
        self.details = 0
        self.capabilities = 0
        self.denied = False
        self.section = ""
        self.words: dict[str, dict[str, bool]] = {}
        self.has_acs = False
        self.express = False
        self.registers = False
        self.dump = bytearray()


class _Reader:
    def __init__(self, source: str) -> None:
        self.source = source
        self.entries: list[_Entry] = []
        self.warnings: list[str] = []
        self.now: _Entry | None = None

    def take(self, number: int, raw: str) -> None:
        line = raw.strip().lstrip("> \t") if raw[:1] == ">" else raw.strip()
        if not line:
            return
        device = _DEVICE.match(line)
        if device is not None and not _DUMP.match(line):
            self._begin(number, device)
            return
        if self.now is None:
            return
        self.now.last = number
        self.now.details += 1
        label, _, rest = line.partition(":")
        handler = _LABELS.get(label)
        if handler is not None:
            handler(self.now, rest.strip(), line)
            return
        dump = _DUMP.match(line)
        if dump is not None:
            self._dump(number, dump)
        else:
            _loose(self.now, line)

    def _begin(self, number: int, match: re.Match[str]) -> None:
        try:
            draft = Draft(bdf=normal_bdf(match[1]), line=number)
        except TopologyError as error:  # a slot or bus beyond what PCI has
            self.warnings.append(f"line {number}: {error}; the entry is left out")
            self.now = None
            return
        _read_title(draft, match[2].strip())
        self.now = _Entry(draft, number)
        self.entries.append(self.now)

    def _dump(self, number: int, match: re.Match[str]) -> None:
        entry = self.now
        if entry is None:
            return
        at, data = int(match[1], 16), bytes.fromhex(match[2])
        if at == len(entry.dump) and at + len(data) <= 4096:
            entry.dump += data
        elif at == 0 or at > len(entry.dump):
            self.warnings.append(f"line {number}: hex dump of {entry.draft.bdf} has a gap before {at:02x}; the bytes from there on are not used")

    def finish(self) -> PciInput:
        if not self.entries:
            raise InputError("no PCI device in it", where=self.source, advice="give the output of 'lspci -vvvnn', best run as root")
        verbose = any(entry.capabilities for entry in self.entries)
        registers = any(entry.registers for entry in self.entries)
        for entry in self.entries:
            self._conclude(entry, verbose=verbose, registers=registers)
        drafts = self._merge()
        self._complain(drafts, verbose=verbose)
        topology = settle(drafts, self.warnings, where=self.source)
        groups: dict[int, list[str]] = {}
        for draft in drafts:
            if draft.group is not None:
                groups.setdefault(draft.group, []).append(draft.bdf)
        return PciInput(
            source=self.source, form="lspci", topology=topology, warnings=tuple(self.warnings),
            recorded=tuple(tuple(members) for _, members in sorted(groups.items())),
        )  # fmt: skip

    def _conclude(self, entry: _Entry, *, verbose: bool, registers: bool) -> None:
        draft = entry.draft
        is_bridge = (draft.class_code or 0) >> 8 in {0x0604, 0x0609}
        draft.caps_known = verbose and not entry.denied
        if draft.kind is None and not entry.express and draft.caps_known and (entry.details or not is_bridge):
            draft.kind = "pci-bridge" if is_bridge else "pci"
        if entry.has_acs:
            cap, ctrl = entry.words.get("ACSCap", {}), entry.words.get("ACSCtl", {})
            shown = cap.keys() & ctrl.keys() & _NEEDED
            if shown:
                draft.acs = Acs(*(sum(_BITS[name] for name, on in word.items() if on and name in cap and name in ctrl) for word in (cap, ctrl)))
                if shown < _NEEDED:
                    cut = " ".join(sorted(_NEEDED - shown))
                    draft.notes.append(f"its ACS lines are cut off before {cut}; taken to be as Linux sets it: on where the hardware has it")
            else:
                draft.caps_known = False
                draft.notes.append("its ACS registers are not shown" + ("" if registers else " (lspci -vvv shows them)"))
        if entry.dump:
            self._decode(entry)
        if draft.kind is None and draft.caps_known:
            draft.caps_known = False

    def _decode(self, entry: _Entry) -> None:
        found = decode(bytes(entry.dump))
        draft = entry.draft
        if found is None:
            draft.notes.append("its hex dump holds no configuration header")
            return
        draft.vendor, draft.device, draft.class_code = found.vendor, found.device, found.class_code
        draft.multifunction, draft.secondary, draft.subordinate = found.multifunction, found.secondary, found.subordinate
        draft.kind = found.kind or draft.kind
        if found.caps_known:
            draft.acs, draft.caps_known = found.acs, True
            draft.totalvfs, draft.numvfs = found.totalvfs, found.numvfs
            draft.vf_offset, draft.vf_stride = found.vf_offset, found.vf_stride
        draft.intx = found.intx or draft.intx
        draft.msi, draft.msix = found.msi or draft.msi, found.msix or draft.msix

    def _merge(self) -> list[Draft]:
        """One draft a device: of several entries the longest, filled up from the others."""
        found: dict[str, _Entry] = {}
        for entry in self.entries:
            first = found.get(entry.draft.bdf)
            if first is None:
                found[entry.draft.bdf] = entry
                continue
            best, other = (entry, first) if entry.details >= first.details else (first, entry)
            self._compare(best, other)
            for name in ("vendor", "device", "group", "driver", "secondary", "subordinate", "multifunction"):
                if getattr(best.draft, name) is None:
                    setattr(best.draft, name, getattr(other.draft, name))
            found[entry.draft.bdf] = best
        return [entry.draft for entry in found.values()]

    def _compare(self, best: _Entry, other: _Entry) -> None:
        a, b = best.draft, other.draft
        differ = [what for what in ("vendor", "device", "class_code") if None not in {getattr(a, what), getattr(b, what)} and getattr(a, what) != getattr(b, what)]
        if differ or (best.capabilities and other.capabilities and (a.kind, a.acs, a.secondary) != (b.kind, b.acs, b.secondary)):
            self.warnings.append(
                f"{a.bdf} is listed twice, at lines {min(a.line, b.line)} and {max(a.line, b.line)}, with different content; the entry at line {a.line} is used"
            )

    def _complain(self, drafts: list[Draft], *, verbose: bool) -> None:
        denied = [entry.draft.bdf for entry in self.entries if entry.denied]
        if denied:
            self.warnings.append(f"capabilities of {len(denied)} devices are denied ({denied[0]} first): lspci was not run as root")
        if not verbose and not any(entry.dump for entry in self.entries):
            self.warnings.append("the listing shows no capabilities: made without -vvv, or not as root")
        self.warnings += [f"{draft.bdf}: {note}" for draft in drafts for note in draft.notes]
        if not pci_ids().vendors and any(draft.vendor is None for draft in drafts):
            self.warnings.append("no ids in the listing, and no pci.ids to look names up in (install pypci-ng): rules for particular devices do not apply")
        dead = [draft.bdf for draft in drafts if draft.kind is None and draft.class_code is None and not draft.title]
        if dead:
            self.warnings.append(f"nothing but an address is known of {', '.join(dead)}")


def _read_title(draft: Draft, text: str) -> None:
    numeric = _NUMERIC.match(text)
    if numeric:
        draft.class_code, draft.vendor, draft.device = int(numeric[1], 16) << 8, int(numeric[2], 16), int(numeric[3], 16)
        ids = pci_ids()
        draft.title = f"{ids.class_name(draft.class_code) or 'Class ' + numeric[1]}: {ids.name(draft.vendor, draft.device)}"
        return
    text = _TAIL.sub("", text)
    draft.title = text
    title = _TITLE.match(text)
    if title is None:
        return
    code = int(title["code"], 16) if title["code"] else _CLASSES.get(title["klass"], -1)
    if code < 0:
        code = pci_ids().class_ids.get(title["klass"], -1)
    draft.class_code = code << 8 if code >= 0 else None
    ids_found = _IDS.findall(title["name"])
    if ids_found:
        draft.vendor, draft.device = int(ids_found[-1][0], 16), int(ids_found[-1][1], 16)
        return
    device = re.search(r" Device ([0-9a-fA-F]{4})$", title["name"])
    if device:
        draft.device = int(device[1], 16)


def _bus(entry: _Entry, rest: str, _line: str) -> None:
    match = _BUS.match(rest)
    if match and int(match[2], 16) <= 0xFF and int(match[3], 16) <= 0xFF:
        entry.draft.secondary, entry.draft.subordinate = int(match[2], 16), int(match[3], 16)


def _capability(entry: _Entry, rest: str, _line: str) -> None:
    entry.capabilities += 1
    if rest.startswith("<access denied>"):
        entry.denied = True
        return
    match = _CAPABILITY.match(rest)
    if match is None:
        return
    what = entry.section = match[2]
    if what.startswith("Express"):
        entry.express = True
        port = re.sub(r"^Express(?: \(v\d+\))? ?", "", what)
        entry.draft.kind = next((kind for name, kind in _PORTS if port.startswith(name)), None)
    elif what.startswith("Access Control Services"):
        entry.has_acs = True
    elif what.startswith("MSI-X:") or what.startswith("MSI:"):
        count = _COUNT.search(what)
        setattr(entry.draft, "msix" if what.startswith("MSI-X") else "msi", min(int(count[1]), 2048) if count else 0)


def _acs_word(entry: _Entry, _rest: str, line: str) -> None:
    entry.registers = True
    entry.section = line[:6]
    _acs_bits(entry, line)


def _acs_bits(entry: _Entry, line: str) -> None:
    word = entry.words.setdefault(entry.section, {})
    for name, sign in re.findall(r"([A-Z][A-Za-z]+)([+-])", line):
        if name in _BITS:
            word.setdefault(name, sign == "+")


def _loose(entry: _Entry, line: str) -> None:
    """Lines without a label of their own: what SR-IOV says, and pieces of wrapped lines."""
    if entry.section in {"ACSCap", "ACSCtl"}:
        _acs_bits(entry, line)
    elif "IOMMU group" in line:
        _group(entry, "", line)


def _group(entry: _Entry, _rest: str, line: str) -> None:
    match = _GROUP.search(line)
    if match and len(match[1]) < 7:
        entry.draft.group = int(match[1])


def _driver(entry: _Entry, rest: str, _line: str) -> None:
    entry.draft.driver = rest.split(" ")[0] or None


def _sriov(entry: _Entry, _rest: str, line: str) -> None:
    match = _SRIOV.search(line)
    if match:
        entry.draft.totalvfs, entry.draft.numvfs = min(int(match[1]), 65535), min(int(match[2]), 65535)


def _vf_offset(entry: _Entry, _rest: str, line: str) -> None:
    match = _OFFSET.search(line)
    if match:
        entry.draft.vf_offset, entry.draft.vf_stride = min(int(match[1]), 65535), min(int(match[2]), 65535)


def _interrupt(entry: _Entry, rest: str, _line: str) -> None:
    entry.draft.intx = int(rest.startswith("pin "))


_LABELS: dict[str, Callable[[_Entry, str, str], None]] = {
    "Bus": _bus, "Capabilities": _capability, "ACSCap": _acs_word, "ACSCtl": _acs_word, "IOMMU group": _group, "Flags": _group,
    "Kernel driver in use": _driver, "Initial VFs": _sriov, "VF offset": _vf_offset, "Interrupt": _interrupt,
}  # fmt: skip
