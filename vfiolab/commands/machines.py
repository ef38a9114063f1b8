"""``vfiolab machines``: the machines of the kit, a line each."""

from __future__ import annotations

import argparse

from vfiolab.commands import columns, cut, examples, paint, say


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``machines``."""
    parser = subparsers.add_parser(
        "machines",
        help="list the machines of the kit",
        description="List the machines that come with the kit, a line each: name, kernel, what it has, where it is from.",
        **examples(
            "vfiolab machines",
            "vfiolab groups two-smmu-server --why 01:00.0",
            "python -c 'import vfiolab as vl; print(vl.load(\"amd-vi-server\"))'",
        ),
    )
    parser.set_defaults(run=run)


def run(_arguments: argparse.Namespace) -> int:
    """Run the command; always 0."""
    from vfiolab.model.kernel import Kernel
    from vfiolab.readers.opening import machine_names, open_machine

    machines = [(name, open_machine(name)) for name in machine_names()]
    wide = max(len(name) for name, _ in machines)
    room = columns()
    for name, machine in machines:
        units = ", ".join(unit.kind for unit in machine.units) or "IOMMU not recorded"
        kernel = Kernel(machine.kernel).title if machine.kernel else "no kernel"
        told = f"{kernel:<10} {len(machine.topology):>3} functions  {units}"
        source = f"  {machine.source}" if machine.source and room is None else ""
        say(f"{paint(f'{name:<{wide}}', 'bold')}  {cut(told + source, None if room is None else room - wide - 2)}", wrap=False)
    return 0
