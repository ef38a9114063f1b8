"""Why a device is in its group: values that a sentence, a table and a test can use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vfiolab.model.aliases import short

__all__ = ["Cause", "Reason"]


@dataclass(frozen=True, slots=True)
class Cause:
    """One fact without which a join might not be: a function that does not isolate, or a shared id.

    ``owner`` is the alias's owner; empty for kind "acs".
    """

    kind: Literal["acs", "alias"]
    bdf: str
    owner: str = ""

    def __str__(self) -> str:
        if self.kind == "acs":
            return f"{short(self.bdf)} does not isolate"
        return f"{short(self.bdf)} shares an id with {short(self.owner)}"


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one device joined another's group, or (``joins`` None) began one.

    ``step``: alias, path, peer, sibling, proposal, new. ``causes`` are what holds it there: with all of
    them gone the device's group is another (`Grouping.without`).
    """

    device: str
    joins: str | None
    step: Literal["alias", "path", "peer", "sibling", "proposal", "new"]
    why: str
    causes: tuple[Cause, ...]

    def __str__(self) -> str:
        what = "begins a group" if self.joins is None else f"joins {short(self.joins)}"
        return f"{short(self.device)} {what} {self.why}"
