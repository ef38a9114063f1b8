"""What the notebooks and reasons say about kernels, and what each statement rests on.

    python tests/tools/statements.py                     # how many statements rest on what
    python tests/tools/statements.py --draw 20 --seed 1  # some of them, at random, to check again
    python tests/tools/statements.py --missing           # statements without a row

A statement is a sentence that names a kernel version, a year, a kernel function or a commit. `data/course/statements.toml` has a row for
each: where it stands, an excerpt, and its evidence. A switch of the version table and a word of the glossary carry their own evidence.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat

from vfiolab._paths import data_dir
from vfiolab.course.glossary import glossary
from vfiolab.course.questions import questions
from vfiolab.model.irq.delivery import OUTCOMES
from vfiolab.model.switches import SWITCHES

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
KINDS = ("recording", "function", "commit", "mail")
NAMED = re.compile(
    r"(?<![\w.:])v?[4-7]\.\d{1,2}(?!\d)|\b(?:19|20)\d\d\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{12}\b"
    r"|\b(?:vfio|iommu|intel|amd|arm|smmu|iort|dmar|viommu|pci|irq|its|io|pt)_\w+\b(?!\.)"
)
ENDS = re.compile(r"(?<=[.?!:])[)*]*\s+(?=[A-Z0-9`*(\[])")
HOVER = re.compile(r'\[([^\]]+)\]\(glossary\.md#[^)]*"\)')  # a word with its meaning under the pointer
VERSIONS = r"\((?:QEMU )?\d+\.\d+(?: to \d+\.\d+|(?:, \d+\.\d+)*)(?:, commit [0-9a-f]{12})?\)"
COMMIT = r"(?:[0-9a-f]{12}|v\d+\.\d+(?:-rc\d+)?)(?: \([^)]+\))?"
FORMS = {
    "function": re.compile(rf"(?:\w+(?: and \w+)*, )?[\w.*-]+(?:/[\w.*-]+)+ {VERSIONS}"),
    "commit": re.compile(rf"{COMMIT}(?:, {COMMIT})*"),
    "mail": re.compile(r"\d+ [A-Z][a-z]+ \d{4}, \w[\w-]*"),
}


class Row(NamedTuple):
    """One row: where the statement stands, an excerpt of it, the kind of its evidence, and the evidence."""

    where: str
    text: str
    kind: str
    evidence: str


def flat(text: str) -> str:
    """Return text on one line."""
    return " ".join(text.split())


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text: paragraphs, list items and rows of tables, without headings, pictures and code."""
    for block in re.split(r"\n\s*\n|\n(?=[-|] ?)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if not block.startswith(("#", "!")):
            yield from filter(None, ENDS.split(flat(HOVER.sub(r"\1", block))))


@cache
def texts() -> list[tuple[str, str]]:
    """List (where, sentence) of all that may name a kernel."""
    return list(_texts())


def _texts() -> Iterator[tuple[str, str]]:
    """Yield them: notebooks' text cells, pages beside them, questions, outcomes of journeys."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown":
                yield from ((f"{path.stem.partition('-')[0]} {cell['id']}", one) for one in sentences(cell.source))
    for page in ("claims", "gallery", "teaching"):
        yield from ((page, one) for one in sentences((NOTEBOOKS / f"{page}.md").read_text(encoding="utf-8")))
    for name, entry in questions().items():
        yield name, flat(entry["question"])
        for text in (entry["because"], *entry["why"].values()):
            yield from ((name, one) for one in sentences(text))
    yield from (("outcomes", one) for one in OUTCOMES.values())


def statements() -> list[tuple[str, str]]:
    """List (where, sentence) of each statement. A question of a notebook's text states nothing; a course question does, by its answer."""
    known = questions()
    return [(where, one) for where, one in texts() if NAMED.search(one) and (where in known or not one.rstrip("*)").endswith("?"))]


def rows(path: Path | None = None) -> list[Row]:
    """Read the list; ValueError names a row whose evidence has no kind."""
    found = []
    for where, entries in tomllib.loads((path or data_dir() / "course" / "statements.toml").read_text(encoding="utf-8")).items():
        for text, said in entries.items():
            kind, _, evidence = said.partition(": ")
            if kind not in KINDS:
                raise ValueError(f"{where}, {text!r}: evidence is one of {', '.join(KINDS)}, then a colon, not {said!r}")
            found.append(Row(where, flat(text), kind, evidence))
    return found


def covers(row: Row, where: str, sentence: str) -> bool:
    """Say whether a row is about this statement."""
    return row.where == where and row.text in sentence


def missing(found: list[Row]) -> list[str]:
    """List the statements that no row covers."""
    return [f"{where}: {one}" for where, one in statements() if not any(covers(row, where, one) for row in found)]


def idle(found: list[Row]) -> list[str]:
    """List the rows that cover no statement."""
    said = statements()
    return [f"{row.where}: {row.text}" for row in found if not any(covers(row, where, one) for where, one in said)]


def resolves(row: Row) -> bool:
    """Say whether the evidence is of its kind's form; a recording must be in the repository, with its scenario if one is named."""
    if row.kind == "recording":
        return all(map(_recorded, row.evidence.split(", ")))
    return FORMS[row.kind].fullmatch(row.evidence) is not None


def _recorded(name: str) -> bool:
    environment, _, scenario = name.partition("/")
    folder = data_dir() / "traces" / environment
    captured, listed = data_dir() / "captures" / environment, data_dir() / "machines" / f"{environment}.json"
    if not scenario and (captured.is_file() or listed.is_file()):  # a capture, or a machine's own groups
        return True
    if not (folder / "machine.json").is_file():
        return False
    return not scenario or any(f"\n## {scenario}\n" in "\n" + path.read_text(encoding="utf-8") for path in folder.glob("*.trace"))


def counted() -> list[Row]:
    """List every statement with its evidence: the rows, the words of the glossary, and the switches of the version table."""
    switches = [
        Row(f"switch {one.name}", one.what, one.evidence if one.evidence in KINDS else "function", f"{one.source}, {one.landed}")
        for one in SWITCHES.values()
    ]
    return [*rows(), *defined(), *switches]


def defined() -> list[Row]:
    """List what the glossary says: a row for each source of each word."""
    return [Row(f"glossary {term.word}", term.means, *source.split(": ", 1)) for term in glossary.values() for source in term.source]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--draw", type=int, default=0, metavar="N", help="print N statements at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--missing", action="store_true", help="print the statements that have no row; exit 1 if there are any")
    options = parser.parse_args(argv)
    if options.missing:
        without = missing(rows())
        print("\n".join(without) or "none")
        return min(len(without), 1)
    every = counted()
    for row in random.Random(options.seed).sample(every, min(options.draw, len(every))):
        print(f"{row.where}: {row.text}\n    {row.kind}: {row.evidence}")
    kinds = Counter(row.kind for row in every)
    switches = sum(row.where.startswith("switch ") for row in every)
    print(f"{len(every)} statements ({switches} of them switches): " + ", ".join(f"{kinds[kind]} on {kind}s" for kind in KINDS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
