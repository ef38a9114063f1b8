"""The stepper: one journey or one capture, step by step. Each click draws it up to the next or the previous step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import ipywidgets

from vfiolab.draw import Picture, figure_html, inline_svg
from vfiolab.kit.session import Session
from vfiolab.lab.controls import App, press, said
from vfiolab.lab.panels import columns
from vfiolab.model.irq.delivery import JourneyStep, mark


class Trip(Protocol):
    """What can be walked along: a journey, a capture that was run, a step of a session."""

    @property
    def steps(self) -> Sequence[JourneyStep]:
        """What happened, each with its place and its reason."""

    def picture(self, upto: int | None = None) -> Picture:
        """Draw it up to a step, 1 being the first; None for all."""


class Stepper(App):
    """Walk along a journey, a capture, or a step of a session, with four buttons; `stepper.step` is where you are, 1 is the first.

    `stepper.go(n)` does what the buttons do, and so does `trip.picture(upto=n)` without them.
    """

    def __init__(self, trip: Trip, unit: str = "Step", beside: Callable[[int], Picture] | None = None) -> None:
        """Make the buttons. `unit`: what a step is called; `beside` draws a second picture up to a step."""
        self.trip, self.step, self.unit, self.beside = trip, 1, unit, beside
        go = {
            "First": lambda: self.go(1),
            "Back": lambda: self.go(self.step - 1),
            "Next": lambda: self.go(self.step + 1),
            "Last": lambda: self.go(len(trip.steps)),
        }
        self.buttons = {name: press(name, f"{name} step of the journey", act) for name, act in go.items()}
        self.status, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        row = ipywidgets.Box(list(self.buttons.values()), layout={"flex_flow": "row wrap"})
        self.box = ipywidgets.VBox([row, self.status, self.picture])
        self._show()

    def go(self, step: int) -> None:
        """Go to a step; below the first is the first, past the last is the last."""
        self.step = min(max(step, 1), len(self.trip.steps))
        self._show()

    @property
    def words(self) -> str:
        """What happens at this step."""
        here = self.trip.steps[self.step - 1]
        return f"{self.unit} {self.step} of {len(self.trip.steps)}, {here.place}: {here.why}{mark(here)}"

    def _show(self) -> None:
        """Draw the journey so far; no button is ever disabled, or the keyboard would lose its place at the ends."""
        self.status.value = said(self.words)
        drawn = [self.trip.picture(upto=self.step), *([self.beside(self.step)] if self.beside else [])]
        self.picture.value = columns(map(inline_svg, drawn), 440)

    def __repr__(self) -> str:
        return f"Stepper({self.trip!r}, step {self.step})"

    def still(self) -> tuple[str, str]:
        """Return the whole journey."""
        still = f"{figure_html(self.trip.picture())}<p><em>Run this cell to go step by step with buttons.</em></p>"
        return str(self.trip), still


def player(session: Session) -> Stepper:
    """Return what walks through a session's last step, request by request. ValueError if there is none."""
    played = session.play()
    return Stepper(played, "Moment", played.map)
