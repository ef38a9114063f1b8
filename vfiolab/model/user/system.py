"""What the descriptors need of a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from vfiolab.model.address import Span
from vfiolab.model.backends.protocol import System
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.user.drivers import Drivers

if TYPE_CHECKING:
    from vfiolab.model.user.process_calls import UserProcess


class UserSystem(System, Protocol):
    """A host, as a process meets it through its descriptors and sysfs."""

    drivers: Drivers
    processes: dict[str, UserProcess]
    interrupts: InterruptController | None

    @property
    def bars(self) -> Mapping[str, tuple[Span, ...]]:
        """The bus addresses that devices answer at, where they are known."""

    def add_removed(self) -> None:
        """Bring back every device that was taken off its bus."""
