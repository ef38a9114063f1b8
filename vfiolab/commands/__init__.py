"""What the ``vfiolab`` command can do: one module a word, each with ``add(subparsers)`` and ``run(arguments)``.

What is common to the words is here: writing to a terminal, a pipe or a file. On a terminal lines fit its width and what matters has
colour (not if NO_COLOR is set); everywhere else text is plain and whole. What the encoding has no character for is written in ASCII.

What may not come in: work. A word reads its arguments, calls the kit, and prints. It raises ValueError for input that cannot be used; the
dispatcher says so and exits with 2.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import textwrap
import unicodedata
from typing import Any, TextIO

from vfiolab._text import plain

#: Exit status of a command whose input cannot be used.
UNUSABLE = 2
_CODES = {"bold": "1", "dim": "2", "accent": "36", "warn": "33"}
_ASCII = str.maketrans({
    "\u2713": "+", "\u2717": "x", "\u2026": "...", "\u2192": "->", "\u2013": "-", "\u2014": "-", "\u00d7": "x", "\u00b5": "u",
    "\u2265": ">=", "\u2264": "<=", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u00b7": "-",
})  # fmt: skip

_OURS = re.compile(r"(\x1b\[[0-9;]{1,5}m)")


def say(*lines: str, wrap: bool = True) -> None:
    """Write lines to standard output; `wrap` folds those that are wider than the terminal."""
    _write(sys.stdout, lines, wrap=wrap)


def complain(*lines: str) -> None:
    """Write lines to standard error."""
    sys.stdout.flush()
    _write(sys.stderr, lines, wrap=True)


def columns(stream: TextIO | None = None) -> int | None:
    """Return how many columns a terminal has; None for a pipe or a file, which take lines as they are."""
    stream = sys.stdout if stream is None else stream
    return max(shutil.get_terminal_size().columns, 20) if _is_terminal(stream) else None


def _is_terminal(stream: TextIO) -> bool:
    return bool(getattr(stream, "isatty", bool)())


def paint(text: str, *styles: str) -> str:
    """Return the text in a style (bold, dim, accent, warn) where standard output shows colour; else as it is."""
    if not text or not _is_terminal(sys.stdout) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def width(text: str) -> int:
    """Return how many columns a text takes: wide characters two, combining ones none.

    >>> width("\u78c1\u76d8"), width("disk")
    (4, 4)
    """
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def cut(text: str, room: int | None) -> str:
    """Shorten a text to so many columns, three dots at its end; None: as it is."""
    if room is None or width(text) <= room:
        return text
    kept, used = [], 0
    for one in text:
        used += width(one)
        if used > room - 3:
            break
        kept.append(one)
    return "".join(kept).rstrip() + "..."


def _write(stream: TextIO, lines: tuple[str, ...], *, wrap: bool) -> None:
    room = columns(stream) if wrap else None
    for line in lines:
        for part in _safe(line).split("\n"):
            stream.writelines(f"{_encodable(folded, stream)}\n" for folded in _fold(part, room))


def _safe(line: str) -> str:
    """Return a line of which only our own colours reach the terminal."""
    return "".join(piece if _OURS.fullmatch(piece) else plain(piece, keep="\n") for piece in _OURS.split(line))


def _fold(line: str, room: int | None) -> list[str]:
    if room is None or "\x1b" in line or width(line) <= room:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(line, room, subsequent_indent=indent + "  ", break_long_words=False, break_on_hyphens=False) or [line]


def _encodable(line: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        line.encode(encoding)
    except UnicodeEncodeError:
        return line.translate(_ASCII).encode(encoding, "backslashreplace").decode(encoding)
    return line


def progress(text: str) -> None:
    """Show how far a long run is, on one line of a terminal that is rewritten; "" takes it away. Silent if errors go elsewhere."""
    if _is_terminal(sys.stderr):
        room = (columns(sys.stderr) or 80) - 1
        sys.stderr.write(f"\r{plain(text)[:room]:<{room}}\r")
        sys.stderr.flush()


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Folds descriptions as argparse does, and leaves examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith("examples:"):
            return super()._fill_text(text, width, indent)
        return textwrap.fill(" ".join(text.split()), width, initial_indent=indent, subsequent_indent=indent)


def examples(*lines: str) -> dict[str, Any]:
    """Return what `add_parser` needs to show examples below its options."""
    return {"epilog": "examples:\n" + "\n".join(f"  {line}" for line in lines), "formatter_class": _Formatter}
