"""What the calls on groups and their files test, in each kernel's order (drivers/vfio/vfio.c, later container.c and group.c)."""

from __future__ import annotations

import re
from typing import NamedTuple

from vfiolab.model.backends.group import CORE, SET_CONTAINER, VfioGroup
from vfiolab.model.checks import Check
from vfiolab.model.pci.topology import Function
from vfiolab.model.user.drivers import Drivers

VFIO_PCI = "drivers/vfio/pci/vfio_pci_core.c"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_DEAD = "group {r.vfio.id} lost its last VFIO device: this descriptor is dead"
_REOPEN = "close it, bind the device again, open the group again"


# descriptors


class Used(NamedTuple):
    """A descriptor that a process uses. `whose`: who has it if the process has not, "" if it has."""

    fd: int
    whose: str = ""


DESCRIPTOR_CHECKS = (
    Check("the descriptor is open", "EBADF", "fdget, fs/file.c", "descriptor {r.fd} is closed", "open it again", test="not r.whose"),
    Check("the container is this process's", "EBADF", "fdget, fs/file.c", "descriptor {r.fd} belongs to {r.whose}", "pass a container that this process has open"),
)  # fmt: skip


class Command(NamedTuple):
    """An ioctl by number, on a descriptor of some kind. `what` its pointer leads to, if it takes one."""

    cmd: int
    kind: str
    what: str = ""


IOCTL_CHECKS = (
    Check("the pointer can be read", "EFAULT", f"ioctl of a descriptor, {CORE}", "the pointer to {r.what} is bad", "pass a pointer to {r.what}", test="r.what"),
    Check("the descriptor has the ioctl", "ENOTTY", f"ioctl of a descriptor, {CORE}", "ioctl {r.cmd:#_x} is none of a {r.kind}'s", "see the {r.kind}'s ioctls", test="not r.what"),
)  # fmt: skip
INFO_BACK_CHECKS = (
    Check("the struct can be written back", "EFAULT", "vfio_iommu_type1_ioctl, drivers/vfio/vfio_iommu_type1.c", "the struct cannot be written back", "pass writable memory", "copy_back_efault", "not r"),
)  # fmt: skip
NAME_CHECKS = (
    Check("the name ends within a page", "EINVAL", "strndup_user, mm/util.c", lambda r: f"no zero ends the device's name within {len(r)} bytes", "end the name with a zero", test="b'\\0' not in r"),
)  # fmt: skip


# a device's questions

STRUCT_CHECKS = (
    Check("the struct can be read", "EFAULT", f"vfio_pci_core_ioctl, {VFIO_PCI}", "the pointer to the struct is {r.ptr}", "pass a pointer to a struct {r.NAME}", test="r.ptr != 'good'"),
    Check("argsz holds the struct", "EINVAL", f"vfio_pci_core_ioctl, {VFIO_PCI}", "argsz {r.argsz} is below {r.MINIMUM}, what a struct {r.NAME} needs", "set argsz to its size",
          test="r.argsz < r.MINIMUM"),
)  # fmt: skip


# opening a group


class OpenGroup(NamedTuple):
    """An open of a node below /dev/vfio: the VFIO group there, or why there is none, and what would make one."""

    vfio: VfioGroup | None
    rawio: bool
    missing: str = ""
    fix: str = ""


OPEN_GROUP_CHECKS = (
    Check("the node exists", "ENOENT", "open of /dev/vfio/N", "{r.missing}", "{r.fix}", test="r.vfio is None"),
    Check("the process may use no-IOMMU groups", "EPERM", f"vfio_group_fops_open, {CORE}", "a no-IOMMU group needs CAP_SYS_RAWIO", "run as root",
          "noiommu", "r.vfio.noiommu and not r.rawio"),
    Check("no device of it is tied to an iommufd by its own node", "EBUSY", f"vfio_group_fops_open, {CORE}", lambda r: f"{', '.join(sorted(r.vfio.by_node))} of group {r.vfio.id} is tied to an iommufd",
          "close that device first", "device_cdev", "r.vfio.by_node"),
    Check("the group is not open", "EBUSY", f"vfio_group_fops_open, {CORE}", "/dev/vfio/{r.vfio.id} is open already: a group has one user", "close it there first", test="r.vfio.opened"),
    Check("the group is in no container", "EBUSY", f"vfio_group_fops_open, {CORE}", "group {r.vfio.id} is still in a container from an earlier open", "close its device descriptors first",
          test="r.vfio.container is not None"),
)  # fmt: skip


