"""A capture that the model carries out: which call is the first that cannot work on a machine and a kernel, and a picture at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vfiolab._table import Table
from vfiolab.client import CRASH, Client, Done
from vfiolab.kit.host import Host, boot, load
from vfiolab.kit.space import AddressSpace, device_name
from vfiolab.model.errors import ERRNO, VfioError
from vfiolab.model.irq.delivery import JourneyStep
from vfiolab.model.kernel import Kernel
from vfiolab.model.user.container import Container
from vfiolab.model.user.drivers import VFIO_DRIVERS
from vfiolab.readers.calls import ANY, Calls
from vfiolab.readers.capture import read_capture
from vfiolab.readers.errors import InputError
from vfiolab.readers.trace import BLOCKS, Operation

if TYPE_CHECKING:
    from vfiolab.draw import Picture, Scene

__all__ = ["Capture", "CaptureRun", "Refused", "open_capture"]

BRIDGE_CLASS = 0x06
OFTEN = 2000


def open_capture(source: str | Path) -> Capture:
    r"""Read a capture from a file or from its text: QEMU's trace, the IOMMU's tracepoints, strace, or a .trace of the kit.

    What it is is told from what is in it. InputError if it is none of them, or holds no call.

    >>> line = "vfio_listener_region_add_ram region_add [ram] 0xfee00000 - 0xfeefffff [0x7fca00000000]\n"
    >>> run = open_capture(line).run("intel-vtd-39bit")
    >>> print(run.first_refused)
    line 1: map A iova=0xfee00000 size=0x100000 vaddr=0x7fca00000000
      EINVAL: 0xfee0_0000-0xfeef_ffff overlaps the MSI window 0xfee0_0000-0xfeef_ffff
      check:  the range lies inside one usable iova range
      source: vfio_iommu_iova_dma_valid, drivers/vfio/vfio_iommu_type1.c
      fix:    map within the usable ranges: GET_INFO capability 1 lists them
    """
    return Capture(read_capture(source))


class Capture:
    """The calls of a capture; `run` carries them out.

    `operations`: as a trace has them, and `answers` beside them ("" where none was recorded); `assumed`: what the capture does not hold.
    """

    def __init__(self, calls: Calls) -> None:
        self.calls, self.kind, self.source = calls, calls.kind, calls.source
        self.operations, self.answers, self.assumed = calls.operations, calls.answers, calls.assumed

    @property
    def unread(self) -> Table:
        """The lines that were not understood: line, why, text."""
        return Table(["line", "why", "text"], [(one.line, one.why, one.text[:120]) for one in self.calls.unread])

    @property
    def counts(self) -> dict[str, int]:
        """How many lines there are, how many hold a call, were passed by, and were not understood."""
        own = {one.line for one in self.operations if one.line and one.verb != "mem"}
        return {"lines": self.calls.lines, "calls": len(own), "passed by": self.calls.passed, "not understood": len(self.calls.unread)}

    def run(
        self, machine: str | Host, *, kernel: Kernel | str | None = None, devices: str | Iterable[str] = (),
        tell: Callable[[int], None] = lambda _: None,
    ) -> CaptureRun:  # fmt: skip
        """Carry the calls out on a freshly booted machine (a host lends its machine, kernel and options, and stays as it is).

        `devices` stand for the capture's own, in the order in which it names them; without them a device of the same name does, else the
        first that can be attached. `tell` hears now and then how many calls are done. ValueError for a device that the machine does not
        have, InputError if there is none to take.
        """
        host = load(machine, kernel) if isinstance(machine, str) else boot(machine.machine, kernel or machine.kernel, machine.options)
        run = CaptureRun(self, host, *_chosen(self.calls, host, [devices] if isinstance(devices, str) else list(devices)))
        run.go(tell)
        return run

    def __repr__(self) -> str:
        return f"Capture({self.kind}, {', '.join(f'{number} {what}' for what, number in self.counts.items())})"


@dataclass(frozen=True, slots=True)
class Refused:
    """A call that cannot work: the operation and its line, the model's answer, the capture's ("" if none was recorded), check and fix."""

    step: int
    operation: Operation
    result: str
    recorded: str
    why: str
    source: str = ""
    fix: str = ""
    check: str = ""

    @property
    def line(self) -> int:
        """The line of the capture; 0 for a call that was assumed."""
        return self.operation.line

    def __str__(self) -> str:
        where = f"line {self.line}" if self.line else "assumed, before the first line"
        lines = [f"{where}: {self.operation.text}", f"  {self.result}: {self.why}"]
        lines += [f"  {label} {text}" for label, text in (("check: ", self.check), ("source:", self.source), ("fix:   ", self.fix)) if text]
        if self.recorded and self.recorded != self.result:
            same = "was refused in the capture" if self.recorded == "refused" else f"answered {self.recorded} in the capture"
            lines.append(f"  the call {same}")
        return "\n".join(lines)


@dataclass(slots=True)
class CaptureRun:
    """A capture carried out on a host. `done` runs parallel to `operations`; `said`: what was taken for what the capture does not hold."""

    capture: Capture
    host: Host
    operations: list[Operation]
    answers: list[str]
    said: list[str]
    done: list[Done] = field(default_factory=list)
    _client: Client | None = None
    _at: int = 0
    _host: Host | None = None

    def go(self, tell: Callable[[int], None]) -> None:
        """Carry out what is not done yet; nothing follows the kernel's death."""
        client = Client(self.host)
        for number, operation in enumerate(self.operations, 1):
            self.done.append(client.do(operation))
            if number % OFTEN == 0:
                tell(number)
            if self.done[-1].result == CRASH:
                break

    @property
    def refused(self) -> Iterator[Refused]:
        """Yield the calls that the model refuses, in order; the echoes of those before them among them."""
        for step, (one, recorded) in enumerate(zip(self.done, self.answers, strict=False), 1):
            if one.result in ERRNO or one.result in (CRASH, BLOCKS):
                error = one.refused if isinstance(one.refused, VfioError) else None
                source, fix, failed = (error.source, error.fix, error.failed) if error else ("", "", "")
                yield Refused(step, one.operation, one.result, recorded, one.why, source, fix, failed)

    @property
    def first_refused(self) -> Refused | None:
        """The first call that cannot work on this kernel and machine; None if all work."""
        return next(self.refused, None)

    @property
    def differing(self) -> list[int]:
        """The steps at which the capture recorded another answer: it worked there and does not here, or the other way round."""
        pairs = enumerate(zip(self.done, self.answers, strict=False), 1)
        return [step for step, (one, known) in pairs if known and (one.result in ERRNO) != (known in ERRNO or known == "refused")]

    @property
    def space(self) -> AddressSpace:
        """The address space as the last call left it. ValueError if no container is open."""
        return self._space(self.host)

    def at(self, step: int) -> AddressSpace:
        """Return the address space as it was after a step, 1 being the first. ValueError if no container is open there."""
        if self._client is None or self._host is None or step < self._at:
            self._host, self._at = self.host.with_kernel(self.host.kernel), 0
            self._client = Client(self._host)
        for operation in self.operations[self._at : min(step, len(self.done))]:
            self._client.do(operation)
            self._at += 1
        return self._space(self._host)

    def _space(self, host: Host) -> AddressSpace:
        files = [file for process in host.processes.values() for file in process.descriptors.values() if isinstance(file, Container)]
        if not files:
            raise ValueError("no container is open at this step: give a later or an earlier one")
        return AddressSpace(host, container=files[-1])

    # what a stepper asks for

    @property
    def steps(self) -> list[JourneyStep]:
        """The calls as steps to walk along."""
        told = (f"{one.operation.text} -> {one.result}{f': {one.why}' if one.why else ''}" for one in self.done)
        places = (f"line {one.operation.line}" if one.operation.line else "assumed" for one in self.done)
        return [JourneyStep("call", place, words) for place, words in zip(places, told, strict=True)]

    def picture(self, upto: int | None = None) -> Scene | Picture:
        """Draw the address space after so many calls, by default all; before there is a container, the machine's tree."""
        from vfiolab.draw import topology

        try:
            return self.at(len(self.done) if upto is None else upto).picture()
        except ValueError:
            return topology(self.host)

    def __repr__(self) -> str:
        number = sum(1 for _ in self.refused)
        return f"CaptureRun({self.host.machine.name!r}, kernel {self.host.kernel}, {len(self.done)} calls, {number} refused)"


