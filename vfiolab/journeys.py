"""What a learner sees of a delivery: a journey that shows itself, and the verbs by which a device of an address space does DMA."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from vfiolab.model import delivery
from vfiolab.model.address import hexa, parse_size
from vfiolab.model.msi import IrqState

if TYPE_CHECKING:
    from vfiolab.draw import Picture
    from vfiolab.model.machine import Host
    from vfiolab.model.user import UserProcess

__all__ = ["Deliveries", "Journey"]


class Journey(delivery.Journey):
    """A journey that shows itself in a cell: picture, table and text."""

    __slots__ = ()

    @classmethod
    def of(cls, plain: delivery.Journey) -> Journey:
        """Return a journey of the model as one that shows itself."""
        return cls(**{field.name: getattr(plain, field.name) for field in fields(plain)})

    def picture(self, upto: int | None = None, width: int = 900) -> Picture:
        """Return the picture of the journey, or of its first `upto` steps."""
        from vfiolab.draw.journey import journey

        return journey(self, upto=upto, width=width)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        from vfiolab.draw import figure_html

        return {"text/plain": str(self), "text/html": figure_html(self.picture())}


class Deliveries:
    """The verbs of an address space by which a device does DMA or raises an interrupt."""

    host: Host
    process: UserProcess

    def _dmas(self) -> list[Any]:
        raise NotImplementedError

    def _irqs(self, device: str) -> IrqState:
        return self.process.irqs.get(device, IrqState())

    def _owner(self, iova: int) -> str:
        """Name the user's memory at an iova: the mapping's label, or where it is mapped, and the offset."""
        found = next((dma for dma in self._dmas() if dma.iova <= iova < dma.iova + dma.size), None)
        if found is None:
            return ""
        return f"{found.name or f'the mapping at {hexa(found.iova)}'} + {hexa(iova - found.iova)}"

    def dma_write(self, device: str, iova: int | str, data: int = 0, size: int = 4) -> Journey:
        """Let a device write `size` bytes of `data` at a bus address, and see where they go.

        ValueError for an address or a size that no request has.
        """
        args = (self.host, device, parse_size(iova), data, size)
        return Journey.of(delivery.write(*args, irqs=self._irqs(device), owner=self._owner))

    def dma_read(self, device: str, iova: int | str, size: int = 4) -> Journey:
        """Let a device read `size` bytes at a bus address, and see where they come from; errors as `dma_write`."""
        return Journey.of(delivery.read(self.host, device, parse_size(iova), size, owner=self._owner))

    def raise_msi(self, device: str, vector: int = 0) -> Journey:
        """Let a device raise one of its vectors: it writes that vector's message. ValueError if the vector is not enabled."""
        if vector not in self._irqs(device).messages:
            raise ValueError(f'vector {vector} of {device} is not enabled: space.enable_msi("{device}", {max(vector, 0) + 1}) enables it')
        return Journey.of(delivery.raise_msi(self.host, device, self._irqs(device), vector, owner=self._owner))
