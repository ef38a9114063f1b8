"""How ``vfiolab groups`` shows its answer: as JSON, and as text for people."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from typing import Any

from vfiolab.commands import columns, cut, paint
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.grouping import Grouping
from vfiolab.model.pci.reasons import between, chain
from vfiolab.model.whatif import Reach, WhatIf
from vfiolab.readers.pciids import pci_ids

__all__ = ["as_json", "as_text", "what_changed"]


def as_json(grouping: Grouping, warnings: list[str], device: str | None, check: dict[str, Any] | None) -> dict[str, Any]:
    """Return the answer as the object that --json prints."""
    answer: dict[str, Any] = {"groups": [list(members) for members in grouping.groups], "warnings": warnings}
    if device is not None:
        answer["why"] = _why_json(grouping, device)
    if check is not None:
        answer["check"] = check
    return answer


def _why_json(grouping: Grouping, device: str) -> dict[str, Any]:
    if device not in grouping.reasons:
        return {"device": device, "group": [], "chain": [], "left_out": grouping.left_out[device]}
    mates = [bdf for bdf in grouping.mates(device) if bdf != device]
    return {
        "device": device,
        "group": list(grouping.mates(device)),
        "chain": [str(reason) for reason in chain(grouping.reasons, device)],
        "causes": [str(cause) for cause in grouping.reasons[device].causes],
        "mates": {bdf: [str(reason) for reason in between(grouping.reasons, device, bdf)] for bdf in mates},
    }


def as_text(
    source: str,
    grouping: Grouping,
    warnings: list[str],
    *,
    why: str | None,
    device: str | None,
    check: dict[str, Any] | None,
) -> list[str]:
    """Return the answer's lines."""
    if device is not None:
        lines = _why_text(grouping, device)
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
    for (title, by), rows in _sorted_reach(found.reach).items():
        way = {"p2p": "peer-to-peer DMA", "interrupt": "raising interrupts"}[by]
        lines += ["", paint(f"{title}, by {way} ({rows[0].rests}):", "bold" if "gained" in title else "warn"), *_who(rows)]
    return lines


def _sorted_reach(reach: Iterable[Reach]) -> dict[tuple[str, str], list[Reach]]:
    titles = {"reaches now": "Isolation lost", "no longer reaches": "Isolation gained"}
    found: dict[tuple[str, str], list[Reach]] = {}
    for row in reach:
        still = "No isolation, though in two groups" if row.apart else "No isolation, as before, and now in one group"
        found.setdefault((titles.get(row.became, still), row.by), []).append(row)
    return found


def _who(rows: list[Reach]) -> list[str]:
    """Say who reaches whom, those that all reach one another in one line."""
    peers: dict[str, list[str]] = {}
    for row in rows:
        peers.setdefault(row.device, []).append(row.peer)
    alike: dict[tuple[frozenset[str], bool], list[str]] = {}
    for device, others in peers.items():
        circle = frozenset([device, *others])
        each = all(circle == {one, *peers.get(one, ())} for one in circle)
        alike.setdefault((circle if each else frozenset(others), each), []).append(device)
    return [
        f"  {', '.join(map(short, devices))}" + (": one another" if each else f" -> {', '.join(map(short, peers[devices[0]]))}")
        for (_, each), devices in alike.items()
    ]


def _group_lines(source: str, grouping: Grouping) -> list[str]:
    room = columns()
    count = f"{len(grouping.groups)} groups, {len(grouping.reasons)} devices"
    lines = [
        f"{paint(count, 'bold')}: {cut(source, None if room is None else max(room - 50, 20))} by the rules of {grouping.kernel.title}",
        "",
    ]
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


def _why_text(grouping: Grouping, device: str) -> list[str]:
    title = f"{short(device)} {_name(grouping, device)}".rstrip()
    if device not in grouping.reasons:
        return [f"{title}", f"is in no group: {grouping.left_out[device]}"]
    mates = [bdf for bdf in grouping.mates(device) if bdf != device]
    number = grouping.group_of(device)
    lines = [title, f"is in group {number}, " + (f"with {', '.join(map(short, mates))}" if mates else "alone"), ""]
    lines += [f"  {reason}" for reason in chain(grouping.reasons, device)]
    if mates:
        lines += ["", *_ties(grouping, device, mates)]
    causes = grouping.reasons[device].causes
    if causes:
        freed = [bdf for bdf in grouping.without(*causes).mates(device) if bdf != device]
        lines += [
            "",
            f"It stays where it is as long as {' or '.join(map(str, causes))}; otherwise it would be "
            + (f"with {', '.join(map(short, freed))}" if freed else "alone"),
        ]
    return lines


def _ties(grouping: Grouping, device: str, mates: list[str]) -> list[str]:
    """Show the fewest joins to each other device, and the joins on those ways that were not shown yet."""
    shown = {reason.device for reason in chain(grouping.reasons, device)}
    width = max(len(short(bdf)) for bdf in mates)
    lines, further = ["What ties it to each of the others, by the fewest joins:"], {}
    for bdf in mates:
        steps = between(grouping.reasons, device, bdf)
        way = [device]
        for step in steps:
            way.append(step.joins if step.device == way[-1] and step.joins else step.device)
            further.update({step.device: step} if step.device not in shown else {})
        lines.append(f"  {short(bdf):<{width}}  {' - '.join(map(short, way))}")
    return lines + (["", "where", *(f"  {step}" for step in further.values())] if further else [])


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
