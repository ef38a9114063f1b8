"""A capture of any kind as calls: QEMU's traces, the IOMMU's tracepoints, strace, and the kit's own traces."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from vfiolab.model.address import U64
from vfiolab.readers.calls import ANY, Builder, Calls
from vfiolab.readers.errors import InputError
from vfiolab.readers.ftrace import read_ftrace
from vfiolab.readers.lines import decoded, lines_of, read_bytes
from vfiolab.readers.qemu import DmaMapError, QemuTrace, RamRange, TraceEvent, read_qemu_trace
from vfiolab.readers.simpletrace import is_simple_trace, simple_lines
from vfiolab.readers.strace import is_strace_line, strace_calls
from vfiolab.readers.trace import read_trace

_LOOKED_AT = 400
_FTRACE = re.compile(r"# tracer: |.{0,80}\[\d{1,6}\]\s.{0,40}?\d{1,12}\.\d{1,9}:\s{1,40}(?:\d{1,20} )?(?:\w{1,40}:)?\w{1,40}: ")
_QEMU = re.compile(r"(?:^|[\s:])(?:vfio|iommufd|smmuv?3?|vtd|kvm|pci)_\w{2,80}(?:[ (]|$)|IOMMU_IOAS_(?:UN)?MAP failed")


def text_of(source: str | Path) -> tuple[str, str]:
    """Return the text of a capture and what errors call it: a file's (a Path, or a line that names one), or the text itself."""
    if isinstance(source, str) and ("\n" in source or not Path(source).is_file()):
        if "\n" not in source and not capture_kind(source):
            raise InputError("no such file", where=source[:200], advice="give the path of a capture, or its text")
        return source, "capture"
    data = read_bytes(Path(source))
    if is_simple_trace(data):
        return "\n".join(simple_lines(data, where=str(source))), str(source)
    return decoded(data, where=str(source)), str(source)


def capture_kind(text: str) -> str:
    r"""Say what a text is: trace, strace, ftrace, qemu, or "" for none of them.

    >>> capture_kind('openat(AT_FDCWD, "/dev/vfio/vfio", O_RDWR) = 3\n'), capture_kind("hello\n")
    ('strace', '')
    """
    if text.startswith("## ") or "\n## " in text:
        return "trace"
    lines = lines_of("\n".join(islice(filter(str.strip, text.split("\n")), _LOOKED_AT)))
    found = Counter(
        "strace" if is_strace_line(line) else "ftrace" if _FTRACE.match(line) else "qemu" if _QEMU.search(line) else "" for line in lines
    )
    found.pop("", None)
    return found.most_common(1)[0][0] if found else ""


def read_capture(source: str | Path, *, where: str = "") -> Calls:
    r"""Read a capture of whatever kind from a file or from its text. InputError if it is none, or holds no call.

    >>> calls = read_capture("7@1.5:vfio_listener_region_add_ram region_add [ram] 0x0 - 0x9ffff [0x7fca0000]\n")
    >>> [operation.verb for operation in calls.operations]
    ['mem', 'open_container', 'open_group', 'set_container', 'set_iommu', 'map']
    """
    text, found = text_of(source)
    where = where or found
    kind = capture_kind(text)
    if kind == "qemu":
        calls = _qemu(read_qemu_trace(text, where=where), where)
    elif kind == "ftrace":
        calls = _ftrace(text, where)
    elif kind == "strace":
        calls = strace_calls(text, source=where)
    elif kind == "trace":
        calls = _trace(text, where)
    else:
        advice = "give QEMU's trace (-trace 'vfio_*'), the IOMMU's tracepoints (ftrace or perf script), strace's text or a .trace"
        raise InputError("no capture: no line of it is a known event or call", where=where, advice=advice)
    if not any(one.line for one in calls.operations):
        first = f"; {calls.unread[0]}" if calls.unread else ""
        raise InputError(f"{calls.lines} lines of {kind} hold no call that can be carried out{first}", where=where, advice="capture more")
    return calls


def _trace(text: str, where: str) -> Calls:
    scenarios = read_trace(text, source=where)
    if len(scenarios) > 1:
        raise InputError(
            f"{len(scenarios)} scenarios", where=where, line=scenarios[1].line, advice="each needs a host of its own: give one of them"
        )
    answers = tuple(answer.result if answer else "" for answer in scenarios[0].answers)
    return Calls("trace", where, len(lines_of(text)), tuple(scenarios[0].operations), answers, (), 0, ())


