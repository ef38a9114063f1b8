"""Exercises: a function that the learner writes, and a check that tells which case fails, and why.

An exercise's texts are data (`data/course/exercises.toml`), and so are the cases that are mere names and numbers. What judges them is a
function of `vfiolab.course.judges`, which runs the model: no right answer is stored.
"""

from __future__ import annotations

import inspect
import linecache
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from html import escape
from types import FrameType
from typing import Any

from vfiolab.course.cases import Case, WrongShapeError, entries, shown
from vfiolab.course.judges import JUDGES
from vfiolab.course.progress import note
from vfiolab.course.words import html, plain

MOST_LINES = 200_000  # of a learner's own code for one case; the worked solutions need less than 2,000


class EndlessError(RuntimeError):
    """A learner's function does not come to an end."""


class Text(str):
    """A hint or a solution: shows itself without quotes, code as code."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        parts = str(self).split("\n\n", 1)
        page = f"<p>{html(parts[0])}</p>" + "".join(f"<pre>{escape(code)}</pre>" for code in parts[1:])
        return {"text/plain": str(self), "text/html": f"<div>{page}</div>"}


@dataclass(frozen=True, slots=True)
class Exercise:
    """A task, the stub to start from, two hints, and a worked solution with its reasoning."""

    name: str
    task: str
    stub: str
    hints: tuple[str, str]
    answer: str = field(repr=False)
    reasoning: str = field(repr=False)

    def hint(self, number: int) -> Text:
        """Return hint 1, or the longer hint 2; ValueError for another number.

        >>> exercise("layout").hint(1)
        One map cannot cross a hole. Which range takes the most bytes with one map?
        """
        if number not in (1, 2):
            raise ValueError(f"there are hints 1 and 2, not {number!r}")
        return Text(plain(self.hints[number - 1]))

    def solution(self) -> Text:
        """Return the worked solution: its reasoning, then its code.

        >>> print(exercise("layout").solution().splitlines()[2])
        def layout(ranges, size):
        """
        return Text(f"{plain(self.reasoning)}\n\n{self.answer}")

    def check(self, function: Callable[..., object]) -> Checked:
        """Run a learner's function on every case: what `check` does with the exercise's name."""
        return check(self.name, function)

    def _lines(self) -> list[str]:
        more = f'Then `vl.check("{self.name}", {self.function})`. Stuck: `vl.exercise("{self.name}").hint(1)`.'
        return [f"Exercise {self.name}. {self.task}", self.stub, more]

    @property
    def function(self) -> str:
        """Name of the function that the stub begins."""
        return self.stub.partition("def ")[2].partition("(")[0]

    def __str__(self) -> str:
        task, stub, more = self._lines()
        return f"{plain(task)}\n\n{stub}\n{plain(more)}"

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        stub, more = self._lines()[1:]
        page = f"<p><strong>Exercise {escape(self.name)}.</strong> {html(self.task)}</p><pre>{escape(stub)}</pre><p>{html(more)}</p>"
        return {"text/plain": str(self), "text/html": f"<div>{page}</div>"}


@dataclass(frozen=True, slots=True)
class Checked:
    """The task, and what a check found; prints and shows itself. `passed` of `tried` cases hold.

    `verdict` is "solved", "not yet" or "untouched".
    """

    exercise: Exercise
    verdict: str
    tried: int
    passed: int
    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"Exercise {self.exercise.name}. {plain(self.exercise.task)}", "", *self.lines))

    __repr__ = __str__

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        first, *rest = map(escape, self.lines)
        sign = {"solved": "√ ", "not yet": "× "}.get(self.verdict, "")
        task = f"<p><strong>Exercise {escape(self.exercise.name)}.</strong> {html(self.exercise.task)}</p>"
        page = f"<p>{sign}<strong>{first}</strong></p>" + "".join(f"<p>{line}</p>" for line in rest)
        return {"text/plain": str(self), "text/html": f"<div>{task}{page}</div>"}


@cache
def exercises() -> dict[str, Exercise]:
    """Return the exercises by name, in their order."""
    return {
        name: Exercise(name, entry["task"], entry["stub"], tuple(entry["hints"]), entry["solution"], entry["reasoning"])
        for name, entry in entries().items()
    }


def exercise(name: str) -> Exercise:
    """Return an exercise: task and stub, `hint(1)`, `hint(2)`, `solution()`. ValueError lists those there are.

    >>> print(exercise("cookie").stub)
    def addresses(doorbells, base, page):
        '''Return the iova that each interrupt's message is written to.'''
        raise NotImplementedError
    """
    known = exercises()
    if name not in known:
        raise ValueError(f"no exercise is called {name!r}; exercises: {', '.join(known)}")
    return known[name]


def check(name: str, function: Callable[..., object]) -> Checked:
    """Run a learner's function on an exercise's cases; tell which were tried, and what the model says of the first that fails.

    TypeError if it is no function; ValueError as `exercise`.

    >>> def layout(ranges, size):
    ...     return [(0, size)]
    >>> print(check("layout", layout))
    Exercise layout. Write layout(ranges, size). ...
    <BLANKLINE>
    Not yet: 0 of 4 cases hold. Tried: VT-d of 39 bits; SMMU of 48 bits; SMMU of 34 bits with firmware's regions; the same with 14 GiB.
    The first that fails: VT-d of 39 bits.
    Given: layout([(0, 0xfedf_ffff), (0xfef0_0000, 0x7f_ffff_ffff)], 0x2_0000_0000)
    Came: [(0, 0x2_0000_0000)]
    The model refuses (0, 0x2_0000_0000): EINVAL: 0x0-0x1_ffff_ffff overlaps the MSI window 0xfee0_0000-0xfeef_ffff
    """
    task = exercise(name)
    if not callable(function):
        raise TypeError(f'check takes the function itself: vl.check("{name}", {task.function}), not {function!r}')
    found = _checked(task, function)
    if found.verdict != "untouched":
        note("exercise", name, good=found.verdict == "solved")
    return found


def _checked(task: Exercise, function: Callable[..., object]) -> Checked:
    tried: list[str] = []
    failed: list[tuple[str, list[str]]] = []
    untouched = True
    for case in JUDGES[task.name]():
        tried.append(case.name)
        given = f"Given: {_name(function)}{case.given}"  # before the function can change what it is given
        wrong, empty = _try(case, function)
        untouched = untouched and empty
        if wrong:
            failed.append((case.name, [given, *wrong]))
            if EndlessError.__name__ in wrong[0]:
                break  # each of the others would take as long
    passed = len(tried) - len(failed)
    if untouched:
        words = f"Nothing to check yet: {_name(function)} is still the stub, or returns nothing."
        advice = f'Write its body, return a value, and run the cell again. A first hint: vl.exercise("{task.name}").hint(1)'
        return Checked(task, "untouched", len(tried), 0, (words, advice))
    cases = f"{'cases hold' if len(tried) > 1 else 'case holds'}. Tried: {'; '.join(dict.fromkeys(tried))}."
    if not failed:
        return Checked(task, "solved", len(tried), passed, (f"Solved: {passed} of {passed} {cases}", plain(task.reasoning)))
    name, wrong = failed[0]
    head = (f"Not yet: {passed} of {len(tried)} {cases}", f"The first that fails: {name}.")
    return Checked(task, "not yet", len(tried), passed, (*head, *wrong))


def _try(case: Case, function: Callable[..., object]) -> tuple[list[str], bool]:
    """Return what is wrong with a function's answer to one case, in lines; and whether there was no answer at all."""
    form = inspect.signature(function) if _file(function) else None  # what is built in tells by itself
    try:
        if form is not None:
            form.bind(*case.args)
    except TypeError as misfit:
        asks = f"{_name(function)}{form}"
        return [f"It cannot be called so: {misfit}. The check passes {len(case.args)} arguments, and yours is {asks}."], False
    try:
        came = _bounded(function, case.args)
    except NotImplementedError as empty:
        return [_raised(function, empty)], True
    except Exception as error:  # noqa: BLE001 - whatever a learner's code raises is told, never hidden
        return [_raised(function, error)], False
    words = shown(came)
    try:
        wrong = case.judge(came)
    except WrongShapeError as shape:
        wrong = str(shape)
    return [f"Came: {words}", wrong] if wrong else [], came is None


def _bounded(function: Callable[..., object], args: tuple[Any, ...]) -> object:
    """Call a learner's function; EndlessError once its own lines have run `MOST_LINES` times."""
    file, lines = _file(function), 0

    def watch(frame: FrameType, event: str, _: object) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != file:
            return None
        lines += event == "line"
        if lines > MOST_LINES:
            raise EndlessError(f"{_name(function)} does not come to an end: {MOST_LINES:,} lines of it have run")
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        return function(*args)
    finally:
        sys.settrace(before)


def _file(function: Callable[..., object]) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return code.co_filename if code is not None else ""


def _raised(function: Callable[..., object], error: Exception) -> str:
    """Say what was raised, and in which line of the learner's code."""
    file = _file(function)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file and frame.lineno is not None]
    what = f"It raised {type(error).__name__}: {error}".rstrip(": ")
    if not lines:
        return what
    code = linecache.getline(file, lines[-1]).strip()
    return f"{what} (line {lines[-1]}{f': {code}' if code else ''})"


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", "the function")
