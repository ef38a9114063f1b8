"""The isolation lab: ACS at the root port and at the switch, a boot parameter; which groups, and where a peer's write arrives."""

from __future__ import annotations

from vfiolab._text import count
from vfiolab.draw import Picture, topology
from vfiolab.kit import Journey
from vfiolab.lab.choices import ChoiceLab, Run
from vfiolab.model.irq.delivery import mark

DEVICE, PEER = "0000:04:00.0", "0000:05:00.0"
REGISTERS = 0xF000_0000
ACS = {"ACS on": True, "no ACS": False}
BOOT = {"none": None, "pcie_acs_override=downstream": "pcie_acs_override=downstream"}


class IsolationRun(Run):
    """One run: boot, give 04:00.0 to a user with RAM at the peer's bus address, and let it write there. `trip`: the write's journey."""

    def __init__(self, root: str, switch: str, boot: str) -> None:
        super().__init__("vl.course.two_below_a_switch", acs=ACS[switch], root=ACS[root], kernel="6.12", options=BOOT[boot])
        self.carry_out([self.do("space.attach", DEVICE), self.do("space.map", REGISTERS, "64K", name="RAM")])
        self.do("space.dma_write", DEVICE, REGISTERS, 0x1234)
        self.trip: Journey = self.steps[-1].answer

    @property
    def together(self) -> bool:
        """Whether the two cards are in one group."""
        return self.host.group_of(DEVICE) is self.host.group_of(PEER)

    @property
    def verdict(self) -> str:
        """Say how many groups there are, and where the write arrived."""
        cards = "in one group" if self.together else "in two groups"
        arrived = f"{self.trip.outcome}: {self.trip.why}{mark(self.trip.steps[-1])}"
        return f"{count(len(self.host.groups), 'group')}, and the cards are {cards}. The write to the peer's registers ends in {arrived}."

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The tree with its groups, then the write's journey."""
        return topology(self.host), self.trip.picture()


class IsolationLab(ChoiceLab):
    """Choose where there is ACS and how the kernel boots; see which groups there are, and where one card's write to the other arrives."""

    def __init__(self) -> None:
        super().__init__(
            IsolationRun,
            root=("Root port", ACS, "ACS on"),
            switch=("Switch", ACS, "ACS on"),
            boot=("Boot parameter", BOOT, "none"),
        )
