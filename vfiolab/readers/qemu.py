"""QEMU's traces and failure lines: what a virtual machine asked of VFIO, and which guest iovas lead to which doorbell.

Both ways in which QEMU writes trace events are read, mixed in one file if need be: `pid@time:event words` (the `log` backend) and
`event delta pid=N key=value` (the `simple` backend as text). A line that is neither is kept with its number and the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vfiolab.model.address import U64, Span, hexa
from vfiolab.model.errors import NAMES, STRERROR
from vfiolab.readers.errors import InputError

__all__ = ["DmaMapError", "MsiBinding", "QemuTrace", "RamRange", "TraceEvent", "Unread", "parse_dma_map_error", "read_qemu_trace"]

_LOG = re.compile(r"(?:^|\s)(\d+)@(\d+\.\d+):(\w+) ?(.*)$")
_SIMPLE = re.compile(r"^\s*(\w+) (\d+\.\d+) pid=(\d+)((?: \S.*)?)$")
_KEY = re.compile(r"(?:^|\s)([A-Za-z_]\w*)=")
_HEX = r"0x([0-9a-fA-F]+)"
_MAP_ERROR = re.compile(
    r"vfio(?:_legacy|_container)?_dma_(map|unmap)\(\s*0x([0-9a-fA-F]+),\s*0x([0-9a-fA-F]+),\s*0x([0-9a-fA-F]+)"
    r"(?:,\s*(0x[0-9a-fA-F]+|\(nil\)))?\s*\)"
    r"\s*=\s*(-\d+)(?:\s*\(([^)]*)\))?"
)


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One trace event: where it stands, who wrote it, its name, its arguments as far as they are understood, and the whole line.

    `time`: seconds since the epoch (log backend) or microseconds since the event before (simple backend).
    """

    line: int
    event: str
    pid: int
    time: float
    fields: dict[str, int | str]
    text: str


@dataclass(frozen=True, slots=True)
class RamRange:
    """A range of guest memory that QEMU maps, unmaps or skips. what: map, unmap, skip. `vaddr` None where the event has none."""

    what: str
    span: Span
    vaddr: int | None
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.what} {self.span}"


@dataclass(frozen=True, slots=True)
class MsiBinding:
    """A guest's own mapping of a doorbell: `giova` is what the guest programs, `doorbell` the guest-physical register it leads to."""

    device: str
    vector: int
    giova: int
    doorbell: int
    line: int

    def __str__(self) -> str:
        return f"line {self.line}: {self.device} vector {self.vector}: giova {hexa(self.giova)} -> doorbell {hexa(self.doorbell)}"


@dataclass(frozen=True, slots=True)
class DmaMapError:
    """QEMU's failure line of a MAP_DMA or UNMAP_DMA. verb: map or unmap; `vaddr` None for unmap; `name` the errno's name, "" if unknown."""

    verb: str
    context: int
    iova: int
    size: int
    vaddr: int | None
    errno: int
    name: str
    message: str
    line: int = 0

    @property
    def span(self) -> Span | None:
        """The range, None if it is empty or wraps past 2^64."""
        return Span.sized(self.iova, self.size) if 0 < self.size <= U64 - self.iova else None

    def __str__(self) -> str:
        return f"{self.verb} {hexa(self.iova)}, {self.size:#x} bytes: {self.name or self.errno} ({self.message})"


@dataclass(frozen=True, slots=True)
class Unread:
    """A line that was not understood, and why."""

    line: int
    text: str
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}: {self.text[:80]!r}"


