"""Drills: one problem after the other, with a score. Choose an answer, then see what the model says and why."""

from __future__ import annotations

from typing import Any

import ipywidgets

import vfiolab
from vfiolab.course.predict import Prediction
from vfiolab.course.seeded import problem
from vfiolab.course.toggles import column
from vfiolab.draw import Picture, figure_html, inline_svg
from vfiolab.kit import AddressSpace
from vfiolab.lab.controls import App, press, said


class Drill(App):
    """Seeded problems of a topic (or of one kind, such as "iova:unmap") from `seed` on: domains, iova, msi or groups.

    The first choice counts; `right` and `tried` keep the score. `problem` is the one that is shown, a Prediction.

    >>> drill = Drill("domains", 3)
    >>> drill.problem.choose(2)
    >>> drill
    Drill('domains', 3, 0 of 1 right)
    """

    def __init__(self, topic: str, seed: int = 1) -> None:
        self.topic = topic
        self.right = self.tried = 0
        self.score, self.place, self.state = ipywidgets.HTML(), ipywidgets.VBox(), ipywidgets.HTML()
        self.next = press("Next problem", "Go on to the next seed", lambda: self.go(self.seed + 1), align_self="flex-start")
        self.box = column(self.score, self.place, self.next, self.state)
        self.go(seed)

    def go(self, seed: int) -> None:
        """Show the problem of this seed: what the button does with the next one."""
        self.seed, self.problem = seed, problem(self.topic, seed)
        view = self.problem.view()
        view.children[1].observe(lambda _: self._count(), "disabled")
        self.place.children = (view,)
        self.state.value = inline_svg(picture) if (picture := before(self.problem)) else ""
        self._tell()

    def _count(self) -> None:
        self.state.value = ""  # the answer has its own picture
        self.tried, self.right = self.tried + 1, self.right + (self.problem.answer == self.problem.found[0])
        self._tell()

    def _tell(self) -> None:
        score = f"{self.right} of {self.tried} right so far." if self.tried else "Choose an answer."
        self.score.value = said(f"Problem {self.seed}. {score}")

    def __repr__(self) -> str:
        return f"Drill({self.topic!r}, {self.seed}, {self.right} of {self.tried} right)"

    def still(self) -> tuple[str, str]:
        """Return the problem with its options, and the picture of the state before it."""
        shown = self.problem._repr_mimebundle_()
        drawn = figure_html(picture) if (picture := before(self.problem)) else ""
        return f"Problem {self.seed}.\n{shown['text/plain']}", f"<p>Problem {self.seed}.</p>{shown['text/html']}{drawn}"


def before(asked: Prediction) -> Picture | None:
    """Return the picture of the address space as a problem's given code leaves it; None if it has none."""
    names: dict[str, Any] = {"vl": vfiolab}
    exec(asked.given, names)  # noqa: S102 - the course's own text
    space = names.get("space")
    return space.picture() if isinstance(space, AddressSpace) else None
