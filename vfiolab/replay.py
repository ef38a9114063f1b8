"""Compare what the model answers to a trace's operations (`client` carries them out) with what a real kernel answered."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from vfiolab.client import CRASH, NOT_ANSWERED, UNANSWERED, Done, number
from vfiolab.model.address import U64
from vfiolab.model.events import canonical
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Machine
from vfiolab.model.user.drivers import Waiting
from vfiolab.readers.trace import SKIPPED, Answer, Operation, Scenario

__all__ = ["Divergence", "Report", "compare", "format_results"]

NOT_COMPARED = NOT_ANSWERED | {"device_info", "pwrite"}
COMPARED = {
    "open_group": ("group",),
    "group_status": ("flags",),
    "get_info": ("flags", "argsz", "pgsizes", "cap_offset", "caps"),
    "unmap": ("unmapped", "dirty_bits"),
    "dirty": ("dirty_bits",),
    "bind": ("driver",),
    "unbind": ("driver",),
    "status": ("VmLck_kB",),
    "param": ("value",),
    "irq_info": ("flags", "count"),
    "wait": ("answered",),
}
ONLY_ON_SUCCESS = frozenset({"unmap", "dirty", "get_info", "open_group", "group_status", "irq_info"})
CAPABILITY_FIELDS = ("id", "version", "off", "ranges", "flags", "pgsize_bitmap", "max_dirty_bitmap_size", "avail")


def format_results(scenarios: Iterable[Scenario], results: Iterable[list[Done]], machine: Machine) -> Iterator[str]:
    """Yield the model's own answers as lines of a trace; the IOMMU core's events on Arm, where traces hold them."""
    events = any(unit.is_arm for unit in machine.units)
    for scenario, done in zip(scenarios, results, strict=True):
        yield f"## {scenario.name}"
        for one in done:
            output = " " + json.dumps(one.output, separators=(",", ":")) if one.output else ""
            if one.result in (SKIPPED, CRASH, UNANSWERED) and one.why:
                output = " " + json.dumps({"why": one.why}, separators=(",", ":"))
            yield f"{one.operation.text} -> {one.result}{output}"
            if events:
                yield from (f"    {event.line}" for event in (*canonical(one.events), *canonical(one.exit_events)))
        yield ""


@dataclass(frozen=True, slots=True)
class Divergence:
    """One operation whose answer differs: where, and what each side says."""

    scenario: str
    index: int
    line: int
    operation: str
    kernel: str
    model: str

    @property
    def verb(self) -> str:
        """The operation's word."""
        return self.operation.split()[0]

    def __str__(self) -> str:
        return f"{self.scenario}[{self.index}] line {self.line}: {self.operation}\n    kernel: {self.kernel}\n    model:  {self.model}"


@dataclass(slots=True)
class Report:
    """What a comparison found: operations compared, by word, and the divergences."""

    scenarios: int = 0
    compared: Counter[str] = field(default_factory=Counter)
    divergences: list[Divergence] = field(default_factory=list)

    @property
    def operations(self) -> int:
        """Number of compared operations."""
        return sum(self.compared.values())

    def __str__(self) -> str:
        return f"{self.scenarios} scenarios, {self.operations} operations, {len(self.divergences)} divergences"


def compare(scenarios: Iterable[Scenario], results: Iterable[list[Done]], machine: Machine, kernel: Kernel | None = None) -> Report:
    """Compare the model's answers with the recorded ones: RESULT, the JSON that counts, and the events where they were recorded.

    `kernel`: the one that answered, by default what the machine boots.
    """
    scenarios = list(scenarios)
    report = Report()
    kernel = machine.host().kernel if kernel is None else kernel
    events = any(unit.is_arm for unit in machine.units) or any(
        answer and answer.events for scenario in scenarios for answer in scenario.answers
    )
    for scenario, done in zip(scenarios, results, strict=True):
        report.scenarios += 1
        lost = False
        for index, answer in enumerate(scenario.answers):
            mine = done[index] if index < len(done) else Done(scenario.operations[index], "nothing: the model's kernel died above")
            if lost or answer is None or answer.result == SKIPPED or mine.operation.verb in NOT_COMPARED or _not_compared(mine, machine):
                continue
            report.compared[mine.operation.verb] += 1
            kernel_says, model_says = _sides(answer, mine, events=events, ordered=kernel.has("unmap_in_iova_order"))
            if kernel_says != model_says:
                report.divergences.append(
                    Divergence(scenario.name, index, mine.operation.line, mine.operation.text, *_differing(kernel_says, model_says))
                )
            lost = (not kernel.has("inclusive_ends") and _ends_at_top(mine.operation, answer, machine.arena.base)) or (
                mine.result == CRASH and answer.result != CRASH
            )
    return report


def _sides(answer: Answer, mine: Done, *, events: bool, ordered: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    verb = mine.operation.verb
    kernel: dict[str, Any] = {"result": answer.result}
    model: dict[str, Any] = {"result": mine.result}
    if verb == "map" and mine.either and {answer.result, mine.result} <= set(mine.either):
        kernel["result"] = model["result"] = " or ".join(mine.either)
    if CRASH in {answer.result, mine.result}:
        return kernel, model
    if answer.late:
        kernel["late"], model["late"] = answer.late, _late(mine.write)
    if answer.result == "0" or verb not in ONLY_ON_SUCCESS:
        unnamed = str(answer.output.get("group", "")).startswith("noiommu-")  # the names of no-IOMMU groups count up over a boot
        for key in COMPARED.get(verb, ()):
            if key in answer.output and not unnamed and (key != "dirty_bits" or key in mine.output):
                kernel[key], model[key] = _plain(answer.output[key], key), _plain(mine.output.get(key), key)
    if events and not (verb == "map" and answer.result != "0") and verb not in ("bind", "unbind"):
        theirs = [line for line in answer.events if not line.startswith(("prep_msi", "attach_dev"))]
        ours = [event.line for part in (mine.events, mine.exit_events) for event in canonical(part) if event.kind != "prep_msi"]
        if verb == "unmap" and not ordered:
            theirs, ours = sorted(theirs), sorted(ours)
        kernel["events"], model["events"] = theirs, ours
    return kernel, model


def _late(write: Waiting | None) -> str:
    """Return what a call that blocked answered in the end; nothing if it never did."""
    if write is None or not write.done:
        return ""
    return write.error.name if write.error is not None else "0"


def _not_compared(done: Done, machine: Machine) -> bool:
    """Say whether an answer depends on how the recorded kernel was built, not on a rule."""
    operation = done.operation
    if operation.verb == "check_extension":  # CONFIG_VFIO_NOIOMMU decides whether iommufd's layer offers no-IOMMU
        return machine.vfio == "iommufd-compat" and operation.args.get("ext") == "8"
    return operation.verb == "sysfs" and (done.result == UNANSWERED or not operation.process)


def _plain(value: Any, key: str) -> Any:
    if key == "group":
        return str(value)  # recorders wrote a number, or its text
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [{key: entry[key] for key in CAPABILITY_FIELDS if key in entry} for entry in value]
    return value


def _differing(kernel: dict[str, Any], model: dict[str, Any]) -> tuple[str, str]:
    keys = [key for key in kernel if kernel[key] != model[key]]
    return tuple(", ".join(f"{key} {side[key]}" for key in keys) for side in (kernel, model))  # type: ignore[return-value] # two sides


def _ends_at_top(operation: Operation, answer: Answer, arena: int) -> bool:
    if operation.verb != "map" or answer.result != "0":
        return False
    return sum(number(operation.args.get(name, "0"), arena) for name in ("iova", "size")) == U64