@dataclass(frozen=True, slots=True)
class QemuTrace:
    """A whole trace: every event in order, what of it VFIO is about, QEMU's failure lines, and the lines that were not understood."""

    source: str
    lines: int
    events: tuple[TraceEvent, ...]
    ram: tuple[RamRange, ...]
    bindings: tuple[MsiBinding, ...]
    errors: tuple[DmaMapError, ...]
    unread: tuple[Unread, ...]

    @property
    def counts(self) -> Counter[str]:
        """How often each event occurs."""
        return Counter(event.event for event in self.events)

    def named(self, *names: str) -> tuple[TraceEvent, ...]:
        """Return the events of these names, in order."""
        return tuple(event for event in self.events if event.event in names)

    @property
    def mapped(self) -> tuple[RamRange, ...]:
        """What is mapped at the end: maps, less those that an unmap of the same range took away."""
        open_: dict[Span, RamRange] = {}
        for part in self.ram:
            if part.what == "map":
                open_[part.span] = part
            elif part.what == "unmap":
                open_.pop(part.span, None)
        return tuple(open_.values())

    def __str__(self) -> str:
        said = [f"{self.lines} lines: {len(self.events)} events of {len(self.counts)} kinds"]
        for things, word in ((self.ram, "memory range"), (self.bindings, "MSI binding"), (self.errors, "failed map")):
            if things:
                said.append(f"{len(things)} {word}{'s' if len(things) != 1 else ''}")
        said.append(f"{len(self.unread)} not understood")
        return ", ".join(said)


def parse_dma_map_error(line: str, number: int = 0) -> DmaMapError | None:
    """Read QEMU's failure line of a map or unmap wherever it stands in a log line; None if there is none.

    >>> error = parse_dma_map_error("kvm: vfio_dma_map(0x5e043daea2f0, 0x380010000000, 0x2000000, 0x771a6ce00000) = -22 (Invalid argument)")
    >>> error.name, hex(error.iova), hex(error.size)
    ('EINVAL', '0x380010000000', '0x2000000')
    """
    match = _MAP_ERROR.search(line)
    if match is None:
        return None
    verb, context, iova, size, vaddr, code, message = match.groups()
    errno = -int(code)
    name = NAMES.get(errno, "")
    where = int(vaddr, 16) if vaddr and vaddr.startswith("0x") else 0 if vaddr else None
    numbers = (int(context, 16), int(iova, 16), int(size, 16))
    return DmaMapError(verb, *numbers, where, errno, name, message or STRERROR.get(name, ""), number)


def read_qemu_trace(source: str | Path, *, where: str = "") -> QemuTrace:
    r"""Read a trace from a file (a Path) or from its text. InputError if no line of it is a trace event or a failure line.

    >>> print(read_qemu_trace("7@1.5:vfio_listener_region_add_ram region_add [ram] 0x0 - 0x9ffff [0x7fca0000]\nhello\n"))
    2 lines: 1 events of 1 kinds, 1 memory range, 1 not understood
    """
    if isinstance(source, Path):
        where = where or source.name
        text = source.read_text(encoding="utf-8", errors="replace")
    else:
        text = source
    reading = _Reading()
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            reading.line(number, line)
    if not reading.events and not reading.errors:
        advice = "give lines such as '38511@1618242847.842083:vfio_listener_region_add_ram ...' (qemu -trace 'vfio_*' -D FILE)"
        raise InputError("no QEMU trace event in it", where=where or "trace", line=1 if lines else None, advice=advice)
    return QemuTrace(
        where, len(lines), tuple(reading.events), tuple(reading.ram), tuple(reading.bindings), tuple(reading.errors), tuple(reading.unread)
    )


class _Reading:
    def __init__(self) -> None:
        self.events: list[TraceEvent] = []
        self.ram: list[RamRange] = []
        self.bindings: list[MsiBinding] = []
        self.errors: list[DmaMapError] = []
        self.unread: list[Unread] = []

    def line(self, number: int, line: str) -> None:
        failed = parse_dma_map_error(line, number)
        event = None if failed else _event(number, line)
        if failed is not None:
            self.errors.append(failed)
        elif event is None:
            self.unread.append(Unread(number, line, "neither a trace event nor a failed map"))
        else:
            self.events.append(event)
            self.understand(event)

    def understand(self, event: TraceEvent) -> None:
        """Take out what the event says of memory and of doorbells; say so if an event that is known lacks what it should have."""
        use: Callable[[TraceEvent], RamRange | MsiBinding | None] | None = _USES.get(event.event)
        if use is None:
            return
        try:
            found = use(event)
        except (KeyError, ValueError, TypeError) as error:
            self.unread.append(Unread(event.line, event.text, f"{event.event} without its arguments ({error})"))
            return
        if isinstance(found, RamRange):
            self.ram.append(found)
        elif isinstance(found, MsiBinding):
            self.bindings.append(found)


