"""Write what can be read: a machine as a machine file, a host's log as a trace."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from vfiolab._text import plain
from vfiolab.model.address import Span
from vfiolab.model.events import Call, canonical
from vfiolab.model.iommu.unit import IommuUnit, Reported, ReservedRegion
from vfiolab.model.irq.msi import DISABLE, TRIGGER_EVENTFD, InterruptController
from vfiolab.model.kernel import parse_version
from vfiolab.model.machine import Host, Machine, RecordedGroup
from vfiolab.model.pci.topology import bdf_key
from vfiolab.readers.pcijson import device_record
from vfiolab.readers.trace import BLOCKS, OUTSIDE, SKIPPED

_RESULTS = {"blocks": BLOCKS, "not modelled": "?"}
_LETTERS = {"open_container": "", "open_group": "G", "get_device_fd": "D", "open_cdev": "D", "open_iommufd": "I"}
_PLAIN = string.punctuation.replace("%", "")


def write_machine(machine: Machine) -> str:
    """Return a machine as the text of a machine file (data/README.md): what `read_machine` reads from it is equal.

    >>> from vfiolab.readers.machinefile import read_machine
    >>> machine = read_machine('{"name": "one", "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}]}')
    >>> read_machine(write_machine(machine)) == machine
    True
    """
    plain_fields = ("name", "source", "cpu", "kernel", "vfio", "groups_from", "page_size", "memlock")
    found = {name: getattr(machine, name) for name in plain_fields} | {
        "notes": list(machine.notes),
        "interrupts": _controller(machine.interrupts) if machine.interrupts else None,
        "arena": {name: f"{value:#x}" for name, value in machine.arena._asdict().items()},
        "drivers": sorted(machine.drivers),
        "params": dict(machine.params),
        "emulated": list(machine.emulated),
        "units": [_unit(unit, machine.kernel) for unit in machine.units],
        "units_assumed": machine.units_assumed or None,
        "participants": None if machine.participants is None else sorted(machine.participants),
        "groups": [_group(group) for group in machine.groups],
        "firmware": {bdf: [_region(region) for region in regions] for bdf, regions in machine.firmware.items()},
        "bars": {bdf: [_span(bar) for bar in bars] for bdf, bars in machine.bars.items()},
        "devices": [device_record(function) for function in machine.topology.values()],
    }
    needed = ("kernel", "memlock", "interrupts", "params")  # left out, they would be something else
    return json.dumps({name: value for name, value in found.items() if name in needed or value}, indent=1, ensure_ascii=False) + "\n"


def _span(span: Span) -> list[str]:
    return [f"{span.start:#x}", f"{span.last:#x}"]


def _region(region: ReservedRegion) -> list[str]:
    return [*_span(region.span), "msi" if region.kind == "sw-msi" else region.kind]


def _controller(controller: InterruptController) -> dict[str, Any]:
    doorbell = None if controller.doorbell is None else f"{controller.doorbell:#x}"
    more = {"devices": sorted(controller.devices), "beside": [_controller(other) for other in controller.beside]}
    return {"controller": controller.kind, "doorbell": doorbell} | {name: value for name, value in more.items() if value}


def _unit(unit: IommuUnit, kernel: str | None) -> dict[str, Any]:
    said = unit.reported.get(parse_version(kernel), Reported()) if kernel else Reported()
    found = {
        "name": unit.name,
        "kind": unit.kind,
        "devices": sorted(unit.devices, key=bdf_key),
        "width": unit.width,
        "stage": unit.stage,
        "stage2_bits": unit.stage2_bits,
        "aperture": None if said.aperture is None else _span(said.aperture),
        "page_sizes": None if said.page_sizes is None else f"{said.page_sizes:#x}",
        "hardware_page_sizes": f"{unit.page_sizes:#x}",
        "snoop_control": unit.snoop_control,
        "isolated_msi": unit.isolated_msi,
        "coherent": unit.coherent,
        "hardware_msi": None if unit.hardware_msi is None else _span(unit.hardware_msi),
        "translates_msi": unit.translates_msi,
        "exposed": sorted(unit.exposed),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def _group(group: RecordedGroup) -> dict[str, Any]:
    found = {"id": group.id, "type": group.type, "devices": list(group.devices)}
    return found if group.regions is None else found | {"reserved": [_region(region) for region in group.regions]}


def write_trace(host: Host, name: str = "session") -> str:
    """Return what was done on a host since it booted as the text of a trace: one scenario, to be run on a fresh host of its kind.

    Comments at its head say how the host was booted (`boot_of` reads them). What a trace has no word for changes no state of VFIO, and
    stands as a comment: resets of a bus (hot_reset, hot_reset_info), and the unbinding of a device that is not there. ValueError if calls
    were cleared from the log, and for a what-if that no boot parameter does.

    >>> from vfiolab.model.builder import MachineBuilder
    >>> m = MachineBuilder("demo")
    >>> m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    >>> host = m.host("6.12")
    >>> host.process.open_container().set_iommu(3)
    Traceback (most recent call last):
        ...
    vfiolab.VfioError: EINVAL: the container holds no group yet
    >>> print(write_trace(host, "one"))
    # machine demo
    # kernel 6.12
    ## one
    open_container A -> 0
    set_iommu A type=3 -> EINVAL
    # the events of the end belong below the last line
    status
    <BLANKLINE>
    """
    _need_all(host)
    head = [f"# machine {plain(host.machine.name)}", *boot_lines(host), f"## {plain(name)}"]
    return "\n".join([*head, *TraceWriter().lines(host.log.calls), "# the events of the end belong below the last line", "status", ""])


def boot_lines(host: Host) -> list[str]:
    """Return how a host was booted as the comments that `boot_of` reads. ValueError for a what-if that no boot parameter does."""
    said = {
        "kernel": host.kernel.release,
        "switches": " ".join(sorted(host.kernel.flips)),
        "boot": host.options.words,
        "doorbells": host.core.doorbells.design,
        "units": "assumed" if host.machine.units_assumed else "",
    }
    return [f"# {word} {plain(text)}" for word, text in said.items() if text]


def handles(host: Host) -> dict[str, dict[int, str]]:
    """Return the handles that a host's trace gives what is open, by process and descriptor. ValueError as `write_trace`."""
    _need_all(host)
    writer = TraceWriter()
    for _ in writer.lines(host.log.calls):
        pass
    return writer.names


