"""The user's descriptors: container, group and device, and their ioctls.

A refusal raises VfioError and changes nothing. What stands behind a container is a server: `Native` (this file: the VFIO container with its
type1 or no-IOMMU backend) or iommufd's compatibility layer (`compat`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from vfiolab.model.address import Span
from vfiolab.model.core import IommuCore
from vfiolab.model.drivers import Drivers, VfioGroup
from vfiolab.model.errors import Check, VfioError, for_kernel, run_checks
from vfiolab.model.events import EventLog
from vfiolab.model.info import Info
from vfiolab.model.kernel import Kernel
from vfiolab.model.msi import DISABLE, TRIGGER_EVENTFD, InterruptController, IrqRequest, IrqState, set_irqs
from vfiolab.model.noiommu import NOIOMMU, NoIommu
from vfiolab.model.process import CAP_IPC_LOCK, CAP_SYS_RAWIO, Arena, File, Process
from vfiolab.model.requests import field, pointer
from vfiolab.model.server import Server
from vfiolab.model.type1 import NESTING, TYPE1, Type1, TYPE1v2

CORE = "drivers/vfio/vfio.c, later container.c and group.c"
SET_CONTAINER = f"vfio_group_ioctl_set_container, {CORE}"
DMA_CC, UNMAP_ALL_EXT, UPDATE_VADDR = 4, 9, 10


class System(Protocol):
    """What the descriptors need of a host."""

    kernel: Kernel
    core: IommuCore
    drivers: Drivers
    params: dict[str, str]
    log: EventLog
    interrupts: InterruptController | None


class Native:
    """The VFIO container: groups, then (after SET_IOMMU) one backend until the last group leaves."""

    def __init__(self, system: System, process: Process) -> None:
        self.system, self.process = system, process
        self.kernel = system.kernel
        self.pins_group = system.kernel.has("dma_ownership")
        self.groups: list[VfioGroup] = []
        self.backend: Type1 | NoIommu | None = None
        self._checks = for_kernel(ENTER_CHECKS, system.kernel)

    def check_enter(self, group: VfioGroup) -> None:
        """Refuse to mix no-IOMMU groups with others (EPERM, 4.5 and later)."""
        run_checks(self._checks, (self, group))

    def enter(self, group: VfioGroup) -> None:
        """Claim the group (5.19+) and attach it if there is a backend; a refusal undoes the claim."""
        core = self.system.core
        claim = self.kernel.has("dma_ownership") and not group.noiommu and not group.group.emulated
        if claim:
            core.claim(group.group, self)
        if isinstance(self.backend, Type1):
            try:
                self.backend.attach(group.group)
            except BaseException:
                if claim:
                    core.release(group.group)
                raise
        self.groups.append(group)
        group.container = self

    def leave(self, group: VfioGroup) -> None:
        """Detach, release, and end the backend with the last group."""
        self.groups.remove(group)
        group.container = None
        if isinstance(self.backend, Type1):
            self.backend.detach(group.group)
        if group.group.owner is self:
            self.system.core.release(group.group)
        if not self.groups:
            self.backend = None

    def drop(self, group: VfioGroup) -> None:
        """Let a group go at once: its last device is gone."""
        self.leave(group)

    @property
    def _noiommu_offered(self) -> bool:
        return self.kernel.has("noiommu") and self.system.drivers.noiommu_mode and all(group.noiommu for group in self.groups)

    @property
    def _type1_offered(self) -> bool:
        return not any(group.noiommu for group in self.groups)

    def _type1_extension(self, number: int) -> int:
        kernel, backend = self.kernel, self.backend
        if number in (TYPE1, TYPE1v2):
            return 1
        if number == DMA_CC:
            return backend.dma_cc() if isinstance(backend, Type1) else 0
        if number == NESTING:
            return int(not kernel.has("no_nesting"))
        if number == UNMAP_ALL_EXT:
            return int(kernel.has("unmap_all"))
        if number == UPDATE_VADDR and kernel.has("vaddr_update"):
            return int(not kernel.has("update_vaddr_needs_backend") or (isinstance(backend, Type1) and not backend.emulated))
        return 0

    def check_extension(self, number: int) -> int:
        """Ask the backend, or before SET_IOMMU every backend that may serve the container's groups. Unknown numbers are 0."""
        if isinstance(self.backend, NoIommu):
            return int(number == NOIOMMU)
        answer = self._type1_extension(number) if self._type1_offered else 0
        if self.backend is None and not answer and self._noiommu_offered:
            answer = int(number == NOIOMMU)
        return answer

    def set_iommu(self, kind: int) -> None:
        """Open a backend and attach all groups, newest first. EINVAL (no group, or a backend already), ENODEV (no such type), the attach's errno."""
        source = f"vfio_ioctl_set_iommu, {CORE}"
        if not self.groups:
            raise VfioError("EINVAL", "the container holds no group yet", source, "GROUP_SET_CONTAINER first")
        if self.backend is not None:
            raise VfioError(
                "EINVAL",
                f"the container has its backend already ({self.backend!r})",
                source,
                "SET_IOMMU is done once; it ends with the last group",
            )
        if not self._offers(kind):
            raise VfioError("ENODEV", f"no backend offers type {kind} on kernel {self.kernel}", source, "type 3 is type1 v2, 1 is type1")
        if kind == NOIOMMU:
            self.backend = NoIommu()
            return
        backend = Type1(self.system.core, self.process, self.system.params, kind)
        try:
            for group in reversed(self.groups):
                backend.attach(group.group)
        except BaseException:
            backend.close()
            raise
        self.backend = backend

    def _offers(self, kind: int) -> bool:
        if kind == NOIOMMU:
            return self._noiommu_offered
        return kind in (TYPE1, TYPE1v2, NESTING) and self.check_extension(kind) > 0

    def _type1(self, call: str) -> Type1:
        if self.backend is None:
            raise VfioError(
                "EINVAL",
                f"{call} before SET_IOMMU: the container has no backend",
                f"vfio_fops_unl_ioctl, {CORE}",
                "attach a group and SET_IOMMU first; the last group's leaving ends it",
            )
        if isinstance(self.backend, NoIommu):
            raise self.backend.refuse(call)
        return self.backend

    def info(self, argsz: int) -> Info:
        """GET_INFO; EINVAL without a backend."""
        return self._type1("GET_INFO").info(argsz)

    def map(self, iova: int, size: int, vaddr: int, flags: int, argsz: int, ptr: str, name: str) -> None:
        """MAP_DMA; EINVAL without a backend."""
        self._type1("MAP_DMA").map(iova, size, vaddr, flags, argsz, ptr, name)

    def unmap(self, iova: int, size: int, flags: int, argsz: int, bm_pgsize: int, bm_size: int, ptr: str) -> tuple[int, int | None]:
        """UNMAP_DMA; EINVAL without a backend."""
        return self._type1("UNMAP_DMA").unmap(iova, size, flags, argsz, bm_pgsize, bm_size, ptr)

    def dirty(self, flags: int, argsz: int, iova: int, size: int, bm_pgsize: int, bm_size: int, ptr: str) -> int | None:
        """DIRTY_PAGES; EINVAL without a backend, ENOTTY before 5.8."""
        backend = self._type1("DIRTY_PAGES")
        if not self.kernel.has("dirty_tracking"):
            raise self.unknown()
        return backend.dirty(flags, argsz, iova, size, bm_pgsize, bm_size, ptr)

    def unknown(self) -> VfioError:
        """EINVAL before SET_IOMMU, ENOTTY after."""
        if self.backend is None:
            return VfioError("EINVAL", "an ioctl that needs a backend, before SET_IOMMU", f"vfio_fops_unl_ioctl, {CORE}", "SET_IOMMU first")
        return VfioError(
            "ENOTTY",
            f"kernel {self.kernel} does not know this ioctl on a container",
            f"vfio_iommu_type1_ioctl, {CORE}",
            "see the container's ioctls",
        )

    def open_device(self, group: VfioGroup, name: str) -> None:
        """Nothing more to do: the group is attached already."""

    def close_device(self, group: VfioGroup, name: str) -> None:
        """Nothing to do: the group stays attached."""

    def __repr__(self) -> str:
        return f"Native(groups {[group.id for group in self.groups]}, {self.backend!r})"

    def _check(self) -> None:
        assert all(group.container is self for group in self.groups)
        assert self.backend is None or self.groups, "a backend without groups"
        if isinstance(self.backend, Type1):
            attached = self.backend.groups
            assert {group.group for group in self.groups} == set(attached), f"{self.groups} in the container, {attached} in the backend"
            assert len(attached) == len(set(attached)), "a group is in two domains"
            self.backend._check()


