"""``vfiolab explain``: an error line in, its cause out."""

from __future__ import annotations

import argparse

from vfiolab.commands import UNUSABLE, complain, examples, say

__all__ = ["add", "run"]

ONE_OF_EACH = ("intel-vtd-39bit", "amd-vi-server", "one-smmu-its")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``explain`` and its options."""
    parser = subparsers.add_parser(
        "explain",
        help="say what an error line of QEMU means, and what to do",
        description="Explain QEMU's line 'vfio_dma_map(0x..., 0xIOVA, 0xSIZE, 0xVADDR) = -22 (Invalid argument)': the call is"
        " made again on a machine of the kit, and the check that refuses it speaks.",
        **examples(
            "vfiolab explain 'vfio_dma_map(0x55, 0x38001000, 0x2000, 0x7f00) = -22 ()'",
            "vfiolab explain '...' --machine lspci.txt --kernel 6.1 --device 01:00.0",
        ),
    )
    parser.add_argument("line", metavar="LINE", help="the error line, in quotes")
    parser.add_argument(
        "--machine", metavar="NAME|FILE", help="a machine of the kit, a machine file or lspci text (default: one of each kind)"
    )
    parser.add_argument("--kernel", metavar="V", help="Linux version (default: the machine's own)")
    parser.add_argument(
        "--device", metavar="ADDRESS", action="append", default=[], help="a device that the guest has; may be given more than once"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out; 2 if the line or the machine cannot be used."""
    from vfiolab.explain import explain_map
    from vfiolab.kit import load

    try:
        names = [options.machine] if options.machine else ONE_OF_EACH
        found = [explain_map(options.line, load(name, options.kernel), options.device, machine=name) for name in names]
    except ValueError as problem:
        complain(f"vfiolab explain: {problem}")
        return UNUSABLE
    best = next((one for one in found if one.causes), found[0])
    say(best.headline, "", str(best))
    others = [one for one in found if one is not best]
    if others:
        say("", "On other machines (name yours with --machine):", *(f"  {one.summary}" for one in others))
    doubts = [doubt for doubt in best.host.doubts if "INTx" not in doubt]  # a map knows no interrupts
    if doubts:
        say("", "Uncertain:", *(f"  - {doubt}" for doubt in doubts))
    return 0
