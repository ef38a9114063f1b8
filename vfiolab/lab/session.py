"""What an app's clicks do: one public verb each, kept as the code that does the same. No widgets here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import vfiolab
from vfiolab.kit import AddressSpace, Host
from vfiolab.model.errors import Refusal, VfioError
from vfiolab.model.events import Event


@dataclass(frozen=True, slots=True)
class Step:
    """One line of code that was run, what it returned, and the refusal it met (ValueError: a typed word is no number, or does not fit)."""

    code: str
    refused: Refusal | ValueError | None = None
    answer: Any = None

    @property
    def reason(self) -> str:
        """The refusal in one word: the errno's name, or the kind of the error."""
        return self.refused.name if isinstance(self.refused, VfioError) else type(self.refused).__name__


def word(value: object) -> str:
    """Write an argument as a learner would type it: addresses in grouped hexadecimal.

    >>> print(word(0x4000_0000), word("1G"), word(12))
    0x4000_0000 "1G" 12
    """
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return f"{value:#_x}" if isinstance(value, int) and abs(value) > 0xFFF else repr(value)


def call(verb: str, args: tuple[object, ...], named: dict[str, object]) -> str:
    """Write a call as a learner would type it.

    >>> print(call("space.map", (0x4000_0000, "1G"), {"name": "RAM"}))
    space.map(0x4000_0000, "1G", name="RAM")
    """
    return f"{verb}({', '.join([*map(word, args), *(f'{name}={word(value)}' for name, value in named.items())])})"


class Session:
    """A host, one address space on it, and the steps that led here.

    The host is what a public verb returns, such as `vl.load`. `steps` can be typed into a cell one after the other, and give the same
    state.
    """

    def __init__(self, verb: str, *args: object, **named: object) -> None:
        self.host: Host = attrgetter(verb.removeprefix("vl."))(vfiolab)(*args, **named)
        self.space: AddressSpace = self.host.address_space()
        self.steps = [Step("import vfiolab as vl"), Step(f"host = {call(verb, args, named)}"), Step("space = host.address_space()")]
        self.seen = 0

    def do(self, verb: str, *args: object, **named: object) -> Step:
        """Call one public verb, such as `space.map` or `host.process.set_memlock`; a refusal is kept in the step, and returned with it."""
        act = attrgetter(verb)(self)
        self.seen = len(self.space.log.calls)
        answer, refused = None, None
        try:
            answer = act(*args, **named)
        except (Refusal, ValueError) as met:
            refused = met
        self.steps.append(Step(call(verb, args, named), refused, answer))
        return self.steps[-1]

    @property
    def events(self) -> list[Event]:
        """The events of the last step."""
        return [event for call in self.space.log.calls[self.seen :] for event in call.events]

    @property
    def code(self) -> str:
        """All steps as Python; a refused one says so behind its line."""
        return "\n".join(step.code + (f"  # refused: {step.reason}" if step.refused else "") for step in self.steps)
