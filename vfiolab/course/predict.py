"""Predict, then reveal: commit an answer about the system's state before the model shows it.

A Prediction holds the learner's answer; its buttons are one way to give it, `choose()` is the same in code. The truth is what the model
answers to the question's experiment when it is asked, never a text; a question of one's own is given it by `reveal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from io import StringIO
from typing import Any

import vfiolab
from vfiolab._text import page_text
from vfiolab.course.progress import note
from vfiolab.course.words import html, plain

Option = str | int
#: Why the truth is so, and what is wrong with each other option.
Told = tuple[str, Mapping[Option, str]]
UNTOUCHED = "No prediction was made: choose an answer above, then run this cell again."
SUMMARY = "Show the answer and the reasons without a prediction"


class Prediction:
    """A question whose answer is chosen before it is revealed.

    In JupyterLab it shows a row of buttons; without a live kernel, or on paper, the question with its options.
    """

    def __init__(
        self, question: str, options: tuple[Option, ...], why: Mapping[Option, str] | None = None, because: str = "",
        shown: Mapping[Option, str] | None = None, experiment: str = "", shows: str = "", *, given: str = "",
        told: Callable[[Mapping[str, Any], Option], Told] | None = None, twin: Callable[[], Prediction] | None = None, name: str = "",
    ) -> None:  # fmt: skip
        if len(options) < 2:
            raise ValueError(f"a prediction needs at least two options to choose from, not {options!r}: {question!r}")
        if len({str(option) for option in options}) != len(options):
            raise ValueError(f"two options of one question look the same: {options!r}: {question!r}")
        self.question, self.options, self.because = question, options, because
        self.why: Mapping[Option, str] = why or {}
        self.shown: Mapping[Option, str] = shown or {}
        self.experiment, self.shows, self.given = f"{given}{experiment}", shows, given
        self._told, self._twin, self.name = told, twin, name
        self.answer: Option | None = None
        self.revealed = False
        self._view: Any = None

    def __repr__(self) -> str:
        return f"Prediction({self.question!r}, {self.options!r}, answer={self.answer!r})"

    def word(self, option: Option) -> str:
        """Return an option as a learner reads it."""
        return self.shown.get(option, str(option))

    def choose(self, option: Option) -> None:
        """Commit `option` as the answer: what a click on its button does.

        Raises ValueError when it is none of the options, or when the answer was revealed already.
        """
        if option not in self.options:
            raise ValueError(f"{option!r} is none of the options: {self._listed()}")
        if self.revealed and option != self.answer:
            raise ValueError(f"the answer was revealed: your prediction stays {self.answer!r}; run its cell to start anew")
        first, self.answer = self.answer is None, option
        self.revealed = self.revealed or bool(self.experiment)
        if self.name and first:
            note("question", self.name, good=option == self.found[0])
        self._sync()

    @cached_property
    def found(self) -> tuple[Option, Any]:
        """What the model answers to the experiment, and the picture of it (None if there is none). ValueError without an experiment.

        >>> from vfiolab.course import ask
        >>> ask("two-units").found[0]
        2
        """
        if not self.experiment:
            raise ValueError(f"{self.question!r} has no experiment: pass the truth")
        names: dict[str, Any] = {"vl": vfiolab}
        with redirect_stdout(StringIO()):  # what an experiment prints on its way
            exec(self.experiment, names)  # noqa: S102 - the course's own text
            if self._told is not None:
                self.because, self.why = self._told(names, names["truth"])
            return names["truth"], eval(self.shows, names) if self.shows else None  # noqa: S307 - likewise

    def twin(self) -> Prediction:
        """Return another question by the same rule, with other numbers: for who was wrong. ValueError for a question that has none.

        >>> from vfiolab.course import ask
        >>> ask("two-units").twin()
        Prediction('How many domains has the address space now?', (1, 2, 3, 4), answer=None)
        """
        if self._twin is None:
            raise ValueError(f"{self.question!r} has no twin")
        return self._twin()

    @property
    def missed(self) -> bool:
        """Whether the model's answer is another than the one that was chosen, and there is a twin to try."""
        return self._twin is not None and self.answer is not None and self.answer != self.found[0]

    def reveal(self, truth: Option | None = None, why: Mapping[Option, str] | None = None, *, because: str = "") -> Reveal:
        """Show the truth, beside what was predicted.

        `truth` comes from the model (`len(space.domains)`; by default its answer to the question's experiment); `why` says for each
        other option what is wrong with it,
        and `because` why the truth is so; a question of the course (`ask`) brings both along. Raises ValueError when
        the question does not offer the truth, or when a wrong option is left without its reason.

        >>> guess = predict("How many bytes has a page here?", 512, 4096)
        >>> guess.choose(512)
        >>> print(guess.reveal(4096, {512: "That is a disk sector."}, because="Page sizes start at 4 KiB."))
        Not quite: you predicted 512, and it is 4096.
        That is a disk sector.
        Page sizes start at 4 KiB.
        """
        truth = self.found[0] if truth is None else truth
        why, because = why or self.why, because or self.because
        if not because.strip():
            raise ValueError(f"no reason is given why {truth!r} is the truth of {self.question!r}: pass because=...")
        if truth not in self.options:
            raise ValueError(f"the truth is {truth!r}, which {self.question!r} does not offer: {self._listed()}")
        wrong = [option for option in self.options if option != truth]
        if strange := [option for option in why if option not in wrong]:
            raise ValueError(f"a reason for what is no wrong option of {self.question!r}: {strange!r}")
        if silent := [option for option in wrong if not why.get(option, "").strip()]:
            raise ValueError(f"no reason is given why these are wrong in {self.question!r}: {silent!r}")
        if self.answer is not None and not self.revealed:
            self.revealed = True
            self._sync()
        reasons = tuple((option, why[option]) for option in wrong)
        return Reveal(self.question, truth, self.answer, because, reasons, self.shown)

    def _listed(self) -> str:
        return ", ".join(repr(option) for option in self.options)

    def _sync(self) -> None:
        if self._view is not None:
            self._view.show()

    def view(self) -> Any:
        """Return the row of buttons (an ipywidgets box); the same one each time."""
        if self._view is None:
            from vfiolab.course.buttons import PredictionView

            self._view = PredictionView(self)
        return self._view.box

    def _text(self) -> str:
        marks = "   ".join(f"({'x' if option == self.answer else ' '}) {self.word(option)}" for option in self.options)
        return f"{self.given}Predict: {plain(self.question)}\n  {marks}"

    def _html(self) -> str:
        chosen = {self.answer: " — <em>your prediction</em>"} if self.answer is not None else {}
        items = "".join(f"<li>{html(self.word(option))}{chosen.get(option, '')}</li>" for option in self.options)
        page = f"{self.code_given}<p><strong>Predict.</strong> {html(self.question)}</p><ul>{items}</ul>"
        return f"<div>{page}<p><em>Run this cell to choose with buttons.</em></p></div>"

    @property
    def code_given(self) -> str:
        """What was done before the question, as HTML; empty if the question says it."""
        return f'<pre style="white-space:pre-wrap">{page_text(self.given.strip())}</pre>' if self.given else ""

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """Give the buttons to a live front end, and their static twins to everything else."""
        bundle = dict(self.view()._repr_mimebundle_(**kwargs) or {})
        return {**bundle, "text/plain": self._text(), "text/html": self._html()}


