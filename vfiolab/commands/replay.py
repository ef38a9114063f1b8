"""``vfiolab replay``: run a trace through the model; compare with its answers, or print the model's own."""

from __future__ import annotations

import argparse
import json
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from vfiolab._paths import data_dir
from vfiolab.commands import UNUSABLE, complain, examples, progress, say
from vfiolab.readers.errors import InputError
from vfiolab.readers.opening import find, open_machine
from vfiolab.readers.trace import questions, read_trace_file

if TYPE_CHECKING:
    from vfiolab.client import Done
    from vfiolab.model.machine import Machine
    from vfiolab.readers.trace import Scenario

__all__ = ["add", "run"]

DIVERGED = 1


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``replay`` and its options."""
    parser = subparsers.add_parser(
        "replay",
        help="run a recorded kernel trace through the model, and compare",
        description="Run a trace's operations through the model and print each divergence from what the kernel answered.",
        **examples(
            "vfiolab replay data/traces                 every recording of the kit",
            "vfiolab replay mine.trace --machine intel-vtd-39bit",
            "vfiolab replay --results mine.trace        the model's own answers",
        ),
    )
    parser.add_argument("trace", metavar="FILE.trace", help="a trace, or a folder of folders that each hold one beside its machine.json")
    parser.add_argument(
        "--machine",
        metavar="machine.json",
        help="a machine file, or the name of a machine of the kit (default: machine.json beside the trace)",
    )
    parser.add_argument("--results", action="store_true", help="print the model's own answers instead; recorded ones are not looked at")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Carry the command out; 1 if there are divergences, 2 if the input cannot be used."""
    try:
        path = find(Path(options.trace), complain)
        if path.is_dir():
            return _folder(path, options.machine)
        return _one(path, _machine(path, options.machine), results=options.results)
    except InputError as error:
        complain(f"vfiolab replay: {error}")
    return UNUSABLE


def _machine(trace: Path, given: str | None) -> str | Path:
    if given is not None:
        return given
    beside = trace.with_name("machine.json")
    if not beside.is_file():
        read_trace_file(trace)  # or what is wrong with it is said first
        raise InputError(
            "no machine.json is beside it",
            where=str(trace),
            advice="name the machine it was recorded on: --machine FILE, or a machine of the kit (vfiolab machines)",
        )
    return beside


def _one(trace: Path, named: str | Path, *, results: bool, before: str = "") -> int:
    from vfiolab.replay import compare, format_results

    scenarios = read_trace_file(trace)
    machine = open_machine(named, complain)
    try:
        done = _carried_out(scenarios, machine, before)
    except ValueError as error:
        what = f"{error.what}; {error.advice}" if isinstance(error, InputError) else f"no kernel boots on {named}: {error}"
        raise InputError(what, where=str(trace), line=getattr(error, "line", None)) from error
    if results:
        say(*format_results(scenarios, done, machine), wrap=False)
        return 0
    try:
        report = compare(scenarios, done, machine)
    except ValueError as error:
        what = f"a recorded answer or event cannot be read: {error}"
        raise InputError(what, where=str(trace), advice="data/README.md has the format") from error
    reasons = known_reasons(trace.stem)
    for divergence in report.divergences:
        say(str(divergence))
        reason = reasons.get((divergence.scenario, divergence.index))
        if reason:
            say(f"    known:  {reason}")
    say(str(report))
    return DIVERGED if report.divergences else 0


def _carried_out(scenarios: list[Scenario], machine: Machine, before: str) -> list[list[Done]]:
    """Carry out a trace, scenario by scenario, and say after a second how far it is."""
    from vfiolab.client import run as carry_out

    begun, shown, done = time.monotonic(), False, []
    for n, scenario in enumerate(scenarios, 1):
        done += carry_out(questions([scenario]), machine)
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


def _folder(folder: Path, given: str | None) -> int:
    traces = sorted(trace for trace in folder.rglob("*.trace") if trace.with_name("machine.json").is_file())
    if not traces:
        raise InputError(
            "no trace beside a machine.json in it",
            where=str(folder),
            advice="give a .trace file, or a folder of such folders",
        )
    worst = 0
    for n, trace in enumerate(traces, 1):
        say(f"{trace.parent.name}:")
        named = trace.with_name("machine.json") if given is None else given
        worst = max(worst, _one(trace, named, results=False, before=f"{n} of {len(traces)} recordings, "))
    return worst
