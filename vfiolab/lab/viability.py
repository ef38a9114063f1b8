"""The viability lab: a group of eight, a kernel, and what becomes of four members, so that a user can have the graphics card."""

from __future__ import annotations

from collections.abc import Iterator

from vfiolab.course.machines import GRAPHICS
from vfiolab.draw import Picture, topology
from vfiolab.kit.steps import Step
from vfiolab.lab.choices import ChoiceLab, Run

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