def _chosen(calls: Calls, host: Host, given: list[str]) -> tuple[list[Operation], list[str], list[str]]:
    """Put devices of the machine in the place of the capture's: operations, answers, and what is to be said of it."""
    said, taken = list(calls.assumed), _Taken(host, given)
    operations, answers, bound = [], [], set()
    groups: dict[str, str] = {}
    for operation, answer in zip(calls.operations, calls.answers, strict=True):
        args, names, known = operation.args, operation.names, calls.kind == "trace"
        if known:
            pass
        elif operation.verb == "open_group":
            device = taken.device(args.get("dev", ANY), args.get("grp", ""))
            groups[names[0]] = device
            args = {"dev": device}
            if answer not in ERRNO and device not in bound:
                mates = _users(host, device)
                bound |= set(mates)
                for mate in mates:
                    if host.drivers.driver_of(mate) not in VFIO_DRIVERS:
                        operations.append(Operation(f"bind dev={mate}", 0, "bind", (), {"dev": mate}))
                        answers.append("")
        elif operation.verb == "get_device_fd":
            wanted, group = args["name"], names[1]
            args = {"name": groups.get(group, ANY) if wanted == ANY else taken.device(wanted, "")}
        elif operation.verb == "dma_read":
            names = (taken.device(names[0], ""),)
        if (args, names) != (operation.args, operation.names):
            text = " ".join([operation.verb, *names, *(f"{key}={word}" for key, word in args.items())])
            operation = replace(operation, text=text, names=names, args=args)  # noqa: PLW2901 # the same call on this machine
        operations.append(operation)
        answers.append(answer)
    return operations, answers, said + taken.said


