"""`vfiolab lab`: open a learner's copy of the notebooks in JupyterLab, or show one of them as a page through Voila."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path

from vfiolab._paths import notebooks_dir
from vfiolab.course.progress import FILE, VARIABLE

START = "00-start-here.ipynb"
PAGE = "lab.ipynb"  # what Voila shows unless told otherwise
COPY = "vfiolab-notebooks"
_NO_NEWS = "--LabApp.news_url=None"  # JupyterLab asks about its project's news, above the first notebook
_SHARE = Path(__file__).with_name("share")  # holds a template of Voila's page
_PAGE_OPTIONS = (
    "--template=vfiolab",  # asks no other host for style sheets
    "--show_tracebacks=True",  # a refusal is shown, not "there was an error"
    # What else is installed for JupyterLab need not run in Voila, whose parts are of an older JupyterLab: these two draw the widgets.
    "--VoilaConfiguration.extension_allowlist=@jupyter-widgets/jupyterlab-manager",
    "--VoilaConfiguration.extension_allowlist=@voila-dashboards/widgets-manager8",
    # A page that is closed may leave its kernel behind; one that nobody is connected to ends after so many idle seconds.
    "--MappingKernelManager.cull_idle_timeout=600",
    "--MappingKernelManager.cull_interval=60",
)
_NOT_COPIED = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", f"{COPY}*", f".{COPY}*")


def workspace(parent: Path | None = None, *, fresh: bool = False) -> Path:
    """Return the learner's copy of the notebooks: `vfiolab-notebooks` below `parent` (default: the current folder).

    The copy is made once and never overwritten. `fresh` makes another one without outputs, at the first free number behind
    that name. OSError where no copy can be made; then nothing is left behind.
    """
    parent = parent or Path.cwd()
    target = parent / COPY
    if target.is_dir() and not fresh:
        return target
    target = _free([target], lambda number: parent / f"{COPY}-{number}")
    with tempfile.TemporaryDirectory(prefix=f".{COPY}-", dir=parent) as half_made:  # a copy has its name only when it is whole
        made = shutil.copytree(notebooks_dir(), Path(half_made) / COPY, ignore=_NOT_COPIED)
        if fresh:
            for path in made.rglob("*.ipynb"):
                _clear(path)
        made.rename(target)
    return target


def reset(folder: Path, name: str) -> Path | None:
    """Put one notebook back, without outputs, and touch no other; return where the learner's own one is kept, None if there was none.

    ValueError if there is no such notebook.
    """
    names = sorted(path.name for path in notebooks_dir().glob("*.ipynb"))
    if name not in names:
        raise ValueError(f"there is no notebook {name!r} to put back: {', '.join(names)}")
    target = folder / name
    kept = _free([], lambda number: folder / f"{target.stem}-mine-{number}.ipynb") if os.path.lexists(target) else None
    with tempfile.TemporaryDirectory(prefix=f".{COPY}-", dir=folder) as half_made:
        made = Path(shutil.copy(notebooks_dir() / name, half_made))
        _clear(made)
        if kept is not None:
            target.rename(kept)
        made.rename(target)
    return kept


def _free(first: list[Path], numbered: Callable[[int], Path]) -> Path:
    """Return the first path at which nothing is, not even a broken link: `first`, else one with a number from 2 on."""
    return next(path for path in chain(first, map(numbered, count(2))) if not os.path.lexists(path))


def _clear(path: Path) -> None:
    """Take the outputs out of a notebook."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def command(folder: Path, arguments: list[str]) -> list[str]:
    """Build the command, to be run in `folder`, that opens notebook 00; `arguments` go to JupyterLab as they are."""
    start = [f"--LabApp.default_url=/lab/tree/{START}"] if (folder / START).is_file() else []
    # JupyterLab refuses to run as root unless told; in a container root is the only user there is.
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    # -P: a learner's own file beside the notebooks must not stand in for one of JupyterLab's modules.
    return [sys.executable, "-P", "-m", "jupyterlab", _NO_NEWS, *start, *root, *arguments]


def page_command(notebook: str, arguments: list[str]) -> list[str]:
    """Build the command, to be run in the learner's folder, that shows a notebook as a page; what `arguments` choose is theirs."""
    chosen = {argument.partition("=")[0] for argument in arguments}
    ours = [option for option in _PAGE_OPTIONS if option.partition("=")[0] not in chosen]
    return [sys.executable, "-P", "-m", "voila", notebook, *ours, *arguments]


def run(argv: list[str]) -> int:
    """Become the command where the system can, so that one Ctrl-C asks and a second one ends it; else wait for it."""
    if os.name == "posix":
        os.execv(argv[0], argv)  # noqa: S606 - our own interpreter, arguments from the user's own command line
    return subprocess.call(argv)  # noqa: S603 - likewise


def main(arguments: list[str] | None = None) -> int:
    """Open the learner's copy in JupyterLab and stay until it ends; return its exit status, or 2 where it cannot be opened.

    `--fresh` makes a new copy first, `--reset NOTEBOOK` puts one notebook back; the other arguments go to JupyterLab. `--voila` shows a
    notebook of the copy as a page instead: the one that is named, else `PAGE`; the other arguments go to Voila.
    """
    given = arguments or []
    as_page, rest = "--voila" in given, [argument for argument in given if argument not in {"--fresh", "--voila"}]
    server, module, extra = ("Voila", "voila", "voila") if as_page else ("JupyterLab", "jupyterlab", "lab")
    if find_spec(module) is None:
        return _refuse(f"{server} is not installed here; try: pip install 'vfiolab[{extra}]'")
    try:
        folder = workspace(fresh="--fresh" in given)
    except OSError as error:
        return _refuse(f"cannot copy the notebooks to {Path.cwd()}: {error}; go to a folder that you may write to")
    if "--reset" in rest:
        at = rest.index("--reset")
        name = (rest[at + 1 : at + 2] or [""])[0]
        del rest[at : at + 2]
        try:
            kept = reset(folder, name)
        except (OSError, ValueError) as error:
            return _refuse(str(error))
        print(f"{name} is as new" + (f"; yours is kept as {kept.name}" if kept is not None else ""), flush=True)
    if as_page:
        notebook = next((argument for argument in rest if argument.endswith(".ipynb")), PAGE)
        if not (folder / notebook).is_file():
            there = ", ".join(sorted(path.name for path in folder.glob("*.ipynb"))) or "none"
            return _refuse(f"{folder} has no {notebook}; its notebooks are: {there}; --fresh makes a new copy beside it")
        print(f"Showing {notebook} of your copy in {folder} as a page (--fresh makes a new copy beside it)", flush=True)
        argv = page_command(notebook, [argument for argument in rest if argument != notebook])
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(_SHARE), os.environ.get("JUPYTER_PATH"))))
    else:
        print(f"Opening your copy of the notebooks in {folder} (--fresh makes a new one beside it)", flush=True)
        argv = command(folder, rest)
    os.environ.setdefault(VARIABLE, str(folder / FILE))  # the kernels keep there what is answered
    os.chdir(folder)  # both servers show the folder they are started in
    return run(argv)


def _refuse(words: str) -> int:
    print(f"vfiolab lab: {words}", file=sys.stderr)
    return 2
