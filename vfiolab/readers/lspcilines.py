"""What single lines of lspci say: one small function a kind of line."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from vfiolab._text import plain
from vfiolab.model.pci.topology import bdf_key
from vfiolab.readers.lines import number_of
from vfiolab.readers.listing import Draft
from vfiolab.readers.pciids import pci_ids

_TITLE = re.compile(r"(?P<klass>[^:]*?)(?: \[(?P<code>[0-9a-fA-F]{4})\])?: (?P<name>.*)")
_NUMERIC = re.compile(r"([0-9a-fA-F]{4}): ([0-9a-fA-F]{4}):([0-9a-fA-F]{4})")
_IDS = re.compile(r"\[([0-9a-fA-F]{4}):([0-9a-fA-F]{4})\]")
_FIELD = re.compile(r'"([^"]*)"|-[rp]([0-9a-fA-F]{2})')
_NAME_ID = re.compile(r"^(.*?) ?\[([0-9a-fA-F]{4})\]$")
_TAIL = re.compile(r" \((?:rev|prog-if) [^()]*\)$| \((?:rev|prog-if)?[^()]*$")
_BUS = re.compile(r"primary=([0-9a-fA-F]+),secondary=([0-9a-fA-F]+)(?:,subordinate=([0-9a-fA-F]+),?)?")
_CAPABILITY = re.compile(r"\[([0-9a-fA-F]{1,3})(?: ?v\d*)?\]? ?(.*)")
_PORT = re.compile(r"Express(?:\(v\d+\))?(.*)")
_COUNT = re.compile(r"Count=(?:\d{1,4}/)?(\d{1,4})(?!\d)")
_SRIOV = re.compile(r"Total VFs: (\d{1,5})\D.{0,80}?Number of VFs: (\d{1,5})(?!\d)")
_OFFSET = re.compile(r"offset: (\d{1,5}), stride: (\d{1,5})(?!\d)")
_GROUP = re.compile(r"IOMMU group:? (\d{1,6})(?!\d)")
_ACS_NAMES = ("SrcValid", "TransBlk", "ReqRedir", "CmpltRedir", "UpstreamFwd", "EgressCtrl", "DirectTrans")  # from bit 0 on
ACS_BITS = {name: 1 << bit for bit, name in enumerate(_ACS_NAMES)}
_WORD = re.compile("(" + "|".join(ACS_BITS) + ")([+-])")
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
_CLASSES = {"PCI bridge": 0x0604, "Host bridge": 0x0600, "IOMMU": 0x0806, "RAID bus controller": 0x0104, "ISA bridge": 0x0601}


class Entry:
    """One device's lines: what they said so far.

    `cut`: why a part of them must be missing; "" if none seems to be. `mixed`: lines of another device are among them. `apart`: a
    blank line stands before it; `parted`: one behind it; `ended`: that, or a line
    that only ends an entry.
    """

    def __init__(self, draft: Draft, number: int) -> None:
        self.draft, self.number, self.last = draft, number, number
        self.pieces: list[str] = []
        self.details = 0
        self.capabilities = 0
        self.offsets: set[str] = set()
        self.labels: set[str] = set()
        self.words: dict[str, dict[str, bool]] = {}
        self.denied = self.listed = self.registers = self.asleep = False
        self.express = self.extended = self.has_acs = self.pcix = self.null = False
        self.ended = self.apart = self.parted = self.mixed = False
        self.cut = ""
        self.dump = bytearray()


def open_title(text: str) -> bool:
    """Return whether a title may go on in the next line: it shows neither ids nor the words that end it."""
    return not (_IDS.search(text) or re.search(r"\((?:rev|prog-if) [^()]*\)$", text) or _NUMERIC.match(text) or text.startswith('"'))


def read_title(draft: Draft, pieces: list[str]) -> None:
    """Take class, ids and name from the first line of an entry, which a mail may have wrapped into several."""
    if len(pieces) == 1:
        _read_title(draft, pieces[0])
        return
    best = -1
    for count in range(1, len(pieces) + 1):
        for text in dict.fromkeys((" ".join(pieces[:count]), "".join(pieces[:count]))):
            reading = Draft(bdf=draft.bdf)
            _read_title(reading, text)
            sure = _sureness(reading) + (not open_title(text))
            if sure > best:
                best = sure
                draft.take(reading, "name", "class_code", "vendor", "device")


def _sureness(draft: Draft) -> int:
    """Count what a title gives: class, vendor, device; its own ids count most."""
    if draft.vendor is not None and draft.device is not None:
        return 8
    name = draft.name.partition(": ")[2]
    vendor = pci_ids().find_vendor(name)
    known = 0 if draft.class_code is None else 1
    if vendor is None:
        return known
    exact = vendor[1] in pci_ids().device_ids.get(vendor[0], {})
    return known + (6 if exact else 4 if pci_ids().find_devices(*vendor) else 2)


def _read_title(draft: Draft, text: str) -> None:
    if text.startswith('"'):
        _machine_readable(draft, text)
        return
    numeric = _NUMERIC.match(text)
    if numeric:
        draft.class_code, draft.vendor, draft.device = int(numeric[1], 16) << 8, int(numeric[2], 16), int(numeric[3], 16)
        ids = pci_ids()
        draft.name = f"{ids.class_name(draft.class_code) or 'Class ' + numeric[1]}: {ids.name(draft.vendor, draft.device)}"
        return
    for _ in range(4):
        text, gone = _TAIL.subn("", text.rstrip())
        if not gone:
            break
    draft.name = plain(text)
    title = _TITLE.match(text)
    if title is None:
        return
    draft.class_code = _class(title["klass"], title["code"])
    ids_found = _IDS.findall(title["name"])
    if ids_found:
        draft.vendor, draft.device = int(ids_found[-1][0], 16), int(ids_found[-1][1], 16)
        return
    device = re.search(r" Device ([0-9a-fA-F]{4})$", title["name"])
    if device:
        draft.device = int(device[1], 16)


def _class(name: str, code: str | None) -> int | None:
    number = int(code, 16) if code else _CLASSES.get(name, pci_ids().class_ids.get(name, -1))
    return number << 8 if number >= 0 else None


def _machine_readable(draft: Draft, text: str) -> None:
    """Read what `lspci -mm` prints behind the address: class, vendor and device, each in quotes, ids in brackets with -nn."""
    fields = [found[1] for found in _FIELD.finditer(text) if found[1] is not None][:3]
    named = [(match[1], int(match[2], 16)) if (match := _NAME_ID.match(one)) else (one, None) for one in fields]
    named += [("", None)] * (3 - len(named))
    (klass, code), (vendor, vendor_id), (device, device_id) = named
    draft.name = plain(f"{klass}: {vendor} {device}")
    draft.class_code = _class(klass, None) if code is None else code << 8
    draft.vendor, draft.device = vendor_id, device_id


def squeezed(text: str) -> str:
    """Return the text without blanks: where a line was wrapped, inside a word or between two, no longer shows."""
    return "".join(text.split())


def _bus(entry: Entry, rest: str, _line: str) -> None:
    match = _BUS.search(squeezed(rest))
    if match is None:
        return
    primary, secondary, subordinate = (None if one is None else number_of(one, 16) for one in match.groups())
    if None in {primary, secondary} or max(primary or 0, secondary or 0, subordinate or 0) > 0xFF:
        return
    if primary != bdf_key(entry.draft.bdf)[1] and primary:
        entry.cut, entry.mixed = f"its 'Bus:' line is that of a bridge on bus {primary:02x}", True
    whole = (match[3] is not None and rest.rstrip().endswith((",", "]"))) or "sec-latency" in rest
    entry.draft.secondary = secondary
    entry.draft.subordinate = subordinate if whole else max(secondary or 0, subordinate or 0)


class _Capability(NamedTuple):
    """One capability's line: what it is in one word ("" for most), and a number or kind that goes with it."""

    offset: str
    word: str
    value: Any = None


