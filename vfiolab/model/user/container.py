"""The user's descriptors of containers and groups, and their ioctls.

A refusal raises VfioError and changes nothing, but for an UNMAP whose bitmap cannot be written (see `Type1.unmap`). What stands behind a container is a server: the native VFIO container (`native`), with its
type1 or no-IOMMU backend, or iommufd's compatibility layer (`compat`). Devices are in `device`, the process that opens them in
`process_calls`, the base of the descriptors, with the door for an ioctl by its number, in `descriptor`, the open files behind them in `files`.
"""

from __future__ import annotations

from types import MappingProxyType

from vfiolab.model.address import Span
from vfiolab.model.backends.compat import Backend
from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.protocol import Server
from vfiolab.model.backends.type1 import TYPE1v2
from vfiolab.model.checks import table
from vfiolab.model.signals import whole
from vfiolab.model.uapi.info import Info
from vfiolab.model.uapi.requests import (
    CAP_SYS_RAWIO,
    DIRTY_GET,
    DirtyPages,
    GroupStatus,
    IommuInfo,
    MapDma,
    UnmapDma,
    field,
    word,
)
from vfiolab.model.user.checks import (
    INFO_BACK_CHECKS,
    NAME_CHECKS,
    OPEN_DEVICE_CHECKS,
    SET_CONTAINER_CHECKS,
    STATUS_CHECKS,
    UNSET_CHECKS,
    OpenDevice,
    SetContainer,
)
from vfiolab.model.user.descriptor import Descriptor, UserStruct, put
from vfiolab.model.user.device import Device
from vfiolab.model.user.files import ContainerFile, DeviceFile, GroupFile

LONGEST_NAME = 4096
MOST_FRESH = 1 << 46  # bytes: half of what a process can address


