"""Run a program on a modelled host: what it asks of VFIO and of sysfs, the model answers."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

from vfiolab.model.backends.compat_checks import Area
from vfiolab.model.backends.dmatree import Dma
from vfiolab.model.errors import ERRNO, KernelCrashError, NotModelledError, VfioError, WouldBlockError
from vfiolab.model.events import Call
from vfiolab.model.irq.delivery import Journey
from vfiolab.model.irq.msi import DATA_EVENTFD, MSI
from vfiolab.model.machine import Host
from vfiolab.model.pci.config import config_space, written
from vfiolab.model.uapi.ioctls import IOCTLS
from vfiolab.model.uapi.requests import HotReset, IrqSet
from vfiolab.model.user.descriptor import Descriptor, UserStruct
from vfiolab.model.user.device import Device
from vfiolab.model.user.process_calls import UserProcess
from vfiolab.run import edu, memory
from vfiolab.run.arguments import NAMING, PINNED, argument, unknown, written_back
from vfiolab.run.eventfds import Eventfds, taken
from vfiolab.run.memfds import CONFIG, REGION, Files, Opened, region_at
from vfiolab.run.said import call_lines
from vfiolab.run.seccomp import BY_PATH, Child, Listener, Notice, start, syscall
from vfiolab.run.tree import CONTAINER, GROUPS, Tree

U32, PAGE = 1 << 32, 4096
AT_FDCWD = -100
#: Numbers that stand for a program's descriptors that are not VFIO's: an ordinary file, a closed one, an eventfd.
ORDINARY, CLOSED, EVENTFD = 0, (1 << 31) - 2, (1 << 31) - 3
#: How many calls of a run are remembered if nobody wants them all.
KEPT = 1000
#: Of configuration space: the command register, and its bit without which a device sends no request.
COMMAND, BUS_MASTER = 0x04, 0x04
IOMMUFD, NODES = "/dev/iommu", "/dev/vfio/devices/vfio"
Tell: TypeAlias = Callable[[list[str]], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the program's exit status, why the model `ended` it ("" if it did not), and how many `calls` were answered.

    `dmesg`: the last lines that the modelled kernel logged meanwhile (of faults; what else it says is not modelled).
    """

    status: int
    ended: str
    calls: int
    dmesg: tuple[str, ...] = ()


def run_program(
    host: Host, command: Sequence[str], *, tell: Tell | None = None, quiet: bool = False, keep: bool = False,
    seconds: float | None = None, environment: dict[str, str] | None = None, toys: Collection[str] = (),
) -> Outcome:  # fmt: skip
    """Run a program, and answer its calls from the host, until it and all that it started have ended.

    `tell` hears the lines of each call, `quiet`: of those that are refused. `keep`: the host's log keeps every call, to be
    written as a trace. `seconds`: a limit. `toys`: the devices that are vfiolab-edu (`edu.with_edu`).
    NotPossibleError where such a run cannot be; OSError if the program cannot be started.
    """
    host.log.keep(None if keep else KEPT)
    files = Files()
    tree = Tree(host, files.watch)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, _terminated)  # a terminal's ^C is the program's
    try:
        with contextlib.closing(start(command, environment, every_write=bool(toys))) as child:
            server = Answering(host, child.listener, files, tree, tell, quiet=quiet, toys=toys)
            with contextlib.closing(server):
                server.serve(child, seconds)
            status = child.wait()
            if error := child.not_started():
                raise OSError(error, os.strerror(error), command[0])
            return Outcome(status, server.ended, server.calls, tuple(server.dmesg))
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
        files.close()
        tree.remove()


def _terminated(number: int, _: object) -> None:
    raise SystemExit(128 + number)