@lru_cache(maxsize=1 << 12)  # the same ones are in every listing
def _capability_in(rest: str) -> _Capability | None:
    match = _CAPABILITY.match(rest)
    if match is None:
        return None
    offset, what = match[1].lower(), match[2]
    short = squeezed(what)
    if short.startswith("Express"):
        port = _PORT.match(short)
        return _Capability(offset, "express", None if port is None else _port(port[1]))
    if short.startswith(("MSI-X:", "MSI:")):
        count = _COUNT.search(short)
        return _Capability(offset, "msix" if what.startswith("MSI-X") else "msi", min(int(count[1]), 2048) if count else 0)
    named = {"Null": "null", "PCI-X": "pcix", "AccessControlServices": "has_acs"}
    word = next((word for name, word in named.items() if (short == name if word == "null" else short.startswith(name))), "")
    begun = any(name.startswith(short) for name in ("Express", "AccessControlServices", "PCI-X"))
    return _Capability(offset, word or "cut" * begun)


def _capability(entry: Entry, rest: str, _line: str) -> None:
    entry.capabilities += 1
    if rest.startswith("<") or "access denied" in rest:
        entry.denied = True
        return
    found = _capability_in(rest)
    if found is None:
        entry.cut = "one of its capabilities is cut off"
        return
    offset, word, value = found
    if offset in entry.offsets and offset != "00":
        entry.cut, entry.mixed = "two capabilities stand at one place, so lines of another device are among its own", True
    entry.offsets.add(offset)
    entry.extended = entry.extended or len(offset) > 2
    if not word:
        return
    if word == "express":
        if entry.express:
            entry.cut, entry.mixed = "it has two Express capabilities, so lines of another device are among its own", True
        entry.express = True
        entry.draft.kind = value
    elif word in {"msi", "msix"}:
        setattr(entry.draft, word, value)
    elif word == "cut":
        entry.cut = "one of its capabilities is cut off"
    else:  # PCI-X: the other kind that has extended capabilities, conventional all the same
        setattr(entry, word, True)


