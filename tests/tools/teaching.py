"""The instructor's guide: a page and a form for votes, made of data/course/teaching.toml, the notebooks' minutes and the questions.

python tests/tools/teaching.py            # write notebooks/teaching.md, votes.html and slides.html
python tests/tools/teaching.py --check    # write nothing; exit 1 if one of them is stale
"""

from __future__ import annotations

import math
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nbformat

from vfiolab._paths import data_dir, notebooks_dir
from vfiolab._text import markup
from vfiolab.course import ask
from vfiolab.course.words import html
from vfiolab.draw import Picture, figure_html

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.made import document, parser, store
from tools.minutes import HEADING, LINK, Count, sections, total

BEGINNING = "beginning"
ASKED = re.compile(r'vl\.ask\("([\w-]+)"\)')
STYLE = """\
@page { size: A4; margin: 14mm; }
body { font: 11pt/1.35 "DejaVu Sans", Verdana, sans-serif; max-width: 182mm; margin: 0 auto; color: #000; background: #fff; }
h1 { font-size: 15pt; margin: 0 0 2mm; }
section { break-inside: avoid; margin: 0 0 6mm; }
h2 { font-size: 11pt; margin: 0 0 1.5mm; }
table { border-collapse: collapse; }
th, td { border: .5pt solid #000; padding: 1mm 3mm; text-align: left; font-weight: normal; }
td { min-width: 24mm; }
"""


SLIDES = """\
html { scroll-snap-type: y mandatory; color-scheme: light dark; }
body { margin: 0; font: 2.6vmin/1.4 "DejaVu Sans", Verdana, sans-serif; }
section { min-height: 100vh; box-sizing: border-box; padding: 6vmin 9vmin; scroll-snap-align: start; break-after: page;
  display: flex; flex-direction: column; justify-content: center; border-bottom: 1px solid; }
h1 { font-size: 7vmin; line-height: 1.15; margin: 0; } h2 { font-size: 4vmin; line-height: 1.3; margin: 0 0 3vmin; font-weight: 600; }
li { font-size: 3.4vmin; margin: 1vmin 0; } .where { margin: 0 0 3vmin; } .say { margin: 4vmin 0 0; font-style: italic; }
figure { max-width: 120vmin; } img, svg { max-height: 52vh; }
"""


class Block(NamedTuple):
    """One part of the plan: its title, what is gone through, the whole minutes counted for that, what comes on top, what to say."""

    title: str
    sections: tuple[tuple[str, str], ...]
    counted: int
    extra: Mapping[str, int]
    say: str
    votes: tuple[str, ...]

    @property
    def minutes(self) -> int:
        """How long the part takes."""
        return self.counted + sum(self.extra.values())


@cache
def data() -> dict[str, Any]:
    """Read the plan, the profiles and the misconceptions."""
    return tomllib.loads((data_dir() / "course" / "teaching.toml").read_text(encoding="utf-8"))


def notebook(number: str) -> Path:
    """Return the notebook with a number. ValueError: there is not exactly one."""
    (path,) = notebooks_dir().glob(f"{number}-*.ipynb")
    return path


@cache
def counts(number: str) -> dict[str, Count]:
    """Count a notebook's sections."""
    return sections(notebook(number))


def heading(number: str, start: str) -> str:
    """Return the one heading of a notebook that begins so; the "beginning" is its title. ValueError: there is none, or more than one."""
    if start == BEGINNING:
        return next(iter(counts(number)))
    found = [name for name in counts(number) if name.startswith(start)]
    if len(found) != 1:
        raise ValueError(f"notebook {number} has {len(found)} sections that begin with {start!r}; it has: {', '.join(counts(number))}")
    return found[0]


def chosen(places: Mapping[str, Iterable[str]]) -> list[tuple[str, str]]:
    """List (notebook, heading) of what was chosen; a notebook without sections stands for all of them."""
    return [
        (number, name) for number, starts in places.items() for name in ([heading(number, s) for s in starts] if starts else counts(number))
    ]


