"""Two labs that compare: the designs of the debate in a situation, and one call on type1 and on iommufd's layer."""

from __future__ import annotations

from vfiolab.course.twins import TWIN_CALLS, carry_out_twins
from vfiolab.lab.choices import ChoiceLab
from vfiolab.model.errors import VfioError
from vfiolab.proposals import PROPOSALS, SCENARIOS, debate

TITLES = {f"{name}: {kind.title}": name for name, kind in PROPOSALS.items()}


class CellRun:
    """One cell of the table, run. `verdict`: what the user wanted, and what came of it; `refused`: what ended it early."""

    def __init__(self, title: str, scenario: str) -> None:
        name, wanted = TITLES[title], SCENARIOS[scenario]
        self.cell = cell = debate(proposals=[name], scenarios=[scenario])[name, scenario]
        self.code = f'vl.debate(proposals=["{name}"], scenarios=["{scenario}"])["{name}", "{scenario}"]'
        self.refused = next((call.error for call in cell.space.log.calls if isinstance(call.error, VfioError)), None)
        self.verdict = f"{wanted.words[0].upper()}{wanted.words[1:]}. Wanted: {wanted.wants}. {cell.sentence}: {cell.why}."
        self.pictures, self.events = (cell.picture(),), cell.space.log.calls[-1].events


class DebateLab(ChoiceLab):
    """Choose a design of the debate and a situation, and see what becomes of what its user wanted."""

    def __init__(self) -> None:
        super().__init__(CellRun, proposal=("Design", TITLES, [*TITLES][-1]), scenario=("Situation", SCENARIOS, "arm-its"))


class TwinRun:
    """One call on both. `verdict`: what both answered; `refused`: the first refusal of the two, if any."""

    def __init__(self, words: str) -> None:
        self.spaces, self.answers = carry_out_twins("6.12", words)
        self.refused = next((one.error for one in self.answers if one.error is not None), None)
        self.verdict = ". ".join(f"{name}: {said}" for name, said in zip(("type1", "iommufd's layer"), self.answers, strict=True))
        self.pictures = tuple(space.picture() for space in self.spaces)
        pairs = zip(("type1", "layer"), self.spaces, strict=True)
        self.events = [f"{name}: {event}" for name, space in pairs for event in space.log.calls[-1].events]
        steps = "; ".join(f"space.{verb}({', '.join(map(_word, args))})" for verb, *args in TWIN_CALLS[words])
        self.code = f'for space in vl.course.twins("6.12"): {steps}'


def _word(value: object) -> str:
    return f"{value:#_x}" if isinstance(value, int) and value > 9 else repr(value)


class TwinLab(ChoiceLab):
    """Choose a call; both hosts start anew and carry it out."""

    def __init__(self) -> None:
        super().__init__(TwinRun, call=("Call", TWIN_CALLS, "unmap half of a mapping"))
