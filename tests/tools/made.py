"""What the tools share that make a page of data: one command to write it or to find it stale, and one frame for HTML."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

from vfiolab._paths import notebooks_dir


def document(title: str, style: str, body: str) -> str:
    """Return a whole HTML page that needs nothing else."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title>\n<style>\n{style}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return the command line of such a tool."""
    made = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    made.add_argument("--check", action="store_true", help="write nothing; exit 1 if something is stale")
    return made


def store(pages: Mapping[str, Callable[[], str]], tool: str, *, check: bool) -> int:
    """Write pages into notebooks/, or only say which of them are stale; return 1 for a stale one that was not written."""
    stale = 0
    for name, page in pages.items():
        path, text = notebooks_dir() / name, page()
        old = not path.is_file() or path.read_text(encoding="utf-8") != text
        stale += old
        if old and not check:
            path.write_text(text, encoding="utf-8")
        print(f"{name}: {'as stored' if not old else f'stale; run python tests/tools/{tool}.py' if check else 'written'}")
    return min(stale, 1) if check else 0