ENTER_CHECKS = (
    Check("no-IOMMU groups and others are not mixed", "EPERM", SET_CONTAINER,
          lambda r: "the container holds groups of the other kind (with and without an IOMMU)" if any(g.noiommu != r[1].noiommu for g in r[0].groups) else None,
          "use a second container", lambda k: k.has("noiommu")),
)  # fmt: skip


class Descriptor:
    """An open file of the user's process."""

    def __init__(self, process: UserProcess) -> None:
        self.process = process
        self.references = 0
        self.fd = process.install(self)

    @property
    def is_open(self) -> bool:
        """Whether the user still holds the descriptor."""
        return self.process.descriptors.get(self.fd) is self

    def _need_open(self) -> None:
        if not self.is_open:
            raise VfioError("EBADF", f"descriptor {self.fd} is closed", "fdget, fs/file.c", "open it again")

    def release(self) -> Iterable[File]:
        """Let go at the last reference."""
        return ()

    def _close(self, verb: str) -> None:
        self._need_open()
        with self.process.log.call(verb, f"fd{self.fd}"):
            self.process.close(self.fd)


class Container(Descriptor):
    """An open /dev/vfio/vfio: one user's I/O address space."""

    def __init__(self, process: UserProcess, server: Server) -> None:
        super().__init__(process)
        self.server = server

    @property
    def backend(self) -> object | None:
        """The address space behind the container: Type1, NoIommu, Compat, or None before SET_IOMMU."""
        return self.server.backend

    @property
    def groups(self) -> list[VfioGroup]:
        """VFIO groups in the container, oldest first."""
        return self.server.groups

    def get_api_version(self) -> int:
        """GET_API_VERSION: 0."""
        self._need_open()
        with self.process.log.call("get_api_version", f"fd{self.fd}"):
            return 0

    def check_extension(self, number: int) -> int:
        """CHECK_EXTENSION: 0 or 1, never an error for unknown numbers."""
        self._need_open()
        number = field("extension", number, 64)
        with self.process.log.call("check_extension", f"fd{self.fd}", ext=number) as call:
            call.value = self.server.check_extension(number)
            return call.value

    def set_iommu(self, kind: int = TYPE1v2) -> None:
        """SET_IOMMU: 1 type1, 3 type1 v2, 6 nesting, 8 no-IOMMU."""
        self._need_open()
        kind = field("type", kind, 64)
        with self.process.log.call("set_iommu", f"fd{self.fd}", type=kind):
            self.server.set_iommu(kind)

    def get_info(self, argsz: int = 256, *, writable: bool = True) -> Info:
        """IOMMU_GET_INFO with a struct of `argsz` bytes; an unwritable one is EFAULT (on 4.4 the ioctl returns the bytes not copied)."""
        self._need_open()
        argsz = field("argsz", argsz, 32)
        with self.process.log.call("get_info", f"fd{self.fd}", argsz=argsz) as call:
            info = self.server.info(argsz)
            if not writable:
                if self.process.system.kernel.has("copy_back_efault"):
                    raise VfioError(
                        "EFAULT", "the struct cannot be written back", f"vfio_iommu_type1_ioctl, {CORE}", "pass writable memory"
                    )
                call.value = 16
            call.output = info.as_dict()
            return info

    def map_dma(self, iova: int, size: int, vaddr: int, flags: int = 3, *, argsz: int = 32, ptr: str = "good", name: str = "") -> None:
        """IOMMU_MAP_DMA: `size` bytes at `vaddr` become `iova` for every device. flags: 1 the device may read, 2 write, 4 update the vaddr.

        `name` is a label for pictures. Errors as `type1_checks.MAP_CHECKS` lists them.
        """
        self._need_open()
        iova, size, vaddr = field("iova", iova), field("size", size), field("vaddr", vaddr)
        flags, argsz, ptr = field("flags", flags, 32), field("argsz", argsz, 32), pointer(ptr)
        with self.process.log.call("map", f"fd{self.fd}", iova=iova, size=size, vaddr=vaddr, flags=flags, name=name or None):
            self.server.map(iova, size, vaddr, flags, argsz, ptr, str(name))

    def unmap_dma(
        self,
        iova: int = 0,
        size: int = 0,
        flags: int = 0,
        *,
        argsz: int | None = None,
        bm_pgsize: int = 0,
        bm_size: int = 0,
        ptr: str = "good",
    ) -> int:
        """IOMMU_UNMAP_DMA: return the bytes unmapped. flags: 1 get the dirty bitmap, 2 all (iova = size = 0), 4 invalidate the vaddr."""
        return self.unmap_dirty(iova, size, flags, argsz=argsz, bm_pgsize=bm_pgsize, bm_size=bm_size, ptr=ptr)[0]

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
        """IOMMU_UNMAP_DMA: return (bytes unmapped, the dirty bitmap of flag 1 as a number whose bit 0 is the page at `iova`)."""
        self._need_open()
        iova, size, flags = field("iova", iova), field("size", size), field("flags", flags, 32)
        bm_pgsize, bm_size, ptr = field("bm_pgsize", bm_pgsize), field("bm_size", bm_size), pointer(ptr)
        argsz = (48 if bm_pgsize else 24) if argsz is None else field("argsz", argsz, 32)
        with self.process.log.call("unmap", f"fd{self.fd}", iova=iova, size=size, flags=flags or None) as call:
            unmapped, bitmap = self.server.unmap(iova, size, flags, argsz, bm_pgsize, bm_size, ptr)
            call.output = {"unmapped": unmapped}
            if bitmap is not None:
                call.output["dirty_bits"] = bitmap.bit_count()
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
        self._need_open()
        flags, iova, size = field("flags", flags, 32), field("iova", iova), field("size", size)
        bm_pgsize, bm_size, ptr = field("bm_pgsize", bm_pgsize), field("bm_size", bm_size), pointer(ptr)
        argsz = (48 if flags & 4 else 8) if argsz is None else field("argsz", argsz, 32)
        with self.process.log.call("dirty", f"fd{self.fd}", flags=flags) as call:
            bitmap = self.server.dirty(flags, argsz, iova, size, bm_pgsize, bm_size, ptr)
            if bitmap is not None:
                call.output = {"dirty_bits": bitmap.bit_count()}
            return bitmap

    def ioctl(self, cmd: int, arg: int = 0) -> int:
        """Call by number. A pointer cannot be given this way (EFAULT); unknown numbers: EINVAL before SET_IOMMU, ENOTTY after."""
        self._need_open()
        cmd, arg = field("cmd", cmd, 64), field("arg", arg)
        if cmd == 0x3B64:
            return self.get_api_version()
        if cmd == 0x3B65:
            return self.check_extension(arg)
        if cmd == 0x3B66:
            self.set_iommu(arg)
            return 0
        with self.process.log.call("raw_ioctl", f"fd{self.fd}", cmd=cmd, arg=arg):
            if cmd == 0x3B71:
                self.server.map(0, 0, 0, 0, 0, "bad", "")
            elif cmd == 0x3B72:
                self.server.unmap(0, 0, 0, 0, 0, 0, "bad")
            raise self.server.unknown()

    def close(self) -> None:
        """Close the descriptor; the address space lives on while groups are in it."""
        self._close("close_container")

    def __repr__(self) -> str:
        return f"Container(fd {self.fd}, groups {[group.id for group in self.groups]}, {self.backend!r})"


