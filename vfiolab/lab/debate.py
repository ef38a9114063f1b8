"""The debate lab: a design and a situation; the request's journey, or the map with the call that was refused."""

from __future__ import annotations

from vfiolab.draw import Picture
from vfiolab.lab.choices import ChoiceLab
from vfiolab.model.errors import VfioError
from vfiolab.model.events import Event
from vfiolab.proposals import PROPOSALS, SCENARIOS, debate

TITLES = {f"{name}: {kind.title}": name for name, kind in PROPOSALS.items()}


class CellRun:
    """One cell of the table, run. `refused`: what ended it early."""

    def __init__(self, title: str, scenario: str) -> None:
        name = TITLES[title]
        self.cell = debate(proposals=[name], scenarios=[scenario])[name, scenario]
        self.code = f'vl.debate(proposals=["{name}"], scenarios=["{scenario}"])["{name}", "{scenario}"]'
        self.refused = next((call.error for call in self.cell.space.log.calls if isinstance(call.error, VfioError)), None)

    @property
    def verdict(self) -> str:
        """Say what the user wanted, and what came of it."""
        wanted = SCENARIOS[self.cell.scenario]
        return f"{wanted.words[0].upper()}{wanted.words[1:]}. Wanted: {wanted.wants}. {self.cell.sentence}: {self.cell.why}."

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The request's journey, else the iova map."""
        return (self.cell.picture(),)

    @property
    def events(self) -> list[Event]:
        """What the last call asked of the IOMMU core."""
        return self.cell.space.log.calls[-1].events


class DebateLab(ChoiceLab):
    """Choose a design of the debate and a situation, and see what becomes of what its user wanted."""

    def __init__(self) -> None:
        super().__init__(CellRun, proposal=("Design", TITLES, [*TITLES][-1]), scenario=("Situation", SCENARIOS, "arm-its"))
