"""Open files of VFIO: several descriptors, of one process or many, may share one."""

from __future__ import annotations

from collections.abc import Iterable

from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.iommufd import Bound, Context
from vfiolab.model.backends.protocol import Server
from vfiolab.model.user.drivers import DeviceState, Drivers
from vfiolab.model.user.process import File


class OpenFile:
    """An open file: what descriptors of one process or several lead to. It goes with the last reference."""

    def __init__(self) -> None:
        self.references = 0

    def release(self) -> Iterable[File]:
        """Let go at the last reference; return the files that it held."""
        return ()


class ContainerFile(OpenFile):
    """An open /dev/vfio/vfio or /dev/iommu."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self.server = server

    def release(self) -> Iterable[File]:
        """Let the server go."""
        self.server.close()
        return ()


class GroupFile(OpenFile):
    """An open /dev/vfio/N: the node can be open once."""

    def __init__(self, drivers: Drivers, vfio: VfioGroup) -> None:
        super().__init__()
        self.drivers, self.vfio = drivers, vfio
        vfio.opened = True
        vfio.users += 1

    def release(self) -> Iterable[File]:
        """Let the node be opened again; the last user takes the group out of its container."""
        self.vfio.opened = False
        self.drivers.drop_user(self.vfio)
        return ()


class DeviceFile(OpenFile):
    """An open device of a group."""

    def __init__(self, drivers: Drivers, group: GroupFile, name: str, server: Server) -> None:
        super().__init__()
        self.drivers, self.name, self.vfio, self.server = drivers, name, group.vfio, server
        self._group = group if server.pins_group else None
        if self._group is not None:
            self._group.references += 1
        else:
            self.vfio.users += 1
        self.vfio.devices_open[name] = self.vfio.devices_open.get(name, 0) + 1

    @property
    def granted(self) -> bool:
        """Whether the device's ioctls work."""
        return True

    @property
    def state(self) -> DeviceState:
        """What the device holds while somebody has it open, shared by all who have."""
        return self.drivers.device_state(self.name)

    @property
    def memory_space(self) -> bool:
        """Whether the device answers at its BARs: bit 1 of the command register."""
        return self.state.memory_space

    def release(self) -> Iterable[File]:
        """Disable the interrupts with the last open file of the device; the group's file loses a reference, or the group a user."""
        self.vfio.devices_open[self.name] -= 1
        if not self.vfio.devices_open[self.name]:
            self.drivers.forget_device_state(self.name)
        self.server.close_device(self.vfio, self.name)
        if self._group is not None:
            self.drivers.wake()
            return (self._group,)
        self.drivers.drop_user(self.vfio)
        return ()


class CdevFile(DeviceFile):
    """An open /dev/vfio/devices/vfioN: it does nothing until it is tied to an iommufd, whose file it then holds."""

    def __init__(self, drivers: Drivers, vfio: VfioGroup, name: str) -> None:
        OpenFile.__init__(self)
        self.drivers, self.name, self.vfio = drivers, name, vfio
        self.iommufd: ContainerFile | None = None
        self.bound: Bound | None = None
        vfio.users += 1
        vfio.cdevs[name] = vfio.cdevs.get(name, 0) + 1
        vfio.devices_open[name] = vfio.devices_open.get(name, 0) + 1

    @property
    def granted(self) -> bool:
        """Whether the device is tied to an iommufd."""
        return self.bound is not None

    def release(self) -> Iterable[File]:
        """Let the group go; of a device that is tied to an iommufd disable the interrupts, detach it, and return the iommufd's file."""
        self.vfio.devices_open[self.name] -= 1
        self.vfio.cdevs[self.name] -= 1
        held: tuple[File, ...] = ()
        if self.iommufd is not None and self.bound is not None:
            self.drivers.forget_device_state(self.name)
            self.vfio.by_node.remove(self.name)
            server, held = self.iommufd.server, (self.iommufd,)
            assert isinstance(server, Context)
            server.unbind(self.bound)
        self.drivers.drop_user(self.vfio)
        return held
