"""``vfiolab replay``: run a trace through the model; compare with its answers. Run a capture up to the first call that cannot work."""

from __future__ import annotations

import argparse
import json
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from vfiolab._paths import data_dir
from vfiolab.commands import complain, examples, progress, say
from vfiolab.model.kernel import Kernel
from vfiolab.readers.capture import capture_kind, read_capture, text_of
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import read_bytes, read_text
from vfiolab.readers.opening import find, open_machine
from vfiolab.readers.simpletrace import is_simple_trace
from vfiolab.readers.trace import Boot, Scenario, boot_of, questions, read_trace

if TYPE_CHECKING:
    from vfiolab.client import Done
    from vfiolab.model.machine import Machine

DIVERGED = 1
SHOWN = 5


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``replay`` and its options."""
    parser = subparsers.add_parser(
        "replay",
        help="run a recorded kernel trace or a capture through the model, and compare",
        description="Run a trace's operations through the model and print each divergence from what the kernel answered. A capture (QEMU's"
        " trace as text or binary, the IOMMU's tracepoints from ftrace or perf script, strace's text) is told from what is in it: the first"
        " call that cannot work on the machine and kernel is printed, and what of it was not understood.",
        **examples(
            "vfiolab replay data/traces                 every recording of the kit",
            "vfiolab replay mine.trace --machine intel-vtd-39bit",
            "vfiolab replay --results mine.trace        the model's own answers",
            "vfiolab replay qemu.log --machine intel-vtd-39bit --kernel 5.4",
        ),
    )
    parser.add_argument(
        "trace", metavar="FILE", help="a .trace, a folder of folders that each hold one beside its machine.json, or a capture"
    )
    parser.add_argument(
        "--machine", metavar="machine.json",
        help="a machine file, or the name of a machine of the kit (default: machine.json beside the trace; a session's own)",
    )  # fmt: skip
    parser.add_argument("--results", action="store_true", help="print the model's own answers instead; recorded ones are not looked at")
    parser.add_argument(
        "--kernel", metavar="VERSION", help="the kernel that is booted (default: what the trace says, else the machine's own)"
    )
    parser.add_argument(
        "--device", metavar="BDF", action="append", default=[],
        help="for a capture: the device of the machine that stands for the capture's first, second, ... device",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out; 1 if there are divergences. ValueError if the input cannot be used."""
    path = find(Path(options.trace), complain)
    if path.is_dir():
        return _folder(path, options)
    if text := _capture_text(path, only=bool(options.device)):
        return _capture(path, text, options)
    return _one(path, options)


def _machine(trace: Path, given: str | None, advice: str) -> str | Path:
    """Return where the machine is: what is given, else the file beside the trace."""
    beside = trace.with_name("machine.json")
    if given is None and not beside.is_file():
        raise InputError("no machine.json is beside it", where=str(trace), advice=advice)
    return beside if given is None else given


def _capture_text(path: Path, *, only: bool) -> str:
    """Return a file's text if it is a capture; "" for a trace, and for what is neither or cannot be read: the trace's reader says why.

    `only`: what is asked for is possible with captures only.
    """
    try:
        text, _ = text_of(path)
    except InputError:
        if is_simple_trace(read_bytes(path)):
            raise
        return ""
    if capture_kind(text) not in ("", "trace"):
        return text
    if only:
        raise InputError("is no capture", where=str(path), advice="--device is for captures: a trace names its devices itself")
    return ""


def _capture(path: Path, text: str, options: argparse.Namespace) -> int:
    """Carry a capture out, and print the first call that cannot work; 1 if there is one."""
    from vfiolab.kit.capture import Capture
    from vfiolab.kit.host import boot
    from vfiolab.replay import format_results

    capture = Capture(read_capture(text, where=str(path)))
    named = _machine(path, options.machine, "name a machine to run it on: --machine NAME (vfiolab machines)")
    machine = open_machine(named, complain).with_assumed_units()
    begun = time.monotonic()

    def tell(number: int) -> None:
        if time.monotonic() - begun > 1:
            progress(f"{number} of {len(capture.operations)} calls")

    try:
        run = capture.run(boot(machine, options.kernel), devices=options.device, tell=tell)
    except ValueError as error:
        raise InputError(str(error)) from error
    finally:
        progress("")
    if options.results:
        say(*format_results([Scenario(path.stem, 1)], [run.done], machine), wrap=False)
        return 0
    say(f"{path.name}: {', '.join(f'{number} {what}' for what, number in capture.counts.items())} ({capture.kind})")
    shown = capture.calls.unread[:SHOWN]
    say(*(f"  {one}" for one in shown), *([f"  and {len(capture.calls.unread) - SHOWN} more"] if len(capture.calls.unread) > SHOWN else []))
    say(*(f"  assumed: {one}" for one in run.said))
    first, where = run.first_refused, f"{machine.name}, kernel {run.host.kernel}"
    if first is None:
        say(f"{where}: {len(run.done)} calls, all of them work")
        return 0
    say(f"{where}: call {first.step} of {len(run.operations)} is the first that cannot work", str(first))
    return DIVERGED


