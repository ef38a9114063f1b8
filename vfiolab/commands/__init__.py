"""What the ``vfiolab`` command can do: one module a word, each with ``add(subparsers)`` and ``run(arguments)``."""

from __future__ import annotations

import sys


def say(*lines: str) -> None:
    """Write lines to standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def complain(*lines: str) -> None:
    """Write lines to standard error."""
    sys.stderr.writelines(f"{line}\n" for line in lines)