def _users(host: Host, device: str) -> list[str]:
    """List the devices of a device's group that a user may have: all but bridges."""
    group, known = host.group_of(device), host.topology
    return [
        mate for mate in (group.devices if group is not None else (device,))
        if (f := known.get(mate)) is None or (f.is_for_users and (f.class_code or 0) >> 16 != BRIDGE_CLASS)
    ]  # fmt: skip


class _Taken:
    """Which device of the machine stands for which of the capture."""

    def __init__(self, host: Host, given: list[str]) -> None:
        self.host, self.said = host, list[str]()
        self.given: list[str] = [device_name(host, device) for device in given]
        for device in self.given:
            if device not in host.drivers:
                raise ValueError(f"{host.machine.name} has no device {device}")
        self.known: dict[str, str] = {}
        self.free = self.suitable()

    def suitable(self) -> Iterator[str]:
        for group in self.host.groups:
            users = _users(self.host, group.devices[0]) if group.devices else []
            if users and group.unit is not None and not group.native:
                yield users[0]

    def device(self, name: str, group: str) -> str:
        """Return the device of the machine for one that the capture names, or for a group of which it has the number only."""
        key = name if name != ANY else f"group {group}" if group else ANY
        if key in self.known:
            return self.known[key]
        own: str = device_name(self.host, name)
        if self.given:
            found = self.given.pop(0)
        elif own in self.host.drivers and own in _users(self.host, own):
            found = own
        else:
            numbered = next((one for one in self.host.groups if str(one.id) == group), None) if key != name else None
            users = _users(self.host, numbered.devices[0]) if numbered is not None and numbered.devices else []
            found = users[0] if users else self.next()
        self.known[key] = found
        if found != name:
            self.said.append(f"{found} stands for {'a device that the capture does not name' if key == ANY else key}")
        return found

    def next(self) -> str:
        used = {self.host.group_of(device) for device in self.known.values()}
        found = next((device for device in self.free if self.host.group_of(device) not in used), None)
        if found is None:
            machine = self.host.machine.name
            raise InputError("no further device of it can be attached", where=machine, advice="choose a machine with more groups")
        return found