def _port(text: str) -> str | None:
    """Return the kind of a port; of words that were cut off, the only one that they can begin."""
    fits = {kind for name, kind in _PORTS if squeezed(name).startswith(text)} if len(text) < 12 else set()
    return next((kind for name, kind in _PORTS if text.startswith(squeezed(name))), fits.pop() if len(fits) == 1 else None)


def _acs_word(entry: Entry, _rest: str, line: str) -> None:
    entry.registers = entry.has_acs = True
    word = entry.words.setdefault(line[:6], {})
    for name, sign in _WORD.findall(squeezed(line)):
        word.setdefault(name, sign == "+")


def loose_line(entry: Entry, line: str) -> None:
    """Lines without a label of their own."""
    if line.startswith("!!! Unknown header type"):
        entry.asleep = True
    elif "IOMMU group" in line:
        _group(entry, "", line)


def _group(entry: Entry, _rest: str, line: str) -> None:
    match = _GROUP.search(line)
    if match:
        entry.draft.group = int(match[1])


def _status(entry: Entry, rest: str, _line: str) -> None:
    entry.listed = rest.startswith("Cap+")


def _driver(entry: Entry, rest: str, _line: str) -> None:
    entry.ended = True
    entry.draft.driver = plain(rest.split(" ", maxsplit=1)[0]) or None


def _modules(entry: Entry, _rest: str, _line: str) -> None:
    entry.ended = True


def _express_register(entry: Entry, _rest: str, _line: str) -> None:
    if not entry.express:
        entry.cut = "registers of its Express capability are there without its first line"


def _counts(pattern: re.Pattern[str], *names: str) -> Callable[[Entry, str, str], None]:
    """Return what reads a line's numbers of 16 bits into fields."""

    def read(entry: Entry, _rest: str, line: str) -> None:
        for name, word in zip(names, next(iter(pattern.findall(line)), ()), strict=False):
            setattr(entry.draft, name, min(int(word), 65535))

    return read


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
    "Initial VFs": _counts(_SRIOV, "sriov_totalvfs", "sriov_numvfs"),
    "VF offset": _counts(_OFFSET, "vf_offset", "vf_stride"),
    "Interrupt": _interrupt,
    "Status": _status,
    "Kernel modules": _modules,
    **dict.fromkeys(("DevCap", "DevCtl", "DevSta", "LnkCap", "LnkCtl", "LnkSta"), _express_register),
}

#: What a line of an entry begins with. A line that begins otherwise goes on with the one before it.
STARTS = re.compile(
    r"(?:Subsystem|DeviceName|Physical Slot|Control|Status|Latency|Interrupt|NUMA node|IOMMU group|Region \d|Expansion ROM|Bus"
    r"|I/O behind bridge|Memory behind bridge|Prefetchable memory behind bridge|Secondary status|BridgeCtl|Capabilities"
    r"|Kernel driver in use|Kernel modules|Flags|BIST|Address|Masking|Vector table|PBA|Initial VFs|VF offset|Supported Page Size"
    r"|[A-Za-z]{1,8}(?:Cap|Ctl|Sta|Msk|Svrt|Svr|Log)\d?)(?: \d+)?:"
    r"|Memory at |I/O ports at |Expansion ROM at |\[virtual\]|!!!"
)
#: The same for a word that nobody wrote down here; a title goes on with such words too ("Serial" / "Attached SCSI controller: ...").
LABEL = re.compile(r"[A-Z][A-Za-z0-9/-]{1,20}(?: [A-Za-z]{1,12}){0,3}:(?: |$)")