class Answering:
    """Answers a program's calls."""

    def __init__(
        self,
        host: Host,
        listener: Listener,
        files: Files,
        tree: Tree,
        tell: Tell | None,
        *,
        quiet: bool = False,
        toys: Collection[str] = (),
    ) -> None:
        self.host, self.listener, self.files, self.tree = host, listener, files, tree
        self._tell, self._quiet, self._toys = tell, quiet, toys
        self.dmesg: deque[str] = deque(maxlen=KEPT)
        self.ended, self.calls = "", 0
        self._processes: dict[int, tuple[int, UserProcess]] = {}
        self._areas: dict[int, memory.Areas] = {}
        self._eventfds = Eventfds(host)
        self._named: dict[tuple[int, int], str] = {}

    def serve(self, child: Child, seconds: float | None) -> None:
        """Answer until the program has ended, or has to."""
        until = None if seconds is None else time.monotonic() + seconds

        def over() -> bool:
            if not self.ended and until is not None and time.monotonic() > until:
                self.ended = f"the limit of {seconds:g} s is over"
            return bool(self.ended)

        try:
            for notice in child.notices(self.files.fd, over):
                self._look()
                if notice is not None and not self.ended:
                    self._serve(notice)
                if self.ended:
                    break
        except BaseException:
            child.kill()
            child.wait()
            raise
        if self.ended:
            child.kill()
        child.wait()
        self._look()

    def close(self) -> None:
        """Let go of what was opened of the program."""
        for areas in self._areas.values():
            areas.close()
        self._eventfds.close()

    def _look(self) -> None:
        """Carry out what happened without a call: files that were closed for good, files that were written into."""
        for what in self.files.news():
            if isinstance(what, Opened):
                self._closed(what)
            else:
                self._carry(partial(self.tree.written, what), f"what was written into /{what.relative_to(self.tree.root)}")

    def _serve(self, notice: Notice) -> None:
        try:
            self._answer(notice)
        except OSError:
            if self.listener.alive(notice):
                raise  # else who made the call died meanwhile

    def _answer(self, notice: Notice) -> None:
        name = self.listener.names.get(notice.number, "")
        if name == "ioctl":
            self._ioctl(notice)
        elif name == "pwrite64":
            self._pwrite(notice)
        elif name in BY_PATH:
            self._path(notice, name)
        else:
            self.listener.let_pass(notice)

    # processes

    def process(self, tid: int) -> UserProcess:
        """Return the model's process for a program's thread: the first is the host's own, each other one a fresh one."""
        born = _born(tid)
        known = self._processes.get(tid)
        if known is not None and known[0] == born:
            return known[1]
        pid = _tgid(tid)
        name = self._named.get((pid, _born(pid)))
        if name is None:
            name = f"P{len(self._named)}" if self._named else ""
            self._named[pid, _born(pid)] = name
            if name:
                self.host.new_process(name)
        process = self.host.processes[name]
        process.eventfds = frozenset({EVENTFD})
        self._processes[tid] = born, process
        return process

    def _twin(self, process: UserProcess, opened: Opened) -> Descriptor:
        """Return the process's descriptor of an open file; it has one because a parent had it, or somebody passed it on."""
        twin = opened.twins.get(process.name)
        if twin is None:
            twin = opened.twins[process.name] = process.receive(next(iter(opened.twins.values())))
        return twin

    def _closed(self, opened: Opened) -> None:
        """Close an open file whose last reference is gone, memory of its BARs included."""
        for process in self.host.processes.values():
            for span, region in [(span, region) for span, region in process.memory.regions if region.bar is not None]:
                if any(_same(region.bar, twin.file) for twin in opened.twins.values()):
                    process.remap(span.start, span.size, "hole")
        for twin in opened.twins.values():
            self._carry(twin.close, f"closing {opened.name}", opened.name)
        self._eventfds.prune()

    # what the model says

    def _carry(
        self, call: Callable[[], int | None], what: str, kind: str = "", fd: int = -1, given: int | None = None, *, told: bool = True
    ) -> int:  # fmt: skip
        """Make a call of the model and say it; return its value, or minus the errno. What has no answer ends the program."""
        log = self.host.log
        mark = len(log.calls) + log.forgotten
        value = 0
        try:
            value = call() or 0
        except VfioError as error:
            value = -ERRNO[error.name]
            if not kind:
                self.end(f"{what}: the kernel answers {error.name} here ({error.why}; {error.source}), but the program has gone on")
        except KernelCrashError as error:
            self.end(f"{what}: the real kernel dies here: {error}")
        except WouldBlockError as error:
            self.end(f"{what}: the real kernel waits here: {error}")
        except NotModelledError as error:
            self.end(f"{what}: the model has no answer: {error}")
        except ValueError as error:
            self.end(f"{what}: {error}")
        if told:
            for one in log.calls[max(mark - log.forgotten, 0) :]:
                self._say(one, kind, fd, given)
        return value

    def _say(self, call: Call, kind: str, fd: int, given: int | None) -> None:
        if self._tell is not None and not (self._quiet and call.error is None):
            self._tell(call_lines(call, kind, fd, given))

    def end(self, why: str) -> None:
        """End the program, and say why; the first reason counts."""
        self.ended = self.ended or why

    # by path

    def _path(self, notice: Notice, name: str) -> None:
        place, buffer, size = BY_PATH[name]
        raw = memory.text(notice.pid, notice.args[place])
        inside = self.tree.inside(os.fsdecode(raw)) if raw is not None else None
        if inside is None or not self.listener.alive(notice):
            self.listener.let_pass(notice)
            return
        self.tree.refresh()
        path = "/" + os.path.relpath(inside, self.tree.root)
        if name.startswith("open"):
            self._open(notice, name, path, inside)
            return
        args = list(notice.args)
        room = ctypes.create_string_buffer(min(size, args[buffer + 1]) if name.startswith("readlink") and buffer else max(size, 1))
        args[place] = cast("int", ctypes.c_char_p(os.fsencode(inside)))
        if place:
            args[0] = AT_FDCWD
        if buffer is not None:
            args[buffer] = cast("int", ctypes.byref(room))
        value = syscall(name, *args)
        if value >= 0 and buffer is not None:
            filled = room.raw[:value] if name.startswith("readlink") else room.raw
            value = value if memory.write(notice.pid, notice.args[buffer], filled) else -ERRNO["EFAULT"]
        self.listener.answer(notice, value)

    def _open(self, notice: Notice, name: str, path: str, inside: str) -> None:
        flags = notice.args[1 if name == "open" else 2]
        if name == "openat2":
            how = memory.read(notice.pid, notice.args[2], 8)
            if len(how) < 8:
                self.listener.answer(notice, -ERRNO["EFAULT"])
                return
            flags = int.from_bytes(how, "little")
        if (path.startswith(GROUPS) or path == IOMMUFD) and not flags & (os.O_PATH | os.O_DIRECTORY):
            self._open_vfio(notice, path, flags)
            return
        try:
            if Path(inside) in self.files.paths and flags & os.O_ACCMODE:
                os.truncate(inside, 0)  # what is written is the whole value
            fd = os.open(inside, flags & ~(os.O_CREAT | os.O_EXCL | os.O_TRUNC) | os.O_CLOEXEC)
        except OSError as error:
            self.listener.answer(notice, -(error.errno or ERRNO["EIO"]))
            return
        self._hand_over(notice, fd, flags)

    def _hand_over(self, notice: Notice, fd: int, flags: int) -> int:
        number = self.listener.answer_with(notice, fd, cloexec=bool(flags & os.O_CLOEXEC))
        os.close(fd)
        if number < 0:
            self.listener.answer(notice, number)
        return number

    def _open_vfio(self, notice: Notice, path: str, flags: int) -> None:
        process = self.process(notice.pid)
        made: list[Descriptor] = []
        nodes = {f"{NODES}{number}": bdf for bdf, number in self.host.drivers.nodes.items()}

        def opened() -> None:
            if path == IOMMUFD:
                made.append(process.open_iommufd())
            elif path in nodes:
                made.append(process.open_cdev(nodes[path]))
            else:
                made.append(process.open_container() if path == CONTAINER else process.open_group(path.removeprefix(GROUPS)))

        self.calls += 1
        log = self.host.log
        value = self._carry(opened, f"open({path})", "file", told=False)
        number = value
        if made:
            one = made[0]
            ours = self._device_file(one) if isinstance(one, Device) else self.files.new(Opened(one.KIND, path, {process.name: one}))
            number = self._hand_over(notice, ours, flags)
        elif not self.ended:
            self.listener.answer(notice, value)
        self._say(log.calls[-1], "", -1, number)

    # ioctls

    def _ioctl(self, notice: Notice) -> None:
        fd, cmd, arg = notice.args[0] % U32, notice.args[1] % U32, notice.args[2]
        opened = self.files.at(notice.pid, fd)
        if opened is None:
            self.listener.let_pass(notice)
            return
        self.calls += 1
        process = self.process(notice.pid)
        twin = self._twin(process, opened)
        row = IOCTLS[twin.KIND].get(cmd)
        struct, name = (row.struct, row.name) if row is not None else ("", f"ioctl {cmd:#x}")
        data: int | UserStruct = arg
        given: int | None = None
        if struct:
            data = argument(notice.pid, arg, struct, self._writable)
            given = self._descriptor(process, notice.pid, struct, data)
        elif row is None:
            data = unknown(notice.pid, arg)
        fds = self._translated(process, notice.pid, struct, data)
        if struct in PINNED and isinstance(data, UserStruct) and len(data) >= 32:
            at = PINNED[struct]
            self._sync(process, notice.pid, int.from_bytes(data[at : at + 8], "little"), int.from_bytes(data[24:32], "little"))
        if not self.listener.alive(notice):
            return
        process.copy_out = lambda address, out: memory.write(notice.pid, address, out)
        if name == "VFIO_GROUP_GET_DEVICE_FD":
            self._get_device(notice, twin, cmd, data)
            return
        value = self._carry(lambda: twin.ioctl(cmd, data), name, twin.KIND, fd, fd if given is None else given)
        if self.ended:
            return
        if isinstance(data, UserStruct):
            if not written_back(notice.pid, arg, struct, data, given):
                value = -ERRNO["EFAULT"]
                self._tell_all([f"    the answer cannot be put into the program's memory ({arg:#_x}): -1 EFAULT (copy_to_user)"])
            if name == "VFIO_DEVICE_SET_IRQS" and isinstance(twin, Device):
                self._eventfds.given(twin, data, fds, value)
        self.listener.answer(notice, value)

    def _descriptor(self, process: UserProcess, pid: int, struct: str, data: UserStruct) -> int | None:
        """Put the model's number in the place of the one descriptor that an ioctl names; return the program's own."""
        at = NAMING.get(struct, -1)
        if at < 0 or len(data) < at + 4:
            return None
        given = int.from_bytes(data[at : at + 4], "little", signed=True)
        data[at : at + 4] = self._number(process, pid, given).to_bytes(4, "little", signed=True)
        return given

    def _get_device(self, notice: Notice, twin: Descriptor, cmd: int, data: int | UserStruct) -> None:
        process, log = twin.process, self.host.log
        value = self._carry(lambda: twin.ioctl(cmd, data), "VFIO_GROUP_GET_DEVICE_FD", "group", told=False)
        number = value
        if value >= 0 and not self.ended:
            number = self._hand_over(notice, self._device_file(cast("Device", process.descriptors[value])), os.O_CLOEXEC)
        elif not self.ended:
            self.listener.answer(notice, value)
        self._say(log.calls[-1], "group", notice.args[0] % U32, number)
        if value >= 0 and self._tell is not None and not self._quiet and log.calls[-1].args["name"] not in self.host.bars:
            self._tell(["    its BARs are assumed, by its class: the machine file does not know them"])

    def _device_file(self, device: Device) -> int:
        """Return a descriptor of ours for a device: its config space, and memory for its BARs."""
        config = bytearray(config_space(device.function, device.bars))
        config[COMMAND] &= ~BUS_MASTER  # pci_clear_master in vfio_pci_enable, later vfio_pci_core_enable
        ours = self.files.new(Opened("device", device.name, {device.process.name: device}), bytes(config))
        if device.name in self._toys:
            os.pwrite(ours, edu.POWER_ON, 0)
        return ours

    def _number(self, process: UserProcess, pid: int, fd: int) -> int:
        """Return the model's number of a program's descriptor."""
        if fd < 0:
            return fd
        opened = self.files.at(pid, fd)
        if opened is not None:
            return self._twin(process, opened).fd
        return ORDINARY if os.path.exists(f"/proc/{pid}/fd/{fd}") else CLOSED  # noqa: PTH110 - a file of a moment

    def _translated(self, process: UserProcess, pid: int, struct: str, data: int | UserStruct) -> list[int]:
        """Put the model's numbers in the place of a program's descriptors; return eventfds that are ours now, -1 for none."""
        if not isinstance(data, UserStruct) or struct not in (IrqSet.NAME, HotReset.NAME) or len(data) < 12:
            return []
        first = IrqSet.FORMAT.size if struct == IrqSet.NAME else HotReset.FORMAT.size
        if struct == IrqSet.NAME and data[4] & 7 != DATA_EVENTFD:
            return []
        ours = []
        handle = syscall("pidfd_open", _tgid(pid), 0) if struct == IrqSet.NAME else -1
        for at in range(first, len(data) - 3, 4):
            fd = int.from_bytes(data[at : at + 4], "little", signed=True)
            ours.append(taken(handle, fd) if handle >= 0 and fd >= 0 else -1)
            number = EVENTFD if ours[-1] >= 0 else self._number(process, pid, fd)
            data[at : at + 4] = number.to_bytes(4, "little", signed=True)
        if handle >= 0:
            os.close(handle)
        return ours

    # memory

    def _where(self, pid: int) -> memory.Areas:
        if pid not in self._areas:
            self._areas[pid] = memory.Areas(pid)
        return self._areas[pid]

    def _writable(self, pid: int, address: int) -> bool:
        return any("w" in area.prot for area in self._where(pid).within(address, address + 1))

    def _sync(self, process: UserProcess, pid: int, vaddr: int, size: int) -> None:
        """Let the model's process have the memory that the program has at a range: up to the first page that cannot be pinned."""
        at, end = vaddr, min(vaddr + size, 1 << 64)
        for area in self._where(pid).within(at, end) if at < end else ():
            if area.start > at:
                break
            self._area(process, area)
            if not area.prot:
                return
            at = area.end
        if at < end and process.memory.regions.at(at) is not None:
            page = at // PAGE * PAGE
            process.remap(page, min(PAGE, (1 << 64) - page), "hole")

    def _area(self, process: UserProcess, area: memory.Area) -> None:
        opened = self.files.of(area.device, area.inode) if area.inode else None
        prot = "rw" if "w" in area.prot else area.prot or "none"
        device = self._twin(process, opened) if opened is not None and opened.kind == "device" else None
        hit = process.memory.regions.at(area.start)
        known = hit is not None and hit[0].end >= area.end and (hit[1].prot or "none") == prot
        if known and hit is not None and _same(hit[1].bar, device.file if device is not None else None):
            return
        if isinstance(device, Device):
            region, offset = region_at(area.offset)
            with contextlib.suppress(VfioError):
                device.mmap(region, area.end - area.start, area.start, offset)
                return
            prot = "none"  # past the BAR's end: no kernel would have mapped that
        process.remap(area.start, area.end - area.start, prot, populate=True)

    # devices

    def _pwrite(self, notice: Notice) -> None:
        fd, address, size, place = notice.args[0] % U32, *notice.args[1:4]
        opened = self.files.at(notice.pid, fd)
        region, offset = region_at(place)
        toy = opened is not None and region == 0 and opened.name in self._toys
        if opened is None or opened.kind != "device" or not (region == CONFIG or toy):
            self.listener.let_pass(notice)
            return
        device = cast("Device", self._twin(self.process(notice.pid), opened))
        if toy and offset >= edu.SIZE:  # vfio_pci_bar_rw: past the end
            self.listener.answer(notice, -ERRNO["EINVAL"])
            return
        new = memory.read(notice.pid, address, min(size, edu.SIZE - offset if toy else PAGE))
        if not new and size:
            self.listener.answer(notice, -ERRNO["EFAULT"])
            return
        self.calls += 1
        ours = os.open(f"/proc/{notice.pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            if toy:
                self._toy(device, ours, offset, new)
            else:
                self._write_config(device, ours, fd, offset, new)
        finally:
            os.close(ours)
        if not self.ended:
            self.listener.answer(notice, len(new))

    def _write_config(self, device: Device, ours: int, fd: int, offset: int, new: bytes) -> None:
        space = os.pread(ours, 256 if device.function.express_type is None else 4096, CONFIG << REGION)
        os.pwrite(ours, written(space, offset, new, device.bars), CONFIG << REGION)
        self._carry(partial(device.write_config, offset, int.from_bytes(new[:8], "little"), min(len(new), 8)), "pwrite", "device", fd, fd)

    def _toy(self, device: Device, ours: int, offset: int, new: bytes) -> None:
        """Let the toy device see a write to its registers; they are in the device's file, where the program reads them."""
        registers = bytearray(os.pread(ours, edu.SIZE, 0))
        command = edu.written(registers, offset, new)
        master = os.pread(ours, 1, CONFIG << REGION | COMMAND)[0] & BUS_MASTER
        if command and not master:
            self._tell_all([f"    {edu.NAME} {device.name} sends nothing: bus mastering is off (bit 2 of the command register)"])
            edu.failed(registers)
        elif command:
            transfer = partial(edu.transfer, self.host, device, registers, command, partial(self._reach, device), self._travelled)
            self._carry(transfer, f"{edu.NAME} {device.name}", "device", told=False)
        os.pwrite(ours, registers, 0)
        if command & edu.INTERRUPT and master and not self.ended:
            self._carry(partial(self._interrupt, device), f"{edu.NAME} {device.name}", "device", told=False)

    def _interrupt(self, device: Device) -> None:
        if edu.raise_interrupt(self.host, device, self._travelled):
            self._eventfds.signal(device.name, MSI, 0)

    def _reach(self, device: Device, iova: int, data: bytes | int) -> bytes:
        """Read so many bytes, or write bytes, of the program's memory that is mapped at an iova; return them.

        A program that put other memory in the place of what it mapped is not noticed: here the DMA reaches what is there now, and under
        a real kernel the pages that were pinned.
        """
        server = device.vfio.container
        found = next(server.backend.at(iova), None) if server is not None and server.backend is not None else None
        area = cast("Dma | Area | None", found)
        if area is None:
            raise NotModelledError(f"{iova:#_x} leads to memory of the host that no program mapped: nobody knows what is there")
        pid = next((pid for (pid, _), name in self._named.items() if self.host.processes[name] is area.process), None)
        if pid is not None:
            place = area.vaddr + iova - area.iova
            if isinstance(data, bytes) and memory.write(pid, place, data):
                return data
            if isinstance(data, int) and len(held := memory.read(pid, place, data)) == data:
                return held
        raise NotModelledError(f"the memory behind iova {iova:#_x} is pinned, but the program has given it back: nobody has a copy of it")

    def _travelled(self, trip: Journey) -> None:
        """Say what became of a request of the toy device, and keep what the host's kernel logs of it.

        Each fault has its line here; a real kernel leaves some of many out (__ratelimit in dmar_fault, arm_smmu_evtq_thread,
        amd_iommu_report_page_fault).
        """
        lines = trip.logged.split("\n") if trip.logged else []
        self.dmesg.extend(lines)
        good = trip.outcome in ("memory", "delivered")
        if not (good and self._quiet):
            said = [] if good else [f"    {trip.why}"]
            self._tell_all([f"{edu.NAME} {trip.act}: {trip.outcome}", *said, *(f"dmesg: {line}" for line in lines)])

    def _tell_all(self, lines: list[str]) -> None:
        if self._tell is not None:
            self._tell(lines)


def _same(one: object, other: object) -> bool:
    return one is other


def _born(pid: int) -> int:
    """Return what tells a process, or a thread, from a later one with its number."""
    return os.stat(f"/proc/{pid}").st_ino  # noqa: PTH116 - a hot path


def _tgid(tid: int) -> int:
    with open(f"/proc/{tid}/status", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - a file of a moment
        return next(int(line.split()[1]) for line in file if line.startswith("Tgid:"))