def _need_all(host: Host) -> None:
    if host.log.forgotten:
        raise ValueError(f"{host.log.forgotten} calls were cleared from the log: what they did is not known any more")


class TraceWriter:
    """Names descriptors as it goes. `names`: for each process, its descriptors' handles. `outside`: the first process can do no more."""

    def __init__(self) -> None:
        self.names: dict[str, dict[int, str]] = {"": {}}
        self.count = dict.fromkeys(_LETTERS.values(), 0)
        self.outside = False

    def lines(self, calls: Iterable[Call]) -> Iterator[str]:
        """Yield the lines of a log's next calls: comments, operations with their answers, and their events."""
        for call in calls:
            who = call.process or (OUTSIDE if call.process is None and self.outside else "")
            prefix = f"{who}: " if who else ""
            self.mine = self.names.setdefault(call.process or "", {})
            writer: Callable[[Call], str] = getattr(self, f"_{call.verb}", self._usual)
            words = writer(call)
            if not words:
                yield f"# {plain(str(call))}"
                continue
            memory = _pairs({"vaddr": call.args["vaddr"], "size": max(call.args["size"], 1)}) if call.args.get("fresh") else ""
            if memory:
                yield f"{prefix}mem{memory} kind=populate -> 0"
            yield f"{prefix}{words} -> {self._answer(call)}"
            yield from (f"    {event.line}" for event in canonical(call.events))
            if memory and call.result != "0":
                yield f"{prefix}mem{memory} kind=hole -> 0"

    def _answer(self, call: Call) -> str:
        result = _RESULTS.get(call.result, call.result)
        if result == BLOCKS and call.process is None:
            result = SKIPPED
        self.outside = self.outside or (result == BLOCKS and not call.process)
        output = json.dumps(dict(call.output), separators=(",", ":")) if call.output and call.error is None else ""
        return f"{result} {output}".rstrip()

    # handles

    def _opened(self, call: Call) -> str:
        """Return the handle of what a call opens: A to Z, then C27; G1 a group, D1 a device, I1 an iommufd. A refused call uses none up."""
        letter = _LETTERS[call.verb]
        number = self.count[letter] + 1
        handle = f"{letter}{number}" if letter else chr(64 + number) if number <= 26 else f"C{number}"
        if "fd" in call.args:
            self.count[letter] = number
            self.mine[call.args["fd"]] = handle
        return handle

    def _handle(self, call: Call) -> str:
        return self.mine[_fd(call.target)]

    def _usual(self, call: Call) -> str:
        return f"{call.verb} {self._handle(call)}{_pairs(call.args)}"

    # verbs

    def _open(self, call: Call) -> str:
        return f"{call.verb} {self._opened(call)}{_pairs(call.args, 'fd')}"

    _open_container = _open_iommufd = _open_cdev = _open

    def _open_group(self, call: Call) -> str:
        number = call.target.isdecimal() or call.target.startswith("noiommu-") or call.result == "ENOENT"
        return f"open_group {self._opened(call)}{_pairs({'grp' if number else 'dev': call.target})}"

    def _get_device_fd(self, call: Call) -> str:
        group = self._handle(call)
        return f"get_device_fd {self._opened(call)} {group}{_pairs({'name': call.args['name']})}"

    def _close(self, call: Call) -> str:
        words = f"{call.verb.removesuffix('_descriptor')} {self._handle(call)}"
        del self.mine[_fd(call.target)]
        return words

    _close_container = _close_iommufd = _close_group = _close_device = _close_descriptor = _close

    def _set_container(self, call: Call) -> str:
        fd = _fd(call.args["container"])
        return f"set_container {self._handle(call)} {self.mine.get(fd, f'fd={fd}')}"

    def _bind_iommufd(self, call: Call) -> str:
        device, fd = self._handle(call), call.args["iommufd"]
        return f"bind_iommufd {device} {self.mine[fd]}{_pairs(call.args, 'iommufd')}" if fd in self.mine else self._usual(call)

    def _set_irqs(self, call: Call) -> str:
        args = call.args
        if not any(args[key] is not None for key in ("argsz", "evfd", "vals", "ptr")):
            return self._usual(call)
        flags = args["flags"] if args["flags"] is not None else TRIGGER_EVENTFD if args["count"] else DISABLE
        return f"set_irqs2 {self._handle(call)}{_pairs(args | {'flags': flags})}"

    def _fork(self, call: Call) -> str:
        self.names[call.target] = dict(self.mine)
        return f"fork {call.target}"

    def _receive(self, call: Call) -> str:
        giver = call.args["giver"]
        handle = self.mine[call.args["fd"]] = self.names[giver][_fd(call.target)]
        return f"receive {handle}{_pairs({'from': giver or None})}"

    def _new_process(self, call: Call) -> str:
        self.names[call.target] = {}
        return f"new_process {call.target}".rstrip()

    def _exit(self, call: Call) -> str:
        self.mine.clear()
        self.outside = self.outside or not call.process
        return "exit"

    def _bind(self, call: Call) -> str:
        return f"bind{_pairs(call.args)}" if call.process is None else _sysfs(f"drivers/{call.args['drv']}/bind", call.args["dev"])

    def _unbind(self, call: Call) -> str:
        if call.process is not None:
            return _sysfs(f"devices/{call.args['dev']}/driver/unbind", call.args["dev"])
        return "" if call.result == "ENOENT" else f"unbind{_pairs(call.args)}"

    def _remove(self, call: Call) -> str:
        return _sysfs(f"devices/{call.args['dev']}/remove", 1)

    def _rescan(self, _: Call) -> str:
        return _sysfs("rescan", 1)

    def _param(self, call: Call) -> str:
        module, _, name = str(call.args["name"]).rpartition(".")
        return f"param{_pairs({'mod': module, 'name': name, 'value': str(call.args['value'])})}"

    def _drop_cap(self, call: Call) -> str:
        kept = {} if call.args.get("keep") == 0 else {"keep": 1}
        return f"drop_cap{_pairs(call.args, 'keep')}{_pairs(kept)}"

    def _mem(self, call: Call) -> str:
        prot = call.args["prot"]
        kind = {"kind": "hole" if prot == "hole" else call.args["kind"]}
        return f"mem{_pairs(call.args, 'prot', 'kind')}{_pairs({} if prot in ('rw', 'hole') else {'prot': prot})}{_pairs(kind)}"

    def _dma_write(self, call: Call) -> str:
        return f"{call.verb} {call.target}{_pairs(call.args)}"

    _dma_read = _raise_msi = _rlimit_memlock = _dma_write

    def _hot_reset(self, _: Call) -> str:
        return ""

    _hot_reset_info = _hot_reset


def _fd(name: object) -> int:
    return int(str(name).removeprefix("fd"))


def _sysfs(path: str, value: object) -> str:
    return f"sysfs{_pairs({'path': f'/sys/bus/pci/{path}', 'value': value})}"


def _pairs(args: dict[str, Any], *without: str) -> str:
    """Return arguments as the words of a trace, each behind a blank; what was not given, a good pointer, and `fresh` are left out."""
    left_out = {*without, "fresh"}
    given = {key: value for key, value in args.items() if value is not None and key not in left_out and (key, value) != ("ptr", "good")}
    return "".join(f" {key}={_value(value)}" for key, value in given.items())


def _value(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{first:#x}-{last:#x}" for first, last in value)
    if isinstance(value, str):
        return quote(value, safe=_PLAIN, errors="surrogatepass")
    number = int(str(value))
    return str(number) if number < 10 else f"{number:#x}"
