"""Two labs of groups: ACS decides which there are and where a peer's write arrives, drivers decide whether a user can have one."""

from __future__ import annotations

from collections.abc import Iterator

from vfiolab._text import count
from vfiolab.course.machines import GRAPHICS
from vfiolab.draw import Picture, topology
from vfiolab.kit import Journey
from vfiolab.kit.steps import Step
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


KERNELS = ("5.10", "6.12")
ACTS = ("leave it", "unbind", "vfio-pci")
MEMBERS = {
    "audio": ("0000:01:00.1", "Audio, 01:00.1"),
    "network": ("0000:02:00.0", "Network, 02:00.0"),
    "port": ("0000:00:01.1", "Port, 00:01.1"),
    "stub": ("0000:03:00.0", "Other, 03:00.0"),
}


class ViabilityRun(Run):
    """One run: something is done to each member, the card goes to vfio-pci, and a user asks for it. `refused`: what said no."""

    def __init__(self, kernel: str, audio: str, network: str, port: str, stub: str) -> None:
        super().__init__("vl.course.three_ports", kernel)
        self.carry_out(self._steps(dict(zip(MEMBERS, (audio, network, port, stub), strict=True))))

    def _steps(self, acts: dict[str, str]) -> Iterator[Step]:
        for name, act in acts.items():
            device = MEMBERS[name][0]
            if act == "unbind":
                yield self.do("host.unbind", device)
            elif act != "leave it":
                yield self.do("host.bind", device)
        yield self.do("host.bind", GRAPHICS)
        yield self.do("space.attach", GRAPHICS)
        yield self.do("space.open", GRAPHICS)

    @property
    def verdict(self) -> str:
        """Say whether the user has the card, and who is in the way."""
        if self.refused is None:
            return "The user has the card."
        return f"Refused at {self.steps[-1].code.partition('(')[0]}. {self.refused}."

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The group, with the drivers as they are now."""
        return (topology(self.host),)


class ViabilityLab(ChoiceLab):
    """Choose a kernel and what becomes of four members of the group; see whether a user can have the graphics card."""

    def __init__(self) -> None:
        rows = {name: (words, ACTS, "leave it") for name, (_, words) in MEMBERS.items()}
        super().__init__(ViabilityRun, kernel=("Kernel", KERNELS, "6.12"), **rows)
