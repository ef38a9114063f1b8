"""`vfiolab lab`: open the notebooks in JupyterLab."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from vfiolab._paths import in_checkout, notebooks_dir

START = "00-start-here.ipynb"
_JUNK = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")


def workspace(parent: Path | None = None) -> Path:
    """Return the folder to open: the checkout's notebooks, or a fresh copy of the packaged ones.

    The copy is made below `parent` (default: the current folder) as `vfiolab-notebooks`, or with the first free number
    behind that name: a learner's work is never overwritten.
    """
    source = notebooks_dir()
    if in_checkout():
        return source
    parent = parent or Path.cwd()
    number = 1
    while True:
        target = parent / ("vfiolab-notebooks" if number == 1 else f"vfiolab-notebooks-{number}")
        try:
            shutil.copytree(source, target, ignore=_JUNK)
        except FileExistsError:
            number += 1
        else:
            return target


def command(folder: Path, arguments: list[str]) -> list[str]:
    """Build the command, to be run in `folder`, that opens notebook 00; `arguments` go to JupyterLab as they are."""
    start = [f"--LabApp.default_url=/lab/tree/{START}"] if (folder / START).is_file() else []
    # JupyterLab refuses to run as root unless told; in a container root is the only user there is.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # -P: a learner's own file beside the notebooks must not stand in for one of JupyterLab's modules.
    return [sys.executable, "-P", "-m", "jupyterlab", *start, *root, *arguments]


def run(argv: list[str]) -> int:
    """Become the command where the system can, so that one Ctrl-C asks and a second one ends it; else wait for it."""
    if os.name == "posix":
        os.execv(argv[0], argv)  # noqa: S606 - our own interpreter, arguments from the user's own command line
    return subprocess.call(argv)  # noqa: S603 - likewise


def main(arguments: list[str] | None = None) -> int:
    """Open the notebooks in JupyterLab and stay until it ends; return its exit status."""
    if find_spec("jupyterlab") is None:
        print("vfiolab lab: JupyterLab is not installed here; try: pip install 'vfiolab[lab]'", file=sys.stderr)
        return 2
    folder = workspace()
    print(f"Opening the notebooks in {folder}", flush=True)
    argv = command(folder, arguments or [])
    os.chdir(folder)  # JupyterLab shows the folder it is started in
    return run(argv)
