"""Open anything that describes PCI: find out what it is, hand it to its reader."""

from __future__ import annotations

import re
from pathlib import Path

from vfiolab.readers.errors import InputError
from vfiolab.readers.grouptext import GroupText, looks_like_groups, read_groups
from vfiolab.readers.lines import lines_of, read_text
from vfiolab.readers.listing import PciInput, Recorded
from vfiolab.readers.lspci import looks_like_lspci, read_lspci
from vfiolab.readers.pcijson import read_pci_json
from vfiolab.readers.sysfs import read_sysfs
from vfiolab.readers.tree import is_tar

_RECORD = re.compile(r"^Slot:\s+[0-9a-fA-F:]{5,16}\.[0-7]\s*$", re.MULTILINE)


def read_pci(path: Path) -> PciInput:
    """Read a machine file, lspci text, or a sysfs tree (a folder, or a tar of one). Raises InputError."""
    if path.is_dir() or is_tar(path):
        return read_sysfs(path)
    return read_pci_text(read_text(path), source=str(path))


def read_pci_text(text: str, *, source: str) -> PciInput:
    """Read a machine file or lspci text.

    Raises InputError: naming the line if the text is broken, and what to give instead if it holds
    groups without a topology.
    """
    if text.lstrip()[:1] == "{":
        return read_pci_json(text, source=source)
    if _is_group_listing(text):
        advice = "groups are computed from 'lspci -vvvnn' text; compare it with this file by --against"
        raise InputError("records groups, not what the devices are", where=source, advice=advice)
    if looks_like_lspci(text):
        return read_lspci(text, source=source)
    if _RECORD.search(text[:200_000]):
        what = "is what 'lspci -vmm' prints: names, and nothing that decides groups"
        raise InputError(what, where=source, line=1, advice="give the output of 'lspci -vvvnn', made as root")
    advice = "give the output of 'lspci -vvvnn', a machine.json, a copied sysfs tree, or nothing for this machine"
    raise InputError("neither lspci text nor a machine file", where=source, line=1, advice=advice)


def read_recorded(path: Path) -> tuple[Recorded, str]:
    """Return the groups that a file records, and what kind of record it is."""
    if path.is_dir() or is_tar(path):
        found = read_sysfs(path)
        return found.recorded, found.form
    text = read_text(path)
    if text.lstrip()[:1] != "{" and (_is_group_listing(text) or not looks_like_lspci(text)):
        groups: GroupText = read_groups(text, source=str(path))
        return groups.recorded, groups.form
    other = read_pci_text(text, source=str(path))
    return other.recorded, other.form


def _is_group_listing(text: str) -> bool:
    """Tell a listing of groups from lspci text, whose lines name groups too."""
    if "Capabilities: [" in text or "Capabilities: <access" in text:
        return False
    first = next((line for line in lines_of(text[:200_000]) if line.strip()), "")
    return looks_like_groups(text) and not looks_like_lspci(first)
