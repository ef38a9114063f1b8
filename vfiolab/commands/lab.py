"""``vfiolab lab``: open the notebooks in JupyterLab."""

from __future__ import annotations

import argparse

from vfiolab.lab import launch

__all__ = ["add", "run"]


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``lab``; everything behind it is JupyterLab's."""
    parser = subparsers.add_parser(
        "lab",
        help="open the notebooks in JupyterLab",
        description="Open the notebooks in JupyterLab: the checkout's own, or else a new copy in the current folder.",
        add_help=False,
        prefix_chars="\0",  # so that no option is taken for one of ours
    )
    parser.add_argument("options", nargs="*", metavar="OPTION", help="goes to JupyterLab as it is, such as --no-browser")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return JupyterLab's exit status, or 2 if it is not installed."""
    return launch.main(arguments.options)
