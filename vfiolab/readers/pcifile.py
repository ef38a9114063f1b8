"""Open anything that describes PCI: find out what it is, hand it to its reader."""

from __future__ import annotations

import codecs
from pathlib import Path

from vfiolab.readers.errors import InputError
from vfiolab.readers.grouptext import GroupText, looks_like_groups, read_groups
from vfiolab.readers.listing import PciInput, Recorded
from vfiolab.readers.lspci import looks_like_lspci, read_lspci
from vfiolab.readers.pcijson import read_pci_json
from vfiolab.readers.sysfs import is_tar, read_sysfs

__all__ = ["MOST_BYTES", "read_pci", "read_pci_text", "read_recorded", "read_text"]

#: No listing of a real machine is larger; more is refused before it is read.
MOST_BYTES = 64 << 20


def read_text(path: Path) -> str:
    """Return a file's text, whatever of UTF-8, UTF-16 or Latin-1 it is in. Raises InputError if it cannot be read."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"{path.stat().st_size >> 20} MiB",
                where=str(path),
                advice=f"files over {MOST_BYTES >> 20} MiB are not read",
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


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
        raise InputError(
            "records groups, not what the devices are",
            where=source,
            advice="groups are computed from 'lspci -vvvnn' text; compare it with this file by --against",
        )
    if looks_like_lspci(text):
        return read_lspci(text, source=source)
    raise InputError(
        "neither lspci text nor a machine file", where=source, line=1,
        advice="give the output of 'lspci -vvvnn', a machine.json, a copied sysfs tree, or nothing for this machine",
    )  # fmt: skip


def read_recorded(path: Path) -> tuple[Recorded, str]:
    """Return the groups that a file records, and what kind of record it is."""
    if path.is_dir() or is_tar(path):
        found = read_sysfs(path)
        return found.recorded, found.form
    text = read_text(path)
    if text.lstrip()[:1] != "{" and _is_group_listing(text):
        groups: GroupText = read_groups(text, source=str(path))
        return groups.recorded, groups.form
    other = read_pci_text(text, source=str(path))
    return other.recorded, other.form


def _is_group_listing(text: str) -> bool:
    """Tell a listing of groups from lspci text, whose lines name groups too."""
    if "Capabilities: [" in text or "Capabilities: <access" in text:
        return False
    first = next((line for line in text.splitlines() if line.strip()), "")
    return looks_like_groups(text) and not looks_like_lspci(first)