def _ftrace(text: str, where: str) -> Calls:
    """Take each event of the task that maps most as one call: the kernel cuts a call into runs of contiguous memory."""
    trace, b = read_ftrace(text, where=where), Builder()
    b.unread = list(trace.unread)
    tasks = Counter(event.task for event in trace.events if event.kind == "map") or Counter(event.task for event in trace.events)
    task = tasks.most_common(1)[0][0]
    device = next(
        (event.device for event in trace.events if event.device and event.kind in ("attach_device_to_domain", "io_page_fault")), ANY
    )
    for event in trace.events:
        if event.kind in ("map", "unmap") and event.task != task:
            b.missed(event.line, str(event), f"an event of {event.task}, not of {task}")
        elif event.span is None or event.kind not in ("map", "unmap", "io_page_fault"):
            b.passed += 1
        else:
            if not b.open:
                b.setup(0, "A", "G", device)
            if event.kind == "map":
                b.map(event.line, "A", event.span.start, event.span.size, event.physical or 0, answer="0")
            elif event.kind == "unmap":
                b.call(event.line, "unmap", "A", iova=event.span.start, size=event.span.size, answer="0")
            else:
                b.call(event.line, "dma_read", event.device or device, iova=event.span.start)
    b.assumed["each event is one call, all of one container, and memory lies at its physical address: the tracepoints hold no more"] = None
    return b.done("ftrace", where, len(lines_of(text)))


_NAME = re.compile(r"(?:\(|Device '?)?([\w:.-]{1,64})")
_PLACES = {
    "group_id": re.compile(r"group (\d{1,9})"), "nr_vectors": re.compile(r"Enabled (\d{1,5}) MSI"),
    "index": re.compile(r"vector (\d{1,5}) "),
    "addr": re.compile(r"@0x([0-9a-f]{1,16})"), "val": re.compile(r"@0x[0-9a-f]{1,16}, 0x([0-9a-f]{1,16})"),
    "len": re.compile(r"len=0x([0-9a-f]{1,4})\)"),
}  # fmt: skip
_INDEX = {"intx": 0, "msi": 1, "msix": 2}


def _qemu(trace: QemuTrace, where: str) -> Calls:
    """Take QEMU's events as the calls that follow them in hw/vfio (2.x to 10.x); events that stand for no call are passed by."""
    reading = _Qemu(trace)
    items: list[TraceEvent | DmaMapError] = sorted([*trace.events, *trace.errors], key=lambda one: one.line)
    for item in items:
        if isinstance(item, DmaMapError):
            reading.failed(item)
        else:
            reading.event(item)
    return reading.b.done("qemu", where, trace.lines)