class Container(Descriptor):
    """A descriptor of /dev/vfio/vfio: one user's I/O address space, which lives on after the descriptor is closed, while groups are in it."""

    file: ContainerFile

    @property
    def server(self) -> Server:
        """What stands behind the descriptor: the native container, or iommufd's compatibility layer."""
        return self.file.server

    @property
    def backend(self) -> Backend | None:
        """The address space behind the container: Type1, NoIommu, Ioas; None before SET_IOMMU, and after the last group has left."""
        return self.server.backend

    @property
    def groups(self) -> list[VfioGroup]:
        """VFIO groups in the container, oldest first."""
        return self.server.groups

    def get_api_version(self) -> int:
        """GET_API_VERSION: 0."""
        self._need_open()
        with self.process.call("get_api_version", f"fd{self.fd}"):
            return 0

    def check_extension(self, number: int) -> int:
        """CHECK_EXTENSION: 0 or 1, never an error for unknown numbers."""
        self._need_open()
        number = field("extension", number, 64)
        with self.process.call("check_extension", f"fd{self.fd}", ext=number) as call:
            call.value = self.server.check_extension(number)
            return call.value

    def set_iommu(self, kind: int = TYPE1v2) -> None:
        """SET_IOMMU: 1 type1, 3 type1 v2, 6 nesting, 8 no-IOMMU."""
        self._need_open()
        kind = field("type", kind, 64)
        with self.process.call("set_iommu", f"fd{self.fd}", type=kind):
            self.server.set_iommu(kind)

    def get_info(self, argsz: int = 256, *, writable: bool = True) -> Info:
        """IOMMU_GET_INFO with a struct of `argsz` bytes; an unwritable one is EFAULT (on 4.4 the ioctl returns the bytes not copied)."""
        self._need_open()
        return self._info(IommuInfo(argsz), writable=writable)

    def _info(self, request: IommuInfo, *, writable: bool = True) -> Info:
        with self.process.call("get_info", f"fd{self.fd}", argsz=request.argsz, ptr=None if writable else "readonly") as call:
            if request.ptr != "good":
                call.args["ptr"] = request.ptr
            info = self.server.info(request)
            table(INFO_BACK_CHECKS, self.process.system.kernel).run(writable)
            call.value = 0 if writable else 16
            call.output = info.as_dict()
            return info

    def map_dma(
        self, iova: int, size: int, vaddr: int | None, flags: int = 3, *, argsz: int = 32, ptr: str = "good", name: str = ""
    ) -> None:
        """IOMMU_MAP_DMA: `size` bytes at `vaddr` become `iova` for every device. flags: 1 the device may read, 2 write, 4 update the vaddr.

        The memory is the calling process's, and so are the account and the limit of locked memory. Without a vaddr (None) it allocates the
        memory first, less than 64 TiB, and frees it if the map is refused. `name` is a label for pictures. Errors as
        the tables of `type1_checks` list them (`Rules.map`, `Rules.memory`), or those of `compat_checks`.
        """
        if vaddr is not None:
            self._map(MapDma(argsz, flags, vaddr, iova, size, ptr, str(name)))
            return
        self._need_open()
        fresh = self._memory_for(field("size", size))
        request = MapDma(argsz, flags, fresh.start, iova, size, ptr, str(name))
        request.fresh = True
        self._map_fresh(request, fresh)

    def _map(self, request: MapDma) -> None:
        with self._brings("map", request):
            self.file.server.map(self.process, request)

    @whole
    def _map_fresh(self, request: MapDma, memory: Span) -> None:
        self.process.place(memory, "rw")
        try:
            self._map(request)
        except BaseException:
            self.process.place(memory, "hole")
            raise

    def _memory_for(self, size: int) -> Span:
        if size >= MOST_FRESH:
            raise ValueError(
                f"no process can allocate {size:#_x} bytes of fresh memory (here up to {MOST_FRESH - 1:#_x}): map less,"
                " or give vaddr= to see what the kernel answers"
            )
        return self.process.memory.next_place(size)

    def unmap_dma(self, iova: int = 0, size: int = 0, flags: int = 0) -> int:
        """IOMMU_UNMAP_DMA without a bitmap: return the bytes unmapped. flags: 2 all (iova = size = 0), 4 invalidate the vaddr."""
        return self._unmap(UnmapDma(24, flags, iova, size))[0]

    def unmap_dirty(
        self,
        iova: int = 0,
        size: int = 0,
        flags: int = 0,
        *,
        argsz: int | None = None,
        bm_pgsize: int = 0,
        bm_size: int = 0,
        ptr: str = "good",
    ) -> tuple[int, int | None]:
        """IOMMU_UNMAP_DMA with the bitmap of flag 1: return (bytes unmapped, the bitmap as a number whose bit 0 is the page at `iova`).

        Without flag 1 the bitmap is None.
        """
        argsz = (48 if bm_pgsize else 24) if argsz is None else argsz
        return self._unmap(UnmapDma(argsz, flags, iova, size, bm_pgsize, bm_size, 0, ptr))

    def _unmap(self, request: UnmapDma) -> tuple[int, int | None]:
        with self._brings("unmap", request) as call:
            unmapped, bitmap = self.file.server.unmap(self.process, request)
            call.output = {"unmapped": unmapped} if bitmap is None else {"unmapped": unmapped, "dirty_bits": bitmap.bit_count()}
            return unmapped, bitmap

    def dirty_pages(
        self,
        flags: int,
        *,
        argsz: int | None = None,
        iova: int = 0,
        size: int = 0,
        bm_pgsize: int = 4096,
        bm_size: int = 8,
        ptr: str = "good",
    ) -> int | None:
        """IOMMU_DIRTY_PAGES: 1 start, 2 stop, 4 get; GET returns the bitmap as a number whose bit 0 is the page at `iova`."""
        flags = field("flags", flags, 32)
        if argsz is None:
            argsz = 48 if flags & DIRTY_GET else 8
        return self._dirty(DirtyPages(argsz, flags, iova, size, bm_pgsize, bm_size, 0, ptr))

    def _dirty(self, request: DirtyPages) -> int | None:
        with self._brings("dirty", request) as call:
            bitmap = self.server.dirty(self.process, request)
            if bitmap is not None:
                call.output = {"dirty_bits": bitmap.bit_count()}
            return bitmap

    def _info_bytes(self, data: bytearray) -> int:
        writable = not isinstance(data, UserStruct) or data.writable
        put(data, self._info(IommuInfo.unpack(data), writable=writable).pack())
        return 0 if writable else IommuInfo.MINIMUM

    def _unmap_bytes(self, data: bytearray) -> None:
        request, answer = UnmapDma.unpack(data), UnmapDma.unpack(data)
        answer.size, _ = self._unmap(request)
        put(data, answer.pack()[: UnmapDma.MINIMUM])

    def _dirty_bytes(self, data: bytearray) -> None:
        self._dirty(DirtyPages.unpack(data))

    KIND = "container"
    carried_out = MappingProxyType(
        {
            "VFIO_GET_API_VERSION": lambda it, _: it.get_api_version(),
            "VFIO_CHECK_EXTENSION": lambda it, number: it.check_extension(number),
            "VFIO_SET_IOMMU": lambda it, kind: it.set_iommu(kind),
            "VFIO_IOMMU_GET_INFO": lambda it, data: it._info_bytes(data),
            "VFIO_IOMMU_MAP_DMA": lambda it, data: it._map(MapDma.unpack(data)),
            "VFIO_IOMMU_UNMAP_DMA": lambda it, data: it._unmap_bytes(data),
            "VFIO_IOMMU_DIRTY_PAGES": lambda it, data: it._dirty_bytes(data),
        }
    )

    def _unknown(self, cmd: int, what: str = "") -> None:  # noqa: ARG002 - the server knows what each number takes
        self.server.refuse_unknown(cmd)

    def __repr__(self) -> str:
        return f"Container(fd {self.fd}, groups {[group.id for group in self.groups]}, {self.backend!r})"


