"""A delivery as a learner sees it: picture, table and text."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from vfiolab.model.irq import delivery

if TYPE_CHECKING:
    from vfiolab.draw import Picture


class Journey(delivery.Journey):
    """A journey that shows itself in a cell: picture, table and text."""

    __slots__ = ()

    @classmethod
    def of(cls, plain: delivery.Journey) -> Journey:
        """Return a journey of the model as one that shows itself."""
        return cls(**{field.name: getattr(plain, field.name) for field in fields(plain)})

    def picture(self, upto: int | None = None, width: int | None = None) -> Picture:
        """Return the picture of the journey, or of its first `upto` steps."""
        from vfiolab.draw.journey import journey

        return journey(self, upto=upto, width=width)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {**self.picture()._repr_mimebundle_(), "text/plain": str(self)}