class _SetContainer:
    """What GROUP_SET_CONTAINER's checks look at."""

    __slots__ = ("fd", "file", "group", "noiommu_denied", "vfio")

    def __init__(self, group: Group, fd: int) -> None:
        process = group.process
        self.group, self.vfio, self.fd = group, group.vfio, fd
        self.file = process.descriptors.get(fd) if fd >= 0 else None
        self.noiommu_denied = group.vfio.noiommu and CAP_SYS_RAWIO not in process.capabilities


def _not_open(r: _SetContainer) -> str | None:
    return f"descriptor {r.fd} is not open" if r.file is None and not 0 <= r.fd <= 2 else None


def _in_container(r: _SetContainer) -> str | None:
    return f"group {r.vfio.id} is in a container already" if r.vfio.container is not None else None


def _wrong_kind(r: _SetContainer) -> str | None:
    return f"descriptor {r.fd} is no container" if not isinstance(r.file, Container) else None


def _first_fd(kernel: Kernel) -> bool:
    return kernel.has("negative_fd_ebadf")


def _fd_later(kernel: Kernel) -> bool:
    return not kernel.has("negative_fd_ebadf")


_LEAVE = "GROUP_UNSET_CONTAINER first: a group is in one container at a time"
_OPEN = "pass an open descriptor of /dev/vfio/vfio"

