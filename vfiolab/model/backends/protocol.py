"""What a container descriptor needs of whatever stands behind it: the native VFIO container, or iommufd's compatibility layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from vfiolab.model.address import Span
    from vfiolab.model.errors import VfioError
    from vfiolab.model.events import EventLog
    from vfiolab.model.iommu.core import IommuCore
    from vfiolab.model.irq.msi import InterruptController
    from vfiolab.model.kernel import Kernel
    from vfiolab.model.uapi.info import Info
    from vfiolab.model.user.drivers import Drivers, VfioGroup
    from vfiolab.model.user.process import Process


class System(Protocol):
    """What the descriptors need of a host."""

    kernel: Kernel
    core: IommuCore
    drivers: Drivers
    params: dict[str, str]
    log: EventLog
    interrupts: InterruptController | None

    @property
    def bars(self) -> Mapping[str, tuple[Span, ...]]:
        """The bus addresses that devices answer at, where they are known."""

    def add_removed(self) -> None:
        """Bring back every device that was taken off its bus."""


class Server(Protocol):
    """What stands behind a container descriptor.

    `pins_group`: an open device holds its group's file. `attaches_at_open`: a group is claimed and attached with its first open device, and
    may leave while one is open; otherwise it is attached all the time that it is inside.
    """

    pins_group: bool
    attaches_at_open: bool

    @property
    def backend(self) -> object | None:
        """The address space, None before there is one."""

    @property
    def groups(self) -> list[VfioGroup]:
        """Groups in the container, in the order they came."""

    def check_enter(self, group: VfioGroup) -> None:
        """Refuse a group that may not come in."""

    def enter(self, group: VfioGroup) -> None:
        """Take a group in."""

    def leave(self, group: VfioGroup) -> None:
        """Let a group go."""

    def drop(self, group: VfioGroup) -> None:
        """Lose a group whose last device was unbound."""

    def set_iommu(self, kind: int) -> None:
        """Choose the backend."""

    def check_extension(self, number: int) -> int:
        """Answer whether an extension is there."""

    def info(self, argsz: int, ptr: str) -> Info:
        """GET_INFO."""

    def map(self, caller: Process, iova: int, size: int, vaddr: int, flags: int, argsz: int, ptr: str, name: str) -> None:
        """MAP_DMA."""

    def unmap(
        self, caller: Process, iova: int, size: int, flags: int, argsz: int, bm_pgsize: int, bm_size: int, ptr: str
    ) -> tuple[int, int | None]:
        """UNMAP_DMA."""

    def dirty(self, flags: int, argsz: int, iova: int, size: int, bm_pgsize: int, bm_size: int, ptr: str) -> int | None:
        """DIRTY_PAGES."""

    def unknown(self, cmd: int) -> VfioError:
        """Return the refusal of an ioctl that is none of the container's."""

    def open_device(self, group: VfioGroup, name: str) -> None:
        """Open a device of a group: what has to happen first."""

    def close_device(self, group: VfioGroup, name: str) -> None:
        """Close a device of a group."""

    def _check(self) -> None:
        """Assert the invariants."""
