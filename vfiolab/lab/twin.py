"""The twin lab: one call, carried out on type1 and on iommufd's layer."""

from __future__ import annotations

from vfiolab.course.twins import TWIN_CALLS, carry_out_twins
from vfiolab.draw import Picture
from vfiolab.lab.choices import ChoiceLab


class TwinRun:
    """One call on both. `refused`: the first refusal of the two, if any."""

    def __init__(self, words: str) -> None:
        self.spaces, self.answers = carry_out_twins("6.12", words)
        self.refused = next((one.error for one in self.answers if one.error is not None), None)
        steps = "; ".join(f"space.{verb}({', '.join(map(_word, args))})" for verb, *args in TWIN_CALLS[words])
        self.code = f'for space in vl.course.twins("6.12"): {steps}'

    @property
    def verdict(self) -> str:
        """Say what both answered."""
        return ". ".join(f"{name}: {said}" for name, said in zip(("type1", "iommufd's layer"), self.answers, strict=True))

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Both address spaces."""
        return tuple(space.picture() for space in self.spaces)

    @property
    def events(self) -> list[str]:
        """What each asked of the IOMMU core in its last call."""
        names = ("type1", "layer")
        return [f"{name}: {event}" for name, space in zip(names, self.spaces, strict=True) for event in space.log.calls[-1].events]


def _word(value: object) -> str:
    return f"{value:#_x}" if isinstance(value, int) and value > 9 else repr(value)


class TwinLab(ChoiceLab):
    """Choose a call; both hosts start anew and carry it out."""

    def __init__(self) -> None:
        super().__init__(TwinRun, call=("Call", TWIN_CALLS, "unmap half of a mapping"))
