"""ftrace's and `perf script`'s `iommu` events: which iovas a kernel mapped and unmapped, and where it faulted.

The forms differ with the kernel: `iova=A paddr=P size=N` (older) or `iova=A - B paddr=P size=N`. A line that is no such event is kept with
its number and the reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vfiolab.model.address import U64, Span, hexa, human_size
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import given, lines_of
from vfiolab.readers.qemu import Unread

_LINE = re.compile(
    r"^\s{0,32}(?P<task>\S.{0,40}?)(?:-|\s{1,8}(?:\d{1,10}/)?)(?P<pid>\d{1,10})\s{1,8}(?:\(\s{0,8}[\d-]{1,10}\)\s{1,8})?"
    r"\[\d{1,6}\]\s{1,8}(?:\S{1,12}\s{1,8})?(?P<time>\d{1,12}\.\d{1,9}):\s{1,40}"
    r"(?:\d{1,20} )?(?:iommu:)?(?P<event>\w{1,40}(?::\w{1,40})?): {1,8}(?P<rest>.*)$"
)
_PAIR = re.compile(r"\b(\w{1,20})=(0x[0-9a-fA-F]{1,32}|[0-9]{1,32})")
_END = re.compile(r"iova=0x[0-9a-fA-F]{1,32} - (0x[0-9a-fA-F]{1,32})")
_DEVICE = re.compile(r"[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7]")
_KNOWN = (
    "map", "unmap", "attach_device_to_domain", "detach_device_from_domain", "io_page_fault", "add_device_to_group",
    "remove_device_from_group",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class IommuEvent:
    """One event. `span`: the iovas of a map or unmap; `physical` of a map; `device` where the event names one; `time` in seconds."""

    line: int
    kind: str
    task: str
    pid: int
    time: float
    span: Span | None = None
    physical: int | None = None
    device: str = ""

    def __str__(self) -> str:
        where = f" {self.span}, {human_size(self.span.size)}" if self.span else ""
        to = f" -> {hexa(self.physical)}" if self.physical is not None else ""
        return f"line {self.line}: {self.kind}{where}{to}{f' {self.device}' if self.device else ''}"


@dataclass(frozen=True, slots=True)
class Ftrace:
    """A trace: its IOMMU events in order, and the lines that were not understood."""

    source: str
    events: tuple[IommuEvent, ...]
    unread: tuple[Unread, ...]

    @property
    def mapped(self) -> tuple[IommuEvent, ...]:
        """The maps that no later unmap touches, in iova order."""
        left: list[IommuEvent] = []
        for event in self.events:
            if event.kind == "map":
                left.append(event)
            elif event.kind == "unmap" and event.span is not None:
                gone = event.span
                left = [one for one in left if one.span is None or not one.span.overlaps(gone)]
        return tuple(sorted(left, key=lambda one: one.span.start if one.span else 0))

    def __str__(self) -> str:
        maps, unmaps = (sum(event.kind == kind for event in self.events) for kind in ("map", "unmap"))
        return f"{len(self.events)} IOMMU events ({maps} map, {unmaps} unmap), {len(self.unread)} not understood"


def read_ftrace(source: str | Path, *, where: str = "") -> Ftrace:
    """Read ftrace text from a file (a Path) or as it is. InputError if it holds no IOMMU event.

    >>> print(read_ftrace("kvm-7 [001] ..... 1.5: map: IOMMU: iova=0x1000 paddr=0x80000000 size=4096"))
    1 IOMMU events (1 map, 0 unmap), 0 not understood
    """
    text, where = given(source, where)
    events: list[IommuEvent] = []
    unread: list[Unread] = []
    for number, line in enumerate(lines_of(text), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            found = _event(number, line)
            if isinstance(found, IommuEvent):
                events.append(found)
            else:
                unread.append(found)
    if not events:
        advice = "enable the events (echo 1 > events/iommu/enable in tracefs) and give the text of `trace`"
        raise InputError("no IOMMU event in it", where=where or "trace", advice=advice)
    return Ftrace(where, tuple(events), tuple(unread))


def _event(number: int, line: str) -> IommuEvent | Unread:
    match = _LINE.match(line)
    if match is None:
        return Unread(number, line, "no ftrace line")
    kind, rest = match["event"], match["rest"]
    if kind not in _KNOWN:
        return Unread(number, line, f"{kind} is none of the IOMMU's events")
    numbers = {name: int(word, 16 if word[:2] == "0x" else 10) for name, word in _PAIR.findall(rest)}
    span = _span(numbers, rest)
    if kind in ("map", "unmap") and span is None:
        return Unread(number, line, f"{kind} without its range")
    device = _DEVICE.search(rest)
    physical = numbers.get("paddr") if kind == "map" else None
    return IommuEvent(number, kind, match["task"], int(match["pid"]), float(match["time"]), span, physical, device[0] if device else "")


def _span(numbers: dict[str, int], rest: str) -> Span | None:
    """Return the range: from both ends where they are printed, else from the size; an `io_page_fault` has one iova only."""
    start, end = numbers.get("iova"), _END.search(rest)
    if start is None:
        return None
    size = int(end[1], 16) - start if end else numbers.get("size", 1)
    return Span.sized(start, size) if 0 < size <= U64 - start else None