class Group(Descriptor):
    """A descriptor of /dev/vfio/N. A group can be open once; closed, it leaves its container when no device of it is open any more."""

    file: GroupFile

    def _status_bytes(self, data: bytearray) -> None:
        request = GroupStatus.unpack(data)
        request.flags = self._status(request)
        put(data, request.pack())

    def _set_container_bytes(self, data: bytearray) -> None:
        self._needs("VFIO_GROUP_SET_CONTAINER", data, 4, "the container's descriptor")
        self.set_container(int.from_bytes(data[:4], "little", signed=True))

    def _device_bytes(self, data: bytearray) -> int:
        self._needs("VFIO_GROUP_GET_DEVICE_FD", data, 1, "the device's name")
        if len(data) >= LONGEST_NAME and b"\0" not in data:
            with self.process.call("get_device_fd", f"fd{self.fd}", name="too long"):
                table(NAME_CHECKS, self.process.system.kernel).run(data)
        return self.get_device_fd(data.partition(b"\0")[0].decode("utf-8", "replace")).fd

    KIND = "group"
    carried_out = MappingProxyType(
        {
            "VFIO_GROUP_GET_STATUS": lambda it, data: it._status_bytes(data),
            "VFIO_GROUP_SET_CONTAINER": lambda it, data: it._set_container_bytes(data),
            "VFIO_GROUP_UNSET_CONTAINER": lambda it, _: it.unset_container(),
            "VFIO_GROUP_GET_DEVICE_FD": lambda it, data: it._device_bytes(data),
        }
    )

    @property
    def vfio(self) -> VfioGroup:
        """The kernel's VFIO object of the group."""
        return self.file.vfio

    @property
    def id(self) -> int:
        """Number of the group."""
        return self.vfio.id

    def get_status(self, argsz: int = 8, *, ptr: str = "good") -> int:
        """GROUP_GET_STATUS: flags, 1 viable, 2 in a container. EFAULT, EINVAL (argsz below 8), ENODEV (dead, 6.1 and later)."""
        return self._status(GroupStatus(argsz, ptr=ptr))

    def _status(self, request: GroupStatus) -> int:
        with self._brings("group_status", request) as call:
            request.vfio = self.vfio
            table(STATUS_CHECKS, self.process.system.kernel).run(request)
            inside = self.vfio.container is not None
            viable = (inside and self.process.system.kernel.has("dma_ownership")) or self.process.system.drivers.viable(self.vfio.group)
            flags = int(viable) | 2 * int(inside)
            call.output = {"flags": flags}
            return flags

    def set_container(self, container: Container | int) -> None:
        """GROUP_SET_CONTAINER: join a container, and its backend if it has one. The checks by version are `SET_CONTAINER_CHECKS`.

        A number is looked up among the calling process's descriptors. EBADF for a container that this process does not hold, or that is closed.
        """
        self._need_open()
        if isinstance(container, Container) and self.process.descriptors.get(container.fd) is not container:
            whose = f"process {container.process}" if container.process is not self.process else "nobody: it is closed"
            self.process.refuse_descriptor(container.fd, whose)
        fd = container.fd if isinstance(container, Container) else field("fd", container, 32)
        fd = fd - (1 << 32) if fd >= 1 << 31 else fd
        with self.process.call("set_container", f"fd{self.fd}", container=f"fd{fd}"):
            file = self.process.descriptors.get(fd)
            is_open = self.process.holds(fd)
            if isinstance(container, Container) and file is not container:
                file, is_open = None, False  # closed, or another process's: whatever has its number here is not it
            denied = self.vfio.noiommu and CAP_SYS_RAWIO not in self.process.capabilities
            table(SET_CONTAINER_CHECKS, self.process.system.kernel).run(
                SetContainer(self.vfio, fd, is_open, isinstance(file, Container), denied)
            )
            assert isinstance(file, Container)
            server = file.server
            server.check_enter(self.vfio)
            server.enter(self.vfio)

    def unset_container(self) -> None:
        """GROUP_UNSET_CONTAINER: leave. EINVAL (in none), EBUSY (a device is open)."""
        self._need_open()
        with self.process.call("unset_container", f"fd{self.fd}"):
            table(UNSET_CHECKS, self.process.system.kernel).run(self.vfio)
            server = self.vfio.container
            assert server is not None
            server.leave(self.vfio)
            self.process.system.drivers.wake()

    def get_device_fd(self, name: str) -> Device:
        """GROUP_GET_DEVICE_FD: open a device of the group by its address; from 5.7 on, behind a space, `vf_token=UUID` may follow.

        ENODEV, EINVAL and their order changed in 5.19; EACCES (the token is missing). See the checks' sources.
        """
        self._need_open()
        with self.process.call("get_device_fd", f"fd{self.fd}", name=name) as call:
            system = self.process.system
            device, options = self._matched(word("device", name))
            rawio = CAP_SYS_RAWIO in self.process.capabilities
            table(OPEN_DEVICE_CHECKS, system.kernel).run(OpenDevice(self.vfio, name, device, options, system.drivers, rawio))
            server = self.vfio.container
            assert server is not None
            assert device is not None
            server.open_device(self.vfio, device)
            opened = Device(self.process, DeviceFile(self.process.system.drivers, self.file, device, server))
            call.args["fd"] = opened.fd
            return opened

    def _matched(self, name: str) -> tuple[str | None, str]:
        """Return the bound device that a name stands for, and the options behind it."""
        if name in self.vfio.bound:
            return name, ""
        if self.process.system.kernel.has("vf_token"):
            for device in self.vfio.bound:
                if name.startswith(f"{device} "):
                    return device, name[len(device) :]
        return None, ""

    def __repr__(self) -> str:
        return f"Group(fd {self.fd}, group {self.id})"
