"""The buttons of a prediction: a view; the answer lives in the Prediction."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets

from vfiolab._text import page_text
from vfiolab.course.toggles import column, toggles
from vfiolab.course.words import html, plain
from vfiolab.draw import inline_svg

if TYPE_CHECKING:  # a Prediction loads its view late; only the type checker sees a cycle
    from vfiolab.course.predict import Prediction


class PredictionView:
    """One row of toggle buttons with the question above and what was chosen below.

    Toggle buttons, because JupyterLab keeps the arrow keys of drop-downs and radio buttons for itself: Tab and Space
    reach and choose each of these.
    """

    def __init__(self, prediction: Prediction) -> None:
        self.prediction = prediction
        self.buttons = toggles(
            [(prediction.word(option), option) for option in prediction.options],
            prediction.answer,
            [f"Predict {prediction.word(option)}: {plain(prediction.question)}" for option in prediction.options],
        )
        self.status = ipywidgets.HTML()
        question = ipywidgets.HTML(f"{prediction.code_given}<p><strong>Predict.</strong> {html(prediction.question)}</p>")
        self.told, self.below = ipywidgets.HTML(), ipywidgets.VBox()
        words = f"Try a question by the same rule, with other numbers; it appears below. It was: {plain(prediction.question)}"
        self.again = ipywidgets.Button(description="Try one like it", tooltip=words, layout={"display": "none", "width": "max-content"})
        self.again.on_click(lambda _: self._twin())
        self.box = column(question, self.buttons, self.status, self.told, self.again, self.below)
        self.buttons.observe(self._on_click, "value")
        self.show()

    def _on_click(self, change: Any) -> None:
        if change["new"] is not None and change["new"] != self.prediction.answer:
            self.prediction.choose(change["new"])

    def _twin(self) -> None:
        """Show the twin below, once; there a wrong answer has a button of its own. What is above stays where it is."""
        self.again.disabled = True
        self.below.children = self.below.children or (self.prediction.twin().view(),)

    def show(self) -> None:
        """Bring the buttons and the status line to what the Prediction holds."""
        answer = self.prediction.answer
        self.buttons.value = answer
        self.buttons.disabled = self.prediction.revealed
        self.again.layout.display = None if self.prediction.revealed and self.prediction.missed else "none"
        if answer is not None and self.prediction.experiment:
            words = f"Your prediction: {escape(self.prediction.word(answer))}"
            self.told.value = self._found()
        elif answer is None:
            words = "Choose, and the answer appears here." if self.prediction.experiment else "You have not chosen yet."
        else:
            words = f"Your prediction: {escape(self.prediction.word(answer))}" + (" (revealed)" if self.prediction.revealed else "")
        self.status.value = f'<span role="status">{words}</span>'

    def _found(self) -> str:
        """Return what the model answers, why, its picture, and the code that asked it."""
        picture = self.prediction.found[1]
        drawn = inline_svg(picture) if picture is not None else ""
        code = f'<pre style="white-space:pre-wrap">{page_text(self.prediction.experiment.strip())}</pre>'
        told = self.prediction.reveal().page
        return f'<div role="status">{told}</div>{drawn}<details><summary>How the model found out</summary>{code}</details>'
