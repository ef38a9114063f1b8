"""QEMU's traces and failure lines: what a virtual machine asked of VFIO, and which guest iovas lead to which doorbell.

Both ways in which QEMU writes trace events are read, mixed in one file if need be: `pid@time:event words` (the `log` backend) and
`event delta pid=N key=value` (the `simple` backend as text). A line that is neither is kept with its number and the reason.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vfiolab._text import plain
from vfiolab.model.address import U64, Span, hexa
from vfiolab.model.errors import NAMES, STRERROR
from vfiolab.readers.errors import InputError
from vfiolab.readers.lines import given, lines_of

_LOG = re.compile(r"(?:^|\s)(\d{1,10})@(\d{1,12}\.\d{1,9}):(\w{1,80}) ?(.*)$")
_SIMPLE = re.compile(r"^\s{0,8}(\w{1,80}) (\d{1,18}\.\d{1,9}) pid=(\d{1,10})((?: \S.*)?)$")
#: The log backend without `pid@time:` (5.2 and later write it with -msg timestamp=on only); before the event's name the line's start,
#: a time of day, or what syslog writes: `qemu-system-x86_64[4711]: `. A name behind `qemu-system-x86_64: ` belongs to a message.
_BARE = re.compile(
    r"^(?:.{0,120}?(?:\[\d{1,10}\]: |\d{2}:\d{2}:\d{2}(?:[.,]\d{1,9})?(?:Z|[+-]\d{2}:?\d{2})?:? ))?\s{0,8}"
    r"((?:vfio|iommufd|vtd|amdvi|smmu|smmuv3|virtio_iommu|kvm|pci|msi|msix|spapr|memory_region|ram_block)_\w{1,80})(?:[ \t]+(.*))?$"
)
_KEY = re.compile(r"(?:^|\s)([A-Za-z_]\w{0,40})=")
_HEX = r"0x([0-9a-fA-F]{1,32})"
_ANSWER = re.compile(r"\((-?\d{1,10})\)\s*$")
_MAP_ERROR = re.compile(
    r"vfio(?:_legacy|_container)?_dma_(map|unmap)\(\s{0,4}0x([0-9a-fA-F]{1,32}),\s{0,4}0x([0-9a-fA-F]{1,32}),\s{0,4}0x([0-9a-fA-F]{1,32})"
    r"(?:,\s{0,4}(0x[0-9a-fA-F]{1,32}|\(nil\)))?\s{0,4}\)"
    r"\s{0,4}=\s{0,4}(-\d{1,10})(?:\s{0,4}\(([^)]{0,200})\))?"
)
_IOAS_ERROR = re.compile(r"IOMMU_IOAS_(MAP|UNMAP) failed: (.{1,200})$")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One trace event: where it stands, who wrote it, its name, its arguments as far as they are understood, and the whole line.

    `time`: seconds since the epoch (log backend) or microseconds since the event before (simple backend). It and `pid`
    are 0 where the line has none.
    """

    line: int
    event: str
    pid: int
    time: float
    fields: dict[str, int | str]
    text: str


@dataclass(frozen=True, slots=True)
class RamRange:
    """A range of guest memory that QEMU maps, unmaps or skips. what: map, unmap, skip, or refused (a map that the kernel did not do).

    `vaddr` None where the event has none.
    """

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
        return f"{self.verb} {hexa(self.iova)}, {self.size:#_x} bytes: {self.name or self.errno} ({self.message})"


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
        """What is mapped at the end: maps, less those that a later unmap's range holds."""
        open_: dict[Span, RamRange] = {}
        for part in self.ram:
            if part.what == "map":
                open_[part.span] = part
            elif part.what == "unmap" and open_.pop(part.span, None) is None:
                for span in [span for span in open_ if part.span.start <= span.start and span.last <= part.span.last]:
                    del open_[span]
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
    text, where = given(source, where)
    reading = _Reading()
    lines = lines_of(text)
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
        named = None if failed else _IOAS_ERROR.search(line)
        event = None if failed or named else _event(number, line)
        if failed is not None:
            self.fail(failed)
        elif named is not None and self.of_ioas(named[1].lower(), named[2].strip(), number):
            return
        elif event is None:
            self.unread.append(Unread(number, line, "neither a trace event nor a failed map"))
        else:
            self.events.append(event)
            self.understand(event)

    def fail(self, error: DmaMapError) -> None:
        """Keep a failure; QEMU names one of iommufd twice, by the call and by the container's function, and the latter says more."""
        last = self.errors[-1] if self.errors else None
        if last is not None and not last.context and (last.verb, last.iova, last.size) == (error.verb, error.iova, error.size):
            self.errors.pop()
        self.errors.append(error)

    def of_ioas(self, verb: str, message: str, number: int) -> bool:
        """Read "IOMMU_IOAS_MAP failed: Invalid argument": the numbers are those of the event above it. False if there is none."""
        refused = next((part for part in reversed(self.ram) if part.what == "refused"), None)
        if verb != "map" or refused is None:
            return False
        name = next((name for name, text in STRERROR.items() if text == message), "")
        errno = next((number for number, known in NAMES.items() if known == name), 0)
        self.fail(DmaMapError("map", 0, refused.span.start, refused.span.size, refused.vaddr, errno, name, message, number))
        return True

    def understand(self, event: TraceEvent) -> None:
        """Take out what the event says of memory and of doorbells; say so if an event that is known lacks what it should have."""
        use = _USES.get(event.event)
        if use is None:
            return
        try:
            found = use(event)
        except (KeyError, ValueError, TypeError) as error:
            self.unread.append(Unread(event.line, event.text, f"{event.event} without its arguments ({error})"))
            return
        if isinstance(found, RamRange):
            self.ram.append(found)
        else:
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
    bare = _BARE.match(line)
    if bare is not None:
        return TraceEvent(number, bare[1], 0, 0.0, _words(bare[1], bare[2] or ""), line)
    return None