SET_CONTAINER_CHECKS = (
    Check("the descriptor is not negative", "EINVAL", SET_CONTAINER, lambda r: f"the container's descriptor is {r.fd}" if r.fd < 0 else None, _OPEN, _fd_later),
    Check("the descriptor is open", "EBADF", SET_CONTAINER, _not_open, _OPEN, _first_fd),
    Check("the group is in no container", "EINVAL", SET_CONTAINER, _in_container, _LEAVE),
    Check("the group still has a device on a VFIO driver", "ENODEV", SET_CONTAINER,
          lambda r: f"group {r.vfio.id} lost its last VFIO device: this descriptor is dead" if r.vfio.dead else None, "close it, bind the device again, open the group again",
          lambda k: k.has("group_can_die")),
    Check("the process may use no-IOMMU groups", "EPERM", SET_CONTAINER, lambda r: "a no-IOMMU group needs CAP_SYS_RAWIO" if r.noiommu_denied else None, "run as root",
          lambda k: k.has("noiommu")),
    Check("the descriptor is open", "EBADF", SET_CONTAINER, _not_open, _OPEN, _fd_later),
    Check("the descriptor is a container", "EINVAL", SET_CONTAINER, _wrong_kind, _OPEN, lambda k: not k.has("wrong_fd_ebadfd")),
    Check("the descriptor is a container or an iommufd", "EBADFD", SET_CONTAINER, _wrong_kind, _OPEN, lambda k: k.has("wrong_fd_ebadfd")),
)  # fmt: skip


