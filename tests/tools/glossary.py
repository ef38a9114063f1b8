"""The glossary as a page, and under the pointer: `python tests/tools/glossary.py` writes notebooks/glossary.md and the words' links.

In each notebook the first use of a word is its definition, in bold or italics, or a link to the glossary whose title is what it means:
JupyterLab and a browser show that title when the pointer is on the word. `--check` writes nothing and compares.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nbformat

import vfiolab as vl
from vfiolab._paths import notebooks_dir
from vfiolab.course.glossary import Term
from vfiolab.course.words import plain

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.made import parser, store

PAGE = "glossary.md"
INTRODUCTION = """\
# Glossary

The words of VFIO in plain sentences, with the kernel's own names. In a notebook `vl.glossary` shows them as a table, and
`vl.glossary["domain"]` one of them. Each entry ends with what it rests on: a recording of this project, a kernel function with the versions
in which it was read, or a commit.
"""


def notebook(number: str) -> str:
    """Return the file of the notebook with a number. ValueError: there is not exactly one."""
    (path,) = notebooks_dir().glob(f"{number}-*.ipynb")
    return path.name


def anchor(word: str) -> str:
    """Return the place of a word on the page, as Markdown makes it of the heading."""
    return "".join(one for one in word.casefold().replace(" ", "-") if one.isalnum() or one in "-_")


def entry(term: Term) -> str:
    """Return one word's part of the page."""
    also = f" *Also: {', '.join(term.also)}.*" if term.also else ""
    name = f"`{term.kernel}`" if " in " not in term.kernel else term.kernel
    return (
        f"## {term.word}\n\n**{term.means}** {term.more}{also}\n\n"
        f"In the kernel: {name}. Explained in [{term.notebook}]({notebook(term.notebook)}). *Rests on: {term.rests_on}.*\n"
    )


def page() -> str:
    """Return the whole page: the words in alphabetical order."""
    terms = sorted(vl.glossary.values(), key=lambda term: term.word.casefold())
    jumps = " · ".join(f"[{term.word}](#{anchor(term.word)})" for term in terms)
    return "\n".join([INTRODUCTION, jumps + "\n", *map(entry, terms)])


#: Words that the notebooks also use in a plain sense: the mail's claims, a device's capabilities.
AMBIGUOUS = {"claim", "capability"}
HOVER = re.compile(r'\[([^\]]+)\]\(glossary\.md#[\w-]+ "[^"]*"\)')
#: What is no running text: a heading, a picture, a link, code, what is emphasised.
APART = re.compile(r"^#.*$|!?\[[^\]]*\]\([^)]*\)|`[^`]*`|\*+[^*\n]+\*+|<[^>]+>", re.MULTILINE)


def use(term: Term) -> re.Pattern[str]:
    """Return what finds a word in a text: capitals matter where it has nothing else."""
    return re.compile(rf"(?<![\w/_-]){re.escape(term.word)}s?(?![\w_-])", 0 if term.word.isupper() else re.IGNORECASE)


def first_use(texts: list[str], term: Term) -> tuple[int, re.Match[str] | None] | None:
    """Return the text that uses a word first, and where: None if it is emphasised or part of a link. None if no text uses it."""
    for number, text in enumerate(texts):
        words = re.sub(
            r"^#.*$|!\[[^\]]*\]\([^)]*\)|(?<=\])\([^)]*\)|`[^`]*`|<[^>]+>", lambda one: " " * len(one[0]), text, flags=re.MULTILINE
        )
        if found := use(term).search(words):
            bare = APART.sub(lambda one: " " * len(one[0]), text)
            return number, found if bare[found.start() : found.end()] == found[0] else None
    return None


def linked(texts: list[str]) -> list[str]:
    """Return a notebook's texts, each word linked where it is used first."""
    texts = [HOVER.sub(r"\1", text) for text in texts]
    for term in vl.glossary.values():
        place = None if term.word in AMBIGUOUS else first_use(texts, term)
        if place is not None and place[1] is not None:
            number, found = place
            text = texts[number]
            link = f'[{found[0]}]({PAGE}#{anchor(term.word)} "{plain(term.means)}")'
            texts[number] = text[: found.start()] + link + text[found.end() :]
    return texts


def link(path: Path, *, check: bool) -> bool:
    """Bring a notebook's links to the glossary up to date unless `check`; return whether they were."""
    book = nbformat.read(path, 4)
    cells = [cell for cell in book.cells if cell.cell_type == "markdown"]
    new = linked([cell.source for cell in cells])
    fresh = new == [cell.source for cell in cells]
    if not fresh and not check:
        for cell, text in zip(cells, new, strict=True):
            cell.source = text
        path.write_text(nbformat.writes(book) + "\n", encoding="utf-8")
    return fresh


def main(argv: list[str] | None = None) -> int:
    options = parser(__doc__).parse_args(argv)
    books = sorted(notebooks_dir().glob("[0-9][0-9]-*.ipynb"))
    unlinked = [book.name for book in books if not link(book, check=options.check)]
    print(f"links of the notebooks: {'as stored' if not unlinked else ', '.join(unlinked)}")
    return max(store({PAGE: page}, "glossary", check=options.check), int(options.check and bool(unlinked)))


if __name__ == "__main__":
    sys.exit(main())
