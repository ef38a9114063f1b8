"""``vfiolab groups``: compute a machine's IOMMU groups, say why, compare with what was recorded."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from vfiolab.commands import complain, machine_file, say
from vfiolab.commands.groupsview import as_json, as_text
from vfiolab.model.aliases import short
from vfiolab.model.grouping import Grouping, GroupingOptions, NotComputableError, iommu_groups
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci import TopologyError, normal_bdf
from vfiolab.readers.errors import InputError
from vfiolab.readers.listing import PciInput, Recorded
from vfiolab.readers.pcifile import read_pci, read_pci_text, read_recorded
from vfiolab.readers.sysfs import read_sysfs

__all__ = ["add", "compare", "merge_warnings", "run"]

DIFFERENT, UNUSABLE = 1, 2


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``groups`` and its options."""
    parser = subparsers.add_parser(
        "groups",
        help="compute the IOMMU groups of a machine, and say why they are so",
        description="Compute the IOMMU groups of a machine as Linux does. Groups recorded in the input are never used for that.",
    )
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help="lspci -vvvnn text, a machine file, a sysfs tree (folder or tar), '-' for standard input; without it, this machine",
    )
    parser.add_argument(
        "--kernel",
        metavar="V",
        help="Linux version whose rules apply, such as 6.1 (default: the input's own, else the newest known)",
    )
    parser.add_argument("--why", metavar="DEVICE", help="say what put this device into its group; 'all' for a table of all devices")
    parser.add_argument("--check", action="store_true", help="compare with the groups recorded in the input; exit 1 if they differ")
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="with --check: take the recorded groups from this file (dmesg, a listing by group, another machine file)",
    )
    parser.add_argument("--json", action="store_true", help='print {"groups": [[address, ...], ...], "warnings": [...]}')
    parser.add_argument(
        "--pcie-acs-override",
        default="",
        metavar="WORDS",
        help="as with this parameter of a patched kernel: downstream, multifunction, id:VVVV:DDDD",
    )
    parser.add_argument("--disable-acs-redir", default="", metavar="DEVICES", help="as with pci=disable_acs_redir=")
    parser.add_argument("--config-acs", default="", metavar="BITS@DEVICES", help="as with pci=config_acs=")
    parser.add_argument(
        "--proposal-2025",
        action="store_true",
        help="a rule proposed in 2025 and in no kernel read so far: a switch with a port that does not isolate is"
        " one group with all below it",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return 0, 1 for a difference found by --check, or 2 for input that cannot be used."""
    try:
        found = _read(arguments.path)
        kernel, doubt = _kernel(arguments.kernel, found)
        if found.not_computable:
            return _unusable(arguments, f"{found.source}: not computable: {found.not_computable}")
        options = GroupingOptions(
            pcie_acs_override=arguments.pcie_acs_override, disable_acs_redir=arguments.disable_acs_redir,
            config_acs=arguments.config_acs, proposal_2025=arguments.proposal_2025,
        )  # fmt: skip
        grouping = iommu_groups(found.topology, kernel, options, participants=found.participants)
        recorded = _recorded(found, arguments)
        device = _device(grouping, arguments.why) if arguments.why and arguments.why != "all" else None
    except NotComputableError as error:
        return _unusable(arguments, f"{found.source}: {error}", found.warnings)
    except ValueError as error:  # InputError, TopologyError, BootParameterError, an unreadable kernel version
        return _unusable(arguments, str(error))
    warnings = merge_warnings([*doubt, *found.warnings, *grouping.warnings, *_hints(found, grouping)])
    check = compare(grouping, recorded[0], recorded[1]) if recorded else None
    if arguments.json:
        say(json.dumps(as_json(grouping, warnings, device, check), indent=1))
    else:
        say(*as_text(found.source, grouping, warnings, why=arguments.why, device=device, check=check))
    return DIFFERENT if check and check["differences"] else 0


def _read(path: str | None) -> PciInput:
    if path is None:
        return read_sysfs()
    if path == "-":
        return read_pci_text(sys.stdin.read(), source="standard input")
    file = machine_file(path)
    if not os.path.exists(file):  # noqa: PTH110 # False for a name that no file can have
        raise InputError("no such file or folder", where=path, advice="and no machine of the kit is called so")
    return read_pci(file)


def _kernel(wanted: str | None, found: PciInput) -> tuple[Kernel, list[str]]:
    """Return the kernel asked for, else the input's, else the newest; what the input names may be unknown to us."""
    if wanted is not None:
        return Kernel(wanted), []
    if found.kernel is None:
        return Kernel(), []
    try:
        return Kernel(found.kernel), []
    except ValueError as error:
        return Kernel(), [f"the input's kernel is not used: {error}; the rules of Linux {Kernel()} apply"]


def _recorded(found: PciInput, arguments: argparse.Namespace) -> tuple[Recorded, str] | None:
    """Return what to compare with and where it is from; None without --check."""
    if not arguments.check:
        return None
    if arguments.against:
        against = machine_file(arguments.against)
        if not os.path.exists(against):  # noqa: PTH110
            raise InputError("no such file", where=arguments.against)
        groups, form = read_recorded(against)
        return groups, f"{arguments.against} ({form})"
    if found.recorded:
        return found.recorded, f"{found.source} itself"
    beside = Path(arguments.path or "").with_name("machine.json") if arguments.path not in {None, "-"} else None
    if beside is not None and beside.is_file() and (groups := read_recorded(beside)[0]):
        return groups, f"{beside}, beside the input, which records none"
    raise InputError(
        "records no groups, so there is nothing to compare with",
        where=found.source,
        advice="give a record by --against FILE",
    )


def _device(grouping: Grouping, name: str) -> str:
    try:
        bdf = normal_bdf(name)
    except TopologyError as error:
        raise InputError(f"--why {name}: {error}") from error
    if bdf not in grouping.topology:
        alike = [one for one in grouping.topology if one.endswith(bdf[-7:]) or one.startswith(bdf[:8])]
        raise InputError(
            f"--why {name}: no such device in the input",
            advice=f"on that bus or at that place: {', '.join(map(short, alike[:8])) or 'none'}",
        )
    return bdf


def compare(grouping: Grouping, recorded: Recorded, source: str) -> dict[str, Any]:
    """Compare partitions on the devices that the record lists; say what was compared and each difference."""
    listed = {bdf for members in recorded for bdf in members}
    computed = {tuple(sorted(bdf for bdf in members if bdf in listed)) for members in grouping.groups} - {()}
    wanted = {tuple(sorted(members)) for members in recorded}
    missing = sorted(listed - set(grouping.reasons))
    differences = [f"recorded, but not among the computed: {', '.join(map(short, missing))}"] if missing else []
    differences += [f"recorded as one group, not computed so: {', '.join(map(short, one))}" for one in sorted(wanted - computed)]
    differences += [f"computed as one group, not recorded so: {', '.join(map(short, one))}" for one in sorted(computed - wanted)]
    unrecorded = [bdf for bdf in grouping.reasons if bdf not in listed]
    return {
        "source": source,
        "devices": len(listed),
        "groups": len(wanted),
        "not_recorded": unrecorded,
        "differences": differences,
    }


def merge_warnings(warnings: list[str]) -> list[str]:
    """Put warnings that say the same of several devices into one, naming each.

    >>> merge_warnings(["0000:00:1c.0: cut off", "0000:00:1c.1: cut off", "made without -vvv"])
    ['00:1c.0, 00:1c.1: cut off', 'made without -vvv']
    """
    named: dict[str, list[str]] = {}
    for warning in dict.fromkeys(warnings):
        device, _, text = warning.partition(": ")
        try:
            who = short(normal_bdf(device))
        except TopologyError:
            named.setdefault(warning, [])
        else:
            named.setdefault(text, []).append(who)
    return [f"{', '.join(who)}: {text}" if who else text for text, who in named.items()]


def _hints(found: PciInput, grouping: Grouping) -> list[str]:
    if found.form != "sysfs" or found.recorded:
        return []
    hint = (
        f"{found.source} has no IOMMU groups: no IOMMU is in use. These are the groups that Linux would form if every"
        " device were behind one"
        " (turn it on in the firmware; Intel also needs intel_iommu=on)"
    )
    idle = [f.bdf for f in grouping.topology.values() if f.acs and f.acs.cap & 0x1D and not f.acs.ctrl & 0x1D]
    more = [
        f"{short(bdf)}: ACS is there but off; Linux turns it on only with an IOMMU in use, and groups may then be smaller" for bdf in idle
    ]
    return [hint, *more]


def _unusable(arguments: argparse.Namespace, message: str, warnings: tuple[str, ...] = ()) -> int:
    if arguments.json:
        say(json.dumps({"groups": [], "warnings": [message, *merge_warnings(list(warnings))]}, indent=1))
        return UNUSABLE
    complain(f"vfiolab groups: {message}", *(f"  note: {warning}" for warning in merge_warnings(list(warnings))))
    return UNUSABLE
