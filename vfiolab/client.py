"""The one interpreter of operations: each line of a trace is carried out by the model's public verbs, and nothing is compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vfiolab.model.address import U64
from vfiolab.model.errors import KernelCrashError, NotModelledError, Refusal, VfioError, WouldBlockError
from vfiolab.model.events import Event
from vfiolab.model.irq import delivery
from vfiolab.model.irq.msi import IrqState
from vfiolab.model.machine import Host, Machine
from vfiolab.model.user.container import Container, Group
from vfiolab.model.user.descriptor import Descriptor
from vfiolab.model.user.device import Device
from vfiolab.model.user.drivers import Waiting
from vfiolab.model.user.iommufd import VERBS, Cdev, Iommufd
from vfiolab.model.user.process_calls import UserProcess
from vfiolab.readers.errors import InputError
from vfiolab.readers.trace import BLOCKS, OUTSIDE, SKIPPED, Boot, Operation

__all__ = ["CRASH", "NOT_ANSWERED", "UNANSWERED", "Client", "Done", "number", "run"]

NOT_ANSWERED = frozenset({"host_msi", "pread", "trace", "env", "groups", "sleep", "peek", "poke"})
AS_THE_MACHINE_SAYS = Boot()
CRASH, UNANSWERED = "crash", "?"
CONTAINER_NODE = "/dev/vfio/vfio"
UNKNOWN_IOCTL = 0x3BFF
U32, I32 = 1 << 32, 1 << 31
CONFIG = 7
IRQ_DATA, IRQ_ACTION = {"none": 1, "bool": 2, "eventfd": 4}, {"mask": 8, "unmask": 16, "trigger": 32}
#: A write to sysfs that is carried out: a device's driver/unbind and remove, a driver's bind and unbind, and the bus's rescan.
SYSFS_WRITE = re.compile(r"/sys/bus/pci/(?:devices/([^/]+)/(?:driver/)?|drivers/([\w-]+)/)?(bind|unbind|remove|rescan)")
FIELDS_OF_32_BITS = frozenset({"argsz", "flags", "index", "start", "count"})
MAP_FLAGS = {"r": 1, "w": 2, "v": 4}
Kind = TypeVar("Kind", bound=Descriptor)


@dataclass(slots=True)
class Done:
    """One operation as the model carried it out. `exit_events`: what the process's end did, below the last operation.

    `refused`: what the model answered instead of a result, with its check, source and fix.
    """

    operation: Operation
    result: str
    output: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    exit_events: list[Event] = field(default_factory=list)
    why: str = ""
    write: Waiting | None = None
    either: tuple[str, ...] = ()
    refused: Refusal | None = None


class _Skip(Exception):  # noqa: N818 # a jump to "skipped", no error
    """The recorder would not have reached the kernel."""


class Client:
    r"""Carries out operations on a host. `handles`: each process's names for its descriptors, by the name of the process.

    >>> from vfiolab.model.builder import MachineBuilder
    >>> from vfiolab.readers.trace import read_trace
    >>> m = MachineBuilder("demo")
    >>> m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    >>> client = Client(m.host("6.12"))
    >>> scenario, = read_trace("## one\nopen_container A\nopen_group G1 dev=0000:01:00.0\nset_container G1 A\n")
    >>> [client.do(operation).result for operation in scenario.operations]
    ['0', '0', '0']
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._handles: dict[str, dict[str, Descriptor]] = {}

    def adopt(self, names: Mapping[str, Mapping[int, str]]) -> None:
        """Take over the handles that descriptors were given elsewhere: for each process, the name of each number."""
        for process, handles in names.items():
            held = self.host.processes[process].descriptors if process in self.host.processes else {}
            self._handles.setdefault(process, {}).update({name: held[fd] for fd, name in handles.items() if fd in held})  # type: ignore[misc] # handles are descriptors

    def run(self, operations: Iterable[Operation]) -> list[Done]:
        """Carry out operations, and end every process; nothing follows the kernel's death."""
        done = []
        for operation in operations:
            done.append(self.do(operation))
            if done[-1].result == CRASH:
                return done
        for process in [*filter(None, self.host.processes), *({""} & self.host.processes.keys())]:
            mark = len(self.host.log.calls)
            self.host.processes[process].exit()
            if done and not process:
                done[-1].exit_events = self._events_since(mark)
        return done

    def do(self, operation: Operation) -> Done:
        """Carry out one operation. InputError if its arguments cannot be read."""
        verb = operation.verb
        if verb in NOT_ANSWERED:
            return Done(operation, UNANSWERED)
        carry_out: Callable[[Operation], int | None] | None = getattr(self, f"_do_{verb}", None)
        if carry_out is None:
            return Done(operation, SKIPPED, why=f"unknown operation {verb}: data/README.md lists the words")
        process = self.host.processes.get(operation.process)
        if process is None and operation.process != OUTSIDE:
            return Done(operation, SKIPPED, why=f"no process {operation.process}: fork it first")
        self.process = process or self.host.process
        self.handles = self._handles.setdefault(operation.process, {})
        if process is not None and process.asleep() and verb != "exit":
            return Done(operation, SKIPPED, why=f"the process is busy: {process.asleep()}")
        mark = len(self.host.log.calls)
        self.output: dict[str, Any] = {}
        done = Done(operation, "0")
        try:
            done.result = str(carry_out(operation) or 0)
            if self.process.asleep() and process is not None:
                done.result, done.why, done.write = BLOCKS, self.process.asleep(), self.process.write
        except VfioError as error:
            done.result, done.why, done.either, done.refused = error.name, error.why, error.either, error
        except KernelCrashError as error:
            done.result, done.why, done.either, done.refused = CRASH, str(error), error.either, error
        except _Skip as error:
            done.result, done.why = SKIPPED, str(error)
        except WouldBlockError as error:
            done.result, done.why = BLOCKS if self.process.asleep() and process is not None else SKIPPED, str(error)
        except NotModelledError as error:
            done.result, done.why = UNANSWERED, str(error)
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(
                f"cannot carry out {operation.text!r}: {error}", line=operation.line, advice="see the arguments in data/README.md"
            ) from error
        done.output = {**(self.host.log.calls[-1].output if len(self.host.log.calls) > mark else {}), **self.output}
        done.events = self._events_since(mark)
        return done

    def _events_since(self, mark: int) -> list[Event]:
        return [event for call in self.host.log.calls[mark:] for event in call.events]

    # arguments

    def _number(self, word: str) -> int:
        return number(word, self.host.machine.arena.base)

    def _args(self, operation: Operation, *names: str) -> dict[str, Any]:
        """Return arguments as the structs hold them: 64 bits, or 32 where the field is that wide."""
        given = {name: self._number(operation.args[name]) for name in names if name in operation.args}
        return {name: value % U32 if name in FIELDS_OF_32_BITS else value for name, value in given.items()}

    def _new(self, operation: Operation) -> str:
        name = operation.names[0]
        if name in self.handles:
            raise _Skip("handle in use")
        return name

    def _handle(self, operation: Operation, place: int = 0) -> Descriptor:
        name = operation.names[place]
        if name not in self.handles:
            raise _Skip("no such handle")
        return self.handles[name]

    def _held(self, kind: type[Kind], operation: Operation, place: int = 0) -> Kind:
        """Return a descriptor of some kind. One of another kind is asked for an ioctl that it does not have: the kernel says so."""
        handle = self._handle(operation, place)
        if isinstance(handle, kind):
            return handle
        handle.ioctl(UNKNOWN_IOCTL)
        raise AssertionError("an unknown ioctl is refused")

    # operations

    def _do_open_container(self, o: Operation) -> None:
        name = self._new(o)
        path = o.args.get("path", CONTAINER_NODE)
        self.handles[name] = self.process.open_container() if path == CONTAINER_NODE else Descriptor(self.process)

    def _do_open_group(self, o: Operation) -> None:
        name, device = self._new(o), o.args.get("dev")
        if device is not None and device not in self.host.drivers.noiommu and self.host.group_of(device) is None:
            raise _Skip("device has no iommu_group")
        self.handles[name] = self.process.open_group(device if device is not None else o.args["grp"])

    def _do_close(self, o: Operation) -> None:
        handle = self._handle(o)
        del self.handles[o.names[0]]
        handle.close()

    _do_close_container = _do_close_group = _do_close_device = _do_close_iommufd = _do_close

    def _do_group_status(self, o: Operation) -> None:
        self._held(Group, o).get_status(**self._args(o, "argsz"), ptr=o.args.get("ptr", "good"))

    def _do_set_container(self, o: Operation) -> None:
        group = self._held(Group, o)
        if "fd" in o.args:
            group.set_container(self._number(o.args["fd"]) % U32)
            return
        other = self._handle(o, 1)
        group.set_container(other if isinstance(other, Container) else other.fd)

    def _do_unset_container(self, o: Operation) -> None:
        self._held(Group, o).unset_container()

    def _do_set_iommu(self, o: Operation) -> None:
        self._held(Container, o).set_iommu(self._number(o.args.get("type", "1")))

    def _do_check_extension(self, o: Operation) -> int:
        return self._held(Container, o).check_extension(self._number(o.args.get("ext", "1")))

    def _do_get_api_version(self, o: Operation) -> int:
        return self._held(Container, o).get_api_version()

    def _do_get_info(self, o: Operation) -> int:
        container = self._held(Container, o)
        asked = o.args.get("argsz", "auto")
        writable = o.args.get("ptr", "good") != "readonly"
        info = container.get_info(24 if asked == "auto" else self._number(asked) % U32, writable=writable)
        if asked == "auto" and info.argsz > 24:
            container.get_info(info.argsz, writable=writable)
        return self.host.log.calls[-1].value

    def _do_map(self, o: Operation) -> None:
        container = self._held(Container, o)
        args = {"iova": 0, "size": 0, "vaddr": self.host.machine.arena.base} | self._args(o, "iova", "size", "vaddr", "argsz")
        flags = self._map_flags(o.args.get("flags", "rw")) % U32
        container.map_dma(**args, flags=flags, ptr=o.args.get("ptr", "good"), name=o.args.get("name", ""))

    def _map_flags(self, word: str) -> int:
        if word and set(word) <= MAP_FLAGS.keys():
            return sum(MAP_FLAGS[letter] for letter in set(word))
        return self._number(word) if word else 0

    def _do_unmap(self, o: Operation) -> None:
        flags = o.args.get("flags", "0")
        self._held(Container, o).unmap_dirty(
            **self._args(o, "iova", "size", "argsz", "bm_pgsize", "bm_size"),
            flags=2 if flags == "all" else self._number(flags) % U32,
            ptr=o.args.get("ptr", "good"),
        )

    def _do_dirty(self, o: Operation) -> None:
        args = {"flags": 1} | self._args(o, "flags", "argsz", "iova", "size", "bm_pgsize", "bm_size")
        self._held(Container, o).dirty_pages(**args, ptr=o.args.get("ptr", "good"))

    def _do_get_device_fd(self, o: Operation) -> None:
        name = self._new(o)
        group = self._held(Group, o, 1)
        self.handles[name] = group.get_device_fd(o.args["name"])

    def _do_device_info(self, o: Operation) -> None:
        self._held(Device, o).get_info(**self._args(o, "argsz"), ptr=o.args.get("ptr", "good"))

    def _do_region_info(self, o: Operation) -> None:
        self._held(Device, o).get_region_info(**{"index": 0} | self._args(o, "index", "argsz"), ptr=o.args.get("ptr", "good"))

    def _do_irq_info(self, o: Operation) -> None:
        self._held(Device, o).get_irq_info(**{"index": 0} | self._args(o, "index", "argsz"), ptr=o.args.get("ptr", "good"))

    def _do_device_feature(self, o: Operation) -> None:
        self._held(Device, o).feature(**{"flags": 0} | self._args(o, "flags", "argsz"), ptr=o.args.get("ptr", "good"))

    def _do_device_reset(self, o: Operation) -> None:
        self._held(Device, o).reset()

    def _do_mmapdev(self, o: Operation) -> None:
        device = self._held(Device, o)
        args = {"region": 0, "size": 4096, "vaddr": self.host.machine.arena.base} | self._args(o, "region", "size", "vaddr")
        device.mmap(**args, offset=self._number(o.args.get("off", "0")))

    def _do_pwrite(self, o: Operation) -> int:
        device = self._held(Device, o)
        args = {name: self._number(o.args.get(name, "0")) for name in ("region", "off", "len", "val")}
        if args["region"] == CONFIG:
            device.write_config(args["off"], args["val"], args["len"])
        return args["len"]

    # iommufd

    def _do_open_iommufd(self, o: Operation) -> None:
        self.handles[self._new(o)] = self.process.open_iommufd()

    def _do_iommufd(self, o: Operation) -> None:
        """Carry out an ioctl of an iommufd: its arguments are the fields of its struct."""
        fd, kind = self._held(Iommufd, o), VERBS[o.verb].kind
        fields: dict[str, Any] = {name: self._number(o.args[name]) % (1 << bits) for name, bits in kind.FIELDS if name in o.args}
        fields |= {name: o.args[name] for name in ("ptr", "name") if name in o.args}
        if "beyond" in o.args:
            fields["beyond"] = bool(self._number(o.args["beyond"]))
        if "room" in o.args:
            fields["room"] = self._number(o.args["room"])
        if o.args.get("ranges"):
            pairs = [pair.split("-") for pair in o.args["ranges"].split(",")]
            fields["ranges"] = tuple((self._number(first), self._number(last)) for first, last in pairs)
        fd.ask(o.verb, kind(**fields))

    _do_iommufd_destroy = _do_ioas_alloc = _do_ioas_allow_iovas = _do_ioas_copy = _do_ioas_iova_ranges = _do_iommufd
    _do_ioas_map = _do_ioas_unmap = _do_iommufd_option = _do_vfio_ioas = _do_hwpt_alloc = _do_iommufd

    def _do_open_cdev(self, o: Operation) -> None:
        self.handles[self._new(o)] = self.process.open_cdev(o.args["dev"])

    def _do_bind_iommufd(self, o: Operation) -> None:
        fd = _signed(self._number(o.args["iommufd"])) if "iommufd" in o.args else self._handle(o, 1).fd
        self._held(Device, o).bind_iommufd(fd, **self._args(o, "argsz", "flags"), ptr=o.args.get("ptr", "good"))

    def _do_attach_pt(self, o: Operation) -> None:
        args = self._args(o, "argsz", "flags")
        self._held(Cdev, o).attach(self._number(o.args.get("pt_id", "0")) % U32, **args, ptr=o.args.get("ptr", "good"))

    def _do_detach_pt(self, o: Operation) -> None:
        self._held(Cdev, o).detach(**self._args(o, "argsz", "flags"), ptr=o.args.get("ptr", "good"))

    def _do_set_irqs(self, o: Operation, **defaults: int) -> None:
        args = {"index": 1} | defaults | self._args(o, "index", "start", "count", "flags", "argsz")
        words = o.args["evfd"].split(",") if "evfd" in o.args else []
        each = [None if word == "new" else _signed(self._number(word)) for word in words]
        evfd = each if len(each) > 1 else each[0] if each else None
        self._held(Device, o).set_irqs(**args, evfd=evfd, value=self._number(o.args.get("vals", "1")), ptr=o.args.get("ptr", "good"))

    def _do_set_irqs2(self, o: Operation) -> None:
        self._do_set_irqs(o, flags=IRQ_DATA[o.args.get("data", "none")] | IRQ_ACTION[o.args.get("action", "trigger")])

    # what devices do

    def _irqs(self, o: Operation) -> IrqState:
        return self.process.irqs.get(o.names[0], IrqState())

    def _do_dma_write(self, o: Operation) -> None:
        iova, data, size = (self._number(o.args.get(name, default)) for name, default in (("iova", "0"), ("data", "0"), ("size", "4")))
        delivery.write(self.host, o.names[0], iova, data, size, irqs=self._irqs(o))

    def _do_dma_read(self, o: Operation) -> None:
        delivery.read(self.host, o.names[0], self._number(o.args.get("iova", "0")), self._number(o.args.get("size", "4")))

    def _do_raise_msi(self, o: Operation) -> None:
        delivery.raise_msi(self.host, o.names[0], self._irqs(o), self._number(o.args.get("vector", "0")))

    # processes

    def _do_fork(self, o: Operation) -> None:
        name = o.names[0]
        if name in self.host.processes:
            raise _Skip("the name of the process is in use")
        child = self.process.fork(name)
        self._handles[name] = {handle: child.descriptors[one.fd] for handle, one in self.handles.items()}  # type: ignore[misc] # handles are descriptors

    def _do_receive(self, o: Operation) -> None:
        name, giver = self._new(o), o.args.get("from", "")
        if name not in self._handles.get(giver, {}):
            raise _Skip("no such handle")
        self.handles[name] = self.process.receive(self._handles[giver][name])

    def _child(self, o: Operation) -> UserProcess:
        if o.names[0] not in self.host.processes:
            raise _Skip("no such process")
        return self.host.processes[o.names[0]]

    def _do_kill(self, o: Operation) -> None:
        child = self._child(o)
        if child.asleep():
            why = f"process {child} does not die: {child.asleep()}"
            raise VfioError("EBUSY", why, "vfio_unregister_group_dev", "end what it waits for")
        child.exit()

    def _do_wait(self, o: Operation) -> None:
        self.output["answered"] = not self._child(o).asleep()

    def _do_exit(self, _: Operation) -> None:
        self.process.exit()
        self.handles.clear()

    def _do_new_process(self, o: Operation) -> None:
        name = o.names[0] if o.names else ""
        if name in self.host.processes:
            raise _Skip("the name of the process is in use")
        self.host.new_process(name)
        self._handles[name] = {}

    # drivers

    def _do_sysfs(self, o: Operation) -> None:
        match = SYSFS_WRITE.fullmatch(o.args.get("path", ""))
        if match is None or "value" not in o.args:
            raise NotModelledError(f"only bind, unbind, remove and rescan of PCI devices are carried out, not {o.args.get('path')}")
        device, driver = match[1] or o.args["value"], match[2]
        if match[3] == "rescan":
            self.process.rescan()
        elif match[3] == "bind":
            self.process.bind(device, driver or "vfio-pci")
        elif match[1] is None and device not in self.host.drivers:
            raise VfioError("ENODEV", f"there is no device {device}", "sysfs: /sys/bus/pci/devices", "list the devices")
        elif match[3] == "remove":
            self.process.remove(device)
        else:
            self.process.unbind(device)

    def _driver_writer(self, o: Operation) -> Host | UserProcess:
        """Return who binds and unbinds: a process that was named, else somebody outside who does not sleep.

        A process that waits for its own descriptor of the device would wait for ever: left out, as the recorder did.
        """
        if o.process in ("", OUTSIDE):
            return self.host
        if any(isinstance(handle, Device) and handle.name == o.args["dev"] for handle in self.handles.values()):
            raise _Skip("would block: the process's own descriptor of the device is open")
        return self.process

    def _do_bind(self, o: Operation) -> None:
        self._driver_writer(o).bind(o.args["dev"], o.args.get("drv", "vfio-pci"))

    def _do_unbind(self, o: Operation) -> None:
        if o.args["dev"] in self.host.drivers:
            self._driver_writer(o).unbind(o.args["dev"])

    def _do_rlimit_memlock(self, o: Operation) -> None:
        limit = -1 if o.names[0].startswith("-") else self._number(o.names[0])
        self.process.set_memlock(None if limit < 0 else limit)

    def _do_drop_cap(self, o: Operation) -> None:
        capability, keep = self._number(o.args.get("cap", "14")), "keep" in o.args
        if "restore" not in o.args:
            self.process.drop_capability(capability, keep=keep)
        elif keep:
            self.process.restore_capability(capability)
        else:
            raise VfioError(
                "EPERM", "a capability that is given up for good cannot be effective", "cap_capset, security/commoncap.c", "keep it"
            )

    def _do_status(self, _: Operation) -> None:
        self.output["VmLck_kB"] = self.process.locked_pages * self.process.page_size // 1024

    def _do_param(self, o: Operation) -> None:
        name = f"{o.args.get('mod', 'vfio_iommu_type1')}.{o.args['name']}"
        self.output["value"] = ""
        if "value" in o.args:
            self.host.set_param(name, o.args["value"])
        self.output["value"] = self.host.get_param(name)

    def _do_mem(self, o: Operation) -> None:
        kind = o.args.get("kind", "anon")
        prot = "hole" if kind == "hole" else o.args.get("prot", "rw")
        self.process.remap(self._number(o.args["vaddr"]), self._number(o.args["size"]), prot, populate=kind == "populate")

    def _do_raw_ioctl(self, o: Operation) -> int:
        return self._handle(o).ioctl(self._number(o.args.get("cmd", "0")), self._number(o.args.get("arg", "0")))


def run(questions: Iterable[Iterable[Operation]], machine: Machine, boot: Boot = AS_THE_MACHINE_SAYS) -> list[list[Done]]:
    """Carry out the operations of each scenario, on a fresh host each; there is no answer here to look at (`readers.trace.questions`).

    `boot`: how the machine is booted, as `readers.trace.boot_of` reads it. ValueError for a design of doorbells, which no Linux has.
    """
    if boot.doorbells:
        raise ValueError(f"the doorbells were those of the design {boot.doorbells}, which no Linux has: its hosts are the debate's own")
    return [Client(machine.host(boot.kernel, boot.options)).run(operations) for operations in questions]


def _signed(number: int) -> int:
    """Return the C int in the low 32 bits."""
    return (number % U32 + I32) % U32 - I32


def number(word: str, arena: int) -> int:
    """Read a number of a trace: decimal, 0x hex, or @ and an offset into the arena; negative ones wrap to 64 bits."""
    if word.startswith("@"):
        return (arena + number(word[1:], 0)) % U64
    return (int(word, 10) if word.lstrip("-").isdecimal() else int(word, 0)) % U64
