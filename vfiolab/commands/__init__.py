"""What the ``vfiolab`` command can do: one module a word, each with ``add(subparsers)`` and ``run(arguments)``."""

from __future__ import annotations

import sys
from pathlib import Path

from vfiolab._paths import machine_path


def say(*lines: str) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def machine_file(word: str) -> Path:
    """Return the file that a word names, as `machine_path` does; a choice between two is said on standard error."""
    path, said = machine_path(word)
    if said:
        complain(said)
    return path


def complain(*lines: str) -> None:
    """Write lines to standard error."""
    sys.stderr.writelines(f"{line}\n" for line in lines)
