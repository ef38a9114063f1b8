"""Kernel traces: scenarios of operations, with the answers of a real kernel if they were recorded.

Operations and answers are kept apart from the first line on: `Operation` holds none of the answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from vfiolab._text import plain
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import GroupingOptions
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import read_text

#: RESULT of a call that did not return while somebody watched, and of one that never reached the kernel.
BLOCKS, SKIPPED = "BLOCKS", "skipped"
#: Who does what no process does, where the scenario's own process sleeps or has ended.
OUTSIDE = "host"

_ANSWER = re.compile(r" -> (?=\?|skipped|crash|blocks|BLOCKS|GONE|\(no answer\)|E[A-Z0-9]+|-?\d+)")
_PROCESS = re.compile(r"([A-Za-z_]\w*): ")
#: What stands for an answer that nobody could record.
UNRECORDED = ("?", "(no answer)")
#: The longest line of the recordings has a tenth of it.
MOST_OF_A_LINE = 1 << 16


@dataclass(frozen=True, slots=True)
class Operation:
    """One line to be carried out: the word, its positional arguments, its key=value arguments (%20 in a line is a blank in a value).

    `process`: the name of the process that does it, "" for the scenario's own.
    """

    text: str
    line: int
    verb: str
    names: tuple[str, ...]
    args: dict[str, str]
    process: str = ""


@dataclass(slots=True)
class Answer:
    """What a kernel answered: RESULT, the JSON beside it, and the IOMMU core's events below.

    `late`: for a call that blocked, what it answered in the end.
    """

    result: str
    output: dict[str, Any] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)
    late: str = ""


@dataclass(slots=True)
class Scenario:
    """Operations of one fresh process. `answers` run parallel to `operations`, None where nothing was recorded.

    Below the last operation stand also the events of the process's exit.
    """

    name: str
    line: int
    operations: list[Operation] = field(default_factory=list)
    answers: list[Answer | None] = field(default_factory=list)


class Boot(NamedTuple):
    """How a host was booted, as far as a trace says it: kernel, boot parameters that shape groups, a design of doorbells by name.

    `assumed`: the IOMMUs were none of the machine file's own, but assumed (`Machine.with_assumed_units`).
    """

    kernel: Kernel | None = None
    options: GroupingOptions | None = None
    doorbells: str = ""
    assumed: bool = False


def boot_of(text: str, *, source: str = "trace") -> Boot:
    r"""Read how the host was booted from the comments above the first scenario. InputError names the line that no kernel understands.

    >>> boot_of("# kernel 6.12\n# boot pcie_acs_override=downstream\n## one\n").options.pcie_acs_override
    'downstream'
    """
    said = {"kernel": "", "switches": "", "boot": "", "doorbells": "", "units": ""}
    for number, line in enumerate(text.partition("\n## ")[0].split("\n"), 1):
        sign, word, rest = [*line.rstrip().split(" ", 2), "", ""][:3]
        if sign == "#" and word in said:
            said[word] = rest
            try:
                options = GroupingOptions.parse(said["boot"]) if said["boot"] else None
                kernel = Kernel(said["kernel"]).flipped(*said["switches"].split()) if said["kernel"] else None
            except ValueError as error:
                raise InputError(str(error), where=source, line=number) from error
    return Boot(kernel, options, said["doorbells"], said["units"] == "assumed") if any(said.values()) else Boot()


def read_trace_file(path: Path) -> list[Scenario]:
    """Read a trace file; see `read_trace`. InputError if it cannot be read, or has no scenario."""
    return read_trace(read_text(path), source=str(path))


def read_trace(text: str, *, source: str = "trace") -> list[Scenario]:
    r"""Read a trace. InputError names the line that is none.

    >>> scenario, = read_trace("## one\nopen_container A -> 0\n")
    >>> scenario.operations[0].verb, scenario.answers[0].result
    ('open_container', '0')
    """
    scenarios: list[Scenario] = []
    for number, raw in enumerate(text.split("\n"), 1):
        if len(raw) > MOST_OF_A_LINE:
            raise InputError(f"{len(raw)} characters", where=source, line=number, advice="no operation or event is so long")
        line = raw.rstrip()
        if line.startswith("## "):
            scenarios.append(Scenario(plain(line[3:].strip()), number))
        elif line[:1] in {" ", "\t"}:
            _event(scenarios, line.strip(), number, source)
        elif line and not line.startswith("#"):
            if not scenarios:
                raise InputError("an operation before the first scenario", where=source, line=number, advice="begin with a line '## name'")
            operation, answer = _operation(line, number, source)
            before = scenarios[-1].answers[-1] if scenarios[-1].answers else None
            if answer and before and before.result == BLOCKS and scenarios[-1].operations[-1].text == operation.text:
                before.late = answer.result  # the same line again: what the blocked call answered in the end
                continue
            scenarios[-1].operations.append(operation)
            scenarios[-1].answers.append(answer)
    if not scenarios:
        raise InputError("no scenario in it: not a trace", where=source, line=1, advice="a trace has a line '## name', then operations")
    return scenarios


def _event(scenarios: list[Scenario], text: str, number: int, source: str) -> None:
    if not text or text.startswith("DIED here"):
        return
    answer = scenarios[-1].answers[-1] if scenarios and scenarios[-1].answers else None
    if not scenarios or not scenarios[-1].operations:
        advice = "events are indented below their operation"
        raise InputError("an event without an operation above it", where=source, line=number, advice=advice)
    if answer is not None:
        answer.events.append(text)


def _operation(line: str, number: int, source: str) -> tuple[Operation, Answer | None]:
    match = _ANSWER.search(line)
    text, rest = (line[: match.start()], line[match.end() :]) if match else (line, "")
    text = plain(text)
    process = _PROCESS.match(text)
    words = text[process.end() if process else 0 :].split()
    if not words:
        raise InputError("an answer without an operation", where=source, line=number, advice="write OPERATION -> RESULT {json}")
    names = tuple(word for word in words[1:] if "=" not in word)
    args = {key: unquote(value) for key, value in (word.split("=", 1) for word in words[1:] if "=" in word)}
    operation = Operation(text, number, words[0], names, args, process[1] if process else "")
    if not rest or rest.startswith(UNRECORDED):
        return operation, None
    result, _, output = rest.partition(" ")
    if result == SKIPPED:
        return operation, Answer(result)
    return operation, Answer(plain(result), _output(output.strip(), number, source))


def _output(text: str, number: int, source: str) -> dict[str, Any]:
    advice = "write OPERATION -> RESULT {json}"
    try:
        found = json.loads(text) if text else {}
    except (ValueError, RecursionError) as error:
        what = error.msg if isinstance(error, json.JSONDecodeError) else "a number of thousands of digits, or nested too deeply"
        raise InputError(f"the answer is not JSON: {what}", where=source, line=number, advice=advice) from error
    if not isinstance(found, dict):
        raise InputError(f"the answer holds a {type(found).__name__}, no object", where=source, line=number, advice=advice)
    return found


def questions(scenarios: Iterable[Scenario]) -> list[list[Operation]]:
    """Return each scenario's operations: all that whoever carries them out gets to see."""
    return [scenario.operations for scenario in scenarios]