class _Qemu:
    def __init__(self, trace: QemuTrace) -> None:
        self.b = Builder()
        self.b.assumed["what QEMU maps is memory that it may read and write, BARs too: the trace says no more"] = None
        self.b.unread = list(trace.unread)
        self.ram = {part.line: part for part in trace.ram}
        self.known = {part.line for part in trace.unread}
        named = (e for e in trace.events if re.search(r"realize|initfn|attach_device|device_attach|get_device|device_get", e.event))
        self.first = next(filter(None, map(_name, named)), ANY)
        self.groups: dict[str, str] = {}  # what the capture calls a group, and its handle
        self.device_group: dict[str, str] = {}
        self.devices: dict[str, str] = {}
        self.vectors: Counter[str] = Counter()

    def failed(self, error: DmaMapError) -> None:
        """Put an errno beside the call that it belongs to; QEMU prints it below."""
        answer = error.name or str(error.errno)
        wanted = {"iova": f"{error.iova:#x}", "size": f"{error.size:#x}"}
        for place in range(len(self.b.operations) - 1, max(len(self.b.operations) - 9, -1), -1):
            operation = self.b.operations[place]
            if operation.verb == error.verb and wanted.items() <= operation.args.items():
                self.b.answers[place] = answer
                self.b.passed += 1
                return
        self.attach(error.line, self.first)
        if error.verb == "map":
            self.b.map(error.line, "A", error.iova, error.size, error.vaddr or 0, answer=answer)
        else:
            self.b.call(error.line, "unmap", "A", iova=error.iova, size=error.size, answer=answer)

    def event(self, event: TraceEvent) -> None:
        part, word = self.ram.get(event.line), event.event
        if part is not None:
            self.memory(event, part)
            return
        if word not in _USES and word not in _CLOSES:
            self.b.passed += 1
            return
        if event.line in self.known:
            return
        name = _name(event)
        if word in _USES and not name:
            self.b.missed(event.line, event.text, f"{word}: without its device")
            return
        try:
            if word in _CLOSES:
                self.close(event, _CLOSES[word])
            else:
                _USES[word](self, event, name)
        except (KeyError, ValueError) as error:
            self.b.missed(event.line, event.text, f"{word}: {error.args[0]}")

    def memory(self, event: TraceEvent, part: RamRange) -> None:
        if part.what == "skip":
            self.b.passed += 1
            return
        self.attach(event.line, self.first)
        answer = "" if not event.event.startswith("iommufd") else "0" if event.fields.get("answer", 0) == 0 else "refused"
        last, span = self.b.operations[-1], part.span
        verb = "unmap" if part.what == "unmap" else "map"
        if answer and last.verb == verb and (last.args["iova"], last.args["size"]) == (f"{span.start:#x}", f"{span.size:#x}"):
            self.b.answers[-1] = answer
            self.b.passed += 1
        elif verb == "map":
            self.b.map(event.line, "A", span.start, span.size, part.vaddr or 0, answer=answer)
        elif span.size >= U64 - 1:  # QEMU asks for both halves: no size of 64 bits holds the whole
            for half in (0, U64 // 2):
                self.b.call(event.line, "unmap", "A", iova=half, size=U64 // 2, answer=answer)
        else:
            self.b.call(event.line, "unmap", "A", iova=span.start, size=span.size, answer=answer)

    def attach(self, line: int, name: str, group: str = "") -> str:
        """Return the handle of a device's group, which is put into the container if it is not inside."""
        if name not in self.device_group:
            key = group or name
            if key not in self.groups:
                self.groups[key] = f"G{len(self.groups)}"
                self.b.setup(line, "A", self.groups[key], name)
            self.device_group[name] = self.groups[key]
        return self.device_group[name]

    def realize(self, event: TraceEvent, name: str) -> None:
        self.attach(event.line, name, str(_value(event, "group_id", 10)))

    def device(self, line: int, name: str) -> str:
        if name not in self.devices:
            group = self.attach(line, name)
            self.devices[name] = f"D{line}"
            self.b.call(line, "get_device_fd", self.devices[name], group, name=name)
        return self.devices[name]

    def irqs(self, event: TraceEvent, name: str) -> None:
        device, (_, kind, what) = self.device(event.line, name), event.event.split("_")[:3]
        index = _INDEX[kind]
        count = {"disable": 0, "enable": 1}.get(what, 0)
        if event.event == "vfio_msi_enable":
            count = _value(event, "nr_vectors", 10)
        elif event.event == "vfio_msix_vector_do_use":
            vector = _value(event, "index", 10)
            if vector < self.vectors[name]:
                self.b.call(event.line, "set_irqs", device, index=2, start=vector, count=1)
                return
            if self.vectors[name]:
                self.b.call(event.line, "set_irqs", device, index=2, count=0)
            count = self.vectors[name] = vector + 1
        elif event.event == "vfio_msix_disable":
            self.vectors[name] = 0
        self.b.call(event.line, "set_irqs", device, index=index, count=count)

    def write(self, event: TraceEvent, name: str) -> None:
        device = self.device(event.line, name)
        offset, size, value = (_value(event, key) for key in ("addr", "len", "val"))
        self.b.call(event.line, "pwrite", device, region=7, off=offset, len=size, val=value % (1 << 32))

    def close(self, event: TraceEvent, kind: str) -> None:
        """Close what an event names by a descriptor that no other line has: only if there is one of its kind."""
        handles = list(self.devices.values()) if kind == "device" else list(self.groups.values()) if kind == "group" else ["A"]
        if kind == "container" and len(self.groups) == 1 and not self.devices and "A" in self.b.open:
            self.b.call(event.line, "unset_container", next(iter(self.groups.values())))
        elif len(handles) != 1 or kind == "container":
            raise ValueError(f"which {kind} it closes is not in the capture")
        self.b.call(event.line, f"close_{kind}", handles[0])
        if kind == "device":
            self.devices.clear()
        elif kind == "group":
            self.groups.clear()
            self.device_group.clear()
        else:
            del self.b.open["A"]


def _name(event: TraceEvent) -> str:
    name = event.fields.get("name")
    found = _NAME.match(event.text.partition(event.event)[2].lstrip()) if name is None else None
    return str(name) if name is not None else found[1] if found else ""


def _value(event: TraceEvent, key: str, base: int = 16) -> int:
    value = event.fields.get(key)
    if isinstance(value, int) and key not in ("addr", "val", "len"):
        return value
    if isinstance(value, int) and "@" not in event.text.partition(event.event)[2]:
        return value
    found = _PLACES[key].search(event.text)
    if found is None:
        raise ValueError(f"without its {key}")
    return int(found[1], base)


_CLOSES = {
    "vfio_put_base_device": "device", "vfio_device_put": "device", "vfio_put_group": "group", "vfio_group_put": "group",
    "vfio_disconnect_container": "container", "vfio_container_disconnect": "container",
}  # fmt: skip
_INTERRUPTS = (
    "vfio_intx_enable", "vfio_intx_disable", "vfio_msi_enable", "vfio_msi_disable", "vfio_msix_vector_do_use", "vfio_msix_disable",
)  # fmt: skip
#: What is done with the events of a device.
_USES: dict[str, Callable[[_Qemu, TraceEvent, str], object]] = {
    **dict.fromkeys(("vfio_initfn", "vfio_realize", "vfio_attach_device", "vfio_device_attach"), _Qemu.realize),
    **dict.fromkeys(("vfio_get_device", "vfio_device_get"), lambda reading, event, name: reading.device(event.line, name)),
    **dict.fromkeys(_INTERRUPTS, _Qemu.irqs),
    "vfio_pci_write_config": _Qemu.write,
    "vfio_pci_reset_flr": lambda reading, event, name: reading.b.call(event.line, "device_reset", reading.device(event.line, name)),
}
