"""The user's descriptors of an iommufd (/dev/iommu, or /dev/vfio/vfio where iommufd serves it) and of devices opened by nodes of their own.

Every ioctl of an iommufd has one row in `VERBS`; a call is recorded with the fields of its struct. All of it is a reading, as the checks'
sources say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from vfiolab.model.address import Span
from vfiolab.model.backends.iommufd import Context
from vfiolab.model.backends.protocol import Caller
from vfiolab.model.checks import table
from vfiolab.model.errors import NotModelledError
from vfiolab.model.events import Call
from vfiolab.model.uapi import iommufd as uapi
from vfiolab.model.uapi.ioctls import IOCTLS, IOMMUFD_BASE, Ioctl
from vfiolab.model.uapi.requests import field
from vfiolab.model.user.checks import ATTACH_PT_CHECKS, GRANTED_CHECKS
from vfiolab.model.user.container import Container
from vfiolab.model.user.descriptor import put
from vfiolab.model.user.device import Device, need_known_flag
from vfiolab.model.user.files import CdevFile, ContainerFile

if TYPE_CHECKING:
    from vfiolab.model.user.process_calls import UserProcess

RIGHTS = uapi.READABLE | uapi.WRITEABLE


class Verb(NamedTuple):
    """One ioctl of an iommufd: its struct, the field in which the answer comes back, and who carries it out."""

    ioctl: str
    kind: type[uapi.Sized]
    out: str
    carry_out: Callable[[Context, Caller, Any], Any]


VERBS = MappingProxyType(
    {
        "iommufd_destroy": Verb("IOMMU_DESTROY", uapi.Destroy, "", lambda fd, _, r: fd.destroy(r)),
        "ioas_alloc": Verb("IOMMU_IOAS_ALLOC", uapi.IoasAlloc, "out_ioas_id", lambda fd, _, r: fd.ioas_alloc(r)),
        "ioas_allow_iovas": Verb("IOMMU_IOAS_ALLOW_IOVAS", uapi.AllowIovas, "", lambda fd, _, r: fd.ioas_allow_iovas(r)),
        "ioas_copy": Verb("IOMMU_IOAS_COPY", uapi.IoasCopy, "dst_iova", lambda fd, _, r: fd.ioas_copy(r)),
        "ioas_iova_ranges": Verb("IOMMU_IOAS_IOVA_RANGES", uapi.IovaRanges, "", lambda fd, _, r: fd.ioas_iova_ranges(r)),
        "ioas_map": Verb("IOMMU_IOAS_MAP", uapi.IoasMap, "iova", lambda fd, caller, r: fd.ioas_map(caller, r)),
        "ioas_unmap": Verb("IOMMU_IOAS_UNMAP", uapi.IoasUnmap, "length", lambda fd, _, r: fd.ioas_unmap(r)),
        "iommufd_option": Verb("IOMMU_OPTION", uapi.Option, "val64", lambda fd, caller, r: fd.option(caller, r)),
        "vfio_ioas": Verb("IOMMU_VFIO_IOAS", uapi.VfioIoas, "ioas_id", lambda fd, _, r: fd.vfio_ioas(r)),
        "hwpt_alloc": Verb("IOMMU_HWPT_ALLOC", uapi.HwptAlloc, "out_hwpt_id", lambda fd, _, r: fd.hwpt_alloc(r)),
    }
)


class Iommufd(Container):
    """A descriptor of an iommufd: address spaces, domains and devices by number. It takes a container's ioctls too."""

    def __init__(self, process: UserProcess, file: ContainerFile, node: str = "container") -> None:
        self.node = node
        super().__init__(process, file)

    KIND = "iommufd"

    @property
    def opened_as(self) -> str:
        """Which node was opened: "container" for /dev/vfio/vfio, "iommufd" for /dev/iommu."""
        return self.node

    @property
    def context(self) -> Context:
        """What is behind the descriptor: its objects by number."""
        server = self.server
        assert isinstance(server, Context)
        return server

    def ask(self, verb: str, request: uapi.Sized) -> Any:
        """Carry out the ioctl of a row of `VERBS`; return its answer, which stands in the record too."""
        self._need_open()
        row = VERBS[verb]
        with self.process.call(verb, f"fd{self.fd}", **request.given()) as call:
            answer = row.carry_out(self.context, self.process, request)
            if row.out:
                setattr(request, row.out, answer)
                call.output = {row.out: answer}
            elif isinstance(request, uapi.IovaRanges):
                call.output = {"ranges": [[span.start, span.last] for span in answer], "out_iova_alignment": request.out_iova_alignment}
            return answer

    def ioas_alloc(self) -> int:
        """IOAS_ALLOC: return the number of a new address space."""
        return int(self.ask("ioas_alloc", uapi.IoasAlloc()))

    def destroy(self, number: int) -> None:
        """DESTROY an address space with its mappings, or a domain. ENOENT, EBUSY (a device, or something that is in use)."""
        self.ask("iommufd_destroy", uapi.Destroy(id=number))

    def ioas_map(self, ioas: int, vaddr: int, length: int, iova: int | None = None, flags: int = RIGHTS, *, name: str = "") -> int:
        """IOAS_MAP: return the iova, which the kernel chooses if none is given. flags: 2 the device may write, 4 read.

        EOPNOTSUPP, EOVERFLOW, EINVAL, ENOENT (no such address space), EEXIST, EFAULT, ENOMEM, ENOSPC as the tables list them.
        """
        flags = field("flags", flags, 32) | (0 if iova is None else uapi.FIXED_IOVA)
        return int(self.ask("ioas_map", uapi.IoasMap(flags=flags, ioas_id=ioas, user_va=vaddr, length=length, iova=iova or 0, name=name)))

    def ioas_copy(self, ioas: int, source: int, source_iova: int, length: int, iova: int | None = None, flags: int = RIGHTS) -> int:
        """IOAS_COPY: map in `ioas` what is mapped at `source_iova` of `source`; return the iova. EPERM: it may not be written there."""
        flags = field("flags", flags, 32) | (0 if iova is None else uapi.FIXED_IOVA)
        request = uapi.IoasCopy(flags=flags, dst_ioas_id=ioas, src_ioas_id=source, length=length, dst_iova=iova or 0, src_iova=source_iova)
        return int(self.ask("ioas_copy", request))

    def ioas_unmap(self, ioas: int, iova: int = 0, length: int = uapi.ALL) -> int:
        """IOAS_UNMAP: return the bytes. Everything by default; ENOENT for a range that holds no mapping, or cuts one."""
        return int(self.ask("ioas_unmap", uapi.IoasUnmap(ioas_id=ioas, iova=iova, length=length)))

    def ioas_iova_ranges(self, ioas: int, room: int = 64) -> tuple[Span, ...]:
        """IOAS_IOVA_RANGES with an array of `room` ranges: return the usable ones; EMSGSIZE if there are more."""
        found: tuple[Span, ...] = self.ask("ioas_iova_ranges", uapi.IovaRanges(ioas_id=ioas, num_iovas=room))
        return found

    def ioas_allow_iovas(self, ioas: int, *ranges: tuple[int, int]) -> None:
        """IOAS_ALLOW_IOVAS: ranges (first, last; inclusive) that stay usable whatever is attached. EINVAL, EADDRINUSE."""
        self.ask("ioas_allow_iovas", uapi.AllowIovas(ioas_id=ioas, num_iovas=len(ranges), ranges=ranges))

    def hwpt_alloc(self, device: int, ioas: int) -> int:
        """HWPT_ALLOC (6.6): return the number of a domain for a device, with an address space's mappings."""
        return int(self.ask("hwpt_alloc", uapi.HwptAlloc(dev_id=device, pt_id=ioas)))

    def option(self, option: int, value: int | None = None, number: int = 0) -> int:
        """OPTION: return a value, set if one is given. 0 RLIMIT_MODE (1: the process is charged, 0: its user), 1 HUGE_PAGES of an address space."""
        op = uapi.GET if value is None else uapi.SET
        return int(self.ask("iommufd_option", uapi.Option(option_id=option, op=op, object_id=number, val64=value or 0)))

    def vfio_ioas(self, number: int | None = None, *, clear: bool = False) -> int:
        """VFIO_IOAS: return the address space that a container's ioctls work on; set one, or clear it. ENODEV, ENOENT."""
        op = uapi.COMPAT_CLEAR if clear else uapi.COMPAT_GET if number is None else uapi.COMPAT_SET
        return int(self.ask("vfio_ioas", uapi.VfioIoas(ioas_id=number or 0, op=op)))

    # by number

    def ioctl(self, cmd: int, arg: int | bytearray = 0) -> int:
        """Call by number; NotModelledError for an ioctl of iommufd's that this kernel has and the model has not."""
        cmd = field("cmd", cmd)
        unmodelled = cmd not in IOCTLS[self.KIND] and 0 <= cmd - IOMMUFD_BASE < self.process.system.kernel.iommufd_ioctls
        if isinstance(arg, bytearray) and unmodelled:
            self._need_open()
            with self.process.call("raw_ioctl", f"fd{self.fd}", cmd=cmd, arg=0):
                raise NotModelledError(f"ioctl {cmd:#x} of an iommufd: dirty tracking, faults, virtual IOMMUs and what the hardware is")
        return super().ioctl(cmd, arg)

    def _has(self, row: Ioctl) -> bool:
        return row.number - IOMMUFD_BASE < self.process.system.kernel.iommufd_ioctls

    def _ask_bytes(self, verb: str, data: bytearray) -> None:
        kind, kernel = VERBS[verb].kind, self.process.system.kernel
        request = uapi.read(kind, data, kernel)
        behind, pair = data[request.size :], uapi.IovaRange.FORMAT
        if isinstance(request, uapi.AllowIovas):
            request.ranges = tuple(pair.unpack_from(behind, at) for at in range(0, len(behind) - pair.size + 1, pair.size))
        elif isinstance(request, uapi.IovaRanges):
            request.room = len(behind) // pair.size
        before, asked = request.pack(), getattr(request, "num_iovas", 0)
        try:
            self.ask(verb, request)
        finally:  # too little room is an error (EMSGSIZE), and what there is room for comes back all the same
            for number, span in enumerate(getattr(request, "found", ())[: min(asked, len(behind) // pair.size)]):
                pair.pack_into(data, request.size + number * pair.size, span.start, span.last)
            if request.pack() != before:
                put(data, request.pack()[: min(request.size, uapi.known(kind, kernel))])

    carried_out = MappingProxyType(
        dict(Container.carried_out) | {row.ioctl: lambda it, data, verb=verb: it._ask_bytes(verb, data) for verb, row in VERBS.items()}
    )


class Cdev(Device):
    """A descriptor of a device's own node. Until it is tied to an iommufd, every other ioctl is EINVAL."""

    file: CdevFile
    KIND = "cdev"

    @property
    def opened_as(self) -> str:
        """A device, like one that a group opened."""
        return "device"

    @contextmanager
    def _call(self, verb: str, **args: object) -> Iterator[Call]:
        with self.process.call(verb, f"fd{self.fd}", **args) as call:
            table(GRANTED_CHECKS, self.process.system.kernel).run(self.file)
            yield call

    def attach(self, number: int, *, argsz: int = 12, flags: int = 0, ptr: str = "good") -> int:
        """DEVICE_ATTACH_IOMMUFD_PT: attach the device to an address space or a domain, or move it there; return the domain's number.

        EFAULT, EINVAL, ENOENT, EADDRINUSE (it would leave a mapping, or what was allowed, unusable), ENOMEM.
        """
        self._need_open()
        return self._attach(uapi.AttachPt(argsz, flags, number, ptr))

    def _attach(self, request: uapi.AttachPt) -> int:
        with self._call("attach_pt", **request.given()) as call:
            context, bound = self._tied(request)
            request.pt_id = context.attach(bound, request.pt_id, ATTACH_PT_CHECKS)
            call.output = {"pt_id": request.pt_id}
            return request.pt_id

    def detach(self, *, argsz: int = 8, flags: int = 0, ptr: str = "good") -> None:
        """DEVICE_DETACH_IOMMUFD_PT: 0 too where it is not attached. EFAULT, EINVAL."""
        self._need_open()
        self._detach(uapi.DetachPt(argsz, flags, ptr))

    def _detach(self, request: uapi.DetachPt) -> None:
        with self._call("detach_pt", **request.given()):
            context, bound = self._tied(request)
            context.detach(bound)

    def _tied(self, request: uapi.AttachPt | uapi.DetachPt) -> tuple[Context, Any]:
        """Test a call's struct; return the iommufd that the device is tied to, and the device there."""
        need_known_flag(request, self.process.system.kernel)
        table(ATTACH_PT_CHECKS, self.process.system.kernel).run(request)
        file = self.file
        assert file.iommufd is not None
        server = file.iommufd.server
        assert isinstance(server, Context)
        return server, file.bound

    def ioctl(self, cmd: int, arg: int | bytearray = 0) -> int:
        """Call by number, as any descriptor."""
        cmd = field("cmd", cmd)
        if not self.file.granted and IOCTLS[self.KIND].get(cmd, ("", ""))[1] != "VFIO_DEVICE_BIND_IOMMUFD":
            self._need_open()
            with self._call("raw_ioctl", cmd=cmd, arg=0):
                pass
        return super().ioctl(cmd, arg)

    def _attach_bytes(self, data: bytearray) -> None:
        request = uapi.AttachPt.unpack(data)
        self._attach(request)
        put(data, request.pack())

    carried_out = MappingProxyType(
        dict(Device.carried_out)
        | {
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT": lambda it, data: it._attach_bytes(data),
            "VFIO_DEVICE_DETACH_IOMMUFD_PT": lambda it, data: it._detach(uapi.DetachPt.unpack(data)),
        }
    )