class Group(Descriptor):
    """An open /dev/vfio/N. A group can be open once."""

    def __init__(self, process: UserProcess, vfio: VfioGroup) -> None:
        super().__init__(process)
        self.vfio = vfio
        vfio.opened = True
        vfio.users += 1

    @property
    def id(self) -> int:
        """Number of the group."""
        return self.vfio.id

    def get_status(self, argsz: int = 8, *, ptr: str = "good") -> int:
        """GROUP_GET_STATUS: flags, 1 viable, 2 in a container. EFAULT, EINVAL (argsz below 8), ENODEV (dead, 6.1 and later)."""
        self._need_open()
        argsz, ptr = field("argsz", argsz, 32), pointer(ptr)
        source = f"vfio_group_ioctl_get_status, {CORE}"
        with self.process.log.call("group_status", f"fd{self.fd}") as call:
            if ptr != "good":
                raise VfioError("EFAULT", f"the pointer to the struct is {ptr}", source, "pass a pointer to a struct vfio_group_status")
            if argsz < 8:
                raise VfioError("EINVAL", f"argsz {argsz} is below 8, the size of the struct", source, "set argsz = 8")
            self._need_alive(source)
            inside = self.vfio.container is not None
            viable = (inside and self.process.system.kernel.has("dma_ownership")) or self.process.system.drivers.viable(self.vfio.group)
            flags = int(viable) | 2 * int(inside)
            call.output = {"flags": flags}
            return flags

    def _need_alive(self, source: str) -> None:
        if self.vfio.dead:
            raise VfioError(
                "ENODEV",
                f"group {self.id} lost its last VFIO device: this descriptor is dead",
                source,
                "close it, bind the device again, open the group again",
            )

    def set_container(self, container: Container | int) -> None:
        """GROUP_SET_CONTAINER: join a container, and its backend if it has one. The checks by version are `SET_CONTAINER_CHECKS`."""
        self._need_open()
        fd = container.fd if isinstance(container, Container) else field("fd", container, 32)
        fd = fd - (1 << 32) if fd >= 1 << 31 else fd
        with self.process.log.call("set_container", f"fd{self.fd}", container=f"fd{fd}"):
            request = _SetContainer(self, fd)
            run_checks(self.process.set_container_checks, request)
            assert isinstance(request.file, Container)
            server = request.file.server
            server.check_enter(self.vfio)
            server.enter(self.vfio)

    def unset_container(self) -> None:
        """GROUP_UNSET_CONTAINER: leave. EINVAL (in none), EBUSY (a device is open)."""
        self._need_open()
        source = f"vfio_group_ioctl_unset_container, {CORE}"
        with self.process.log.call("unset_container", f"fd{self.fd}"):
            server = self.vfio.container
            if server is None:
                raise VfioError("EINVAL", f"group {self.id} is in no container", source, "GROUP_SET_CONTAINER first")
            busy = sorted(name for name, count in self.vfio.devices_open.items() if count)
            if busy and isinstance(server, Native):
                raise VfioError(
                    "EBUSY",
                    f"{', '.join(busy)} of group {self.id} {'is' if len(busy) == 1 else 'are'} open",
                    source,
                    "close the device descriptors first",
                )
            self._leave()

    def _leave(self) -> None:
        server = self.vfio.container
        if server is not None:
            server.leave(self.vfio)

    def get_device_fd(self, name: str) -> Device:
        """GROUP_GET_DEVICE_FD: open a device of the group. ENODEV, EINVAL and their order changed in 5.19; see the checks' sources."""
        self._need_open()
        with self.process.log.call("get_device_fd", f"fd{self.fd}", name=name):
            source = f"vfio_group_get_device_fd, {CORE}"
            unknown = None
            if name not in self.vfio.bound:
                where = "is not bound to a VFIO driver" if name in self.vfio.group.devices else f"is not in group {self.id}"
                unknown = VfioError("ENODEV", f"device {name} {where}", source, "name a device of this group that is on vfio-pci")
            owned = self.process.system.kernel.has("dma_ownership")
            if owned and unknown:
                raise unknown
            self._need_backend(source, owned)
            if unknown:
                raise unknown
            server = self.vfio.container
            assert server is not None
            server.open_device(self.vfio, name)
            return Device(self.process, self, name, server)

    def _need_backend(self, source: str, owned: bool) -> None:
        server = self.vfio.container
        fix = "GROUP_SET_CONTAINER and SET_IOMMU first"
        if server is None:
            raise VfioError("EINVAL", f"group {self.id} is in no container", source, fix)
        if isinstance(server, Native) and server.backend is None:
            raise VfioError("EINVAL", f"the container of group {self.id} has no backend", source, fix)
        if not owned and not self.process.system.drivers.viable(self.vfio.group):
            bad = ", ".join(sorted(self.vfio.group.native))
            raise VfioError(
                "EINVAL",
                f"group {self.id} is not viable: {bad} on a native driver",
                source,
                "unbind those devices, or bind them to vfio-pci or pci-stub",
            )
        if self.vfio.noiommu and CAP_SYS_RAWIO not in self.process.capabilities:
            raise VfioError("EPERM", "a device of a no-IOMMU group needs CAP_SYS_RAWIO", source, "run as root")

    def ioctl(self, cmd: int, arg: int = 0) -> int:
        """Any other ioctl number: ENOTTY."""
        self._need_open()
        with self.process.log.call("raw_ioctl", f"fd{self.fd}", cmd=field("cmd", cmd, 64), arg=field("arg", arg)):
            raise VfioError(
                "ENOTTY", f"ioctl {cmd:#x} is none of a group's", f"vfio_group_fops_unl_ioctl, {CORE}", "see the group's ioctls"
            )

    def close(self) -> None:
        """Close the descriptor; the group leaves its container when no device of it is open any more."""
        self._close("close_group")

    def release(self) -> Iterable[File]:
        """Let the node be opened again; the last user takes the group out of its container."""
        self.vfio.opened = False
        self.process.drop_user(self.vfio)
        return ()

    def __repr__(self) -> str:
        return f"Group(fd {self.fd}, group {self.id})"


