"""The glossary as a page. `python tests/tools/glossary.py` writes notebooks/glossary.md, `--check` compares."""

from __future__ import annotations

import argparse
import sys

import vfiolab as vl
from vfiolab._paths import notebooks_dir
from vfiolab.course.glossary import Term

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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(".")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is stale")
    options = parser.parse_args(argv)
    path = notebooks_dir() / PAGE
    stale = not path.is_file() or path.read_text(encoding="utf-8") != page()
    if options.check:
        print(f"{PAGE}: {'stale; run python tests/tools/glossary.py' if stale else 'as stored'}")
        return int(stale)
    path.write_text(page(), encoding="utf-8")
    print(f"{PAGE}: {len(vl.glossary)} words")
    return 0


if __name__ == "__main__":
    sys.exit(main())
