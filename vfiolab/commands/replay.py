"""``vfiolab replay``: run a trace through the model; compare with its answers, or print the model's own."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from pathlib import Path

from vfiolab._paths import data_dir
from vfiolab.commands import complain, machine_file, say
from vfiolab.readers.errors import InputError
from vfiolab.readers.machinefile import read_machine_file
from vfiolab.readers.trace import questions, read_trace_file

__all__ = ["add", "run"]

DIVERGED, UNUSABLE = 1, 2


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``replay`` and its options."""
    parser = subparsers.add_parser(
        "replay",
        help="run a recorded kernel trace through the model, and compare",
        description="Run a trace's operations through the model and print each divergence from what the kernel answered.",
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
        path = Path(options.trace)
        if path.is_dir():
            return _folder(path)
        return _one(path, _machine(path, options.machine), results=options.results)
    except InputError as error:
        complain(f"vfiolab replay: {error}")
    except OSError as error:
        complain(f"vfiolab replay: {error.filename}: {error.strerror}")
    return UNUSABLE


def _machine(trace: Path, given: str | None) -> Path:
    if not trace.is_file():
        raise InputError("no such file", where=str(trace), advice="give a .trace file, or a folder of folders that each hold one")
    beside = trace.with_name("machine.json")
    if given is None and not beside.is_file():
        raise InputError(
            "no machine.json is beside it",
            where=str(trace),
            advice="name the machine it was recorded on: --machine FILE, or a machine of the kit",
        )
    return machine_file(given) if given is not None else beside


def _one(trace: Path, machine_file: Path, *, results: bool) -> int:
    from vfiolab.replay import compare, format_results
    from vfiolab.replay import run as carry_out

    machine = read_machine_file(machine_file)
    scenarios = read_trace_file(trace)
    if results:
        for line in format_results(scenarios, carry_out(questions(scenarios), machine), machine):
            say(line)
        return 0
    report = compare(scenarios, carry_out(questions(scenarios), machine), machine)
    reasons = known_reasons(trace.stem)
    for divergence in report.divergences:
        say(str(divergence))
        reason = reasons.get((divergence.scenario, divergence.index))
        if reason:
            say(f"    known:  {reason}")
    say(str(report))
    return DIVERGED if report.divergences else 0


def known_reasons(environment: str) -> dict[tuple[str, int], str]:
    """Return why some operations of an environment are known to diverge, by scenario and index."""
    known = json.loads((data_dir() / "known-divergences.json").read_text(encoding="utf-8"))["divergences"]
    return {(one["scenario"], one["index"]): one["reason"] for one in known if fnmatchcase(environment, one["environment"])}


def _folder(folder: Path) -> int:
    traces = sorted(trace for trace in folder.rglob("*.trace") if trace.with_name("machine.json").is_file())
    if not traces:
        raise InputError(
            "no trace beside a machine.json in it",
            where=str(folder),
            advice="give a .trace file, or a folder of such folders",
        )
    worst = 0
    for trace in traces:
        say(f"{trace.parent.name}:")
        worst = max(worst, _one(trace, trace.with_name("machine.json"), results=False))
    return worst
