"""The ``vfiolab`` command: a dispatcher. Each word's work is in ``vfiolab.commands``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TextIO

import vfiolab

#: The words, each a module of ``vfiolab.commands`` with ``add(subparsers)``.
WORDS = ("audit", "debate", "explain", "groups", "lab", "machines", "plan", "replay", "run", "snapshot")
INTERRUPTED = 130


def parser(words: Sequence[str] = WORDS) -> argparse.ArgumentParser:
    """Return the command's parser with these words."""
    from vfiolab.commands import examples

    top = argparse.ArgumentParser(
        prog="vfiolab",
        description="See, predict and test how Linux groups PCI devices and gives them to user space (VFIO).",
        **examples("vfiolab groups              IOMMU groups of this machine", "vfiolab machines            what the kit brings along",
                   "vfiolab groups --help       options and examples of a word"),
    )  # fmt: skip
    top.add_argument("--version", action="version", version=f"vfiolab {vfiolab.__version__}")
    subparsers = top.add_subparsers(metavar="WORD", required=True)
    for word in words:
        importlib.import_module(f"vfiolab.commands.{word}").add(subparsers)
        subparsers.choices[word].set_defaults(word=word, complain=subparsers.choices[word].error)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own); return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Only the word that is used is loaded.
        options, left = parser(given[:1] if given and given[0] in WORDS else WORDS).parse_known_args(given)
        if left:  # with the usage of the word, not of all words
            options.complain(f"unrecognized arguments: {' '.join(left)}")
        status = _carried_out(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output left: not our error
        _discard(sys.stdout)
        return 0
    except OSError as error:  # what is read has its own errors; this is our output
        _discard(sys.stdout)
        sys.stderr.write(f"vfiolab: cannot write: {error.strerror}\n")
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _carried_out(options: argparse.Namespace) -> int:
    """Return the word's exit status. A word raises ValueError for input that cannot be used; Refusal where the model says no to it."""
    from vfiolab.commands import UNUSABLE, complain
    from vfiolab.model.errors import Refusal

    try:
        status: int = options.run(options)
    except (ValueError, Refusal) as error:
        complain(f"vfiolab {options.word}: {error}")
        return UNUSABLE
    return status


def _discard(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, or the interpreter would complain of it at its end."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except (OSError, ValueError):  # no file behind it, as in a test
        return


if __name__ == "__main__":
    sys.exit(main())
