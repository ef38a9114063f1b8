"""What a learner answered and solved: a line each in a local file, and nowhere else.

`vfiolab lab` names the file in VFIOLAB_PROGRESS; where nothing is named (a test, a script), nothing is kept. Several notebooks may write
at once: a line is only ever added, and of each question the first answer counts.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vfiolab._paths import notebooks_dir
from vfiolab._table import Table

VARIABLE = "VFIOLAB_PROGRESS"
FILE = "progress.jsonl"
TASK = re.compile(r"""\bvl\.(ask|check)\("([\w-]+)\"""")
KINDS = {"ask": "question", "check": "exercise"}

Task = tuple[str, str]  # "question" or "exercise", and its name


@cache
def tasks() -> dict[str, tuple[Task, ...]]:
    """Return the questions and exercises of each notebook of the course, in order: "03" -> (kind, name), ...

    >>> tasks()["00"][0]
    ('question', 'nothing-mapped')
    """
    found = {}
    for path in sorted(notebooks_dir().glob("[0-9][0-9]-*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        found[path.name[:2]] = tuple((KINDS[verb], name) for text in code for verb, name in TASK.findall(text))
    return found


def note(kind: str, name: str, *, good: bool) -> None:
    """Keep that a question was answered, or an exercise tried; warn where the file cannot be written to, and go on."""
    if file := os.environ.get(VARIABLE):
        line = json.dumps({"kind": kind, "name": name, "good": good})
        try:
            with Path(file).open("a", encoding="utf-8") as kept:
                kept.write(f"{line}\n")
        except OSError as error:
            warnings.warn(f"your progress is not kept: {error}", stacklevel=3)


def _kept() -> dict[Task, bool]:
    """Return what the file holds: the first answer to each question, the best try of each exercise. Lines of another form are told."""
    file = Path(os.environ.get(VARIABLE, ""))
    found: dict[Task, bool] = {}
    if not file.is_file():
        return found
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if (one := _entry(line)) is None:
            warnings.warn(f"line {number} of {file} says nothing about a question or an exercise, and is left out", stacklevel=3)
            continue
        kind, name, good = one
        found[kind, name] = found.get((kind, name), good) or (good and kind == "exercise")
    return found


def _entry(line: str) -> tuple[str, str, bool] | None:
    try:
        read: Any = json.loads(line)
    except ValueError:
        return None
    if not isinstance(read, dict) or read.get("kind") not in KINDS.values() or not isinstance(read.get("name"), str):
        return None
    return (read["kind"], read["name"], read["good"]) if isinstance(read.get("good"), bool) else None


@dataclass(frozen=True, slots=True, repr=False)
class Progress:
    """How far a learner is in one notebook; `kept` is False where no file is named, and then nothing is known."""

    notebook: str
    questions: int
    exercises: int
    answered: int
    right: int
    solved: int
    place: str
    kept: bool

    @property
    def code(self) -> str:
        """What to read out: notebook, what is next there (q2: question 2, x1: exercise 1), right of answered, exercises solved."""
        return f"{self.notebook}-{self.place}-{self.right}of{self.answered}-{self.solved}"

    def __repr__(self) -> str:
        head = f"notebook {self.notebook}: {self.questions} questions, {self.exercises} exercises"
        if not self.kept:
            return f"{head} (`vfiolab lab` keeps what you answer; here nothing is kept)"
        return f"{head}; {self.answered} answered, {self.right} right, {self.solved} solved; code {self.code}"


def _of(notebook: str, kept: dict[Task, bool]) -> Progress:
    mine = tasks()[notebook]
    numbered = {task: f"{task[0][0].replace('e', 'x')}{[one for one in mine if one[0] == task[0]].index(task) + 1}" for task in mine}
    place = next((number for task, number in numbered.items() if task not in kept or (task[0] == "exercise" and not kept[task])), "end")
    answers = [kept[task] for task in mine if task[0] == "question" and task in kept]
    solved = sum(kept.get(task, False) for task in mine if task[0] == "exercise")
    counts = [sum(task[0] == kind for task in mine) for kind in ("question", "exercise")]
    return Progress(notebook, counts[0], counts[1], len(answers), sum(answers), solved, place, bool(os.environ.get(VARIABLE)))


def progress(notebook: str | None = None) -> Progress | Table:
    """Return how far you are in a notebook ("03"), or a table of all of them. ValueError lists the notebooks there are.

    >>> progress("00")
    notebook 00: ... questions, ... exercises (`vfiolab lab` keeps what you answer; here nothing is kept)
    """
    if notebook is not None and notebook not in tasks():
        raise ValueError(f"there is no notebook {notebook!r}: {', '.join(tasks())}")
    kept = _kept()
    if notebook is not None:
        return _of(notebook, kept)
    found = [_of(one, kept) for one in tasks()]
    columns = ["notebook", "questions", "answered", "right", "exercises", "solved", "code"]
    return Table(columns, [[getattr(one, column) for column in columns] for one in found])
