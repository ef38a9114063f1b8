"""What an audit says of one input: a row for each function, or one that says why there is none. And where below a folder inputs are."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vfiolab._text import plain
from vfiolab.kit.asked import Answer, Asked, merge_warnings
from vfiolab.kit.plan import NOBODY, refusals
from vfiolab.model.errors import Refusal
from vfiolab.model.machine import Machine
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.topology import Topology
from vfiolab.readers.lines import read_text
from vfiolab.readers.listing import PciInput
from vfiolab.readers.machinefile import read_machine
from vfiolab.readers.pcifile import read_pci_text
from vfiolab.readers.pciids import pci_ids
from vfiolab.readers.sysfs import read_sysfs
from vfiolab.readers.tree import is_tar

__all__ = ["Found", "Row", "Summary", "audited", "inputs", "opened"]

#: What a warning begins with that is of one device or one bus.
_PLACE = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]|bus [0-9a-f]{2}")
#: The folders at the top of sysfs; and a name that only a folder of sysfs has: a PCI host bridge, or a function.
_TOP = frozenset({"block", "bus", "class", "dev", "devices", "firmware", "fs", "hypervisor", "kernel", "module", "power"})
_SYSFS = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}|[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
#: Others of a group that a row lists, and warnings: of what nobody means well there could be any number in every row.
_MOST_OTHERS, _MOST_DOUBTS = 1024, 8
#: What differs from machine to machine: addresses in a row, and on which line something is.
_OWN = re.compile(r"{0}(?:, {0})*(?: and \d+ more)?|^line \d+: ".format(r"(?:\b[0-9a-f]{4,8}:)?\b[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]\b"))


class Row(NamedTuple):
    """A function of a machine. `others`: the rest of its group; `group` and `alone` None: it is in no group. Or an input's `error`."""

    machine: str
    bdf: str = ""
    name: str = ""
    group: int | None = None
    others: str = ""
    alone: bool | None = None
    why: str = ""
    refusal: str = ""
    error: str = ""


class Found(NamedTuple):
    """The rows of an input. `warned`: reading or grouping it left something open; `units_assumed`: it does not show its IOMMU units."""

    rows: list[Row]
    warned: bool = False
    units_assumed: bool = False


@dataclass
class Summary:
    """What an audit found, in numbers; `reasons`: the commonest ones for sharing a group, for refusals and errors, with their counts."""

    machines: int = 0
    functions: int = 0
    groups: int = 0
    alone: int = 0
    shared: int = 0
    refused: int = 0
    errors: int = 0
    warned: int = 0
    units_assumed: int = 0
    nobodys: int = 0
    passed_over: int = 0
    kept: int = 0
    reasons: dict[str, Counter[str]] = field(default_factory=lambda: {"shared": Counter(), "refused": Counter(), "errors": Counter()})

    def add(self, found: Found) -> None:
        """Count an input's rows."""
        failed = [row for row in found.rows if row.error]
        self.machines += not failed
        self.errors += len(failed)
        self.warned += found.warned
        self.units_assumed += found.units_assumed
        self.functions += sum(bool(row.bdf) for row in found.rows)
        self.groups += len({row.group for row in found.rows} - {None})
        self.alone += sum(row.alone is True for row in found.rows)
        self.shared += sum(row.alone is False for row in found.rows)
        self.nobodys += sum(row.refusal.startswith(NOBODY) for row in found.rows)
        self.refused += sum(bool(row.refusal) and not row.refusal.startswith(NOBODY) for row in found.rows)
        for row in found.rows:
            joins = row.why.partition(" because ")[2].partition("; in doubt")[0] if row.alone is False else ""
            refusal = "" if row.refusal.startswith(NOBODY) else row.refusal
            for kind, text in (("shared", joins), ("refused", refusal), ("errors", row.error.partition("; ")[0].partition(" (")[0])):
                if text:
                    self.reasons[kind][_OWN.sub(lambda found: "" if "line" in found[0] else "*", text)] += 1


def inputs(folder: Path, leave: Collection[str] = ()) -> tuple[dict[str, str], int]:
    """Find each file and each sysfs tree below a folder: paths from there, sorted, with what is wrong with one already ("" for nothing).

    The number tells how many names were passed over: those that begin with a dot, and links to folders, which may lead in a circle.
    `leave`: real paths that are none of the inputs.
    """
    found: dict[str, str] = {}
    passed, stack = 0, [str(folder)]
    while stack:
        at = stack.pop()
        try:
            entries = list(os.scandir(at))
            if _is_tree(at):
                found[at] = ""
                entries = [entry for entry in entries if not (entry.name in _TOP or _SYSFS.fullmatch(entry.name))]
        except OSError as error:
            found[at] = f"cannot be read: {error.strerror}"
            continue
        for entry in entries:
            is_folder = os.path.isdir(entry.path)  # noqa: PTH112 -- False for a link that leads to itself
            if entry.name.startswith(".") or (is_folder and entry.is_symlink()):
                passed += 1
            elif is_folder:
                stack.append(entry.path)
            elif os.path.realpath(entry.path) not in leave:
                found[entry.path] = ""
    return dict(sorted((os.path.relpath(path, folder), wrong) for path, wrong in found.items())), passed


