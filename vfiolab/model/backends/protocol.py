"""What the rooms above and below a backend need of each other: the server behind a descriptor, the host, and the process that calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from vfiolab.model.address import Span
from vfiolab.model.events import EventLog
from vfiolab.model.iommu.core import IommuCore
from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.info import Info
from vfiolab.model.uapi.requests import DirtyPages, IommuInfo, MapDma, UnmapDma

if TYPE_CHECKING:
    from vfiolab.model.backends.compat import Backend
    from vfiolab.model.backends.group import VfioGroup


class System(Protocol):
    """What a server needs of a host. `user_pages`: locked pages that count for all processes of the user (iommufd's own accounting)."""

    kernel: Kernel
    core: IommuCore
    params: dict[str, str]
    log: EventLog
    user_pages: int


class UserMemory(Protocol):
    """A process's memory, as far as it can be pinned. `plain`: no fresh memory and no BAR was ever placed in it."""

    plain: bool

    def pinned(self, vaddr: int, size: int, prot: int, bars: str) -> list[tuple[int, int]] | None:
        """Return (physical address, bytes) of the contiguous pieces of a range, None if a page of it cannot be pinned."""

    def first_bad(self, vaddr: int, size: int, prot: int, bars: str, page_size: int) -> int | None:
        """Return the index of the first page that cannot be pinned, None if all can."""

    def physical_runs(self, vaddr: int, size: int) -> list[tuple[int, int]]:
        """Return (physical address, bytes) of each contiguous piece of pinned memory."""

    def uncharged(self, vaddr: int, size: int, *, zeros: bool, page_size: int) -> int:
        """Return how many pages of a range are never counted as locked."""

    def written(self, span: Span) -> None:
        """Note that every byte of `span` gets written."""


class Caller(Protocol):
    """The process that calls: whose memory is mapped, and whose account of locked pages is charged.

    `copy_out` puts bytes at an address of its memory, and says whether it could.
    """

    memlock: int | None
    locked_pages: int
    page_size: int
    capabilities: set[int]
    copy_out: Callable[[int, bytes], bool]

    @property
    def memory(self) -> UserMemory:
        """Its memory."""

    @property
    def limit_pages(self) -> int | None:
        """Pages that may be locked; None without a limit."""

    def room(self) -> int | None:
        """Pages that may still be locked; None without a limit."""


class Server(Protocol):
    """What stands behind a container descriptor.

    `pins_group`: an open device holds its group's file. `attaches_at_open`: a group is claimed and attached with its first open device, and
    may leave while one is open; otherwise it is attached all the time that it is inside.
    """

    pins_group: bool
    attaches_at_open: bool

    @property
    def backend(self) -> Backend | None:
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

    def info(self, request: IommuInfo) -> Info:
        """GET_INFO."""

    def map(self, caller: Caller, request: MapDma) -> None:
        """MAP_DMA."""

    def unmap(self, caller: Caller, request: UnmapDma) -> tuple[int, int | None]:
        """UNMAP_DMA: return the bytes unmapped, and the dirty bitmap if it was asked for."""

    def dirty(self, caller: Caller, request: DirtyPages) -> int | None:
        """DIRTY_PAGES."""

    def refuse_unknown(self, cmd: int) -> None:
        """Refuse an ioctl that is none of the container's."""

    def open_device(self, group: VfioGroup, name: str) -> None:
        """Open a device of a group: what has to happen first."""

    def close_device(self, group: VfioGroup, name: str) -> None:
        """Close a device of a group."""

    def close(self) -> None:
        """Close the descriptor's file: no process has it any more."""

    def _check(self) -> None:
        """Assert the invariants."""
