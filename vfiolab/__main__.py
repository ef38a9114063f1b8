"""The ``vfiolab`` command: a dispatcher. Each word's work is in ``vfiolab.commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

import vfiolab

#: The words, each a module of ``vfiolab.commands`` with ``add(subparsers)``.
WORDS = ("explain", "groups", "lab", "replay", "snapshot")


def parser() -> argparse.ArgumentParser:
    """Return the command's parser with all words."""
    top = argparse.ArgumentParser(
        prog="vfiolab",
        description="See, predict and test how Linux groups PCI devices and gives them to user space (VFIO).",
    )
    top.add_argument("--version", action="version", version=f"vfiolab {vfiolab.__version__}")
    words = top.add_subparsers(metavar="WORD", required=True)
    for word in WORDS:
        importlib.import_module(f"vfiolab.commands.{word}").add(words)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own); return the exit status."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except BrokenPipeError:  # the reader of our output left: not our error
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
