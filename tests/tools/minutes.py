"""How long the notebooks take to go through: words, cells, questions, pictures and exercises, counted and turned into minutes.

    python tests/tools/minutes.py                                  # a line for each notebook: counted, printed, difference
    python tests/tools/minutes.py --sections                       # and a line for each section
    python tests/tools/minutes.py notebooks/03-containers-and-domains.ipynb

The pace is that of one reader: 170 words a minute, 25 seconds a code cell, 40 more where a question is asked, 50 for a picture with its
table. The minutes of an exercise are an estimate that nobody has measured. Time spent with the buttons is not counted.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
WORDS_A_MINUTE = 170
SECONDS = {"cells": 25, "questions": 40, "pictures": 50, "exercises": 240}
#: Minutes by which the printed time may differ from the counted one.
MARGIN = 5
PRINTED = re.compile(r"\*\*Time:\*\* (\d+) minutes, and (\d+) for the exercises")
EXERCISES = "Exercises"  # the section whose minutes are printed apart
HEADING = re.compile(r"#{1,2} (.+)")
PICTURE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
ASKED = re.compile(r"\bvl\.(?:ask|predict)\(")
EXERCISE = re.compile(r"\bvl\.check\(")


class Count(NamedTuple):
    """What a section or a notebook holds."""

    words: int = 0
    cells: int = 0
    questions: int = 0
    pictures: int = 0
    exercises: int = 0

    @property
    def minutes(self) -> float:
        """How long that takes."""
        return self.words / WORDS_A_MINUTE + sum(getattr(self, kind) * seconds for kind, seconds in SECONDS.items()) / 60


def total(counts: Iterable[Count]) -> Count:
    """Add counts up."""
    return Count(*map(sum, zip(Count(), *counts, strict=True)))


def prose(text: str) -> Count:
    """Count a text cell: its words as they are read, and its pictures."""
    read = LINK.sub(r"\1", PICTURE.sub("", text))
    return Count(words=len(re.findall(r"\w[\w'./:-]*", read)), pictures=len(PICTURE.findall(text)))


def code(cell: NotebookNode) -> Count:
    """Count a code cell: the cell itself, what it asks, and whether it shows a picture."""
    shown = any("<img " in "".join(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
    return Count(0, 1, len(ASKED.findall(cell.source)), int(shown), len(EXERCISE.findall(cell.source)))


def sections(path: Path) -> dict[str, Count]:
    """Count a notebook by its sections: heading -> what it holds, in order. What is before the first section has the title's name."""
    return {name: total(counts) for name, counts in _sections(nbformat.read(path, 4).cells)}


def _sections(cells: Iterable[NotebookNode]) -> Iterator[tuple[str, list[Count]]]:
    name = ""
    counted = []
    for cell in cells:
        if cell.cell_type == "markdown" and (found := HEADING.match(cell.source)):
            name = found[1]
        counted.append((name, prose(cell.source) if cell.cell_type == "markdown" else code(cell)))
    for name, group in groupby(counted, key=lambda pair: pair[0]):
        yield name, [count for _, count in group]


def counted(path: Path) -> Count:
    """Count a notebook without its exercises."""
    return total(count for name, count in sections(path).items() if name != EXERCISES)


def exercises(path: Path) -> Count:
    """Count a notebook's exercises."""
    return sections(path).get(EXERCISES, Count())


def printed(path: Path) -> tuple[int, int] | None:
    """Return the minutes that a notebook's first cell names, and those for its exercises; None if it names none."""
    found = PRINTED.search(nbformat.read(path, 4).cells[0].source)
    return (int(found[1]), int(found[2])) if found else None


def timed() -> list[Path]:
    """List the notebooks of the course, which print a time."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]-*.ipynb"))


def row(name: str, count: Count, *more: str) -> str:
    """Return a line of the table."""
    numbers = "".join(f"{number:>10}" for number in count)
    return f"{name[:46]:<46}{numbers}{count.minutes:>9.1f}{''.join(f'{word:>9}' for word in more)}"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sections", action="store_true", help="a line for each section too")
    parser.add_argument("notebook", nargs="*", type=Path, help="default: those of the course")
    options = parser.parse_args(argv)
    paths = options.notebook or timed()
    print(" " * 46 + "".join(f"{kind:>10}" for kind in Count._fields) + "".join(f"{word:>9}" for word in ("minutes", "printed", "differ")))
    for path in paths:
        said = printed(path)
        if options.sections:
            print(*(row(f"  {name}", count) for name, count in sections(path).items()), sep="\n")
        for name, count, at in ((path.stem, counted(path), 0), ("  its exercises", exercises(path), 1)):
            print(row(name, count, *(("-", "-") if said is None else (str(said[at]), f"{said[at] - count.minutes:+.1f}"))))
    said_all = [said for path in paths if (said := printed(path))]
    print(row("all", total(map(counted, paths)), str(sum(one for one, _ in said_all))))
    print(row("all exercises", total(map(exercises, paths)), str(sum(one for _, one in said_all))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
