"""The VFIO group: what a container holds, and what a node /dev/vfio/N stands for (struct vfio_group)."""

from __future__ import annotations

from vfiolab.model.backends.protocol import Server
from vfiolab.model.iommu.group import IommuGroup

CORE = "drivers/vfio/vfio.c, later container.c and group.c"
SET_CONTAINER = f"vfio_group_ioctl_set_container, {CORE}"


class VfioGroup:
    """The kernel's VFIO object of one IOMMU group: the node /dev/vfio/`id`, while it exists.

    `bound` are the members on a VFIO driver, `users` the open files that keep it (group and device descriptors), `opened` whether the node
    is open, `dead` whether its last device was taken away from under an open descriptor. `cdevs` counts the open files of each device's own
    node (they are among `devices_open`), `by_node` holds the devices that are tied to an iommufd through theirs.
    """

    __slots__ = ("bound", "by_node", "cdevs", "container", "dead", "devices_open", "group", "noiommu", "opened", "users")

    def __init__(self, group: IommuGroup, *, noiommu: bool = False) -> None:
        self.group = group
        self.noiommu = noiommu
        self.bound: set[str] = set()
        self.users = 0
        self.opened = False
        self.dead = False
        self.devices_open: dict[str, int] = {}
        self.container: Server | None = None
        self.cdevs: dict[str, int] = {}
        self.by_node: set[str] = set()

    @property
    def id(self) -> int:
        """Number of the IOMMU group, and of the node."""
        return self.group.id

    def __repr__(self) -> str:
        return f"VfioGroup({self.id}, bound {sorted(self.bound)})"
