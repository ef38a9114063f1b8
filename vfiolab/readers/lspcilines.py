"""What single lines of lspci say: one small function a kind of line."""

from __future__ import annotations

import re
from collections.abc import Callable

from vfiolab.readers.listing import Draft
from vfiolab.readers.pciids import pci_ids

__all__ = ["ACS_BITS", "LABELS", "Entry", "loose_line", "read_title"]

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
ACS_BITS = {
    "SrcValid": 0x01,
    "TransBlk": 0x02,
    "ReqRedir": 0x04,
    "CmpltRedir": 0x08,
    "UpstreamFwd": 0x10,
    "EgressCtrl": 0x20,
    "DirectTrans": 0x40,
}
_PORTS = (  # the first that fits the beginning of what follows "Express (v2) "; longer names first
    ("Legacy Endpoint", "legacy-endpoint"),
    ("Endpoint", "endpoint"),
    ("Root Port", "root-port"),
    ("Upstream Port", "upstream"),
    ("Downstream Port", "downstream"),
    ("PCI-Express to PCI/PCI-X Bridge", "pcie-to-pci"),
    ("PCI/PCI-X to PCI-Express Bridge", "pci-to-pcie"),
    ("PCI-Express to PCI", "pcie-to-pci"),
    ("PCI/PCI-X to PCI", "pci-to-pcie"),
    ("PCI/PCI-X Bridge", "pcie-to-pci"),
    ("Root Complex Integrated", "rc-endpoint"),
    ("Root Complex Event", "rc-event-collector"),
)
_CLASSES = {
    "PCI bridge": 0x0604,
    "Host bridge": 0x0600,
    "IOMMU": 0x0806,
    "RAID bus controller": 0x0104,
    "ISA bridge": 0x0601,
}


class Entry:
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
        self.extended = False
        self.asleep = self.pcix = False
        self.registers = False
        self.dump = bytearray()


def read_title(draft: Draft, text: str) -> None:
    """Take class, ids and name from the first line of an entry."""
    numeric = _NUMERIC.match(text)
    if numeric:
        draft.class_code, draft.vendor, draft.device = (
            int(numeric[1], 16) << 8,
            int(numeric[2], 16),
            int(numeric[3], 16),
        )
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


def _bus(entry: Entry, rest: str, _line: str) -> None:
    match = _BUS.match(rest)
    if match and int(match[2], 16) <= 0xFF and int(match[3], 16) <= 0xFF:
        entry.draft.secondary, entry.draft.subordinate = int(match[2], 16), int(match[3], 16)


def _capability(entry: Entry, rest: str, _line: str) -> None:
    entry.capabilities += 1
    if rest.startswith("<access denied>"):
        entry.denied = True
        return
    match = _CAPABILITY.match(rest)
    if match is None:
        return
    what = entry.section = match[2]
    entry.extended = entry.extended or len(match[1]) > 2
    if what.startswith("Express"):
        entry.express = True
        port = re.sub(r"^Express(?: \(v\d+\))? ?", "", what)
        entry.draft.kind = next((kind for name, kind in _PORTS if port.startswith(name)), None)
    elif what.startswith("PCI-X"):  # the other kind that has extended capabilities: conventional all the same
        entry.pcix = True
    elif what.startswith("Access Control Services"):
        entry.has_acs = True
    elif what.startswith(("MSI-X:", "MSI:")):
        count = _COUNT.search(what)
        setattr(entry.draft, "msix" if what.startswith("MSI-X") else "msi", min(int(count[1]), 2048) if count else 0)


def _acs_word(entry: Entry, _rest: str, line: str) -> None:
    entry.registers = True
    entry.section = line[:6]
    _acs_bits(entry, line)


def _acs_bits(entry: Entry, line: str) -> None:
    word = entry.words.setdefault(entry.section, {})
    for name, sign in re.findall(r"([A-Z][A-Za-z]+)([+-])", line):
        if name in ACS_BITS:
            word.setdefault(name, sign == "+")


def loose_line(entry: Entry, line: str) -> None:
    """Lines without a label of their own: what SR-IOV says, and pieces of wrapped lines."""
    if line.startswith("!!! Unknown header type"):
        entry.asleep = True
    elif entry.section in {"ACSCap", "ACSCtl"}:
        _acs_bits(entry, line)
    elif "IOMMU group" in line:
        _group(entry, "", line)


def _group(entry: Entry, _rest: str, line: str) -> None:
    match = _GROUP.search(line)
    if match and len(match[1]) < 7:
        entry.draft.group = int(match[1])


def _driver(entry: Entry, rest: str, _line: str) -> None:
    entry.draft.driver = rest.split(" ", maxsplit=1)[0] or None


def _sriov(entry: Entry, _rest: str, line: str) -> None:
    match = _SRIOV.search(line)
    if match:
        entry.draft.totalvfs, entry.draft.numvfs = min(int(match[1]), 65535), min(int(match[2]), 65535)


def _vf_offset(entry: Entry, _rest: str, line: str) -> None:
    match = _OFFSET.search(line)
    if match:
        entry.draft.vf_offset, entry.draft.vf_stride = min(int(match[1]), 65535), min(int(match[2]), 65535)


def _interrupt(entry: Entry, rest: str, _line: str) -> None:
    entry.draft.intx = int(rest.startswith("pin "))


LABELS: dict[str, Callable[[Entry, str, str], None]] = {
    "Bus": _bus,
    "Capabilities": _capability,
    "ACSCap": _acs_word,
    "ACSCtl": _acs_word,
    "IOMMU group": _group,
    "Flags": _group,
    "Kernel driver in use": _driver,
    "Initial VFs": _sriov,
    "VF offset": _vf_offset,
    "Interrupt": _interrupt,
}
