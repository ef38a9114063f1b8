"""Read PCI from a sysfs tree: this machine's /sys, or a copy of it as a folder or tar file.

What a device is comes from the bytes of its ``config`` file: 4096 as root, 64 otherwise.
``iommu_group`` links are kept for comparison only.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vfiolab._text import plain
from vfiolab.model.pci.topology import TopologyError, normal_bdf
from vfiolab.readers.config import decode
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import number_of
from vfiolab.readers.listing import Draft, PciInput, recorded_in, settle, with_acs_on
from vfiolab.readers.pciids import pci_ids
from vfiolab.readers.tree import DirectoryTree, TarTree, Tree, is_tar

SYS = Path("/sys")
_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DEEPEST = 24


def open_tree(path: Path) -> Tree:
    """Return the tree of a folder or tar file. Raises InputError if it is neither."""
    try:
        if path.is_dir():
            return DirectoryTree(path)
        there = path.exists()
    except (OSError, ValueError) as error:
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}", where=str(path)) from error
    if there and is_tar(path):
        return TarTree(path)
    what = "not a readable tar file, nor a folder" if there else "no such file or folder"
    raise InputError(what, where=str(path), advice="give a sysfs tree: a folder or a tar file")


def root_of(tree: Tree) -> str:
    """Return where in a tree sysfs begins: "" or "/sys"."""
    return "" if tree.names("/bus") or tree.names("/class") or tree.names("/devices") else "/sys"


def read_sysfs(path: Path = SYS, *, as_found: bool = False) -> PciInput:
    """Read all PCI functions below a tree's ``bus/pci/devices`` (or, without it, wherever they are).

    as_found: keep ACS as it is, where no IOMMU was in use; else it is turned on then, as Linux does with an IOMMU. Raises InputError if
    there are no functions.
    """
    tree = open_tree(path)
    live = path == SYS
    places = _find_devices(tree)
    if not places:
        advice = (
            "this machine shows no PCI bus (a container or a machine without PCI)"
            if live
            else "copy /sys/bus/pci/devices and /sys/devices with their links"
        )
        raise InputError("no PCI device in the tree", where=str(path), advice=advice)
    warnings: list[str] = []
    drafts = [_read_device(tree, at, bdf) for bdf, at in sorted(places.items())]
    cut = [draft.bdf for draft in drafts if not draft.caps_known]
    if cut:
        reason = "only 64 bytes may be read without root" if live and os.geteuid() != 0 else "the tree holds only part of it"
        warnings.append(f"configuration space of {len(cut)} functions is cut ({cut[0]} first): {reason}")
    warnings += [f"{draft.bdf}: {note}" for draft in drafts for note in draft.notes]
    topology = settle(drafts, warnings, where=str(path))
    recorded = recorded_in((draft.bdf, draft.group) for draft in drafts)
    topology = topology if as_found else with_acs_on(topology, recorded, warnings)
    participants = frozenset(bdf for _, devices in behind_units(tree) for bdf in devices)
    return PciInput(
        source="this machine" if live else str(path), form="sysfs", topology=topology, warnings=tuple(warnings), recorded=recorded,
        kernel=os.uname().release if live else None, participants=participants or None,
    )  # fmt: skip


def _find_devices(tree: Tree) -> dict[str, str]:
    start = f"{root_of(tree)}/bus/pci/devices"
    found = {name: tree.target(f"{start}/{name}") or "" for name in tree.names(start) if _ADDRESS.fullmatch(name)}
    return {name: at for name, at in found.items() if at and tree.bytes(f"{at}/config") is not None} or _walk(tree)


def _walk(tree: Tree) -> dict[str, str]:
    found: dict[str, str] = {}
    stack = [("", 0)]
    looked = 0
    while stack and looked < 200_000:
        path, depth = stack.pop()
        for name in tree.names(path or "/"):
            looked += 1
            at = f"{path}/{name}"
            if tree.target(at) != posixpath.normpath(at):  # a link: met again where it leads
                continue
            if _ADDRESS.fullmatch(name) and tree.bytes(f"{at}/config") is not None:
                found.setdefault(name, at)
            if depth < _DEEPEST and tree.names(at):
                stack.append((at, depth + 1))
    return found


def _read_device(tree: Tree, at: str, bdf: str) -> Draft:
    draft = Draft(bdf=bdf)
    config = decode(tree.bytes(f"{at}/config") or b"")
    draft.vendor, draft.device, draft.class_code = (tree.number(f"{at}/{name}") for name in ("vendor", "device", "class"))
    if config is None:
        draft.notes.append("its configuration space cannot be read, or no device answers")
    else:
        draft.take(config, *(name for name in ("vendor", "device", "class_code") if getattr(draft, name) is None))
        draft.take(config, "kind", "multifunction", "acs", "caps_known", "secondary", "subordinate", "intx", "msi", "msix")
    draft.sriov_totalvfs, draft.sriov_numvfs = tree.number(f"{at}/sriov_totalvfs") or 0, tree.number(f"{at}/sriov_numvfs") or 0
    physfn = tree.link_name(f"{at}/physfn")
    if physfn and _ADDRESS.fullmatch(physfn):
        draft.physfn, draft.kind, draft.multifunction = physfn, "vf", False
    driver = tree.link_name(f"{at}/driver")
    draft.driver = None if driver is None else plain(driver)
    draft.group = number_of(tree.link_name(f"{at}/iommu_group") or "")
    _place(draft, at)
    draft.name = pci_ids().title(draft.class_code, draft.vendor, draft.device)
    return draft


def _place(draft: Draft, at: str) -> None:
    """Take parent and VMD controller from the path: .../0000:00:0e.0/pci10000:e0/10000:e0:06.0."""
    parts = at.strip("/").split("/")[:-1]
    above = [part for part in parts if _ADDRESS.fullmatch(part)]
    if above and draft.physfn is None:
        segment = draft.bdf.split(":", 1)[0]
        if above[-1].split(":", 1)[0] == segment:
            draft.parent = above[-1]
        foreign = [part for part in above if part.split(":", 1)[0] != segment]
        if foreign:
            draft.real_dma = foreign[-1]


def behind_units(tree: Tree) -> Iterator[tuple[str, list[str]]]:
    """Yield each IOMMU under class/iommu, and the PCI functions that it lists; platform and ACPI devices are none."""
    folder = f"{root_of(tree)}/class/iommu"
    for unit in tree.names(folder):
        found = []
        for name in tree.names(f"{folder}/{unit}/devices"):
            with suppress(TopologyError):
                found.append(normal_bdf(name))
        yield unit, found