def minutes(places: Iterable[tuple[str, str]]) -> int:
    """Sum the minutes of sections, rounded up to whole ones."""
    return math.ceil(total(counts(number)[name] for number, name in places).minutes)


def plan() -> list[Block]:
    """Return the half day, part by part."""
    blocks = []
    for entry in data()["plan"]:
        places = tuple(chosen(entry.get("sections", {})))
        blocks.append(Block(entry["title"], places, minutes(places), entry.get("extra", {}), entry["say"], tuple(entry.get("votes", ()))))
    return blocks


def clock(passed: int) -> str:
    """Return minutes from the start as hours and minutes."""
    return f"{passed // 60}:{passed % 60:02}"


def short(number: str, name: str) -> str:
    """Return how a section is called in a table: its number, or its whole heading."""
    head, _, rest = name.partition(". ")
    return head if rest and head.isdecimal() else BEGINNING if name == heading(number, BEGINNING) else name


def linked(number: str, names: Iterable[str] = ()) -> str:
    """Return a link to a notebook, with the sections that are meant."""
    which = ", ".join(short(number, name) for name in names)
    return f"[{number}]({notebook(number).name})" + (f": {which}" if which else "")


def by_notebook(places: Iterable[tuple[str, str]]) -> str:
    """Return links to what was chosen; a whole notebook without its sections."""
    names: dict[str, list[str]] = {}
    for number, name in places:
        names.setdefault(number, []).append(name)
    return "; ".join(linked(number, () if len(chosen_) == len(counts(number)) else chosen_) for number, chosen_ in names.items())


def plan_table() -> str:
    """Return the plan: when, what, how long, and what to say."""
    lines = ["| at | minutes | part | sections | counted | on top | vote | say |", "|---|---:|---|---|---:|---|---|---|"]
    passed = 0
    for block in plan():
        extra = ", ".join(f"{what} {number}" for what, number in block.extra.items())
        where = by_notebook(block.sections) or "-"
        votes = ", ".join(f"`{vote}`" for vote in block.votes) or "-"
        counted = str(block.counted) if block.sections else "-"
        lines.append(f"| {clock(passed)} | {block.minutes} | {block.title} | {where} | {counted} | {extra} | {votes} | {block.say} |")
        passed += block.minutes
    lines.append(f"| {clock(passed)} | **{passed}** | end | | {sum(block.counted for block in plan())} | | | |")
    return "\n".join(lines)


def profile_table() -> str:
    """Return the learners' paths with their minutes."""
    lines = ["| learner | knows | wants | path, in this order | minutes | leaves out |", "|---|---|---|---|---:|---|"]
    for one in data()["profile"]:
        path = chosen(one["path"])
        lines.append(f"| **{one['who']}** | {one['knows']} | {one['wants']} | {by_notebook(path)} | {minutes(path)} | {one['skips']} |")
    return "\n".join(lines)


def misconception_table() -> str:
    """Return what learners believe, the section that breaks it, and the question to vote on."""
    lines = ["| somebody thinks | the section that breaks it | what is seen there | vote |", "|---|---|---|---|"]
    for one in data()["misconception"]:
        number, start = one["section"]
        asked = f"`{one['question']}`" if "question" in one else "-"
        lines.append(f"| {one['thinks']} | {linked(number)}, {heading(number, start)} | {one['breaks']} | {asked} |")
    return "\n".join(lines)


def guide() -> str:
    """Return the page."""
    text = (data_dir() / "course" / "teaching.md").read_text(encoding="utf-8")
    parts = {
        "plan": plan_table(),
        "cuts": data()["cuts"]["text"],
        "length": str(data()["length"]),
        "sum": str(sum(block.minutes for block in plan())),
        "profiles": profile_table(),
        "misconceptions": misconception_table(),
    }
    for name, made in parts.items():
        text = text.replace(f"{{{{{name}}}}}", made)
    return text


