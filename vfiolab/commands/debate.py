"""``vfiolab debate``: every design of the debate of December 2015 on every scenario."""

from __future__ import annotations

import argparse
import json

from vfiolab.commands import examples, paint, say

SHORT = {"delivered": "✓", "corrupts": "RAM hit"}
LEGEND = "✓ delivered: it works. An errno: a call refuses. lost: no interrupt, or no memory. RAM hit: corrupts, a message lands in memory."


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``debate`` and its options."""
    parser = subparsers.add_parser(
        "debate",
        help="run the designs of the debate about interrupts behind an IOMMU",
        description="Who may put an interrupt's doorbell into a user's address space? Run every proposal on every scenario.",
        **examples(
            "vfiolab debate                                    the whole table",
            "vfiolab debate --proposal P3                      one design, with reasons",
            "vfiolab debate --scenario hot-add --json          one scenario, as data",
        ),
    )
    parser.add_argument("--proposal", action="append", metavar="P", help="only this one: P0 to P7 (may be given several times)")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="only this one (may be given several times)")
    parser.add_argument("--json", action="store_true", help="print every cell as data")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out. ValueError for a name that there is none of."""
    from vfiolab.proposals import SCENARIOS, debate

    found = debate(proposals=options.proposal, scenarios=options.scenario)
    if options.json:
        say(json.dumps(found.as_dict(), indent=2), wrap=False)
        return 0
    say(paint(f"{'':<15}" + "".join(f"{name:<8}" for name in found.proposals).rstrip(), "bold"), wrap=False)
    for scenario in found.scenarios:
        cells = [found[name, scenario] for name in found.proposals]
        shown = "".join(f"{SHORT.get(cell.outcome) or cell.errno or cell.outcome:<8}" for cell in cells)
        say(f"{paint(f'{scenario:<15}', 'bold')}{shown.rstrip()}", wrap=False)
    say("", LEGEND, "", *(f"{name}  {kind.title}" for name, kind in found.proposals.items()), "")
    say(*(f"{name:<15}{SCENARIOS[name].words}" for name in found.scenarios))
    for cell in found.cells if options.proposal or options.scenario else ():
        first, *rest = str(cell).splitlines()
        say("", paint(first, "bold"), *rest)
    return 0
