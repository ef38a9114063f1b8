"""``vfiolab run``: run a VFIO program of yours on a modelled machine and kernel."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from vfiolab.commands import complain, examples
from vfiolab.kit.host import Host, boot
from vfiolab.model.pci.topology import normal_bdf
from vfiolab.readers.opening import open_machine

#: Exit status where the model had to end the program, and where a program cannot be started (as a shell says it).
ENDED, NOT_FOUND = 3, 127


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``run`` and its options."""
    parser = subparsers.add_parser(
        "run",
        help="run a VFIO program on a modelled machine and kernel, and see why a call is refused",
        description="Run a program, unchanged, on a machine that you do not have. Its calls on /dev/vfio and below /sys/bus/pci are"
        " answered by the model; everything else is this machine's. Each call is printed as strace prints it, with the reason below a"
        " refusal. Needs no root and no IOMMU, and Linux 5.9 or later. Where the model has no answer, or the real kernel would die or wait"
        f" for ever, the program is ended (exit status {ENDED}).",
        **examples(
            "vfiolab run --machine two-smmu-server --bind 01:00.0 -- ./my-driver 0000:01:00.0",
            "vfiolab run --machine intel-vtd-39bit --kernel 5.4 --bind 01:00.0 -- qemu-system-x86_64 -nographic \\",
            "    -nodefaults -m 64 -device vfio-pci,host=0000:01:00.0",
            "vfiolab run --machine amd-vi-server -- lspci",
            "vfiolab run --machine amd-vi-server --edu 01:00.0 --dmesg log.txt -- python notebooks/driver.py 0000:01:00.0",
        ),
    )
    parser.add_argument(
        "--machine", metavar="M", required=True,
        help="a machine of the kit (vfiolab machines), a machine file, lspci text, a sysfs tree (/sys is this machine)",
    )  # fmt: skip
    parser.add_argument("--kernel", metavar="V", help="Linux version, such as 6.1 (default: the machine's own, else the newest known)")
    parser.add_argument("--boot", metavar="WORDS", help="boot parameters that shape groups, such as pcie_acs_override=downstream")
    parser.add_argument("--bind", metavar="BDF", action="append", default=[], help="bind a device to vfio-pci first (may be repeated)")
    parser.add_argument(
        "--param", metavar="NAME=VALUE", action="append", default=[],
        help="set a module parameter first, such as allow_unsafe_interrupts=1 (of vfio_iommu_type1) or vfio.NAME=VALUE",
    )  # fmt: skip
    parser.add_argument(
        "--edu", metavar="BDF", action="append", default=[],
        help="put the toy device vfiolab-edu in a device's place, and bind it (may be repeated): a toy of this kit for a driver"
        " of your own, no real hardware, and not QEMU's edu (registers: vfiolab/run/edu.py; a driver: notebooks/driver.py)",
    )  # fmt: skip
    parser.add_argument("--dmesg", metavar="FILE", help="write what the modelled kernel logs meanwhile: the lines of IOMMU faults")
    parser.add_argument("--seconds", metavar="N", type=float, help="end the program after so many seconds")
    parser.add_argument("--quiet", action="store_true", help="print refusals only")
    parser.add_argument(
        "--trace", metavar="FILE", help="write the run as a trace, with its machine: vfiolab replay FILE, vl.open_session(FILE)"
    )
    parser.add_argument("--picture", metavar="FILE", help="draw what the program had before it let go (.svg, .png, .pdf, .txt)")
    parser.add_argument(
        "--on", choices=["all"], help="then say which of the same calls would fail first on each machine and kernel of the kit"
    )
    parser.add_argument("command", metavar="PROGRAM", nargs="+", help="the program and its arguments, behind --")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out: the program's exit status, or 3 if it was ended. ValueError or Refusal for input that cannot be used."""
    if not sys.platform.startswith("linux"):
        raise ValueError(f"a program's calls can be answered on Linux only, and this is {sys.platform}")
    from vfiolab.run import NotPossibleError, run_program

    host, toys = _host(options), [normal_bdf(bdf) for bdf in options.edu]
    keep = bool(options.trace or options.picture or options.on)
    try:
        outcome = run_program(host, options.command, tell=_tell, quiet=options.quiet, seconds=options.seconds, keep=keep, toys=toys)
    except NotPossibleError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        complain(f"vfiolab run: {options.command[0]}: {error.strerror}")
        return NOT_FOUND
    try:
        _report(host, options)
        if options.dmesg:
            Path(options.dmesg).write_text("".join(f"{line}\n" for line in outcome.dmesg), encoding="utf-8")
    except OSError as error:
        raise ValueError(str(error)) from error
    if outcome.ended:
        complain(f"vfiolab run: {outcome.ended}; the program was ended")
        return ENDED
    return outcome.status


def _report(host: Host, options: argparse.Namespace) -> None:
    from vfiolab.run.report import elsewhere, picture, trace_text

    name = Path(options.command[0]).name
    if options.trace:
        Path(options.trace).write_text(trace_text(host, name), encoding="utf-8")
    if options.picture:
        picture(host).save(options.picture)
    if options.on:
        for row in elsewhere(trace_text(host, name)):
            complain(str(row))


def _host(options: argparse.Namespace) -> Host:
    from vfiolab.run.edu import NAME, with_edu

    machine = open_machine(options.machine, complain).with_assumed_units()
    for device in options.edu:
        machine = with_edu(machine, device)
        complain(f"vfiolab run: {device} is {NAME}: a toy device of this kit and no real hardware (and not QEMU's edu)")
    host = boot(machine, options.kernel, options.boot)
    for word in options.param:
        name, _, value = word.partition("=")
        host.set_param(name if "." in name else f"vfio_iommu_type1.{name}", value)
    for device in (*options.edu, *options.bind):
        host.bind(device)
    return host


def _tell(lines: list[str]) -> None:
    if lines:
        sys.stderr.write("\n".join(lines) + "\n")
