"""The user's process with the calls that open VFIO's files."""

from __future__ import annotations

from collections.abc import Callable

from vfiolab.model.address import Span
from vfiolab.model.drivers import VfioGroup
from vfiolab.model.errors import VfioError, for_kernel
from vfiolab.model.msi import IrqState
from vfiolab.model.native import CORE
from vfiolab.model.process import CAP_IPC_LOCK, CAP_SYS_RAWIO, Arena, Process
from vfiolab.model.requests import field
from vfiolab.model.server import Server, System
from vfiolab.model.vfio import Container, Descriptor, Group
from vfiolab.model.vfio_checks import SET_CONTAINER_CHECKS


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
        if isinstance(group, str) and group.startswith("noiommu-"):
            unprotected = next((vfio for vfio in drivers.noiommu.values() if f"noiommu-{vfio.id}" == group), None)
            if unprotected is None:
                raise VfioError("ENOENT", f"/dev/vfio/{group} does not exist", source, "bind a device to vfio-pci in no-IOMMU mode first")
            return unprotected
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
        number = field("group", int(group) if isinstance(group, str) else group, 32)
        if number in drivers.groups:
            return drivers.groups[number]
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
        if server is not None and (last or server.attaches_at_open) and not vfio.opened:
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
        place = Span.sized(field("vaddr", vaddr), field("size", size))
        if prot not in ("rw", "r", "none", "hole"):
            raise ValueError(f"memory is rw, r, none or hole, not {prot!r}")
        with self.log.call("mem", "", vaddr=vaddr, size=size, prot=prot):
            self.memory.place(place, prot)

    def drop_capability(self, number: int = CAP_IPC_LOCK, *, keep: bool = True) -> None:
        """Do without a capability; 14 is CAP_IPC_LOCK, 17 CAP_SYS_RAWIO. keep=False gives it up for good."""
        number = field("capability", number, 32)
        with self.log.call("drop_cap", "", cap=number):
            self.capabilities.discard(number)
            if not keep:
                self.permitted.discard(number)

    def restore_capability(self, number: int = CAP_IPC_LOCK) -> None:
        """Take a capability back; EPERM if it was given up for good."""
        number = field("capability", number, 32)
        with self.log.call("drop_cap", "", cap=number, restore=1):
            if number not in self.permitted:
                raise VfioError(
                    "EPERM", f"capability {number} was given up for good", "cap_capset, security/commoncap.c", "drop it with keep=True"
                )
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
