"""A lab of choices: each click runs the same verbs anew with what is chosen, and shows what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Protocol

import ipywidgets

import vfiolab
from vfiolab.course.toggles import column
from vfiolab.draw import Picture, inline_svg
from vfiolab.kit.session import Session
from vfiolab.kit.steps import Step, call
from vfiolab.lab.controls import App, choice, frozen, said
from vfiolab.lab.panels import columns, events_panel, panel
from vfiolab.model.events import Event


class Shown(Protocol):
    """What a lab of choices shows of a run."""

    @property
    def refused(self) -> Exception | None:
        """What ended it early."""

    @property
    def verdict(self) -> str:
        """What came of it."""

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What came of it, drawn; the first is shown without a front end too."""

    @property
    def code(self) -> str:
        """The same in Python."""

    @property
    def events(self) -> Iterable[Event | str]:
        """What the IOMMU core was asked by the last call."""


class Run(Session):
    """One run: a fresh host with an open address space, and calls until one is refused. `refused` is what ended it early.

    The host is what a public verb returns, such as `vl.load`.
    """

    refused: Exception | None = None

    def __init__(self, verb: str, *args: object, **named: object) -> None:
        super().__init__(attrgetter(verb.removeprefix("vl."))(vfiolab)(*args, **named), f"host = {call(verb, args, named)}")
        self.do("host.address_space")

    def carry_out(self, steps: Iterable[Step]) -> None:
        """Take steps up to the first that is refused."""
        self.refused = next((step.refused for step in steps if step.refused), None)

    @property
    def outcome(self) -> str:
        """What came of it in one word: 0, or the errno's name (or the kind) of what was refused."""
        return "0" if self.refused is None else self.steps[-1].reason

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What came of it, drawn; the first is shown without a front end too."""
        return (self.space.picture(),)


class ChoiceLab(App):
    """Choose what a run is made of; `controls` holds the buttons by the run's parameters, and `run` is the run that is shown."""

    def __init__(self, kind: Callable[..., Shown], **choices: tuple[str, Iterable[str], str]) -> None:
        """Make the buttons. `choices`: for each parameter of the run the words before its buttons, the buttons, the one pressed first."""
        self.kind = kind
        names = [words for words, _, _ in choices.values()]
        self.controls: dict[str, Any] = {
            name: choice(words, tuple(options), first, self._show, among=names) for name, (words, options, first) in choices.items()
        }
        self.status, self.picture, self.panels = ipywidgets.HTML(), ipywidgets.HTML(), ipywidgets.HTML()
        self.box = column(*self.controls.values(), self.status, self.picture, self.panels)
        self._show()

    def _show(self) -> None:
        self.run = run = self.kind(*(buttons.value for buttons in self.controls.values()))
        self.status.value = said(run.verdict, alert=run.refused is not None)
        self.picture.value = columns(map(inline_svg, run.pictures), 440)
        self.panels.value = columns([panel("The same in Python", run.code), events_panel(run.events)], 380)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={buttons.value!r}' for name, buttons in self.controls.items())})"

    def still(self) -> tuple[str, str]:
        """Return the verdict and the picture."""
        return frozen(self.run.verdict, self.run.pictures[0], "choose with buttons")
