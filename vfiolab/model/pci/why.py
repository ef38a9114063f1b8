"""Why a device is in its group, as one answer: its joins in order, what ties it to each other device, and what would free it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from vfiolab._table import Table
from vfiolab.model.pci.aliases import short
from vfiolab.model.pci.grouping import Grouping
from vfiolab.model.pci.reasons import Reason, between, chain

__all__ = ["Tie", "Why"]


class Tie(NamedTuple):
    """The fewest joins that tie a device to another one of its group: the devices on that way, and the joins."""

    mate: str
    way: tuple[str, ...]
    steps: tuple[Reason, ...]


@dataclass(frozen=True, kw_only=True, repr=False)
class Why:
    """A device's group and the chain of joins that put it there; its text is what `vfiolab groups --why` prints.

    `number`: of the group, None for a device that is in none; `group`: its devices, this one among them. `steps`: from the device to the one that began
    the group; empty where groups do not follow from registers, and `note` says so. `freed`: with whom it would be without its causes.
    """

    device: str
    name: str
    number: int | None = None
    group: tuple[str, ...] = ()
    steps: tuple[Reason, ...] = ()
    ties: tuple[Tie, ...] = ()
    freed: tuple[str, ...] = ()
    note: str = ""

    @classmethod
    def of(cls, grouping: Grouping, device: str, name: str, number: int | None = None) -> Why:
        """Say why a device (its whole address) is in its group; `number` if the group has another than its place in the grouping.

        KeyError if it is not on the machine.
        """
        if device not in grouping.reasons:
            return cls(device=device, name=name, note=f"is in no group: {grouping.left_out[device]}")
        group = grouping.mates(device)
        causes = grouping.reasons[device].causes
        freed = grouping.without(*causes).mates(device) if causes else ()
        return cls(
            device=device, name=name, number=grouping.group_of(device) if number is None else number, group=group,
            steps=tuple(chain(grouping.reasons, device)), ties=tuple(_tie(grouping, device, mate) for mate in group if mate != device),
            freed=tuple(bdf for bdf in freed if bdf != device),
        )  # fmt: skip

    @property
    def mates(self) -> tuple[str, ...]:
        """The other devices of the group."""
        return tuple(bdf for bdf in self.group if bdf != self.device)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        others = f"with {len(self.mates)} other{'s' * (len(self.mates) != 1)}" if self.mates else "alone"
        return f"Why({self.device!r}, {'in no group' if self.number is None else f'group {self.number}, {others}'})"

    def headline(self, most: int = 1 << 16) -> str:
        """Say in which group it is, and with whom; if these are more than `most`, with how many."""
        if self.number is None:
            return f"{short(self.device)} {self.note}"
        mates = ", ".join(map(short, self.mates)) if len(self.mates) <= most else f"{len(self.mates)} others"
        return f"{short(self.device)} is in group {self.number}, " + (f"with {mates}" if mates else "alone")

    @property
    def stays(self) -> str:
        """What keeps it there, and where it would be otherwise; empty if nothing does."""
        causes = self.steps[0].causes if self.steps else ()
        otherwise = f"with {', '.join(map(short, self.freed))}" if self.freed else "alone"
        return f"It stays where it is as long as {' or '.join(map(str, causes))}; otherwise it would be {otherwise}" if causes else ""

    def lines(self) -> list[str]:
        """Return the answer as the lines of a text."""
        lines = [f"{short(self.device)} {self.name}".rstrip(), self.headline().removeprefix(f"{short(self.device)} ")]
        lines += [self.note] if self.note and self.number is not None else []
        lines += ["", *(f"  {step}" for step in self.steps)] if self.steps else []
        lines += ["", *self._tied()] if self.ties else []
        return lines + (["", self.stays] if self.stays else [])

    def _tied(self) -> list[str]:
        """Show the ways to the others, and the joins on them that were not shown yet."""
        width = max(len(short(tie.mate)) for tie in self.ties)
        ways = [f"  {short(tie.mate):<{width}}  {' - '.join(map(short, tie.way))}" for tie in self.ties]
        further = [f"  {step}" for step in self.joins()[len(self.steps) :]]
        return ["What ties it to each of the others, by the fewest joins:", *ways, *(["", "where", *further] if further else [])]

    def joins(self) -> list[Reason]:
        """Return every join that the answer names: the chain, then what else ties it to the others."""
        return list({step.device: step for step in (*self.steps, *(step for tie in self.ties for step in tie.steps))}.values())

    def table(self) -> Table:
        """Return the joins as a table, those of the chain first."""
        rows = [
            (short(r.device), short(r.joins or ""), r.step, r.why.removeprefix("because "), " or ".join(map(str, r.causes)))
            for r in self.joins()
        ]
        return Table(["device", "joins", "step", "because", "stays while"], rows)

    def json(self) -> dict[str, Any]:
        """Return the answer as plain values: what `vfiolab groups --why DEVICE --json` prints."""
        if self.number is None:
            return {"device": self.device, "group": [], "chain": [], "left_out": self.note.removeprefix("is in no group: ")}
        return {
            "device": self.device,
            "group": list(self.group),
            "chain": list(map(str, self.steps)),
            "causes": [str(cause) for cause in self.steps[0].causes] if self.steps else [],
            "mates": {tie.mate: list(map(str, tie.steps)) for tie in self.ties},
        }


def _tie(grouping: Grouping, device: str, mate: str) -> Tie:
    steps = between(grouping.reasons, device, mate)
    way = [device]
    for step in steps:
        way.append(step.joins if step.device == way[-1] and step.joins else step.device)
    return Tie(mate, tuple(way), tuple(steps))
