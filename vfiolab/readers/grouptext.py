"""Read groups that somebody recorded: boot messages, and listings in the usual shapes.

These say which devices shared a group, not why: they are compared with what follows from a topology.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vfiolab.model.pci import TopologyError, normal_bdf
from vfiolab.readers.errors import InputError
from vfiolab.readers.listing import Recorded

__all__ = ["GroupText", "looks_like_groups", "read_groups"]

_BDF = r"((?:[0-9a-fA-F]{4,8}:)?[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])"
_ADDING = re.compile(r"pci " + _BDF + r": Adding to iommu group (\d+)")
_ADDING_OLD = re.compile(r"iommu: Adding device " + _BDF + r" to group (\d+)")
_REMOVING = re.compile(r"pci " + _BDF + r": Removing from iommu group (\d+)|iommu: Removing device " + _BDF + r" from group (\d+)")
_PATH = re.compile(r"iommu_groups/(\d+)/devices/" + _BDF)
_HEAD = re.compile(r"\s*(?:[#*=>-]*\s*)?IOMMU[ _]?[Gg]roup:?\s*#?(\d+)\s*:?(.*)")
_PLAIN_HEAD = re.compile(r"\s*[Gg]roup:?\s*#?(\d+)\s*:?(.*)")
_MEMBER = re.compile(r"(?<![0-9a-fA-F:.\[])" + _BDF + r"(?![0-9a-fA-F.])")
_STAMP = re.compile(r"^\s*(?:<\d+>)?\[\s*\d+\.\d+\]| kernel: ")
_VERSION = re.compile(r"Linux version (\d+\.\d+\S*)")
_FACTS = (
    (re.compile(r"DMAR: IOMMU enabled"), "Intel VT-d is turned on by the boot parameter"),
    (re.compile(r"DMAR: Intel\(R\) Virtualization Technology for Directed I/O"), "Intel VT-d is in use"),
    (re.compile(r"DMAR-IR: Enabled IRQ remapping"), "interrupt remapping is on (Intel)"),
    (re.compile(r"AMD-Vi: Interrupt remapping enabled"), "interrupt remapping is on (AMD)"),
    (re.compile(r"AMD-Vi: (?:AMD IOMMUv2|Found IOMMU|IOMMU performance counters supported)"), "AMD-Vi is in use"),
    (re.compile(r"arm-smmu-v3 .*(?:ias|probing hardware)"), "an Arm SMMUv3 is in use"),
    (re.compile(r"arm-smmu .*(?:probing hardware|SMMUv[12] with)"), "an Arm SMMU is in use"),
    (re.compile(r"Intel PCH root port ACS workaround enabled"), "Linux programmed Intel PCH root ports to isolate"),
    (re.compile(r"Failed to enable Intel PCH ACS quirk"), "Linux could NOT program Intel PCH root ports to isolate"),
    (
        re.compile(r"Intel SPT PCH root port ACS workaround enabled"),
        "Linux turned on ACS of Intel root ports at offset 8",
    ),
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
    head = text[:400_000]
    return bool(
        _ADDING.search(head) or _ADDING_OLD.search(head) or _PATH.search(head) or any(_HEAD.match(line) for line in head.splitlines())
    )


def read_groups(text: str, *, source: str = "group listing") -> GroupText:
    r"""Read boot messages, paths below /sys/kernel/iommu_groups, or "IOMMU Group N" listings.

    Raises InputError if no group is in it.

    >>> read_groups("IOMMU Group 1 00:01.0 PCI bridge\nIOMMU Group 1 01:00.0 VGA").recorded
    (('0000:00:01.0', '0000:01:00.0'),)
    >>> read_groups("[    0.5] pci 0000:00:02.0: Adding to iommu group 0").form
    'boot messages'
    """
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), start=1):
        reader.take(number, line)
    if not reader.groups:
        raise InputError(
            "no IOMMU group in it",
            where=source,
            advice="give dmesg, 'find /sys/kernel/iommu_groups', or a listing with 'IOMMU Group N'",
        )
    groups: dict[int, list[str]] = {}
    for bdf, group in reader.groups.items():
        groups.setdefault(group, []).append(bdf)
    return GroupText(
        reader.form, tuple(tuple(groups[number]) for number in sorted(groups)), reader.kernel,
        tuple(dict.fromkeys(reader.facts)), tuple(reader.warnings),
    )  # fmt: skip


class _Reader:
    def __init__(self) -> None:
        self.groups: dict[str, int] = {}
        self.facts: list[str] = []
        self.warnings: list[str] = []
        self.kernel: str | None = None
        self.form = "group listing"
        self.now: int | None = None

    def take(self, number: int, line: str) -> None:
        adding = _ADDING.search(line) or _ADDING_OLD.search(line)
        if adding:
            self.form = "boot messages"
            self.put(number, adding[1], adding[2])
            return
        if _STAMP.search(line):
            self._boot_line(line)
            return
        path = _PATH.search(line)
        if path:
            self.form = "paths"
            self.put(number, path[2], path[1])
            return
        head = _HEAD.match(line) or (_PLAIN_HEAD.match(line) if not self.groups or self.now is not None else None)
        if head and len(head[1]) < 7:
            self.now = int(head[1])
            line = head[2]
        if self.now is not None:
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
