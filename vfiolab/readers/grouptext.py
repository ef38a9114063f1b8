"""Read groups that somebody recorded: boot messages, and listings in the usual shapes.

These say which devices shared a group, not why: they are compared with what follows from a topology.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vfiolab.model.pci.topology import TopologyError, normal_bdf
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import lines_of, number_of
from vfiolab.readers.listing import Recorded, recorded_in

_BDF = r"((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])"
#: The word before the address is the driver that has the device, `pci` if none has.
_ADDING = re.compile(_BDF + r": Adding to iommu group (\d+)")
_ADDING_OLD = re.compile(r"iommu: Adding device " + _BDF + r" to group (\d+)")
_REMOVING = re.compile(_BDF + r": Removing from iommu group (\d+)|iommu: Removing device " + _BDF + r" from group (\d+)")
_PATH = re.compile(r"iommu_groups/(\d+)/devices/" + _BDF)
_FOLDER = re.compile(r"iommu_groups/(\d+)(?:/devices)?/?:?$")
_LINK = re.compile(_BDF + r"/iommu_group\s*(?:->|:|=)?\s*\S{0,200}iommu_groups/(\d+)")
_TREE = re.compile(r"[\s│├└─|`+-]{0,40}(\d{1,6})/?$")
_HEAD = re.compile(r"[\s#*=>_-]{0,40}(?:iommu|IOMMU)[ _]?[Gg]roup:?\s?#?(\d+)\s?:?(.*)")
_PLAIN_HEAD = re.compile(r"[\s#*=>_-]{0,40}(?:[Gg]roup|GROUP):?\s{0,4}#?(\d+)\s?:?(.*)")
_END = re.compile(r"\s{0,8}(?:In no group|Warnings|Check)\b")
_MEMBER = re.compile(r"(?<![0-9a-fA-F:.\[])" + _BDF + r"(?![0-9a-fA-F.])")
_NAMES = re.compile(r"(?:\s*(?:[0-9a-fA-F]{4,8}:)[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]@?)+\s*$")
_SLOT = re.compile(r"Slot:\s{0,8}" + _BDF + r"\s*$")
_SLOT_GROUP = re.compile(r"IOMMUGroup:\s{0,8}(\d+)\s*$")
_STAMP = re.compile(r"^\s{0,8}(?:<\d{1,4}>)?\[\s{0,12}\d{1,12}\.\d{1,9}\]| kernel: ")
_INSIDE = re.compile(r"(?:\./)?(\d{1,6})/devices(?:/" + _BDF + r"|:?$)")
_QUOTED = re.compile(r"^(?:> ?){1,8}")
_VERSION = re.compile(r"Linux version (\d+\.\d+\S*)")
_FACTS = (
    (re.compile(r"DMAR: IOMMU enabled"), "Intel VT-d is turned on by the boot parameter"),
    (re.compile(r"DMAR: Intel\(R\) Virtualization Technology for Directed I/O"), "Intel VT-d is in use"),
    (re.compile(r"DMAR-IR: Enabled IRQ remapping"), "interrupt remapping is on (Intel)"),
    (re.compile(r"AMD-Vi: Interrupt remapping enabled"), "interrupt remapping is on (AMD)"),
    (re.compile(r"AMD-Vi: (?:AMD IOMMUv2|Found IOMMU|IOMMU performance counters supported)"), "AMD-Vi is in use"),
    (re.compile(r"arm-smmu-v3 .{0,80}?(?:ias|probing hardware)"), "an Arm SMMUv3 is in use"),
    (re.compile(r"arm-smmu .{0,80}?(?:probing hardware|SMMUv[12] with)"), "an Arm SMMU is in use"),
    (re.compile(r"Intel PCH root port ACS workaround enabled"), "Linux programmed Intel PCH root ports to isolate"),
    (re.compile(r"Failed to enable Intel PCH ACS quirk"), "Linux could NOT program Intel PCH root ports to isolate"),
    (re.compile(r"Intel SPT PCH root port ACS workaround enabled"), "Linux turned on ACS of Intel root ports at offset 8"),
    (re.compile(r"Warning: PCIe ACS overrides enabled"), "pcie_acs_override is in force"),
)


@dataclass(frozen=True, slots=True)
class GroupText:
    """Recorded groups in ascending number, and what else the text says."""

    form: str
    recorded: Recorded
    kernel: str | None
    facts: tuple[str, ...]
    warnings: tuple[str, ...]


def looks_like_groups(text: str) -> bool:
    """Return whether the text records groups in one of the shapes that are read here."""
    return any(pattern.search(line) for line in lines_of(text[:400_000]) for pattern in _SIGNS)


_SIGNS = (
    _ADDING, _ADDING_OLD, _PATH, _LINK, _SLOT_GROUP, _FOLDER, re.compile(r"^" + _INSIDE.pattern), re.compile(r"[─-] devices$"),
    re.compile("^" + _HEAD.pattern), re.compile("^" + _PLAIN_HEAD.pattern),
)  # fmt: skip


def read_groups(text: str, *, source: str = "group listing") -> GroupText:
    r"""Read boot messages, listings of /sys/kernel/iommu_groups, `lspci -vmm`, or "IOMMU Group N" listings.

    Raises InputError if no group is in it.

    >>> read_groups("IOMMU Group 1 00:01.0 PCI bridge\nIOMMU Group 1 01:00.0 VGA").recorded
    (('0000:00:01.0', '0000:01:00.0'),)
    >>> read_groups("[    0.5] pci 0000:00:02.0: Adding to iommu group 0").form
    'boot messages'
    """
    reader = _Reader()
    for number, line in enumerate(lines_of(text), start=1):
        reader.take(number, _QUOTED.sub("", line))
    if not reader.groups:
        advice = "give dmesg, 'find /sys/kernel/iommu_groups', or a listing with 'IOMMU Group N'"
        raise InputError("no IOMMU group in it", where=source, advice=advice)
    facts = tuple(dict.fromkeys(reader.facts))
    return GroupText(reader.form, recorded_in(reader.groups.items()), reader.kernel, facts, tuple(reader.warnings))


class _Reader:
    def __init__(self) -> None:
        self.groups: dict[str, int] = {}
        self.facts: list[str] = []
        self.warnings: list[str] = []
        self.kernel: str | None = None
        self.form = "group listing"
        self.now: int | None = None
        self.folder = False
        self.slot = ""

    def take(self, number: int, line: str) -> None:
        adding = _ADDING.search(line) or _ADDING_OLD.search(line)
        if adding:
            self.form = "boot messages"
            self.put(number, adding[1], adding[2])
        elif _STAMP.search(line):
            self._boot_line(line)
        elif not self._path(number, line) and not self._record(number, line):
            self._section(number, line)

    def _path(self, number: int, line: str) -> bool:
        """Read a line that names a group's folder: what `find`, `ls` and `tree` print of /sys/kernel/iommu_groups."""
        path, link, inside = _PATH.search(line), _LINK.search(line), _INSIDE.match(line)
        folder = _FOLDER.search(line.rstrip()) or (inside if inside and not inside[2] else None)
        if path:
            self.put(number, path[2], path[1])
        elif link:
            self.put(number, link[1], link[2])
        elif inside and inside[2]:
            self.put(number, inside[2], inside[1])
        elif folder:
            self.now = number_of(folder[1])
            self.folder = True
        else:
            return False
        self.form = "paths"
        return True

    def _record(self, number: int, line: str) -> bool:
        """Read a line of `lspci -vmm`: a record's group stands behind its slot."""
        slot, group = _SLOT.match(line), _SLOT_GROUP.match(line)
        if slot:
            self.slot, self.now = slot[1], None
        elif group and self.slot:
            self.form = "lspci -vmm"
            self.put(number, self.slot, group[1])
        return bool(slot or group)

    def _section(self, number: int, line: str) -> None:
        head = _HEAD.match(line) or (_PLAIN_HEAD.match(line) if not self.groups or self.now is not None else None)
        tree = _TREE.match(line)
        if head and len(head[1]) < 7:
            self.now, self.folder = number_of(head[1]), False
            line = head[2]
        elif _END.match(line):
            self.now = None
        elif tree and (self.folder or "─" in line or "--" in line):
            self.now, self.folder = number_of(tree[1]), True
        if self.now is None:
            return
        if self.folder and _NAMES.match(line):  # `ls` puts several names into one line
            for name in _MEMBER.findall(line):
                self.put(number, name, str(self.now))
            return
        member = _MEMBER.search(line)  # one device a line: addresses further on belong to its description
        if member:
            self.put(number, member[1], str(self.now))

    def _boot_line(self, line: str) -> None:
        version = _VERSION.search(line)
        if version:
            self.kernel = version[1]
        removing = _REMOVING.search(line)
        if removing:
            self.groups.pop(normal_bdf(removing[1] or removing[3]), None)
        self.facts += [fact for pattern, fact in _FACTS if pattern.search(line)]

    def put(self, number: int, address: str, group: str) -> None:
        try:
            bdf = normal_bdf(address)
        except TopologyError as error:
            self.warnings.append(f"line {number}: {error}")
            return
        if len(group) > 6:
            self.warnings.append(f"line {number}: group number {group[:12]}... is not used")
            return
        before = self.groups.get(bdf)
        if before is not None and before != int(group):
            self.warnings.append(f"line {number}: {bdf} was in group {before} and is now in {group}; the later one is used")
        self.groups[bdf] = int(group)
