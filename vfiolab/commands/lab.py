"""``vfiolab lab``: open the notebooks in JupyterLab, or one of them as a page through Voila."""

from __future__ import annotations

import argparse

from vfiolab.lab import launch


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the word ``lab``; behind it stand ``--fresh``, ``--reset``, ``--voila``, ``--help`` and the server's own options."""
    parser = subparsers.add_parser(
        "lab",
        help="open the notebooks in JupyterLab, or one as a page",
        usage="vfiolab lab [--fresh] [--reset NOTEBOOK] [--voila [NOTEBOOK]] [OPTION ...]",
        description="Open your copy of the notebooks in JupyterLab: vfiolab-notebooks in the current folder, made by the first call.",
        epilog=(
            "--fresh puts a new copy without outputs beside the one that is there, and opens it. --reset puts one notebook of the copy "
            "back, without outputs, and keeps yours under another name. --voila shows NOTEBOOK of the copy "
            f"(default: {launch.PAGE}) as a page without code, through Voila, which then gets the options. "
            "--help-all is the server's own help."
        ),
        add_help=False,
        prefix_chars="\0",  # so that no option is taken for one of ours
    )
    parser.add_argument("options", nargs="*", metavar="OPTION", help="goes to JupyterLab, or to Voila, as it is, such as --no-browser")
    parser.set_defaults(run=run, show_help=parser.print_help)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; return the server's exit status, or 2 if it cannot be opened."""
    if {"-h", "--help"} & set(arguments.options):
        arguments.show_help()
        return 0
    return launch.main(arguments.options)
