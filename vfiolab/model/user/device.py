"""The descriptor of an open device: what it tells, interrupts, resets, BARs (drivers/vfio/pci)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from vfiolab.model.address import Span
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.iommufd import Context
from vfiolab.model.checks import table
from vfiolab.model.errors import NotModelledError, VfioError
from vfiolab.model.events import Call
from vfiolab.model.irq import msi
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.bars import Bar, bars_of
from vfiolab.model.pci.topology import Function
from vfiolab.model.uapi.ioctls import NUMBERS, Ioctl
from vfiolab.model.uapi.iommufd import AttachPt, BindIommufd, DetachPt
from vfiolab.model.uapi.requests import (
    DeviceFeature,
    DeviceInfo,
    HotReset,
    HotResetInfo,
    IrqInfo,
    IrqSet,
    PciDependent,
    RegionInfo,
    field,
    pointer,
    signed,
)
from vfiolab.model.user import vfio_pci
from vfiolab.model.user.checks import BIND_IOMMUFD_CHECKS, STRUCT_CHECKS
from vfiolab.model.user.descriptor import Descriptor, put
from vfiolab.model.user.files import CdevFile, ContainerFile, DeviceFile

if TYPE_CHECKING:
    from vfiolab.model.user.container import Container, Group

MOST_ON_A_BUS = 2048
FEATURE, IOEVENTFD = 0x3B75, 0x3B74
#: The newest kernel whose cdev calls were read. The header of 7.2 has a flag 1 for BIND (a token), ATTACH and DETACH (a PASID).
CDEV_READ = (6, 14)
Asking = TypeVar("Asking", bound=DeviceInfo | RegionInfo | IrqInfo)
#: What a log shows of the answers to the three questions.
TOLD = {DeviceInfo: ("flags", "num_regions", "num_irqs"), RegionInfo: ("flags", "size", "offset", "cap_ids"), IrqInfo: ("flags", "count")}


def need_known_flag(request: BindIommufd | AttachPt | DetachPt, kernel: Kernel) -> None:
    """Refuse to answer for flag 1 of a kernel that may know it: up to 6.14 it is EINVAL, later ones were not read."""
    if request.ptr == "good" and request.argsz >= request.MINIMUM and request.flags == 1 and kernel.version > CDEV_READ:
        raise NotModelledError(f"flag 1 of {request.NAME}: a token or a PASID, which came after the kernels that were read")


class Device(Descriptor):
    """A descriptor of an open device."""

    file: DeviceFile

    @property
    def name(self) -> str:
        """Address of the device."""
        return self.file.name

    @property
    def vfio(self) -> VfioGroup:
        """The kernel's VFIO object of the device's group."""
        return self.file.vfio

    @property
    def irqs(self) -> msi.IrqState:
        """What is enabled on the device, shared by all its descriptors."""
        return self.file.state.irqs

    @property
    def function(self) -> Function:
        """The PCI function; an emulated device is none, and what its driver answers is not modelled."""
        if self.vfio.group.emulated:
            raise NotModelledError(f"{self.name} is an emulated device, no PCI function: its own driver answers")
        return self.process.system.drivers.topology[self.name]

    def _call(self, verb: str, **args: object) -> AbstractContextManager[Call]:
        """Record a call on the device."""
        return self.process.call(verb, f"fd{self.fd}", **args)

    def get_info(self, argsz: int = 20, *, ptr: str = "good") -> DeviceInfo:
        """DEVICE_GET_INFO: flags (1 it can be reset, 2 it is a PCI device), how many regions and interrupt types it has."""
        return self._ask("device_info", DeviceInfo(argsz, ptr=ptr))

    def get_region_info(self, index: int, *, argsz: int = 32, ptr: str = "good") -> RegionInfo:
        """DEVICE_GET_REGION_INFO: 0-5 the BARs, 6 the ROM, 7 config space, 8 VGA. EINVAL for others, and for VGA on a device that has none."""
        return self._ask("region_info", RegionInfo(argsz, index=index, ptr=ptr))

    def get_irq_info(self, index: int, *, argsz: int = 16, ptr: str = "good") -> IrqInfo:
        """DEVICE_GET_IRQ_INFO: flags (1 eventfd, 2 maskable, 4 automasked, 8 not resizable) and the number of vectors.

        EINVAL for a type that the device does not have.
        """
        return self._ask("irq_info", IrqInfo(argsz, index=index, ptr=ptr))

    def _ask(self, verb: str, asked: Asking) -> Asking:
        """Answer one of the three questions: the struct, filled in."""
        kernel = self.process.system.kernel
        with self._brings(verb, asked) as call:
            table(STRUCT_CHECKS, kernel).run(asked)
            info: Any
            if isinstance(asked, DeviceInfo):
                info = vfio_pci.device_info(self.process.system.drivers.topology, self.function)
            elif isinstance(asked, RegionInfo):
                info = vfio_pci.region_info(kernel, self.function, self.bars, asked.index)
            else:
                info = vfio_pci.irq_info(kernel, self.function, asked.index, dynamic=self._dynamic(asked.index))
            call.output = {name: getattr(info, name) for name in TOLD[type(asked)]}
            info.argsz = asked.argsz
            answer: Asking = info
            return answer

    @property
    def bars(self) -> tuple[Bar, ...]:
        """The BARs, as the machine file has them or assumed by class."""
        return bars_of(self.function, self.process.system.bars.get(self.name, ()))

    def close(self) -> None:
        """Close the descriptor. On a kernel whose bus reset waits for the unbinder, it may never return: WouldBlockError."""
        self._need_open()
        last = self.file.references == 1 and self.vfio.devices_open[self.name] == 1
        why = self.file.drivers.close_sleeps(self.name) if last else ""
        if why:
            with self.process.call("close_device", f"fd{self.fd}"):
                self.process.sleep_for_ever(why)
        super().close()

    @property
    def _controller(self) -> msi.InterruptController | None:
        host = self.process.system.interrupts
        return host.of(self.name) if host is not None else None

    def _dynamic(self, index: int) -> bool:
        return msi.is_dynamic(self.process.system.kernel, self._controller, self.function, index)

    def set_irqs(
        self,
        index: int,
        start: int = 0,
        count: int = 1,
        flags: int | None = None,
        *,
        argsz: int | None = None,
        evfd: int | Sequence[int | None] | None = None,
        value: int = 1,
        ptr: str = "good",
    ) -> None:
        """DEVICE_SET_IRQS: index 0 INTx, 1 MSI, 2 MSI-X, 3 ERR, 4 REQ; without flags, an eventfd each, and count 0 disables.

        flags: one kind of data (1 none, 2 bools, 4 eventfds) and one action (8 mask, 16 unmask, 32 trigger). `evfd`: one descriptor
        for all vectors in place of fresh eventfds (-1 takes theirs away), or a list with one for each (None: a fresh one); `value`: what every
        bool says; `ptr`: good, bad, null, or cut (the data behind the struct cannot be read). EFAULT, EINVAL, ENOTTY, EBADF, EBUSY,
        ERANGE, ENOSPC as `msi.IRQ_CHECKS` and the tables behind it list them. A block that fails half-way leaves its vectors masked.
        """
        self._need_open()
        index, start, count = field("index", index, 32), field("start", start, 32), field("count", count, 32)
        given: dict[str, object] = {
            "flags": flags,
            "argsz": argsz,
            "evfd": evfd,
            "vals": value if value != 1 else None,
            "ptr": ptr if ptr != "good" else None,
        }
        flags = (msi.TRIGGER_EVENTFD if count else msi.DISABLE) if flags is None else field("flags", flags, 32)
        argsz = msi.irq_set_size(flags, count) if argsz is None else field("argsz", argsz, 32)
        listed = evfd if isinstance(evfd, Sequence) else None
        each = tuple(map(self._eventfd, listed or ()))
        if each and len(each) != count:
            raise ValueError(f"evfd lists {len(each)} descriptors for {count} vectors")
        eventfd = None if isinstance(evfd, Sequence) else self._eventfd(evfd)
        listed_words = ",".join("new" if one is None else str(one.number) for one in each)
        given["evfd"] = listed_words or (eventfd.number if eventfd is not None else None)
        value, ptr = field("value", value, 8), ptr if ptr == "cut" else pointer(ptr)
        with self._call("set_irqs", index=index, start=start, count=count, **given):
            request = msi.IrqRequest(
                self.function, self.irqs, self._dynamic(index), index, start, count, flags, argsz, eventfd, bool(value), ptr, each
            )
            msi.set_irqs(self.process.system.core, self._controller, self.vfio.group, request)

    def _eventfd(self, number: int | None) -> msi.Eventfd | None:
        if number is None:
            return None
        number = signed("evfd", number)
        return msi.Eventfd(number, is_open=self.process.holds(number))

    def reset(self) -> None:
        """DEVICE_RESET: reset the function; EINVAL if it cannot be reset. Interrupts stay enabled."""
        self._need_open()
        with self._call("device_reset"):
            own = vfio_pci.can_be_reset(self.process.system.drivers.topology, self.function)
            table(vfio_pci.RESET_CHECKS, self.process.system.kernel).run(vfio_pci.Asked(self.function, int(own)))

    def get_hot_reset_info(self, argsz: int | None = None) -> list[vfio_pci.Dependent]:
        """DEVICE_GET_PCI_HOT_RESET_INFO: every function that a reset of the bus takes along.

        ENODEV (a root bus has no such reset), EPERM (one of them is in no group), ENOSPC (argsz too small).
        """
        self._need_open()
        argsz = None if argsz is None else field("argsz", argsz, 32)
        with self._call("hot_reset_info") as call:
            found = vfio_pci.hot_reset_info(self.process.system, self.function, argsz)
            call.output = {"count": len(found)}
            return found

    def hot_reset(self, *groups: Group) -> None:
        """DEVICE_PCI_HOT_RESET: reset the bus. Every affected device must be in one of the `groups`, open in this process.

        ENODEV (no such reset), EINVAL (a device of another group is affected, or one that no VFIO driver holds), EBADF (a closed group).
        """
        self._need_open()
        with self._call("hot_reset", groups=[group.id for group in groups]):
            for group in groups:
                if self.process.descriptors.get(group.fd) is not group:
                    self.process.refuse_descriptor(group.fd)
            vfio_pci.hot_reset(self.process.system, self.function, {group.id for group in groups})

    def mmap(self, region: int, size: int, vaddr: int, offset: int = 0) -> None:
        """Map a BAR's memory at `vaddr` (mmap, shared and fixed): `size` bytes from `offset`. EINVAL: no BAR, or past its end."""
        self._need_open()
        region, size, vaddr, offset = field("region", region, 32), field("size", size), field("vaddr", vaddr), field("off", offset)
        with self._call("mmapdev", region=region, size=size, vaddr=vaddr, off=offset or None):
            place = vfio_pci.mmap_place(self.process.system.kernel, self.bars, self.function, region, size, offset)
            self.process.place(Span.sized(vaddr, size), "rw", bar=self.file, physical=place)

    def write_config(self, offset: int, data: int, size: int = 2) -> None:
        """Write `size` bytes of config space. What has an effect here is the memory space bit of the command register (offset 4, bit 1)."""
        self._need_open()
        offset, data, size = field("off", offset, 32), field("val", data), field("len", size, 32)
        with self._call("pwrite", region=7, off=offset, len=size, val=data) as call:
            call.value = size
            if offset <= vfio_pci.COMMAND < offset + size:
                self.file.state.memory_space = bool(data >> 8 * (vfio_pci.COMMAND - offset) & vfio_pci.MEMORY_SPACE)

    def feature(self, flags: int, *, argsz: int = 8, ptr: str = "good") -> None:
        """DEVICE_FEATURE (5.7+): the number in the low 16 bits, 0x10000 get, 0x20000 set, 0x40000 probe.

        EFAULT, EINVAL, ENOTTY: vfio-pci itself has hardly any. NotModelledError for those that it has.
        """
        self._need_open()
        asked = DeviceFeature(argsz, flags, ptr)
        if not self.process.system.kernel.has("device_feature"):
            self.ioctl(FEATURE)
        given = {"argsz": argsz if argsz != 8 else None, "ptr": ptr if ptr != "good" else None}
        with self.process.call("device_feature", f"fd{self.fd}", flags=asked.flags, **given):
            vfio_pci.feature(self.process.system.kernel, self.function, asked)

    def _feature_bytes(self, data: bytearray) -> None:
        asked = DeviceFeature.unpack(data)
        self.feature(asked.flags, argsz=asked.argsz, ptr=asked.ptr)

    def _ask_bytes(self, verb: str, kind: type[DeviceInfo | RegionInfo | IrqInfo], data: bytearray) -> None:
        info = self._ask(verb, kind.unpack(data))
        put(data, vfio_pci.with_capabilities(info) if isinstance(info, RegionInfo) else info.pack())

    def _irqs_bytes(self, data: bytearray) -> None:
        """Read the vectors' data behind the struct: bools and descriptors."""
        head = IrqSet.unpack(data)
        size = {msi.DATA_BOOL: 1, msi.DATA_EVENTFD: 4}.get(head.flags & 7, 0)
        behind = bytes(data[IrqSet.FORMAT.size :][: size * head.count])
        ptr = "cut" if head.ptr == "good" and len(behind) < size * head.count else head.ptr
        fds: list[int | None] = []
        if size == 4 and ptr == "good":
            named = [int.from_bytes(behind[at : at + 4], "little", signed=True) for at in range(0, len(behind), 4)]
            fds = [None if fd in self.process.eventfds else fd for fd in named]
        evfd = fds if len(set(fds)) > 1 else fds[0] if fds else None
        value = int(any(behind)) if size == 1 and behind else 1
        self.set_irqs(head.index, head.start, head.count, head.flags, argsz=head.argsz, evfd=evfd, value=value, ptr=ptr)

    def _hot_reset_info_bytes(self, data: bytearray) -> None:
        head = HotResetInfo.unpack(data)
        self._needs("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", data, HotResetInfo.FORMAT.size, "the struct")
        try:
            found = self.get_hot_reset_info(head.argsz)
        except VfioError as refused:
            if refused.name == "ENOSPC":  # how many there are is told all the same
                put(data, HotResetInfo(head.argsz, 0, len(self.get_hot_reset_info())).pack())
            raise
        functions = [(one.group, self.process.system.drivers.topology[one.device]) for one in found]
        tail = b"".join(PciDependent(group, f.segment, f.bus, f.devfn).pack() for group, f in functions)
        put(data, HotResetInfo(head.argsz, 0, len(found)).pack() + tail)

    def _hot_reset_bytes(self, data: bytearray) -> None:
        head = HotReset.unpack(data)
        if head.ptr == "good" and head.count > MOST_ON_A_BUS:
            with self.process.call("hot_reset", f"fd{self.fd}", groups=[]):
                vfio_pci.hot_reset(self.process.system, self.function, set(range(MOST_ON_A_BUS + 1)))
        self._needs("VFIO_DEVICE_PCI_HOT_RESET", data, HotReset.FORMAT.size + 4 * head.count, "the struct and the descriptors behind it")
        fds = [int.from_bytes(data[12 + 4 * n :][:4], "little", signed=True) for n in range(head.count)]
        self.hot_reset(*[self._group_at(fd) for fd in fds])

    def _group_at(self, fd: int) -> Group:
        held = self.process.descriptors.get(fd)
        if not isinstance(held, Descriptor) or held.KIND != "group":
            self.process.refuse_descriptor(fd)
        return cast("Group", held)

    KIND = "device"
    carried_out = MappingProxyType(
        {
            "VFIO_DEVICE_GET_INFO": lambda it, data: it._ask_bytes("device_info", DeviceInfo, data),
            "VFIO_DEVICE_GET_REGION_INFO": lambda it, data: it._ask_bytes("region_info", RegionInfo, data),
            "VFIO_DEVICE_GET_IRQ_INFO": lambda it, data: it._ask_bytes("irq_info", IrqInfo, data),
            "VFIO_DEVICE_SET_IRQS": lambda it, data: it._irqs_bytes(data),
            "VFIO_DEVICE_RESET": lambda it, _: it.reset(),
            "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO": lambda it, data: it._hot_reset_info_bytes(data),
            "VFIO_DEVICE_FEATURE": lambda it, data: it._feature_bytes(data),
            "VFIO_DEVICE_PCI_HOT_RESET": lambda it, data: it._hot_reset_bytes(data),
            "VFIO_DEVICE_BIND_IOMMUFD": lambda it, data: it._bind_bytes(data),
        }
    )

    def ioctl(self, cmd: int, arg: int | bytearray = 0) -> int:
        """Call by number, as `Descriptor.ioctl`; FEATURE and IOEVENTFD are unknown before 5.7 and 4.17."""
        if cmd == FEATURE and not self.process.system.kernel.has("device_feature"):
            self._need_open()
            with self.process.call("raw_ioctl", f"fd{self.fd}", cmd=cmd, arg=0):
                self._unknown(cmd)
        if cmd == IOEVENTFD and isinstance(arg, bytearray) and len(arg) >= 32 and self.process.system.kernel.has("device_ioeventfd"):
            raise NotModelledError(f"IOEVENTFD of {self.name}: nothing here writes to a BAR when an eventfd is signalled")
        return super().ioctl(cmd, arg)

    def bind_iommufd(self, iommufd: Container | int, *, argsz: int = 16, flags: int = 0, ptr: str = "good") -> int:
        """DEVICE_BIND_IOMMUFD: tie the device to an iommufd, which owns its DMA from then on; return its number there. Read, not recorded.

        EFAULT, EINVAL (argsz, flags, a negative descriptor, a device opened through its group, tied already), EBUSY (its group's node is
        open), EBADF, EBADFD (no iommufd), then EPERM and EINVAL as `iommufd.Context.bind`. 6.6 and later.
        """
        self._need_open()
        fd = iommufd.fd if isinstance(iommufd, Descriptor) else signed("iommufd", iommufd)
        return self._bind(BindIommufd(argsz, flags, fd, ptr=ptr))

    def _bind(self, request: BindIommufd) -> int:
        with self.process.call("bind_iommufd", f"fd{self.fd}", **request.given() | {"iommufd": request.fd}) as call:
            if not self.process.system.has_cdevs:
                self._unknown(NUMBERS["VFIO_DEVICE_BIND_IOMMUFD"])
            request.device, file = self, self.file
            need_known_flag(request, self.process.system.kernel)
            table(BIND_IOMMUFD_CHECKS, self.process.system.kernel).run(request)
            holder = self.process.descriptors[request.fd].file
            assert isinstance(holder, ContainerFile)
            assert isinstance(holder.server, Context)
            assert isinstance(file, CdevFile)
            file.bound, file.iommufd = holder.server.bind(self.vfio.group, self.name), holder
            holder.references += 1
            self.vfio.by_node.add(self.name)
            call.output = {"out_devid": file.bound.number}
            return file.bound.number

    def _bind_bytes(self, data: bytearray) -> None:
        request = BindIommufd.unpack(data)
        request.out_devid = self._bind(request)
        put(data, request.pack())

    def _has(self, row: Ioctl) -> bool:
        return row.struct != BindIommufd.NAME or self.process.system.has_cdevs

    def _unknown(self, cmd: int, what: str = "") -> None:
        known = cmd == IOEVENTFD and self.process.system.kernel.has("device_ioeventfd")
        super()._unknown(cmd, what or "the struct" * known)

    def __repr__(self) -> str:
        return f"Device(fd {self.fd}, {self.name})"