# a group's ioctls

STATUS = f"vfio_group_ioctl_get_status, {CORE}"
STATUS_CHECKS = (
    Check("the struct can be read", "EFAULT", STATUS, "the pointer to the struct is {r.ptr}", "pass a pointer to a struct vfio_group_status", test="r.ptr != 'good'"),
    Check("argsz holds the struct (8 bytes)", "EINVAL", STATUS, "argsz {r.argsz} is below 8, the size of the struct", "set argsz = 8", test="r.argsz < 8"),
    Check("the group still has a device on a VFIO driver", "ENODEV", STATUS, _DEAD, _REOPEN, test="r.vfio.dead"),
)  # fmt: skip


class SetContainer(NamedTuple):
    """A group that asks to join a container: the descriptor it names, and what that is."""

    vfio: VfioGroup
    fd: int
    is_open: bool
    is_container: bool
    noiommu_denied: bool


_OPEN = "pass an open descriptor of /dev/vfio/vfio"
_NOT_OPEN, _WRONG_KIND = "descriptor {r.fd} is not open", "descriptor {r.fd} is no container"

SET_CONTAINER_CHECKS = (
    Check("the descriptor is not negative", "EINVAL", SET_CONTAINER, "the container's descriptor is {r.fd}", _OPEN, "not negative_fd_ebadf", "r.fd < 0"),
    Check("the descriptor is open", "EBADF", SET_CONTAINER, _NOT_OPEN, _OPEN, "negative_fd_ebadf", "not r.is_open"),
    Check("the group is in no container", "EINVAL", SET_CONTAINER, "group {r.vfio.id} is in a container already", "GROUP_UNSET_CONTAINER first: a group is in one container at a time",
          test="r.vfio.container is not None"),
    Check("the group still has a device on a VFIO driver", "ENODEV", SET_CONTAINER, _DEAD, _REOPEN, "group_can_die", "r.vfio.dead"),
    Check("the process may use no-IOMMU groups", "EPERM", SET_CONTAINER, "a no-IOMMU group needs CAP_SYS_RAWIO", "run as root", "noiommu", "r.noiommu_denied"),
    Check("the descriptor is open", "EBADF", SET_CONTAINER, _NOT_OPEN, _OPEN, "not negative_fd_ebadf", "not r.is_open"),
    Check("the descriptor is a container", "EINVAL", SET_CONTAINER, _WRONG_KIND, _OPEN, "not wrong_fd_ebadfd", "not r.is_container"),
    Check("the descriptor is a container or an iommufd", "EBADFD", SET_CONTAINER, _WRONG_KIND, _OPEN, "wrong_fd_ebadfd", "not r.is_container"),
)  # fmt: skip


def _devices_open(vfio: VfioGroup) -> str | None:
    busy = sorted(name for name, count in vfio.devices_open.items() if count)
    return f"{', '.join(busy)} of group {vfio.id} {'is' if len(busy) == 1 else 'are'} open" if busy else None


UNSET = f"vfio_group_ioctl_unset_container, {CORE}"
UNSET_CHECKS = (
    Check("the group is in a container", "EINVAL", UNSET, "group {r.id} is in no container", "GROUP_SET_CONTAINER first", test="r.container is None"),
    Check("no device of the group is open (native container)", "EBUSY", UNSET, _devices_open, "close the device descriptors first", test="not r.container.attaches_at_open"),
)  # fmt: skip


# a device's opening