def _event(number: int, line: str) -> TraceEvent | None:
    simple = _SIMPLE.match(line)
    if simple is not None:
        name, delta, pid, rest = simple.groups()
        return TraceEvent(number, name, int(pid), float(delta), _pairs(rest), line)
    log = _LOG.search(line)
    if log is not None:
        pid, time, name, rest = log.groups()
        return TraceEvent(number, name, int(pid), float(time), _words(name, rest), line)
    return None


def _pairs(rest: str) -> dict[str, int | str]:
    """Split `key=value key=value`; a value may hold blanks."""
    keys = list(_KEY.finditer(rest))
    ends = [*(key.start() for key in keys[1:]), len(rest)]
    return {key[1]: _value(rest[key.end() : end].strip()) for key, end in zip(keys, ends, strict=False)}


def _value(word: str) -> int | str:
    if re.fullmatch(r"0x[0-9a-fA-F]+", word):
        return int(word, 16)
    return int(word) if re.fullmatch(r"-?\d+", word) else word


#: How the log backend words the arguments of events that are used here; QEMU's hw/vfio/trace-events has had these forms.
_FORMS = {
    "vfio_listener_region_add_ram": (rf"{_HEX} - {_HEX} \[(?:0x)?([0-9a-fA-F]+|\(nil\))\]", ("start", "end", "vaddr")),
    "vfio_listener_region_add_skip": (rf"{_HEX} - {_HEX}", ("start", "end")),
    "vfio_listener_region_skip": (rf"{_HEX} - {_HEX}", ("start", "end")),
    "vfio_listener_region_del_skip": (rf"{_HEX} - {_HEX}", ("start", "end")),
    "vfio_listener_region_add_iommu": (rf"{_HEX} - {_HEX}", ("start", "end")),
    "vfio_listener_region_del": (rf"{_HEX} - {_HEX}", ("start", "end")),
}


def _words(name: str, rest: str) -> dict[str, int | str]:
    form = _FORMS.get(name)
    if form is not None:
        match = re.search(form[0], rest)
        words = () if match is None else zip(form[1], match.groups(), strict=True)
        return {key: 0 if word == "(nil)" else int(word, 16) for key, word in words}
    return _pairs(rest)


def _number(event: TraceEvent, *names: str) -> int:
    for name in names:
        if name in event.fields:
            value = event.fields[name]
            if isinstance(value, str):
                raise ValueError(f"{name} is {value!r}, no number")
            return value
    raise KeyError(names[0])


def _ram(what: str) -> Callable[[TraceEvent], RamRange]:
    def use(event: TraceEvent) -> RamRange:
        start, last = _number(event, "iova_start", "start"), _number(event, "iova_end", "end")
        vaddr = event.fields.get("vaddr")
        return RamRange(what, Span.inclusive(start, last), vaddr if isinstance(vaddr, int) else None, event.line)

    return use


def _binding(event: TraceEvent) -> MsiBinding:
    device, vector = str(event.fields["name"]), _number(event, "vector")
    return MsiBinding(device, vector, _number(event, "giova"), _number(event, "gdb"), event.line)


_USES: dict[str, Callable[[TraceEvent], RamRange | MsiBinding | None]] = {
    "vfio_listener_region_add_ram": _ram("map"),
    "vfio_dma_map_ram": _ram("map"),
    "vfio_listener_region_del": _ram("unmap"),
    "vfio_dma_unmap_ram": _ram("unmap"),
    "vfio_listener_region_add_skip": _ram("skip"),
    "vfio_listener_region_skip": _ram("skip"),
    "vfio_register_msi_binding": _binding,
}
