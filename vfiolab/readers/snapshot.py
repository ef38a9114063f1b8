"""Turn this machine's PCI into one machine file that may be shown to others.

What is written is chosen field by field from registers and names out of pci.ids: nothing is copied as
text from the machine, so serial numbers, MAC addresses and host names have no way in.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vfiolab.model.pci import TopologyError, normal_bdf
from vfiolab.readers.listing import PciInput
from vfiolab.readers.pcijson import device_record
from vfiolab.readers.sysfs import SYS, open_tree, read_sysfs
from vfiolab.readers.tree import Tree

__all__ = ["snapshot"]

_UNIT_KINDS = {"dmar": "intel-vtd", "ivhd": "amd-vi", "smmu3": "arm-smmu-v3", "virtio": "virtio-iommu"}
_REGION = re.compile(r"(0x[0-9a-fA-F]+) (0x[0-9a-fA-F]+) ([a-z-]+)")
_PLAIN_DRIVER = re.compile(r"[A-Za-z0-9_-]{1,40}")


def snapshot(path: Path = SYS) -> dict[str, Any]:
    """Return the machine file of a sysfs tree, as an object ready for JSON. Raises InputError without PCI devices."""
    found = read_sysfs(path)
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
        "devices": [_device(record) for record in map(device_record, found.topology.values())],
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


def _device(record: dict[str, Any]) -> dict[str, Any]:
    if not _PLAIN_DRIVER.fullmatch(record["driver"] or ""):
        record["driver"] = None
    return record


def _units(tree: Tree) -> list[dict[str, Any]]:
    units = []
    for n, name in enumerate(tree.names("/class/iommu")):
        kind = next((kind for prefix, kind in _UNIT_KINDS.items() if name.startswith(prefix)), None)
        devices = []
        for device in tree.names(f"/class/iommu/{name}/devices"):
            try:
                devices.append(normal_bdf(device))
            except TopologyError:
                continue  # platform devices are not PCI functions
        if devices:
            units.append({"name": f"iommu{n}", **({"kind": kind} if kind else {}), "devices": sorted(devices)})
    return units


def _groups(found: PciInput, tree: Tree) -> list[dict[str, Any]]:
    groups = []
    for n, members in enumerate(found.recorded):
        link = tree.link_name(f"/bus/pci/devices/{members[0]}/iommu_group") or ""
        number = int(link) if link.isdecimal() else n
        at = f"/kernel/iommu_groups/{number}"
        regions = _REGION.findall(tree.text(f"{at}/reserved_regions") or "")
        kind = tree.text(f"{at}/type")
        groups.append({
            "id": number,
            "type": kind if kind and re.fullmatch(r"[A-Za-z-]{1,20}", kind) else None,
            "devices": list(members),
            "reserved": [[start, end, word] for start, end, word in regions],
        })  # fmt: skip
    return groups