class OpenDevice(NamedTuple):
    """An open of a group's device by `name`: the bound `device` that it stands for, and the `options` behind it."""

    vfio: VfioGroup
    name: str
    device: str | None
    options: str
    drivers: Drivers
    rawio: bool

    @property
    def function(self) -> Function | None:
        """The PCI function, None for an emulated device."""
        return self.drivers.topology[self.device] if self.device is not None and self.device in self.drivers.topology else None

    @property
    def hidden(self) -> bool:
        """Whether the device is being unbound and cannot be found any more."""
        return self.device is not None and self.drivers.hides(self.device)


def _unknown(r: OpenDevice) -> str:
    return f"device {r.name} {'is not bound to a VFIO driver' if r.name in r.vfio.group.devices else f'is not in group {r.vfio.id}'}"


def _bad_option(r: OpenDevice) -> str | None:
    if r.function is None:
        return None
    for number, word in enumerate(r.options.split()):
        name, _, value = word.partition("=")
        if name != "vf_token" or number or not re.match(_UUID, value):
            return f"{word!r} is no option of a device"
    return None


def _token_for_none(r: OpenDevice) -> str | None:
    function = r.function
    if function is None or (function.kind != "vf" and function.sriov_totalvfs):
        return None
    return f"a VF token for {function.bdf}, {'a VF whose PF is not on vfio-pci' if function.kind == 'vf' else 'neither a PF nor a VF'}"


GET_DEVICE = f"vfio_group_get_device_fd, {CORE}"
_TO_BACKEND = "GROUP_SET_CONTAINER and SET_IOMMU first"


def _match(when: str) -> tuple[Check, ...]:
    """Return how the name finds its device: a VF whose PF is on vfio-pci would need the token (EACCES), but cannot be made in this model."""
    return (
        Check("the device is on a VFIO driver in this group", "ENODEV", GET_DEVICE, _unknown, "name a device of this group that is on vfio-pci", when, "r.device is None"),
        Check("the device is not being unbound", "ENODEV", f"vfio_device_get_from_name, {CORE}", "device {r.device} is being unbound", "bind it again", when, "r.hidden"),
        Check("its options are known", "EINVAL", f"vfio_pci_core_match, {VFIO_PCI}", _bad_option, "vf_token=UUID is the one there is", when, "r.options"),
        Check("a VF token is given for a PF or VF only", "EINVAL", f"vfio_pci_validate_vf_token, {VFIO_PCI}", _token_for_none, "open the device without a token", when, "r.options.split()"),
    )  # fmt: skip


OPEN_DEVICE_CHECKS = (
    *_match("dma_ownership"),
    Check("the group is in a container", "EINVAL", GET_DEVICE, "group {r.vfio.id} is in no container", _TO_BACKEND, test="r.vfio.container is None"),
    Check("the container has a backend", "EINVAL", GET_DEVICE, "the container of group {r.vfio.id} has no backend", _TO_BACKEND,
          test="not r.vfio.container.attaches_at_open and r.vfio.container.backend is None"),
    Check("the group is viable", "EINVAL", GET_DEVICE, lambda r: f"group {r.vfio.id} is not viable: {', '.join(sorted(r.vfio.group.native))} on a native driver",
          "unbind those devices, or bind them to vfio-pci or pci-stub", "not dma_ownership", "not r.drivers.viable(r.vfio.group)"),
    Check("the process may use no-IOMMU groups", "EPERM", GET_DEVICE, "a device of a no-IOMMU group needs CAP_SYS_RAWIO", "run as root", test="r.vfio.noiommu and not r.rawio"),
    *_match("not dma_ownership"),
)  # fmt: skip


# iommufd, and devices opened by nodes of their own

CDEV = "drivers/vfio/device_cdev.c"


class Node(NamedTuple):
    """A node that is opened: `missing` says why it is not there, "" if it is."""

    missing: str = ""
    fix: str = ""