def _one(trace: Path, options: argparse.Namespace, before: str = "") -> int:
    """Carry a trace out, and print the model's answers or what of them diverges; 1 if something does."""
    from vfiolab.kit.saved import booted, is_session

    text = read_text(trace)
    scenarios, boot = read_trace(text, source=str(trace)), boot_of(text, source=str(trace))
    if boot.doorbells:
        what = f"was run with the design {boot.doorbells} of doorbells, which no Linux has"
        raise InputError(
            what, where=str(trace), advice="vfiolab debate runs the designs; a trace of a kernel's own doorbells can be replayed"
        )
    if options.kernel:
        boot = boot._replace(kernel=Kernel(options.kernel))
    if options.machine is None and is_session(text):
        named, machine = f"the machine in {trace}", booted(trace).machine
    else:
        advice = "name the machine it was recorded on: --machine FILE, or a machine of the kit (vfiolab machines)"
        named = str(_machine(trace, options.machine, advice))
        machine = open_machine(named, complain)
    machine = machine.with_assumed_units() if boot.assumed else machine
    try:
        kernel = machine.host(boot.kernel, boot.options).kernel
        done = _carried_out(scenarios, machine, boot, before)
    except ValueError as error:
        what = f"{error.what}; {error.advice}" if isinstance(error, InputError) else f"no kernel boots on {named}: {error}"
        raise InputError(what, where=str(trace), line=getattr(error, "line", None)) from error
    return _shown(trace, scenarios, done, machine, kernel, results=options.results)


def _shown(
    trace: Path, scenarios: list[Scenario], done: list[list[Done]], machine: Machine, kernel: Kernel, *, results: bool
) -> int:  # fmt: skip
    """Print the model's answers, or what of them diverges; 1 if something does."""
    from vfiolab.replay import compare, format_results

    if results:
        say(*format_results(scenarios, done, machine), wrap=False)
        return 0
    try:
        report = compare(scenarios, done, machine, kernel)
    except ValueError as error:
        what = f"a recorded answer or event cannot be read: {error}"
        raise InputError(what, where=str(trace), advice="data/README.md has the format") from error
    reasons = known_reasons(trace.stem)
    for divergence in report.divergences:
        reason = reasons.get((divergence.scenario, divergence.index))
        say(str(divergence), *([f"    known:  {reason}"] if reason else []))
    say(str(report))
    return DIVERGED if report.divergences else 0


def _carried_out(scenarios: list[Scenario], machine: Machine, boot: Boot, before: str) -> list[list[Done]]:
    """Carry out a trace, scenario by scenario, and say after a second how far it is."""
    from vfiolab.client import run as carry_out

    begun, shown, done = time.monotonic(), False, []
    for n, scenario in enumerate(scenarios, 1):
        done += carry_out(questions([scenario]), machine, boot)
        if time.monotonic() - begun > 1:
            shown = True
            progress(f"{before}{n} of {len(scenarios)} scenarios")
    if shown:
        progress("")
    return done


def known_reasons(environment: str) -> dict[tuple[str, int], str]:
    """Return why some operations of an environment are known to diverge, by scenario and index."""
    known = json.loads((data_dir() / "known-divergences.json").read_text(encoding="utf-8"))["divergences"]
    return {(one["scenario"], one["index"]): one["reason"] for one in known if fnmatchcase(environment, one["environment"])}


def _folder(folder: Path, options: argparse.Namespace) -> int:
    traces = sorted(trace for trace in folder.rglob("*.trace") if trace.with_name("machine.json").is_file())
    if not traces:
        raise InputError(
            "no trace beside a machine.json in it", where=str(folder), advice="give a .trace file, or a folder of such folders"
        )
    worst = 0
    for n, trace in enumerate(traces, 1):
        say(f"{trace.parent.name}:")
        worst = max(worst, _one(trace, options, f"{n} of {len(traces)} recordings, "))
    return worst