def _pairs(rest: str) -> dict[str, int | str]:
    """Split `key=value key=value`; a value may hold blanks. `answer`: what stands in parentheses at the end, a call's return value."""
    answer = _ANSWER.search(rest)
    end = answer.start() if answer else len(rest)
    keys = list(_KEY.finditer(rest, 0, end))
    ends = [*(key.start() for key in keys[1:]), end]
    found = {key[1]: _value(rest[key.end() : stop].strip()) for key, stop in zip(keys, ends, strict=False)}
    return found | {"answer": int(answer[1])} if answer and keys else found


def _value(word: str) -> int | str:
    if re.fullmatch(r"0x[0-9a-fA-F]{1,32}", word):
        return int(word, 16)
    return int(word) if re.fullmatch(r"-?[0-9]{1,32}", word) else plain(word)


#: How the log backend words the arguments of events that are used here; QEMU's hw/vfio/trace-events has had these forms.
_FORMS = {
    "vfio_listener_region_add_ram": (rf"{_HEX} - {_HEX} \[(?:0x)?([0-9a-fA-F]{{1,32}}|\(nil\))\]", ("start", "end", "vaddr")),
    **dict.fromkeys(
        (
            "vfio_listener_region_add_skip", "vfio_listener_region_skip", "vfio_listener_region_del_skip", "vfio_listener_region_add_iommu",
            "vfio_listener_region_del",
        ),
        (rf"{_HEX} - {_HEX}", ("start", "end")),
    ),
}  # fmt: skip


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


def _ram(what: str, event: TraceEvent) -> RamRange:
    start, last = _number(event, "iova_start", "start"), _number(event, "iova_end", "end")
    vaddr = event.fields.get("vaddr")
    return RamRange(what, Span.inclusive(start, last), vaddr if isinstance(vaddr, int) else None, event.line)


def _iommufd(what: str, event: TraceEvent) -> RamRange:
    """Read iommufd's events: iova and size of a range; for what the kernel answered nothing happened unless it is 0."""
    start, size, answer = _number(event, "iova"), _number(event, "size"), event.fields.get("answer", 0)
    vaddr = event.fields.get("addr")
    last = U64 - 1 if size == U64 - 1 else min(start + size - 1, U64 - 1)  # "everything" is a size of 2^64 - 1
    done = what if answer == 0 else "refused" if what == "map" else "skip"
    return RamRange(done, Span.inclusive(start, last), vaddr if isinstance(vaddr, int) else None, event.line)


def _binding(event: TraceEvent) -> MsiBinding:
    device, vector = str(event.fields["name"]), _number(event, "vector")
    return MsiBinding(device, vector, _number(event, "giova"), _number(event, "gdb"), event.line)


_USES: dict[str, Callable[[TraceEvent], RamRange | MsiBinding]] = {
    **dict.fromkeys(("vfio_listener_region_add_ram", "vfio_dma_map_ram"), partial(_ram, "map")),
    **dict.fromkeys(("vfio_listener_region_del", "vfio_dma_unmap_ram"), partial(_ram, "unmap")),
    **dict.fromkeys(("vfio_listener_region_add_skip", "vfio_listener_region_skip"), partial(_ram, "skip")),
    "vfio_register_msi_binding": _binding,
    **dict.fromkeys(("iommufd_backend_map_dma", "iommufd_backend_map_file_dma"), partial(_iommufd, "map")),
    "iommufd_backend_unmap_dma": partial(_iommufd, "unmap"),
}
