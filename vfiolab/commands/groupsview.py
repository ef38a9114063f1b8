"""How ``vfiolab groups`` shows its answer: as JSON, and as text for people."""

from __future__ import annotations

from typing import Any

from vfiolab.model.aliases import short
from vfiolab.model.grouping import Grouping
from vfiolab.model.reasons import between, chain
from vfiolab.readers.pciids import pci_ids

__all__ = ["as_json", "as_text"]


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
        lines += ["", "Warnings:", *(f"  - {warning}" for warning in warnings)]
    return lines + (["", *_check_text(check)] if check is not None else [])


def _group_lines(source: str, grouping: Grouping) -> list[str]:
    count = f"{len(grouping.groups)} groups, {len(grouping.reasons)} devices"
    lines = [f"{count}: {source} by the rules of Linux {grouping.kernel}", ""]
    width = max((len(short(bdf)) for bdf in grouping.topology), default=7)
    for number, members in enumerate(grouping.groups):
        for n, bdf in enumerate(members):
            lines.append(f"{f'group {number}' if n == 0 else '':<10} {short(bdf):<{width}}  {_name(grouping, bdf)}".rstrip())
    if grouping.left_out:
        lines += ["", "In no group:"]
        lines += [f"  {short(bdf):<{width}}  {_name(grouping, bdf)}: {why}" for bdf, why in grouping.left_out.items()]
    return lines


def _name(grouping: Grouping, bdf: str) -> str:
    f = grouping.topology[bdf]
    if f.name:
        return f.name
    ids = pci_ids()
    return ": ".join(part for part in (ids.class_name(f.class_code), ids.name(f.vendor, f.device)) if part)


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
    columns = ("device", "group", "joins", "step", "because")
    rows = [columns, *(tuple(str(row[column]) or "-" for column in columns) for row in grouping.rows())]
    widths = [max(len(row[n]) for row in rows) for n in range(4)]
    return ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows]


def _check_text(check: dict[str, Any]) -> list[str]:
    what = f"{check['devices']} devices in {check['groups']} groups recorded in {check['source']}"
    if check["not_recorded"]:
        rest = check["not_recorded"]
        what += f" (no record of {', '.join(map(short, rest[:8]))}{' ...' if len(rest) > 8 else ''})"
    if not check["differences"]:
        return [f"Check: the same. Compared {what}."]
    return [f"Check: different. Compared {what}.", *(f"  - {one}" for one in check["differences"])]
