"""The recordings in data/traces, for tests."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from vfiolab._paths import data_dir
from vfiolab.model.machine import Machine
from vfiolab.readers.machinefile import read_machine_file
from vfiolab.readers.trace import Operation, Scenario, read_trace_file

TRACES = data_dir() / "traces"
ENVIRONMENTS = sorted(path.parent.name for path in TRACES.glob("*/machine.json"))
COLUMNS = {
    "intel-6.1": "intel-6.1-ir",
    "intel-6.12": "intel-6.12-ir",
    "intel-7.3": "intel-7.3-same",
    "amd-6.1": "amd-6.1",
    "virtio-6.12": "virtio-6.12",
    "intel-6.12compat": "intel-6.12compat",
}


def trace_file(environment: str) -> Path:
    return TRACES / environment / f"{environment}.trace"


@cache
def machine(environment: str) -> Machine:
    return read_machine_file(TRACES / environment / "machine.json")


@cache
def scenarios(environment: str) -> tuple[Scenario, ...]:
    return tuple(read_trace_file(trace_file(environment)))


def rows() -> list[list[str]]:
    """Return the rows of the table of hand-written cases, its head first."""
    lines = (TRACES / "errors-x86.tsv").read_text().splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def operation(text: str, line: int) -> Operation:
    words = text.split()
    names = tuple(word for word in words[1:] if "=" not in word)
    return Operation(text, line, words[0], names, dict(word.split("=", 1) for word in words[1:] if "=" in word))


def table_scenarios() -> list[tuple[Scenario, list[dict[str, str]]]]:
    """Return each scenario of the table as a trace without answers, and for each operation the answer by column."""
    head, *body = rows()
    out: list[tuple[Scenario, list[dict[str, str]]]] = []
    for line, (name, _, text, *answers) in enumerate(body, 6):
        if not out or out[-1][0].name != name:
            out.append((Scenario(name, line), []))
        out[-1][0].operations.append(operation(text, line))
        out[-1][0].answers.append(None)
        out[-1][1].append(dict(zip(head[3:], answers, strict=True)))
    return out
