"""The stepper: one journey or one capture, step by step. Each click draws it up to the next or the previous step."""

from __future__ import annotations

import ipywidgets

from vfiolab.draw import figure_html, inline_svg
from vfiolab.kit import Journey
from vfiolab.kit.capture import CaptureRun
from vfiolab.lab.controls import App, press, said
from vfiolab.model.irq.delivery import mark

__all__ = ["Stepper"]


class Stepper(App):
    """Walk along a journey, or the calls of a capture, with four buttons; `stepper.step` is where you are, 1 is the first.

    `stepper.go(n)` does what the buttons do, and so does `trip.picture(upto=n)` without them.
    """

    def __init__(self, trip: Journey | CaptureRun) -> None:
        self.trip, self.step = trip, 1
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
        return f"Step {self.step} of {len(self.trip.steps)}, {here.place}: {here.why}{mark(here)}"

    def _show(self) -> None:
        """Draw the journey so far; no button is ever disabled, or the keyboard would lose its place at the ends."""
        self.status.value = said(self.words)
        self.picture.value = inline_svg(self.trip.picture(upto=self.step))

    def __repr__(self) -> str:
        return f"Stepper({self.trip!r}, step {self.step})"

    def still(self) -> tuple[str, str]:
        """Return the whole journey."""
        still = f"{figure_html(self.trip.picture())}<p><em>Run this cell to go step by step with buttons.</em></p>"
        return str(self.trip), still
