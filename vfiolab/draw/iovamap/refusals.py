"""What a container was refused: maps, and groups that could not join. Only what the last change left standing is drawn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vfiolab.model.address import U64
from vfiolab.model.errors import Obstacle
from vfiolab.model.events import Call, EventLog

CHANGES = ("map", "unmap", "set_iommu", "set_container", "unset_container", "close_group")
MEMBERS = ("unset_container", "close_group")  # these name the group's descriptor, not the container's


@dataclass(frozen=True, slots=True)
class Attempt:
    """A map call that was refused: the range asked for, the errno's name, why, and what of the domains it met."""

    start: int
    end: int
    errno: str
    why: str
    met: tuple[Obstacle, ...] = ()

    @property
    def blockers(self) -> frozenset[int]:
        """Numbers of the domains that stood in the way."""
        return frozenset(obstacle.domain for obstacle in self.met if obstacle.domain is not None)


def calls_on(fd: int | None, log: EventLog | None) -> tuple[list[Call], list[Call]]:
    """Return the landmarks of a log that are on one container (all, without a descriptor): those up to its last change, and those since."""
    found: list[tuple[int, Call]] = []
    inside: set[str] = set()
    changed = -1
    if log is None:
        return [], []
    for at in log.landmarks:
        call = log.calls[at]
        if fd is not None and call.verb == "open_container" and call.args.get("fd") == fd:
            found, inside, changed = [], set(), -1  # the descriptor's number is used again
        if fd is not None and not _is_on(call, f"fd{fd}", inside):
            continue
        found.append((at, call))
        if call.verb in CHANGES and call.error is None and not call.died:
            changed = at
            if call.verb == "set_container":
                inside.add(call.target)
            inside -= {call.target} if call.verb in MEMBERS else set()
    mapped = log.changed.values() if fd is None else (log.changed.get(f"fd{fd}", -1),)
    changed = max((changed, *mapped))
    return [call for at, call in found if at <= changed], [call for at, call in found if at > changed]


def _is_on(call: Call, name: str, inside: set[str]) -> bool:
    if call.verb == "set_container":
        return call.args.get("container") == name
    if call.verb in MEMBERS:
        return call.target in inside
    return call.target == name or call.verb not in CHANGES


def attempts_of(calls: Iterable[Call]) -> list[Attempt]:
    """Return the refused map calls among `calls`, the same one once, with what of the domains stood in the way."""
    found: dict[tuple[int, int, str], Attempt] = {}
    for call in calls:
        if call.error is None or not call.verb.startswith("map"):
            continue
        start, size = call.args.get("iova"), call.args.get("size")
        if not isinstance(start, int) or not isinstance(size, int) or size <= 0 or not 0 <= start < U64:
            continue
        end = min(start + size, U64)
        error = call.error
        found.pop((start, end, error.name), None)
        met = tuple(o for o in error.obstacles if o.domain is not None)
        found[start, end, error.name] = Attempt(start, end, error.name, error.why, met)
    return list(found.values())