def _is_tree(folder: str) -> bool:
    places = {place: os.listdir(place) for place in (folder, f"{folder}/devices") if os.path.isdir(place)}  # noqa: PTH112, PTH208
    named = any(_SYSFS.fullmatch(name) and os.path.isdir(f"{place}/{name}") for place, names in places.items() for name in names)  # noqa: PTH112
    return named or os.path.isdir(f"{folder}/bus/pci/devices")  # noqa: PTH112


def opened(path: Path) -> PciInput | str:
    """Return the text of a listing or a machine file, or what a sysfs tree says. InputError (a ValueError) if it cannot be read."""
    return read_sysfs(path) if path.is_dir() or is_tar(path) else read_text(path)


def audited(path: Path, asked: Asked, given: PciInput | str | ValueError | None = None) -> Found:
    """Return the rows of an input, with the groups that `vfiolab groups` computes. What is wrong with it is a row too.

    `given`: what `opened` returned or raised, where the file itself is not at hand.
    """
    path_of = path if path.name else path.absolute()
    machine = plain((path_of.parent if path_of.name == "sys" else path_of).stem)
    try:
        if isinstance(given, ValueError):
            return Found([Row(machine, error=_said(given, path))])
        given = opened(path) if given is None else given
        found = read_pci_text(given, source=str(path)) if isinstance(given, str) else given
        whole = partial(read_machine, given, source=str(path)) if isinstance(given, str) and found.form == "machine file" else found.machine
        answer = asked.of(found, whole)
        refused, assumed = _refused(asked, answer, whole)
    except (ValueError, OSError) as error:
        return Found([Row(machine, error=_said(error, path))])
    except Exception as error:  # noqa: BLE001 -- a fault of ours in one file may not cost the answers of all others; its row names it
        return Found([Row(machine, error=plain(f"vfiolab failed, which is its own fault: {type(error).__name__}: {error}"))])
    return Found([*_rows(found.name or machine, answer, refused)], bool(answer.warnings), assumed)


def _said(error: Exception, path: Path) -> str:
    """Return an error without the file, which has a column of its own."""
    return plain(str(error).removeprefix(f"{path}: ").removeprefix(f"{path}, "))


def _refused(asked: Asked, answer: Answer, whole: Callable[[], Machine]) -> tuple[dict[str, str], bool]:
    """Try to hand over each group on the machine; say too whether its IOMMU units had to be assumed for that."""
    try:
        machine = whole()
        if answer.changed is not None:
            new = answer.changed.machine
            machine = replace(machine, topology=new.topology, units=new.units, participants=new.participants)
        machine = machine.with_assumed_units()
        return refusals(machine, answer.kernel, asked.options, answer.grouping), machine.units_assumed
    except (ValueError, Refusal) as error:  # what it says of its units and the like does not go together; its groups stand all the same
        return dict.fromkeys(answer.grouping.topology, f"not tried: {error}"), False


def _rows(machine: str, answer: Answer, refused: Mapping[str, str]) -> Iterator[Row]:
    grouping, told = answer.grouping, defaultdict[str, list[str]](list)
    for warning in answer.warnings:
        place = warning.partition(": ")[0]
        told[place if _PLACE.fullmatch(place) else ""].append(warning)
    for number, members in [*enumerate(grouping.groups), *((None, (bdf,)) for bdf in grouping.left_out)]:
        doubts = _doubts(grouping.topology, members, told)
        for bdf in members:
            f = grouping.topology[bdf]
            why = str(grouping.reasons[bdf]) if bdf in grouping.reasons else f"{short(bdf)} is in no group: {grouping.left_out[bdf]}"
            others = [one for one in members[: _MOST_OTHERS + 1] if one != bdf][:_MOST_OTHERS]
            left = len(members) - 1 - len(others)
            yield Row(
                machine, bdf, f.name or pci_ids().title(f.class_code, f.vendor, f.device), number,
                " ".join(others) + f" and {left} more" * bool(left), None if number is None else len(members) == 1,
                "; in doubt: ".join((why, *doubts)), refused.get(bdf, ""),
            )  # fmt: skip


def _doubts(topology: Topology, members: Iterable[str], told: Mapping[str, list[str]]) -> list[str]:
    """Return the warnings that may concern a group: of its slots, of the bridges above and their buses, or of no place in particular."""
    if not told:
        return []
    near = {one.bdf: one for bdf in members for up in (topology[bdf], *topology.path(bdf)) for one in topology.slot(up.bdf)}
    places = dict.fromkeys((*near, *(f"bus {one.bus:02x}" for one in near.values()), ""))
    found = merge_warnings(warning for place in places for warning in told.get(place, ())[:_MOST_DOUBTS])
    more = len(found) > _MOST_DOUBTS or any(len(told.get(place, ())) > _MOST_DOUBTS for place in places)
    return found[:_MOST_DOUBTS] + ["there are more warnings: `vfiolab groups` prints them"] * more
