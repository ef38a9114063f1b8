"""What the ``vfiolab`` command can do: one module a word, each with ``add(subparsers)`` and ``run(arguments)``."""

from __future__ import annotations

import sys
from pathlib import Path

from vfiolab._paths import data_dir


def say(*lines: str) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def machine_file(word: str) -> Path:
    """Return the file that a word names: one that is there, else the kit's machine of that name, else the word as it is."""
    known = data_dir() / "machines" / f"{word}.json"
    return known if not Path(word).exists() and known.is_file() else Path(word)


def complain(*lines: str) -> None:
    """Write lines to standard error."""
    sys.stderr.writelines(f"{line}\n" for line in lines)