class Device(Descriptor):
    """An open device of a group."""

    def __init__(self, process: UserProcess, group: Group, name: str, server: Server) -> None:
        super().__init__(process)
        self.name, self.vfio, self._server = name, group.vfio, server
        self._group = group if server.pins_group else None
        if self._group is not None:
            self._group.references += 1
        else:
            self.vfio.users += 1
        self.vfio.devices_open[name] = self.vfio.devices_open.get(name, 0) + 1

    @property
    def irqs(self) -> IrqState:
        """What is enabled on the device, shared by all its descriptors."""
        return self.process.irqs.setdefault(self.name, IrqState())

    def set_irqs(self, index: int, start: int = 0, count: int = 1, flags: int | None = None) -> None:
        """DEVICE_SET_IRQS: index 0 INTx, 1 MSI, 2 MSI-X; count 0 disables. EINVAL as `msi.IRQ_CHECKS` lists."""
        self._need_open()
        index, start, count = field("index", index, 32), field("start", start, 32), field("count", count, 32)
        flags = (TRIGGER_EVENTFD if count else DISABLE) if flags is None else field("flags", flags, 32)
        system = self.process.system
        with self.process.log.call("set_irqs", f"fd{self.fd}", index=index, start=start, count=count):
            dynamic = (
                index == 2
                and system.kernel.has("dynamic_msix_its")
                and system.interrupts is not None
                and system.interrupts.kind == "gicv3-its"
            )
            request = IrqRequest(system.drivers.topology[self.name], self.irqs, dynamic, index, start, count, flags)
            set_irqs(system.core, system.interrupts, self.vfio.group, request)

    def close(self) -> None:
        """Close the descriptor."""
        self._close("close_device")

    def release(self) -> Iterable[File]:
        """Disable the interrupts with the device's last descriptor; the group file loses a reference."""
        self.vfio.devices_open[self.name] -= 1
        if not self.vfio.devices_open[self.name]:
            self.irqs.disable()
        self._server.close_device(self.vfio, self.name)
        if self._group is not None:
            return (self._group,)
        self.process.drop_user(self.vfio)
        return ()

    def __repr__(self) -> str:
        return f"Device(fd {self.fd}, {self.name})"


