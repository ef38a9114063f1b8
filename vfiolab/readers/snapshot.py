"""Turn this machine's PCI into one machine file that may be shown to others.

What is written is chosen field by field: numbers out of registers, names out of pci.ids, words out of the short lists below, and the name
of a driver that Linux has loaded (letters, digits, - and _). Nothing else is copied as text from the machine, so serial numbers, MAC
addresses and host names have no way in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vfiolab.model.pci.topology import Function
from vfiolab.readers.lines import number_of
from vfiolab.readers.listing import PciInput, is_wide
from vfiolab.readers.pcijson import device_record
from vfiolab.readers.sysfs import SYS, behind_units, open_tree, read_sysfs, root_of
from vfiolab.readers.tree import Tree

_UNIT_KINDS = {"dmar": "intel-vtd", "ivhd": "amd-vi", "smmu3": "arm-smmu-v3", "virtio": "virtio-iommu"}
_REGION = re.compile(r"(0x[0-9a-fA-F]{1,16}) (0x[0-9a-fA-F]{1,16}) (\S{1,20})")
_PLAIN_DRIVER = re.compile(r"[A-Za-z0-9_-]{1,40}")
#: What a group's ``type`` may say (iommu_group_show_type, drivers/iommu/iommu.c).
_TYPES = frozenset({"DMA", "DMA-FQ", "identity", "blocked", "unmanaged", "unknown"})
_RESERVED = frozenset({"direct", "direct-relaxable", "reserved", "msi"})


def snapshot(path: Path = SYS) -> dict[str, Any]:
    """Return the machine file of a sysfs tree, as an object ready for JSON. Raises InputError without PCI devices."""
    found = read_sysfs(path, as_found=True)
    tree = open_tree(path)
    return {
        "name": "snapshot",
        "source": "vfiolab snapshot",
        "kernel": _release(found.kernel),
        "vfio": "type1",
        "groups_from": "topology",
        "interrupts": None,
        "units": _units(tree),
        "groups": _groups(found, tree),
        "devices": [_device(f) for f in found.topology.values()],
        "notes": [
            "recorded from sysfs: ids, classes, capabilities, bus numbers, drivers; and the kernel's groups",
            "not recorded: what the IOMMU units can do beyond their name, and the interrupt controller",
            "assumed: /dev/vfio/vfio is served by type1",
            *found.warnings,
        ],
    }


def _release(release: str | None) -> str | None:
    """Keep the version number only: what follows it may be a name somebody gave."""
    match = re.match(r"\d+\.\d+(?:\.\d+)?", release or "")
    return match[0] if match else None


def _device(f: Function) -> dict[str, Any]:
    record = device_record(f)
    if not _PLAIN_DRIVER.fullmatch(record["driver"] or ""):
        record["driver"] = None
    if record["acs"] is not None and not is_wide(f):
        record["acs"].pop("wide_ctrl", None)  # behind the capability of other devices stands whatever their maker put there
    return record


def _units(tree: Tree) -> list[dict[str, Any]]:
    units = []
    for n, (name, devices) in enumerate(behind_units(tree)):
        kind = next((kind for prefix, kind in _UNIT_KINDS.items() if name.startswith(prefix)), None)
        if devices:
            units.append({"name": f"iommu{n}", **({"kind": kind} if kind else {}), "devices": sorted(devices)})
    return units


def _groups(found: PciInput, tree: Tree) -> list[dict[str, Any]]:
    groups = []
    for n, members in enumerate(found.recorded):
        number = number_of(tree.link_name(f"{root_of(tree)}/bus/pci/devices/{members[0]}/iommu_group") or "")
        number = n if number is None else number
        at = f"{root_of(tree)}/kernel/iommu_groups/{number}"
        regions = _REGION.findall(tree.text(f"{at}/reserved_regions") or "")
        kind = tree.text(f"{at}/type")
        groups.append({
            "id": number,
            "type": kind if kind in _TYPES else None,
            "devices": list(members),
            "reserved": [[start, end, word] for start, end, word in regions if word in _RESERVED],
        })  # fmt: skip
    return groups
