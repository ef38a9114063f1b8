"""What GROUP_SET_CONTAINER tests, in each kernel's order."""

from __future__ import annotations

from dataclasses import dataclass

from vfiolab.model.backends.group import VfioGroup
from vfiolab.model.backends.native import SET_CONTAINER
from vfiolab.model.checks import Check
from vfiolab.model.kernel import Kernel


@dataclass(frozen=True, slots=True)
class SetContainer:
    """A group that asks to join a container: the descriptor it names, and what that is."""

    vfio: VfioGroup
    fd: int
    is_open: bool
    is_container: bool
    noiommu_denied: bool


def _not_open(r: SetContainer) -> str | None:
    return f"descriptor {r.fd} is not open" if not r.is_open else None


def _in_container(r: SetContainer) -> str | None:
    return f"group {r.vfio.id} is in a container already" if r.vfio.container is not None else None


def _wrong_kind(r: SetContainer) -> str | None:
    return f"descriptor {r.fd} is no container" if not r.is_container else None


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
