"""What is left of a run: its trace, a picture of what the program had, and where the same calls would fail on other machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from vfiolab.draw import Picture, topology
from vfiolab.kit.capture import Capture, CaptureRun, Refused
from vfiolab.kit.export import session_text
from vfiolab.kit.host import Host, boot, machines
from vfiolab.kit.steps import Step
from vfiolab.model.events import Call
from vfiolab.model.kernel import SERIES
from vfiolab.readers.calls import Calls
from vfiolab.readers.trace import Operation, read_trace
from vfiolab.readers.write import TraceWriter

#: What a device answers for itself: another machine's device has other vectors and regions, which says nothing of the machine.
DEVICES_OWN = {"irq_info", "region_info", "device_info", "set_irqs", "set_irqs2", "device_reset", "mmapdev", "pwrite", "device_feature"}
#: What a program does when it lets go: a picture shows what it had before.
LETS_GO = {"close_container", "close_group", "close_device", "unset_container", "unmap", "exit", "mem"}


@dataclass(slots=True)
class _Kept:
    """What the writer of sessions needs of one: all calls of a run, as one step."""

    host: Host
    name: str
    steps: list[Step]
    made: str = field(default="")


def _text(host: Host, name: str, calls: Iterable[Call]) -> str:
    step = Step(Operation("run", 0, "run", (), {}), "run")
    step.lines = tuple(TraceWriter().lines(calls))
    return session_text(_Kept(host, name, [step]))


def trace_text(host: Host, name: str) -> str:
    """Return all that was asked of a host as a session's file: `vfiolab replay`, `vl.open_session` and `vl.open_capture` take it.

    ValueError for a kernel whose rules were switched by hand.
    """
    return _text(host, name, host.log.calls)


def picture(host: Host) -> Picture:
    """Draw what the program had before it began to let go: the iova map of its fullest container, or the machine if it had none."""
    calls = host.log.calls
    last = max((at for at, call in enumerate(calls) if call.verb not in LETS_GO and call.error is None), default=-1)
    there = boot(host.machine, host.kernel, host.options)
    spaces = there.replay(_text(host, "run", calls[: last + 1]))
    fullest = max(spaces, key=lambda space: len(space.mappings), default=None)
    return topology(there) if fullest is None else fullest.picture()


class Elsewhere(NamedTuple):
    """What the calls of a run meet on a machine with these kernels: the first that worked in the run and does not there, "" if all do."""

    machine: str
    kernels: tuple[str, ...]
    call: str = ""
    why: str = ""

    def __str__(self) -> str:
        shown = self.kernels[0] if len(self.kernels) == 1 else f"{self.kernels[0]} to {self.kernels[-1]}"
        return f"{self.machine}, {shown}: {f'{self.call} -> {self.why}' if self.call else 'as here'}"


def _calls(text: str, source: str) -> Calls:
    """Return a run's calls with devices in the place of group numbers, and without binds: other machines have other numbers.

    Nor with what a device did by itself: that is no call.
    """
    scenario = read_trace(text, source=source)[0]
    opened = {one.names[1]: one.args["name"] for one in reversed(scenario.operations) if one.verb == "get_device_fd" and "name" in one.args}
    operations, answers = [], []
    for one, answer in zip(scenario.operations, scenario.answers, strict=True):
        if one.verb in ("bind", "unbind", "param", "sysfs", "status", "dma_read", "dma_write", "raise_msi"):
            continue
        args = {"dev": opened[one.names[0]]} if one.verb == "open_group" and one.names[0] in opened else one.args
        operations.append(replace(one, args=args))
        answers.append(answer.result if answer is not None else "")
    return Calls("run", source, len(text.split("\n")), tuple(operations), tuple(answers), (), 0, ())


def _first(run: CaptureRun) -> Refused | None:
    """Return the first call that worked in the run and is refused here; what hangs on a device's own answers is left out."""
    worked, bars = set(run.differing), list[tuple[int, int]]()
    for one in run.refused:
        args = one.operation.args
        if one.operation.verb == "mmapdev":  # a smaller BAR: what lies there cannot be mapped, either
            bars.append((int(args["vaddr"], 0), int(args["size"], 0)))
        elif one.step in worked and one.operation.verb not in DEVICES_OWN:
            place = int(args["vaddr"], 0) if one.operation.verb == "map" and one.result == "EFAULT" else -1
            if not any(start <= place < start + size for start, size in bars):
                return one
    return None


def elsewhere(text: str, source: str = "the run", names: Iterable[str] | None = None) -> Iterator[Elsewhere]:
    """Yield for every machine of the kit (or `names`), by kernel, what a run's calls meet there; kernels that say the same are joined.

    What a device answers for itself is left out: another device stands for it there.
    """
    capture = Capture(_calls(text, source))
    for machine in machines() if names is None else names:
        rows: list[Elsewhere] = []
        for kernel in SERIES:
            try:
                run = capture.run(machine, kernel=kernel)
            except ValueError as error:
                found = Elsewhere(machine, (kernel,), "no run", str(error).removesuffix(f", not {kernel}"))
            else:
                first = _first(run)
                found = Elsewhere(machine, (kernel,)) if first is None else Elsewhere(
                    machine, (kernel,), first.operation.text, f"{first.result}: {first.why}"
                )  # fmt: skip
            if rows and rows[-1][2:] == found[2:]:
                rows[-1] = rows[-1]._replace(kernels=(*rows[-1].kernels, kernel))
            else:
                rows.append(found)
        yield from rows
