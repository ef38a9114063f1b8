"""``vfiolab explain``: an error line or a log in, its cause out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vfiolab.commands import complain, examples, say

#: Exit status of a line, or a log, in which no kind of line is known.
NOT_KNOWN = 3


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``explain`` and its options."""
    parser = subparsers.add_parser(
        "explain",
        help="say what an error line or a log of QEMU, libvirt, DPDK or the kernel means, and what to do",
        description="Explain an error line: what happened, which check of which kernel function refused, what to try, and what is often"
        " tried in vain. A log is searched for the lines that matter, and which of them is the cause. Where numbers decide, the model"
        " makes the call again. Exit status 3 if no line is known.",
        **examples(
            "vfiolab explain 'vfio_dma_map(0x55, 0x38001000, 0x2000, 0x7f00) = -22 ()'",
            "vfiolab explain 'EAL: Cannot open /dev/vfio/151: Device or resource busy' --json",
            "vfiolab explain /var/log/libvirt/qemu/guest.log",
            "dmesg | vfiolab explain -",
            "vfiolab explain '...' --machine lspci.txt --kernel 6.1 --device 01:00.0",
        ),
    )
    parser.add_argument("line", metavar="LINE|FILE|-", help="the error line, in quotes; the path of a log; or - for standard input")
    parser.add_argument(
        "--machine", metavar="NAME|FILE", help="a machine of the kit, a machine file or lspci text to ask (default: one of each kind)"
    )
    parser.add_argument("--kernel", metavar="V", help="Linux version (default: the machine's own)")
    parser.add_argument(
        "--device", metavar="ADDRESS", action="append", default=[], help="a device that the guest has; may be given more than once"
    )
    parser.add_argument("--json", action="store_true", help="print an object: a line's, or a log's lines and which is the cause")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out; 3 if nothing is known of it. ValueError if the input or the machine cannot be used."""
    from vfiolab.detective import Answer, explain
    from vfiolab.readers.lines import read_stdin

    text = read_stdin() if options.line == "-" else Path(options.line) if os.path.isfile(options.line) else options.line  # noqa: PTH113
    found = explain(text, options.machine, options.kernel, options.device)
    known = found.kind is not None if isinstance(found, Answer) else bool(found.lines)
    if options.json:
        say(found.json(), wrap=False)
    elif known:
        say(str(found))
    if not known:
        complain(str(found))
    return 0 if known else NOT_KNOWN
