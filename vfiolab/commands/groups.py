"""``vfiolab groups``: compute a machine's IOMMU groups, say why, compare with what was recorded."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vfiolab.commands import UNUSABLE, complain, examples, say
from vfiolab.commands.groupsview import as_json, as_text, what_changed
from vfiolab.kit.asked import Asked, merge_warnings
from vfiolab.model.machine import Machine
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.changes import planned
from vfiolab.model.pci.grouping import Grouping, NotComputableError
from vfiolab.model.pci.topology import TopologyError, normal_bdf
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import read_stdin
from vfiolab.readers.listing import PciInput, Recorded
from vfiolab.readers.machinefile import read_machine
from vfiolab.readers.opening import find, open_machine
from vfiolab.readers.pcifile import read_pci, read_pci_text, read_recorded
from vfiolab.readers.sysfs import SYS, read_sysfs

DIFFERENT = 1
_CHANGES = (
    ("set-acs", "BDF=BITS", "set and clear ACS bits, such as 00:1c.0=+SV+RR+CR+UF-EC; a function without ACS is given it"),
    ("drop-acs", "BDF", "as if it had no ACS capability"),
    ("move", "BDF=PORT", "put a card, with all its functions and all below, below another port; it keeps its addresses here"),
    ("remove", "BDF", "take a device away, with all below; 01:00 is the whole card"),
    ("vfs", "BDF=N", "enable so many SR-IOV virtual functions"),
)


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``groups`` and its options."""
    parser = subparsers.add_parser(
        "groups",
        help="compute the IOMMU groups of a machine, and say why they are so",
        description="Compute the IOMMU groups of a machine as Linux does.\nGroups recorded in the input are never used for that.",
        **examples(
            "vfiolab groups                              this machine (best as root)",
            "lspci -vvvnn | vfiolab groups -             a listing, from anywhere",
            "vfiolab groups lspci.txt --why 01:00.0      what put it into its group",
            "vfiolab groups lspci.txt --check --against dmesg.txt     what Linux said",
            "vfiolab groups amd-vi-server --kernel 5.4   a machine of the kit",
            "vfiolab groups lspci.txt --pcie-acs-override downstream --diff     what changes, and what does not",
            "vfiolab groups lspci.txt --move 01:00.0=00:1c.4                    another slot for a card",
        ),
    )
    parser.add_argument(
        "path", nargs="?", metavar="PATH",
        help="lspci -vvvnn text, a machine file, a machine of the kit by name, a sysfs tree (folder or tar), '-' for standard input;"
        " without it, this machine",
    )  # fmt: skip
    changes = add_options(parser)
    parser.add_argument("--why", metavar="DEVICE", help="say what put this device into its group; 'all' for a table of all devices")
    parser.add_argument("--check", action="store_true", help="compare with the groups recorded in the input; exit 1 if they differ")
    parser.add_argument(
        "--against", metavar="FILE",
        help="with --check: take the recorded groups from this file (dmesg, a listing by group, another machine file)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help='print {"groups": [[address, ...], ...], "warnings": [...]}')
    changes.add_argument(
        "--diff", action="store_true",
        help="print before (the input as it is, its own kernel, no boot parameters) and after; say what split and merged, and who can reach"
        " whom past the IOMMU",
    )  # fmt: skip
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the kernel, the boot parameters and the changes that groups may be asked for with; return the group of the changes."""
    parser.add_argument(
        "--kernel", metavar="V", help="Linux version whose rules apply, such as 6.1 (default: the input's own, else the newest known)"
    )
    parser.add_argument(
        "--pcie-acs-override", default="", metavar="WORDS",
        help="as with this parameter of a patched kernel: downstream, multifunction, id:VVVV:DDDD",
    )  # fmt: skip
    parser.add_argument("--disable-acs-redir", default="", metavar="DEVICES", help="as with pci=disable_acs_redir=")
    parser.add_argument("--config-acs", default="", metavar="BITS@DEVICES", help="as with pci=config_acs=")
    parser.add_argument(
        "--proposal-2025", action="store_true",
        help="a rule proposed in 2025 and in no kernel read so far: a switch with a port that does not isolate is one group with all"
        " below it",
    )  # fmt: skip
    changes = parser.add_argument_group(
        "what if", "the machine with these changes, compared with the machine as it is; each may be given several times"
    )
    for word, meaning, what in _CHANGES:
        changes.add_argument(f"--{word}", action="append", default=[], metavar=meaning, help=what)
    return changes


def asked(arguments: argparse.Namespace) -> Asked:
    """Return what these options ask of a machine. InputError (a ValueError) for one that is not written as it must be."""
    given = {word.replace("-", "_"): getattr(arguments, word.replace("-", "_")) for word, _, _ in _CHANGES}
    pairs = {word: [_pair(word, one) for one in given[word]] for word in ("set_acs", "move", "vfs")}
    changes = planned(**{**given, **pairs, "vfs": [(bdf, int(number)) for bdf, number in pairs["vfs"]]})
    boot = {name: getattr(arguments, name) for name in ("pcie_acs_override", "disable_acs_redir", "config_acs", "proposal_2025")}
    return Asked(arguments.kernel, {name: value for name, value in boot.items() if value}, changes, getattr(arguments, "diff", False))


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return 0, 1 for a difference found by --check, or 2 for input that cannot be used."""
    try:
        found, whole = _read(arguments.path)
        answer = asked(arguments).of(found, whole)
        grouping, changed = answer.grouping, answer.changed
        recorded = _recorded(found, arguments)
        device = _device(grouping, arguments.why) if arguments.why and arguments.why != "all" else None
    except NotComputableError as error:
        return _unusable(arguments, f"{found.source}: {error}", found.warnings)
    except ValueError as error:  # InputError, TopologyError, BootParameterError, an unreadable kernel version
        return _unusable(arguments, str(error))
    warnings = merge_warnings(list(answer.warnings))
    check = compare(grouping, recorded[0], recorded[1]) if recorded else None
    if arguments.json:
        say(json.dumps(as_json(grouping, warnings, device, check) | (changed.json() if changed else {}), indent=1))
    else:
        if arguments.diff and changed:
            say(*as_text(f"before, {found.source}", changed.before, [], why=None, device=None, check=None), "")
        source = f"after, {found.source}" if changed else found.source
        say(*as_text(source, grouping, warnings, why=arguments.why, device=device, check=check))
        say(*(what_changed(changed) if changed else ()))
    return DIFFERENT if check and check["differences"] else 0


def _read(path: str | None) -> tuple[PciInput, Callable[[], Machine]]:
    """Return what the input says of PCI, and what reads the rest of a machine file."""
    if path is None:
        return read_sysfs(), lambda: open_machine(SYS)
    if path == "-":
        text = read_stdin()
        return read_pci_text(text, source="standard input"), lambda: read_machine(text, source="standard input")
    return read_pci(find(path, complain)), lambda: open_machine(path)


def _pair(word: str, text: str) -> tuple[str, str]:
    device, equals, value = text.partition("=")
    if not (device and equals and value) or (word == "vfs" and not re.fullmatch("[0-9]{1,5}", value)):
        meaning = next(meaning for name, meaning, _ in _CHANGES if name.replace("-", "_") == word)
        raise InputError(f"--{word.replace('_', '-')} {text}: must be {meaning}")
    return device, value


def _recorded(found: PciInput, arguments: argparse.Namespace) -> tuple[Recorded, str] | None:
    """Return what to compare with and where it is from; None without --check."""
    if not arguments.check:
        return None
    if arguments.against:
        groups, form = read_recorded(find(arguments.against, complain))
        return groups, f"{arguments.against} ({form})"
    if found.recorded:
        return found.recorded, f"{found.source} itself"
    beside = Path(found.source).parent / "machine.json"
    if arguments.path not in {None, "-"} and beside.is_file() and (groups := read_recorded(beside)[0]):
        return groups, f"{beside}, beside the input, which records none"
    raise InputError("records no groups, so there is nothing to compare with", where=found.source, advice="give a record by --against FILE")


def _device(grouping: Grouping, name: str) -> str:
    try:
        bdf = normal_bdf(name)
    except TopologyError as error:
        raise InputError(f"--why {name}: {error}") from error
    if bdf not in grouping.topology:
        alike = [one for one in grouping.topology if one.endswith(bdf[-7:]) or one.startswith(bdf[:8])]
        advice = f"on that bus or at that place: {', '.join(map(short, alike[:8])) or 'none'}"
        raise InputError(f"--why {name}: no such device in the input", advice=advice)
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
    return {"source": source, "devices": len(listed), "groups": len(wanted), "not_recorded": unrecorded, "differences": differences}


def _unusable(arguments: argparse.Namespace, message: str, warnings: tuple[str, ...] = ()) -> int:
    notes = merge_warnings(list(warnings))
    if arguments.json:
        say(json.dumps({"groups": [], "warnings": [message, *notes]}, indent=1))
    else:
        complain(f"vfiolab groups: {message}", *(f"  note: {note}" for note in notes))
    return UNUSABLE
