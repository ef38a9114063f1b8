"""Build the site: every page of `notebooks/` with its stored outputs, the public names, and the kit in the browser alone.

    python tests/tools/website.py OUT              # OUT is replaced; the kit is OUT/lite
    python tests/tools/website.py --readable OUT   # without the kit: needs no network

The pages hold all they need and ask no other host for anything. Needs the extra `site`.
"""

from __future__ import annotations

import argparse
import inspect
import re
import shutil
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat

import vfiolab as vl

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from tools import lite  # noqa: E402 - a script finds its neighbours only after the line above

#: The pages after the notebooks, in the order of the menu.
PAGES = ("run", "questions", "claims", "group-questions", "gallery", "lab-story", "glossary", "teaching", "errata")
CONF = """\
import re

project, author, version = "vfiolab", "vfiolab authors", {version!r}
extensions = ["myst_nb", "sphinx.ext.autodoc"]
nb_execution_mode = "off"  # the stored outputs are what is shown
nb_merge_streams = True
myst_heading_anchors = 4
html_theme = "alabaster"
html_theme_options = {{"description": "How Linux hands devices to user space", "page_width": "1100px", "show_powered_by": False}}
pygments_style = "xcode"  # can be read on the grey of a cell
html_show_copyright = html_copy_source = False
html_extra_path = {papers!r}
templates_path, exclude_patterns, html_static_path = [], [], ["_static"]
suppress_warnings = ["myst.xref_missing"]  # it knows no place but headings; faults() looks at the pages themselves


def literal(app, what, name, thing, options, lines):
    code = re.compile("(?<!`)`([^`]+)`(?!`)")
    for at, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            lines[at] = code.sub(lambda found: f"``{{found[1].strip()}}``", line)


def setup(app):
    app.connect("autodoc-process-docstring", literal)  # docstrings mark code with single backticks
"""
INDEX = """\
# vfiolab

How Linux hands a device to user space, as a model that gives the kernel's answers. Read it here, with the outputs as they were stored.
{kit}
<p>On paper and on the wall: <a href="card.html">reference card</a>, <a href="votes.html">votes</a>, <a href="slides.html">slides</a>.</p>

```{{toctree}}
:maxdepth: 1

{names}
```
"""
KIT = '\n<p><a href="lite/index.html">Run the notebooks in this browser</a>, with nothing installed.</p>\n'


def reference() -> str:
    """Write the page of the public names: what each one's docstring says, classes with their public methods."""
    parts = ["# Public names\n\n`import vfiolab as vl` makes these available.\n"]
    for name in sorted(vl.__all__, key=str.lower):
        thing = getattr(vl, name)
        if inspect.ismodule(thing):
            continue
        kind = "exception" if inspect.isclass(thing) and issubclass(thing, BaseException) else "class" if inspect.isclass(thing) else ""
        kind = kind or ("function" if callable(thing) else "data")
        members = "   :members:\n" if kind in {"class", "exception"} else ""
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. auto{kind}:: vfiolab.{name}\n{members}```\n")
    return "\n".join(parts)


def name_places(folder: Path) -> None:
    """Give each cell that a page links to (`#cell-id=ID`, as in JupyterLab) a place of that name, in the copies below `folder`."""
    wanted: dict[str, set[str]] = {}
    for path in folder.iterdir():
        if path.suffix in {".md", ".ipynb"}:
            for file, cell in re.findall(r"\(([\w.-]*)#cell-id=([\w-]+)\)", path.read_text(encoding="utf-8")):
                wanted.setdefault(file or path.name, set()).add(cell)
    for file, cells in wanted.items():
        book = nbformat.read(folder / file, as_version=4)
        book.cells = [
            one
            for cell in book.cells
            for one in ([nbformat.v4.new_markdown_cell(f'<span id="cell-id={cell.id}"></span>')] if cell.id in cells else []) + [cell]
        ]
        nbformat.write(book, folder / file)


def build(out: Path, *, kit: bool) -> None:
    """Write the site into the folder `out`, in the place of what is there. RuntimeError with Sphinx's words if it fails."""
    with tempfile.TemporaryDirectory() as work:
        source, site = Path(work) / "source", Path(work) / "site"
        shutil.copytree(ROOT / "notebooks", source, ignore=shutil.ignore_patterns(".*"))
        name_places(source)
        names = [path.stem for path in sorted(source.glob("*.ipynb"))] + [*PAGES, "reference"]
        (source / "conf.py").write_text(CONF.format(version=vl.__version__, papers=[path.name for path in source.glob("*.html")]))
        (source / "_static").mkdir()
        (source / "_static" / "custom.css").write_text("div.cell pre { white-space: pre-wrap; }\n")  # nothing to scroll without a mouse
        (source / "index.md").write_text(INDEX.format(kit=KIT if kit else "", names="\n".join(names)))
        (source / "reference.md").write_text(reference())
        words = lite.run(sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", Path(work) / "trees", source, site)
        if words:
            sys.stderr.write(words)
        if kit:
            lite.build(site / "lite")
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(site, out)


class Page(HTMLParser):
    """What a page points at, what it loads, and the places in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link, a source, an id."""
        facts = {name: value or "" for name, value in attrs}
        self.places |= {facts[name] for name in ("id", "name") if name in facts}
        if "href" in facts:
            (self.links if tag == "a" else self.loads).append(facts["href"])
        if "src" in facts:
            self.loads.append(facts["src"])


def faults(site: Path) -> list[str]:
    """List what is wrong in the readable pages: a link into the site that leads nowhere, a part that another host would have to give."""
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.glob("*.html"))}
    found = []
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    found.append(f"{path.name} loads {link}")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                found.append(f"{path.name}: {link} leads nowhere")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places:
                found.append(f"{path.name}: {link} has no such place")
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the folder to write, which is replaced")
    parser.add_argument("--readable", action="store_true", help="leave the kit out")
    options = parser.parse_args(argv)
    build(options.out.resolve(), kit=not options.readable)
    wrong = faults(options.out.resolve())
    print("\n".join([*wrong, f"{options.out}: {lite.size(options.out) / 1e6:.1f} MB, {len(wrong)} faults"]))
    return min(len(wrong), 1)


if __name__ == "__main__":
    sys.exit(main())