NODE_CHECKS = (
    Check("the node of that name exists", "ENOENT", f"misc_register, drivers/iommu/iommufd/main.c; vfio_device_fops_cdev_open, {CDEV}", "{r.missing}", "{r.fix}", test="r.missing"),
)  # fmt: skip
GRANTED_CHECKS = (
    Check("the device is tied to an iommufd", "EINVAL", "vfio_device_fops_unl_ioctl, drivers/vfio/vfio_main.c", "{r.name} was opened by its own node, and is tied to no iommufd yet", "BIND_IOMMUFD first",
          test="not r.granted"),
)  # fmt: skip
BIND_IOMMUFD = f"vfio_df_ioctl_bind_iommufd, {CDEV}"
BIND_IOMMUFD_CHECKS = (
    Check("the struct can be read", "EFAULT", BIND_IOMMUFD, "the pointer to the struct is {r.ptr}", "pass a pointer to a struct {r.NAME}", test="r.ptr != 'good'"),
    Check("argsz holds the struct (16 bytes)", "EINVAL", BIND_IOMMUFD, "argsz {r.argsz} is below 16", "set argsz = 16", test="r.argsz < 16"),
    Check("no flags are set", "EINVAL", BIND_IOMMUFD, "flags {r.flags:#_x}: there are none", "set flags = 0", test="r.flags"),
    Check("the iommufd's descriptor is not negative", "EINVAL", BIND_IOMMUFD, "the iommufd's descriptor is {r.fd}", "open /dev/iommu", test="r.fd < 0"),
    Check("the device was opened by its own node", "EINVAL", BIND_IOMMUFD, "{r.device.name} was opened through its group", "open /dev/vfio/devices/vfioN", test="r.device.KIND == 'device'"),
    Check("its group's node is not open", "EBUSY", f"vfio_device_block_group, {CORE}", "/dev/vfio/{r.device.vfio.id} is open: a group is used in one of the two ways", "close the group", test="r.device.vfio.opened"),
    Check("this descriptor is not tied yet", "EINVAL", BIND_IOMMUFD, "{r.device.name} is tied to an iommufd already", "close it, and open it again", test="r.device.file.granted"),
    Check("the iommufd's descriptor is open", "EBADF", BIND_IOMMUFD, "descriptor {r.fd} is not open", "open /dev/iommu", test="not r.device.process.holds(r.fd)"),
    Check("it is an iommufd", "EBADFD", BIND_IOMMUFD, "descriptor {r.fd} is no iommufd", "open /dev/iommu",
          test="getattr(r.device.process.descriptors.get(r.fd), 'KIND', '') != 'iommufd'"),
    Check("nobody else has the device open", "EINVAL", "vfio_df_open, drivers/vfio/vfio_main.c", "{r.device.name} is in use by another descriptor", "close it there",
          test="r.device.name in r.device.vfio.by_node or r.device.vfio.devices_open[r.device.name] > r.device.vfio.cdevs[r.device.name]"),
)  # fmt: skip
ATTACH_PT = f"vfio_df_ioctl_attach_pt, vfio_df_ioctl_detach_pt, {CDEV}"
ATTACH_PT_CHECKS = (
    Check("the struct can be read", "EFAULT", ATTACH_PT, "the pointer to the struct is {r.ptr}", "pass a pointer to a struct {r.NAME}", test="r.ptr != 'good'"),
    Check("argsz holds the struct", "EINVAL", ATTACH_PT, "argsz {r.argsz} is below {r.MINIMUM}, what a struct {r.NAME} needs", "set argsz to its size", test="r.argsz < r.MINIMUM"),
    Check("no flags are set", "EINVAL", ATTACH_PT, "flags {r.flags:#_x}: there are none", "set flags = 0", test="r.flags"),
)  # fmt: skip


class GivenUp(NamedTuple):
    """A capability that a process asks for again, and whether it gave it up for good."""

    number: int
    for_good: bool


CAPABILITY_CHECKS = (
    Check("the capability was not given up for good", "EPERM", "cap_capset, security/commoncap.c", "capability {r.number} was given up for good", "drop it with keep=True",
          test="r.for_good"),
)  # fmt: skip