class UserProcess(Process):
    """The user's process, with the calls that open VFIO's files."""

    def __init__(self, system: System, new_server: Callable[[System, Process], Server], arena: Arena, memlock: int | None) -> None:
        super().__init__(system.log, arena, memlock, system.core.page_size)
        self.system = system
        self.irqs: dict[str, IrqState] = {}
        self.set_container_checks = for_kernel(SET_CONTAINER_CHECKS, system.kernel)
        self._new_server = new_server

    def open_container(self) -> Container:
        """Open /dev/vfio/vfio: anyone may."""
        with self.log.call("open_container") as call:
            container = Container(self, self._new_server(self.system, self))
            call.args["fd"] = container.fd
            return container

    def open_group(self, group: int | str) -> Group:
        """Open /dev/vfio/N by number, or the group of a device. ENOENT (no such node), EBUSY (open already), EPERM (no-IOMMU)."""
        with self.log.call("open_group", str(group)) as call:
            vfio = self._find_group(group)
            source = f"vfio_group_fops_open, {CORE}"
            if vfio.noiommu and CAP_SYS_RAWIO not in self.capabilities and self.system.kernel.has("noiommu"):
                raise VfioError("EPERM", "a no-IOMMU group needs CAP_SYS_RAWIO", source, "run as root")
            if vfio.opened:
                raise VfioError("EBUSY", f"/dev/vfio/{vfio.id} is open already: a group has one user", source, "close it there first")
            if vfio.container is not None:
                raise VfioError(
                    "EBUSY", f"group {vfio.id} is still in a container from an earlier open", source, "close its device descriptors first"
                )
            opened = Group(self, vfio)
            call.args["fd"] = opened.fd
            call.output = {"group": vfio.id}
            return opened

    def _find_group(self, group: int | str) -> VfioGroup:
        drivers, source = self.system.drivers, "open of /dev/vfio/N"
        if isinstance(group, str) and not group.isdecimal():
            drivers.driver_of(group)
            of = self.system.core.group_of(group)
            vfio = drivers.groups.get(of.id) if of else drivers.noiommu.get(group)
            if vfio is None:
                where = (
                    f"/dev/vfio/{of.id} does not exist: no device of the group is on a VFIO driver"
                    if of
                    else f"{group} is in no IOMMU group"
                )
                raise VfioError("ENOENT", where, source, f"bind {group} to vfio-pci first")
            return vfio
        number = field("group", int(group), 32)
        for vfio in (*drivers.groups.values(), *drivers.noiommu.values()):
            if vfio.id == number:
                return vfio
        raise VfioError(
            "ENOENT",
            f"/dev/vfio/{number} does not exist: no device of such a group is on a VFIO driver",
            source,
            "bind its devices to vfio-pci first",
        )

    def drop_user(self, vfio: VfioGroup) -> None:
        """Drop one user of a VFIO group; the last takes it out of its container."""
        last = vfio.users == 1
        server = vfio.container
        if server is not None and (last or not isinstance(server, Native)) and not vfio.opened:
            server.leave(vfio)
        self.system.drivers.put(vfio)

    def set_memlock(self, limit: int | None) -> None:
        """Set the soft RLIMIT_MEMLOCK in bytes; None for unlimited."""
        if limit is not None:
            limit = field("limit", limit)
        with self.log.call("rlimit_memlock", "-1" if limit is None else f"{limit:#x}"):
            self.memlock = limit

    def remap(self, vaddr: int, size: int, prot: str = "rw") -> None:
        """Put fresh memory at `vaddr` (mmap with MAP_FIXED); prot: rw, r, none, or hole for nothing."""
        with self.log.call("mem", "", vaddr=vaddr, size=size, prot=prot):
            self.memory.place(Span.sized(vaddr, size), prot)

    def drop_capability(self, number: int = CAP_IPC_LOCK) -> None:
        """Give up a capability; 14 is CAP_IPC_LOCK, 17 CAP_SYS_RAWIO."""
        with self.log.call("drop_cap", "", cap=number):
            self.capabilities.discard(number)

    def restore_capability(self, number: int = CAP_IPC_LOCK) -> None:
        """Take a capability back."""
        with self.log.call("drop_cap", "", cap=number, restore=1):
            self.capabilities.add(number)

    def exit(self) -> None:
        """End the process: every descriptor closes, in the kernel's order."""
        with self.log.call("exit"):
            super().exit()

    def _check(self) -> None:
        for number, file in self.descriptors.items():
            assert isinstance(file, Descriptor)
            assert file.fd == number
            assert file.references > 0
            if isinstance(file, Container):
                file.server._check()
        assert self.locked_pages >= 0