def voted() -> list[str]:
    """List the questions of the plan's votes, each once, in order."""
    return list(dict.fromkeys(vote for block in plan() for vote in block.votes))


def form() -> str:
    """Return the form to print: each vote's question, with a place for the count before and after."""
    parts = []
    for number, name in enumerate(voted(), 1):
        guess = ask(name)
        rows = "".join(f"<tr><th scope=row>{markup(guess.word(option))}</th><td></td><td></td></tr>" for option in guess.options)
        head = "<tr><th scope=col>answer</th><th scope=col>hands before</th><th scope=col>hands after</th></tr>"
        parts.append(f"<section><h2>{number}. {html(guess.question)}</h2>\n<table>{head}{rows}</table></section>")
    head = "<h1>Votes</h1>\n<p>Count hands before the reveal and, where it is asked again, after it.</p>\n"
    return document("Votes", STYLE, f"<main>{head}{chr(10).join(parts)}</main>")


class Asked(NamedTuple):
    """Where a question is asked: notebook, section, and the text before it."""

    number: str
    section: str
    text: str


@cache
def asked() -> dict[str, Asked]:
    """Return where each question is asked first, in the order of the course."""
    found: dict[str, Asked] = {}
    for path in sorted(notebooks_dir().glob("[0-9][0-9]-*.ipynb")):
        name = text = ""
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown":
                name = match[1] if (match := HEADING.match(cell.source)) else name
                text = "" if cell.source.startswith("<details>") else spoken(cell.source)
            elif question := ASKED.search(cell.source):
                found.setdefault(question[1], Asked(path.name[:2], name, text))
    return found


def spoken(text: str) -> str:
    """Return a text cell without its heading, links and emphasis."""
    words = re.sub(r"^#.*\n+", "", LINK.sub(r"\1", text))
    return re.sub(r"(\*+)(\S(?:[^*\n]*\S)?)\1", r"\2", words)


def slide(head: str, body: str, note: str = "") -> str:
    """Return one slide; `note`: for who speaks."""
    return f"<section><p class=where>{html(head)}</p>{body}<p class=say>{html(note)}</p></section>"


def slides() -> str:
    """Return the slides of the half day: each part, its questions with their options, and what the model answers, with its picture."""
    shown, passed = (
        [slide("", "<h1>VFIO: groups, containers, domains</h1>", "Page Down, or the space bar: on. To print: a slide a page.")],
        0,
    )
    seen: set[str] = set()
    for block in plan():
        shown.append(slide(clock(passed), f"<h1>{markup(block.title)}</h1><p>{block.minutes} minutes</p>", block.say))
        passed += block.minutes
        names = [name for name, place in asked().items() if (place.number, place.section) in block.sections] or block.votes
        for name in [name for name in names if name not in seen]:
            seen.add(name)
            shown += question_slides(name)
    return document("VFIO: slides", SLIDES, f"<main>{chr(10).join(shown)}</main>")


def question_slides(name: str) -> tuple[str, str]:
    """Return a question with its options, and what the model answers."""
    guess, place = ask(name), asked()[name]
    truth, picture = guess.found
    options = "".join(f"<li>{markup(guess.word(option))}</li>" for option in guess.options)
    drawn = figure_html(picture) if isinstance(picture, Picture) else ""
    return (
        slide(place.section, f"<p>{html(place.text)}</p><h2>{html(guess.question)}</h2><ul>{options}</ul>"),
        slide(guess.question, f"<h2>{markup(guess.word(truth))}</h2><p>{html(guess.because)}</p>{drawn}"),
    )


def main(argv: list[str] | None = None) -> int:
    pages = {"teaching.md": guide, "votes.html": form, "slides.html": slides}
    return store(pages, "teaching", check=parser(__doc__).parse_args(argv).check)


if __name__ == "__main__":
    sys.exit(main())
