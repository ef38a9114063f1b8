"""Why a device is in its group: values that a sentence, a table and a test can use."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from vfiolab.model.pci.aliases import short

__all__ = ["Above", "Cause", "Reason", "between", "chain"]


class Cause(NamedTuple):
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


class Above(NamedTuple):
    """A bridge that does not isolate, and those above it: what is below one bridge shares them, however deep the tree is."""

    cause: Cause
    rest: Above | None


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one device joined another's group, or (``joins`` None) began one.

    ``step``: alias, path, peer, sibling, proposal, new. ``own`` are causes of its own, ``above`` the bridges above that do not isolate.
    """

    device: str
    joins: str | None
    step: Literal["alias", "path", "peer", "sibling", "proposal", "new"]
    why: str
    own: tuple[Cause, ...]
    above: Above | None = field(default=None, compare=False, repr=False)

    @property
    def causes(self) -> tuple[Cause, ...]:
        """What holds the device there: with all of them gone its group is another (`Grouping.without`)."""
        found, at = list(self.own), self.above
        while at is not None:
            found.append(at.cause)
            at = at.rest
        return tuple(found)

    def __str__(self) -> str:
        what = "begins a group" if self.joins is None else f"joins {short(self.joins)}"
        return f"{short(self.device)} {what} {self.why}"


def chain(reasons: Mapping[str, Reason], device: str) -> list[Reason]:
    """Follow a device's joins to the one that began the group; KeyError if the device is in none.

    >>> first = Reason("0000:00:01.0", None, "new", "because it is alone in its slot on a root bus", ())
    >>> then = Reason("0000:01:00.0", "0000:00:01.0", "path", "because the path to the root fails", ())
    >>> [r.device for r in chain({first.device: first, then.device: then}, "0000:01:00.0")]
    ['0000:01:00.0', '0000:00:01.0']
    """
    found = [reasons[device]]
    while found[-1].joins is not None:
        found.append(reasons[found[-1].joins])
    return found


def between(reasons: Mapping[str, Reason], one: str, other: str) -> list[Reason]:
    """Return the fewest joins that tie two devices together; empty if their groups differ."""
    joined: dict[str, list[Reason]] = {}
    for reason in reasons.values():
        if reason.joins is not None:
            joined.setdefault(reason.device, []).append(reason)
            joined.setdefault(reason.joins, []).append(reason)
    queue = deque([one])
    came: dict[str, tuple[str, Reason] | None] = {one: None}
    while queue and other not in came:
        at = queue.popleft()
        for reason in joined.get(at, ()):
            far = reason.joins if reason.device == at else reason.device
            if far is not None and far not in came:
                came[far] = (at, reason)
                queue.append(far)
    steps: list[Reason] = []
    step = came.get(other)
    while step is not None:
        steps.append(step[1])
        step = came[step[0]]
    return steps[::-1]
