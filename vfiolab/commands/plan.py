"""``vfiolab plan``: hand devices to a guest: who goes along, what the kernel refuses, and the shell lines."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from vfiolab.commands import UNUSABLE, complain, examples, paint, say
from vfiolab.model.kernel import NEWEST, Kernel
from vfiolab.model.machine import Machine
from vfiolab.model.pci.grouping import NotComputableError
from vfiolab.readers.lines import read_stdin
from vfiolab.readers.opening import machine_of, open_machine

PARTS = ("devices", "together", "may_stay", "refusals", "commands", "undo", "warnings")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``plan`` and its options."""
    parser = subparsers.add_parser(
        "plan",
        help="plan a passthrough: what goes along, what the kernel refuses, the shell lines and how to undo them",
        description="Plan to hand devices to a guest, by trying it on a model of the machine. Nothing on this machine is changed.",
        **examples(
            "vfiolab plan /sys 01:00.0                       this machine",
            "lspci -vvvnn | vfiolab plan - 01:00.0 01:00.1   a listing, from anywhere",
            "vfiolab plan amd-matisse-desktop 2d:00.0        a machine of the kit",
        ),
    )
    parser.add_argument(
        "path", metavar="PATH",
        help="lspci -vvvnn text, a machine file, a machine of the kit by name, a sysfs tree (folder or tar; /sys is this machine), '-' for"
        " standard input",
    )  # fmt: skip
    parser.add_argument("devices", metavar="DEVICE", nargs="+", help="what the guest shall have, such as 01:00.0")
    parser.add_argument("--kernel", metavar="V", help="Linux version, such as 6.1 (default: the input's own, else the newest known)")
    parser.add_argument("--json", action="store_true", help=f"print the plan as an object: {', '.join(PARTS)}")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out: 0 with a plan, also one that the kernel refuses; 2 for input that cannot be used."""
    from vfiolab.kit import boot
    from vfiolab.kit.plan import plan

    try:
        found = plan(boot(_machine(options.path), options.kernel), *options.devices)
    except ValueError as error:
        problem = f"{options.path}: {error}" if isinstance(error, NotComputableError) else str(error)
        if not options.json:
            raise ValueError(problem) from error
        say(json.dumps({name: [problem] if name == "warnings" else [] for name in PARTS}, indent=1))
        return UNUSABLE
    if options.json:
        say(json.dumps(found.as_dict(), indent=1))
        return 0
    for number, (heading, lines) in enumerate(found.sections()):
        say(*["", paint(heading, "bold")] if number else [heading])
        say(*(f"  {line}" for line in lines), wrap=lines not in (found.commands, found.undo))
    return 0


def _machine(path: str) -> Machine:
    """Read the machine; a kernel that it names and the model does not know is not used."""
    machine = machine_of(read_stdin(), source="standard input", name="the listing") if path == "-" else open_machine(path, complain)
    try:
        Kernel(machine.kernel or NEWEST)
    except ValueError as error:
        note = f"the input's kernel is not used: {error}; the rules of {Kernel().title} apply, unless --kernel says others"
        machine = replace(machine, kernel=None, notes=(*machine.notes, note))
    return machine.with_assumed_units()
