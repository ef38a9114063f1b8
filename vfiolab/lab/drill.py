"""Drills: one problem after the other, with a score. Choose an answer, then see what the model says and why."""

from __future__ import annotations

import ipywidgets

from vfiolab._text import in_every_font, page_text
from vfiolab.course.seeded import problem
from vfiolab.course.toggles import column, toggles
from vfiolab.draw import figure_html, inline_svg, to_text
from vfiolab.lab.controls import App, press, said
from vfiolab.lab.panels import LINES, panel
from vfiolab.lab.problems import OPTIONS, Problem


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
        self.score, self.place = ipywidgets.HTML(), ipywidgets.VBox()
        self.next = press("Next problem", "Go on to the next seed", lambda: self.go(self.seed + 1), align_self="flex-start")
        self.box = column(self.score, self.place, self.next)
        self.go(seed)

    def go(self, seed: int) -> None:
        """Show the problem of this seed: what the button does with the next one."""
        self.seed, self.problem = seed, problem(self.topic, seed)
        view = self.problem.view()
        view.children[1].observe(lambda _: self._count(), "disabled")
        self.place.children = (view,)
        self._tell()

    def _count(self) -> None:
        self.tried, self.right = self.tried + 1, self.right + (self.problem.answer == self.problem.found[0])
        self._tell()

    def _tell(self) -> None:
        self.score.value = said(
            f"Problem {self.seed}. " + (f"{self.right} of {self.tried} right so far." if self.tried else "Choose an answer.")
        )

    def __repr__(self) -> str:
        return f"Drill({self.topic!r}, {self.seed}, {self.right} of {self.tried} right)"

    def still(self) -> tuple[str, str]:
        """Return the problem with its options."""
        shown = self.problem._repr_mimebundle_()
        return f"Problem {self.seed}.\n{shown['text/plain']}", f"<p>Problem {self.seed}.</p>{shown['text/html']}"


class MapDrill(App):
    """Problems from `seed` on. The first choice counts; `right` and `tried` keep the score."""

    def __init__(self, seed: int = 1) -> None:
        self.problem = Problem(seed)
        self.answered = False
        self.right = self.tried = 0
        self.question, self.picture = ipywidgets.HTML(), ipywidgets.HTML()
        self.verdict, self.checks = ipywidgets.HTML(), ipywidgets.HTML()
        self.options = toggles(OPTIONS, None, [f"The kernel answers {option}" for option in OPTIONS], "Answer", "70px")
        self.next = press("Next problem", "Go on to the next seed", lambda: self.go(self.problem.seed + 1), align_self="flex-start")
        self.options.observe(lambda change: self._answer(change["new"]), "value")
        self.box = column(self.question, self.options, self.verdict, self.next, self.picture, self.checks)
        self.go(seed)

    def go(self, seed: int) -> None:
        """Show the problem of this seed: what the button does with the next one."""
        self.problem, self.answered = Problem(seed), False
        self.options.value = None
        self.question.value = (
            f'<p style="{LINES}"><strong>Problem {seed}.</strong> After these steps, what does '
            f"<code>{page_text(self.problem.call)}</code> answer? (0 is success.)</p>{panel('State', self.problem.code)}"
        )
        self.verdict.value = f'<p role="status" style="{LINES}">{self._score()}</p>'
        self.picture.value, self.checks.value = inline_svg(self.problem.picture), ""

    def _score(self) -> str:
        return f"{self.right} of {self.tried} right so far." if self.tried else "Choose an answer."

    def _answer(self, chosen: str | None) -> None:
        if chosen is None:
            return
        truth = self.problem.answer
        if not self.answered:
            self.answered, self.tried, self.right = True, self.tried + 1, self.right + (chosen == truth)
        first = f"√ Right: {truth}." if chosen == truth else f"× Not {chosen}: the kernel answers {truth}."
        self.verdict.value = (
            f'<div role="status" style="{LINES}"><strong>{first}</strong> {page_text(self.problem.reason)}<br>{self._score()}</div>'
        )
        self.picture.value = inline_svg(self.problem.after)
        refused = self.problem.refused
        self.checks.value = panel("Every check, in the kernel's order", in_every_font(refused.explain())) if refused else ""

    def __repr__(self) -> str:
        return f"MapDrill({self.problem!r}, {self.right} of {self.tried} right)"

    def still(self) -> tuple[str, str]:
        """Return the problem and its picture."""
        words = f"Problem {self.problem.seed}. After these steps, what does {self.problem.call} answer?"
        still = (
            f"<p>{page_text(words)}</p><pre>{page_text(self.problem.code)}</pre>{figure_html(self.problem.picture)}"
            "<p><em>Run this cell to answer with buttons.</em></p>"
        )
        return f"{words}\n{self.problem.code}\n{to_text(self.problem.picture)}", still
