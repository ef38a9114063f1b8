"""How ``vfiolab groups`` shows its answer: as JSON, and as text for people."""

from __future__ import annotations

import re
import textwrap
from typing import Any

from vfiolab._text import count
from vfiolab.commands import columns, cut, paint
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.grouping import Grouping
from vfiolab.model.pci.why import Why
from vfiolab.model.whatif import WhatIf
from vfiolab.readers.pciids import pci_ids


def as_json(grouping: Grouping, warnings: list[str], device: str | None, check: dict[str, Any] | None) -> dict[str, Any]:
    """Return the answer as the object that --json prints."""
    answer: dict[str, Any] = {"groups": [list(members) for members in grouping.groups], "warnings": warnings}
    if device is not None:
        answer["why"] = Why.of(grouping, device, _name(grouping, device)).json()
    if check is not None:
        answer["check"] = check
    return answer


def as_text(
    source: str, grouping: Grouping, warnings: list[str], *, why: str | None, device: str | None, check: dict[str, Any] | None
) -> list[str]:
    """Return the answer's lines."""
    if device is not None:
        lines = Why.of(grouping, device, _name(grouping, device)).lines()
    elif why == "all":
        lines = _why_table(grouping)
    else:
        lines = _group_lines(source, grouping)
    if warnings:
        lines += ["", paint("Warnings:", "warn"), *(f"  - {warning}" for warning in warnings)]
    return lines + (["", *_check_text(check)] if check is not None else [])


def what_changed(found: WhatIf) -> list[str]:
    """Return the lines that say what a change did: groups, then isolation."""
    lines = ["", paint("What changes:", "bold")]
    lines += [f"  {word}: {' '.join(map(short, devices))}" for word, devices in (("gone", found.gone), ("new", found.new)) if devices]
    lines += [f"  {one}" for one in (*found.split, *found.merged)]
    if len(lines) == 2:
        lines.append("  no group")
    for title, who in found.isolation.items():
        lines += ["", paint(f"{title}:", "bold" if "gained" in title else "warn"), *(f"  {line}" for line in who)]
    return lines


def _group_lines(source: str, grouping: Grouping) -> list[str]:
    room = columns()
    size = f"{count(len(grouping.groups), 'group')}, {count(len(grouping.reasons), 'device')}"
    source = cut(source, None if room is None else max(room - 50, 20))
    lines = [f"{paint(size, 'bold')}: {source} by the rules of {grouping.kernel.title}", ""]
    wide = max((len(short(bdf)) for bdf in grouping.topology), default=7)
    for number, members in enumerate(grouping.groups):
        shared = sum(grouping.topology[bdf].is_for_users for bdf in members) > 1
        for n, bdf in enumerate(members):
            label = f"{f'group {number}' if n == 0 else '':<10}"
            address = f"{short(bdf):<{wide}}"
            name = _shown(grouping, bdf, None if room is None else room - 13 - wide)
            lines.append(f"{paint(label, 'accent') if shared else label} {paint(address, 'bold')}  {name}".rstrip())
    if grouping.left_out:
        lines += ["", "In no group:"]
        for bdf, why in grouping.left_out.items():
            name = _name(grouping, bdf)
            if room is not None:
                name = cut(_brief(name), max(room - wide - 6 - len(why), 24))
            lines.append(f"  {short(bdf):<{wide}}  {name}: {why}")
    return lines


def _shown(grouping: Grouping, bdf: str, room: int | None) -> str:
    """Return a device's name; on a terminal its vendor in short and dim, and cut to the room that there is."""
    name = _name(grouping, bdf)
    if room is None:
        return name
    klass, colon, rest = cut(_brief(name), room).partition(": ")
    return paint(klass + colon, "dim") + rest if rest else klass


def _brief(name: str) -> str:
    """Shorten what every line repeats.

    >>> _brief("PCI bridge [0604]: Advanced Micro Devices, Inc. [AMD] Starship/Matisse GPP Bridge [1022:1483]")
    'PCI bridge: AMD Starship/Matisse GPP Bridge [1022:1483]'
    >>> _brief("Ethernet controller: Intel Corporation I211 Gigabit Network Connection")
    'Ethernet controller: Intel I211 Gigabit Network Connection'
    """
    klass, _, rest = name.partition(": ")
    vendor = pci_ids().find_vendor(rest)
    if vendor is not None:
        full = rest[: len(rest) - len(vendor[1])].rstrip()
        nick = re.search(r"\[([^\[\]]{2,12})\]$", full)
        brief = (
            nick[1] if nick else re.split(r",? (?:Inc|Corp|Co|Ltd|LLC|Technolog|Semiconductor|Electronics|Communications|Systems)", full)[0]
        )
        rest = f"{brief} {vendor[1]}".strip()
    klass = re.sub(r" \[[0-9a-f]{4}\]$", "", klass)
    return f"{klass}: {rest}" if rest else klass


def _name(grouping: Grouping, bdf: str) -> str:
    f = grouping.topology[bdf]
    return f.name or pci_ids().title(f.class_code, f.vendor, f.device)


def _why_table(grouping: Grouping) -> list[str]:
    names = ("device", "group", "joins", "step", "because")
    rows = [names, *(tuple(str(row[name]) or "-" for name in names) for row in grouping.rows())]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    before = sum(widths) + 8
    room = columns()
    lines = []
    for row in rows:
        start = "  ".join(cell.ljust(wide) for cell, wide in zip(row, widths, strict=False))
        because = [row[4]] if room is None or room < before + 30 else textwrap.wrap(row[4], room - before) or [""]
        lines += [f"{start}  {because[0]}", *(" " * before + more for more in because[1:])]
    return lines


def _check_text(check: dict[str, Any]) -> list[str]:
    what = f"{check['devices']} devices in {check['groups']} groups recorded in {check['source']}"
    if check["not_recorded"]:
        rest = check["not_recorded"]
        what += f" (no record of {', '.join(map(short, rest[:8]))}{' ...' if len(rest) > 8 else ''})"
    if not check["differences"]:
        return [f"Check: the same. Compared {what}."]
    return [f"Check: different. Compared {what}.", *(f"  - {one}" for one in check["differences"])]