@dataclass(frozen=True, slots=True)
class Reveal:
    """The truth beside the prediction; prints and shows itself."""

    question: str
    truth: Option
    answer: Option | None
    because: str
    reasons: tuple[tuple[Option, str], ...] = field(repr=False)
    shown: Mapping[Option, str] = field(default_factory=dict, repr=False)

    @property
    def verdict(self) -> str:
        """One of "right", "wrong", "untouched"."""
        if self.answer is None:
            return "untouched"
        return "right" if self.answer == self.truth else "wrong"

    def _word(self, option: Option | None) -> str:
        return str(option) if option is None else self.shown.get(option, str(option))

    def _told(self) -> list[str]:
        """Say the verdict, then why, to a learner who did choose."""
        if self.verdict == "right":
            return [f"Right: you predicted {self._word(self.truth)}.", self.because]
        said = f"Not quite: you predicted {self._word(self.answer)}, and it is {self._word(self.truth)}."
        return [said, *(reason for option, reason in self.reasons if option == self.answer), self.because]

    def _kept_back(self) -> list[str]:
        """Say what is true, then why, and the reason of every other option, for a learner who did not choose."""
        others = [f"Not {self._word(option)}: {reason}" for option, reason in self.reasons]
        return [f"It is {self._word(self.truth)}.", self.because, *others]

    def __str__(self) -> str:
        if self.verdict == "untouched":
            return f"{UNTOUCHED}\n({plain(' '.join(['The answer:', *self._kept_back()]))})"
        return "\n".join(plain(line) for line in self._told())

    def _repr_mimebundle_(self, **_kwargs: Any) -> dict[str, str]:
        """Show the verdict as text that does not lean on colour; without a prediction, the answer stays folded away."""
        return {"text/plain": str(self), "text/html": f"<div>{self.page}</div>"}

    @property
    def page(self) -> str:
        """The verdict and its reasons as HTML; without a prediction, the answer folded away."""
        return self._folded() if self.verdict == "untouched" else self._open()

    def _open(self) -> str:
        first, *rest = (html(line) for line in self._told())
        sign = "√" if self.verdict == "right" else "×"
        return f"<p>{sign} <strong>{first}</strong></p>" + "".join(f"<p>{line}</p>" for line in rest)

    def _folded(self) -> str:
        first, *rest = (html(line) for line in self._kept_back())
        body = "".join(f"<p>{line}</p>" for line in rest)
        return f"<p><strong>{UNTOUCHED}</strong></p><details><summary>{SUMMARY}</summary><p><strong>{first}</strong></p>{body}</details>"


def predict(question: str, *options: Option) -> Prediction:
    """Ask `question`; the learner commits one of `options` before `reveal()`.

    >>> guess = predict("How many domains will two groups behind one IOMMU need?", 1, 2)
    >>> guess
    Prediction('How many domains will two groups behind one IOMMU need?', (1, 2), answer=None)
    >>> print(guess.reveal(1, {2: "They can share one."}, because="One page table serves both."))
    No prediction was made: choose an answer above, then run this cell again.
    (The answer: It is 1. One page table serves both. Not 2: They can share one.)
    """
    return Prediction(question, options)
