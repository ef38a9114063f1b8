"""The user's process with the calls that open VFIO's files, fork, and write to sysfs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NoReturn

from vfiolab.model.address import Span
from vfiolab.model.backends.compat import Compat
from vfiolab.model.backends.protocol import Server
from vfiolab.model.checks import table
from vfiolab.model.errors import WouldBlockError
from vfiolab.model.events import Call
from vfiolab.model.irq.msi import IrqState
from vfiolab.model.uapi.requests import CAP_IPC_LOCK, CAP_SYS_RAWIO, field, word
from vfiolab.model.user.checks import CAPABILITY_CHECKS, DESCRIPTOR_CHECKS, NODE_CHECKS, OPEN_GROUP_CHECKS, GivenUp, Node, OpenGroup, Used
from vfiolab.model.user.container import Container, Group
from vfiolab.model.user.descriptor import Descriptor
from vfiolab.model.user.drivers import UserSystem, Waiting
from vfiolab.model.user.files import CdevFile, ContainerFile, GroupFile
from vfiolab.model.user.iommufd import Cdev, Iommufd
from vfiolab.model.user.process import FIRST_FD, Memory, Process


class UserProcess(Process):
    """The user's process, with the calls that open VFIO's files.

    `name` is "" for the first process of a host, else what `fork` or `Host.new_process` called it. `write` is its last write to sysfs,
    `stuck` why it sleeps for ever in a call. `eventfds`: the numbers that lead to a program's own eventfds, as far as somebody knows them;
    `copy_out` puts bytes at an address of the process's memory, and says whether it could: here they go nowhere.

    >>> from vfiolab.model.builder import MachineBuilder
    >>> m = MachineBuilder("demo")
    >>> m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    >>> process = m.host(kernel="6.12").process
    >>> container = process.open_container()
    >>> child = process.fork("P")
    >>> child.descriptors[container.fd].file is container.file
    True
    """

    def __init__(
        self, system: UserSystem, new_server: Callable[[UserSystem], Server], memory: Memory, memlock: int | None, name: str = ""
    ) -> None:
        super().__init__(system.log, memory, memlock, system.core.page_size, name)
        self.system = system
        self.write: Waiting | None = None
        self.stuck = ""
        self.eventfds: frozenset[int] = frozenset()
        self.copy_out: Callable[[int, bytes], bool] = lambda _address, _data: True
        self._new_server = new_server

    @property
    def irqs(self) -> dict[str, IrqState]:
        """What is enabled on each open device of the host."""
        return {name: state.irqs for name, state in self.system.drivers.states.items()}

    def call(self, verb: str, target: str = "", **args: object) -> Call:
        """Record a call of this process for the length of a `with` block."""
        return Call(verb, target, args, self.name, self.log)

    def holds(self, fd: int) -> bool:
        """Say whether a descriptor is open; 0 to 2 are ordinary files."""
        return fd in self.descriptors or 0 <= fd < FIRST_FD

    def asleep(self) -> str:
        """Say what the process waits for in a call; "" if it is awake or has ended."""
        return "" if self.exited else self.stuck or (self.write.why if self.write is not None else "")

    def need_awake(self) -> None:
        """Raise WouldBlockError while the process sleeps in a call: it can make no other."""
        if self.asleep():
            raise WouldBlockError(f"process {self} sleeps: {self.asleep()}")

    def sleep_for_ever(self, why: str) -> None:
        """Sleep in the call that is running and never return from it: WouldBlockError."""
        self.stuck = why
        raise WouldBlockError(why)

    def fork(self, name: str) -> UserProcess:
        """Return a child with the same memory and limits: it shares every open file and has descriptors, locked memory and fate of its own.

        ValueError for a name that a living process has, or that is no word of ASCII letters, digits and _ that begins with no digit.
        """
        self.need_awake()
        if not (word("name", name).isascii() and name.isidentifier()) or name in self.system.processes:
            raise ValueError(
                f"a child's name is a word of ASCII letters, digits and _ that begins with no digit and is no other process's, not {name!r}"
            )
        with self.call("fork", name):
            child = UserProcess(self.system, self._new_server, self.memory.copied(), self.memlock, name)
            child.capabilities, child.permitted = set(self.capabilities), set(self.permitted)
            for number, descriptor in self.descriptors.items():
                assert isinstance(descriptor, Descriptor)
                child.descriptors[number] = descriptor.inherited(child)
            for bar in {id(bar): bar for bar in child.memory.bars()}.values():
                bar.references += 1
            self.system.processes[name] = child
            return child

    def receive(self, descriptor: Descriptor) -> Descriptor:
        """Get a descriptor of the same open file from another process (SCM_RIGHTS); return it, with a number of this process.

        EBADF if the other process has closed it.
        """
        self.need_awake()
        if not descriptor.is_open:
            descriptor.process.refuse_descriptor(descriptor.fd)
        with self.call("receive", f"fd{descriptor.fd}", giver=descriptor.process.name) as call:
            twin = descriptor.inherited(self)
            descriptor.file.references -= 1  # `install` counts it
            twin.fd = call.args["fd"] = self.install(twin)
            return twin

    # sysfs

    def unbind(self, device: str) -> Waiting:
        """Write to a driver's `unbind`; the process sleeps while somebody has the device open. `Waiting.done` says whether it returned."""
        return self._write("unbind", self.system.drivers.unbinding(device), device)

    def bind(self, device: str, driver: str = "vfio-pci") -> Waiting:
        """Bind through driver_override; the present driver's unbinding may sleep, as `unbind`."""
        return self._write("bind", self.system.drivers.binding(device, driver), device, drv=driver)

    def remove(self, device: str) -> Waiting:
        """Write to a device's `remove`: it is unbound and leaves its bus. Other removes and rescans sleep meanwhile."""
        return self._write("remove", self.system.drivers.removing(device), device, removes=True)

    def rescan(self) -> None:
        """Write to the bus's `rescan`: removed devices come back, with the driver that they had at boot. Sleeps while a `remove` does."""
        self.need_awake()
        with self.call("rescan"):
            self._need_rescan_lock()
            self.system.add_removed()

    def _need_rescan_lock(self) -> None:
        holder = next((write for write in self.system.drivers.waiting if write.removes), None)
        if holder is not None:
            self.sleep_for_ever(f"the lock of remove and rescan is held: {holder.why} (pci_lock_rescan_remove)")

    def _write(self, verb: str, steps: Iterator[str], device: str, *, removes: bool = False, **args: object) -> Waiting:
        self.need_awake()
        with self.call(verb, "", dev=device, **args) as call:
            self.system.drivers.driver_of(device)
            if removes:
                self._need_rescan_lock()
            write = self.write = self.system.drivers.start(steps, removes=removes)
            if not removes:
                call.output = {"driver": self.system.drivers.driver_of(device)}
            if write.error is not None:
                raise write.error
            if not write.done:
                call.died = "blocks"
            return write

    def open_container(self) -> Container:
        """Open /dev/vfio/vfio: anyone may."""
        self.need_awake()
        with self.call("open_container") as call:
            server = self._new_server(self.system)
            container = (Iommufd if self.system.has_iommufd else Container)(self, ContainerFile(server))
            call.args["fd"] = container.fd
            return container

    def open_iommufd(self) -> Iommufd:
        """Open /dev/iommu (6.2 and later). ENOENT where the kernel has none. A reading, as all that such a descriptor does.

        >>> import vfiolab as vl
        >>> process = vl.load("intel-vtd-iommufd").process
        >>> fd = process.open_iommufd()
        >>> ioas = fd.ioas_alloc()
        >>> hex(fd.ioas_map(ioas, process.mmap(0x20_0000), 0x20_0000))
        '0x200000'
        """
        self.need_awake()
        with self.call("open_iommufd") as call:
            fix = "take a machine whose /dev/vfio/vfio is iommufd's"
            table(NODE_CHECKS, self.system.kernel).run(Node("" if self.system.has_iommufd else "this kernel has no /dev/iommu", fix))
            opened = Iommufd(self, ContainerFile(Compat(self.system, "user")), "iommufd")
            call.args["fd"] = opened.fd
            return opened

    def open_cdev(self, device: str) -> Cdev:
        """Open a device's own node, /dev/vfio/devices/vfioN (6.6 and later): it does nothing until it is tied to an iommufd. ENOENT. Read, not recorded.

        >>> import vfiolab as vl
        >>> host = vl.load("intel-vtd-iommufd")
        >>> host.bind("0000:01:00.0")
        >>> fd, device = host.process.open_iommufd(), host.process.open_cdev("0000:01:00.0")
        >>> device.bind_iommufd(fd), device.attach(fd.ioas_alloc())
        (1, 3)
        """
        self.need_awake()
        with self.call("open_cdev", "", dev=device) as call:
            drivers, missing = self.system.drivers, ""
            drivers.driver_of(device)
            if not self.system.has_cdevs:
                missing = "devices have no nodes of their own here"
            elif not drivers.on_vfio(device) or device in drivers.noiommu:
                missing = f"{device} has no node of its own: it is not on a VFIO driver, or has no IOMMU"
            elif drivers.hides(device):
                missing = f"{device} has no node of its own any more: it is being unbound"
            table(NODE_CHECKS, self.system.kernel).run(Node(missing, f"bind {device} to vfio-pci, on a kernel with iommufd from 6.6 on"))
            opened = Cdev(self, CdevFile(drivers, drivers.holder(device), device))
            call.args["fd"] = opened.fd
            call.output = {"node": f"vfio{drivers.nodes[device]}"} if device in drivers.nodes else {}
            return opened

    def open_group(self, group: int | str) -> Group:
        """Open /dev/vfio/N by number, or the group of a device. ENOENT (no such node), EBUSY (open already), EPERM (a no-IOMMU group, without CAP_SYS_RAWIO)."""
        self.need_awake()
        with self.call("open_group", str(group)) as call:
            asked = self._node(group)
            table(OPEN_GROUP_CHECKS, self.system.kernel).run(asked)
            vfio = asked.vfio
            assert vfio is not None, "a node that does not exist is refused"
            opened = Group(self, GroupFile(self.system.drivers, vfio))
            call.args["fd"] = opened.fd
            call.output = {"group": f"noiommu-{vfio.id}" if vfio.noiommu else vfio.id}
            return opened

    def _node(self, group: int | str) -> OpenGroup:
        """Look a node up: by number, by its name in no-IOMMU mode, or by a device of its group."""
        drivers, rawio = self.system.drivers, CAP_SYS_RAWIO in self.capabilities
        if isinstance(group, str) and group.startswith("noiommu-"):
            unprotected = next((vfio for vfio in drivers.noiommu.values() if f"noiommu-{vfio.id}" == group), None)
            return OpenGroup(unprotected, rawio, f"/dev/vfio/{group} does not exist", "bind a device to vfio-pci in no-IOMMU mode first")
        if isinstance(group, str) and not (group.isascii() and group.isdecimal() and len(group) <= 20):
            drivers.driver_of(group)
            of = self.system.core.group_of(group)
            where = (
                f"/dev/vfio/{of.id} does not exist: no device of the group is on a VFIO driver" if of else f"{group} is in no IOMMU group"
            )
            return OpenGroup(
                drivers.groups.get(of.id) if of else drivers.noiommu.get(group), rawio, where, f"bind {group} to vfio-pci first"
            )
        number = field("group", int(group) if isinstance(group, str) else group, 32)
        where = f"/dev/vfio/{number} does not exist: no device of such a group is on a VFIO driver"
        return OpenGroup(drivers.groups.get(number), rawio, where, "bind its devices to vfio-pci first")

    def refuse_descriptor(self, fd: int, whose: str = "") -> NoReturn:
        """Raise EBADF for a descriptor that is closed, or not this process's."""
        table(DESCRIPTOR_CHECKS, self.system.kernel).run(Used(fd, whose))
        raise AssertionError("one of the two is so")

    def set_memlock(self, limit: int | None) -> None:
        """Set the soft RLIMIT_MEMLOCK in bytes; None for unlimited."""
        self.need_awake()
        if limit is not None:
            limit = field("limit", limit)
        with self.call("rlimit_memlock", "-1" if limit is None else f"{limit:#x}"):
            self.memlock = limit

    def mmap(self, size: int) -> int:
        """Allocate `size` bytes of memory that is there from the start (mmap with MAP_POPULATE); return its address."""
        place = self.memory.next_place(field("size", size))
        self.remap(place.start, place.size, populate=True)
        return place.start

    def remap(self, vaddr: int, size: int, prot: str = "rw", *, populate: bool = False) -> None:
        """Put memory at `vaddr` (mmap with MAP_FIXED); prot: rw, r, none, or hole for nothing.

        `populate`: its pages are there from the start; else one that nobody has written yet reads as the kernel's page of zeros.
        """
        place = Span.sized(field("vaddr", vaddr), field("size", size))
        if prot not in ("rw", "r", "none", "hole"):
            raise ValueError(f"memory is rw, r, none or hole, not {prot!r}")
        self.need_awake()
        with self.call("mem", "", vaddr=place.start, size=place.size, prot=prot, kind="populate" if populate else None):
            self.place(place, prot, fresh=prot in ("rw", "r") and not populate)

    def drop_capability(self, number: int = CAP_IPC_LOCK, *, keep: bool = True) -> None:
        """Do without a capability; 14 is CAP_IPC_LOCK, 17 CAP_SYS_RAWIO. keep=False gives it up for good."""
        self.need_awake()
        number = field("capability", number, 32)
        with self.call("drop_cap", "", cap=number, keep=None if keep else 0):
            self.capabilities.discard(number)
            if not keep:
                self.permitted.discard(number)

    def restore_capability(self, number: int = CAP_IPC_LOCK) -> None:
        """Take a capability back; EPERM if it was given up for good."""
        self.need_awake()
        number = field("capability", number, 32)
        with self.call("drop_cap", "", cap=number, restore=1):
            table(CAPABILITY_CHECKS, self.system.kernel).run(GivenUp(number, number not in self.permitted))
            self.capabilities.add(number)

    def exit(self) -> None:
        """End the process: every descriptor closes, in the kernel's order; a file that another process holds stays open."""
        with self.call("exit"):
            super().exit()
            self.system.processes.pop(self.name, None)

    def __str__(self) -> str:
        return self.name or "(the first)"

    def _check(self) -> None:
        for number, file in self.descriptors.items():
            assert isinstance(file, Descriptor)
            assert file.fd == number
            assert file.file.references > 0
            if isinstance(file, Container):
                file.server._check()
        assert self.locked_pages >= 0
