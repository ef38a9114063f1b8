"""Execute the notebooks and store what they show, the same bytes every time.

    python tests/tools/notebooks.py            # execute and store all of notebooks/
    python tests/tools/notebooks.py --check    # store nothing; exit 1 and show where a stored output is stale
    python tests/tools/notebooks.py notebooks/00-start-here.ipynb

Stored outputs are what a reader sees before running anything, and what the tests compare. So they hold nothing that
differs from run to run: no widget ids (the static text and HTML twins stay), no timing, no addresses, no local paths.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from vfiolab.lab.launch import COPY

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?|c\d{3}")
VOLATILE = re.compile(r"\bat 0x[0-9a-f]{6,}|/tmp/|ipykernel_\d+|/site-packages/")


def find(root: Path = NOTEBOOKS) -> list[Path]:
    """List the notebooks below `root`, without Jupyter's own checkpoints and without learners' copies."""
    found = (path for path in root.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)
    return sorted(path for path in found if not any(part.startswith(COPY) for part in path.relative_to(root).parts))


def name_cell(cell: NotebookNode, taken: set[str]) -> str:
    """Keep an id that someone chose; replace a random one by one that follows from the cell's text."""
    if not RANDOM_ID.fullmatch(cell["id"]) and cell["id"] not in taken:
        return cell["id"]
    digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()
    names = (f"cell-{digest[:8]}{suffix}" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(name for name in names if name not in taken)


def canonical(nb: NotebookNode) -> NotebookNode:
    """Drop, in place, everything that may differ between two runs of the same notebook."""
    nb.metadata = nbformat.from_dict(METADATA)
    nb.nbformat, nb.nbformat_minor = 4, 5
    taken: set[str] = set()
    for cell in nb.cells:
        cell["id"] = name_cell(cell, taken)
        taken.add(cell["id"])
        cell.metadata = nbformat.from_dict({key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")})
        for output in cell.get("outputs", []):
            if "data" in output:
                output.data.pop(WIDGET_VIEW, None)
            if output.output_type == "error" and "\x1b" in "".join(output.traceback):
                # frames hold paths and colours: the last line is the lesson; a VfioError shows its case instead of frames
                output.traceback = [f"{output.ename}: {output.evalue}"]
    return nb


def execute(text: str, folder: Path) -> str:
    """Run the notebook `text` in `folder` with this interpreter's kernel; return its canonical text."""
    from nbclient import NotebookClient

    nb = nbformat.reads(text, as_version=4)
    client = NotebookClient(
        nb,
        timeout=120,
        kernel_name="python3",
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    return nbformat.writes(canonical(nb)) + "\n"


def volatile(text: str) -> list[str]:
    """List what would differ on the next run or on another machine: addresses, temporary paths."""
    return sorted({match.group() for match in VOLATILE.finditer(text)})


def difference(old: str, new: str, limit: int = 40) -> str:
    """Show the first lines in which the stored text and a fresh run differ, cut to a readable width."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "stored", "fresh", n=1, lineterm="")
    return "\n".join(line[:300] for line in islice(lines, limit))


def refresh(path: Path, *, check: bool) -> tuple[bool, str]:
    """Execute one notebook; store the result unless `check`. Return whether all is well, and the words to print."""
    from nbclient.exceptions import CellExecutionError

    old = path.read_text(encoding="utf-8")
    try:
        new = execute(old, path.parent)
    except CellExecutionError as error:
        return False, f"{path.name}: a cell raised {error.ename}: {error.evalue}\n{error.traceback}"
    if found := volatile(new):
        return False, f"{path.name}: an output would differ on the next run or elsewhere: {', '.join(found)}"
    if new == old:
        return True, f"{path.name}: as stored"
    if check:
        return False, f"{path.name}: stale; run python tests/tools/notebooks.py\n{difference(old, new)}"
    path.write_text(new, encoding="utf-8")
    return True, f"{path.name}: stored"


def _task(job: tuple[Path, bool]) -> tuple[bool, str]:
    return refresh(job[0], check=job[1])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="store nothing; fail where a stored output is stale")
    parser.add_argument("notebook", nargs="*", type=Path, help="default: all of notebooks/")
    options = parser.parse_args(argv)
    paths = [path.resolve() for path in options.notebook] or find()
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # keeps the debugger's warning out of the kernels' start
    failed = 0
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for good, words in pool.map(_task, [(path, options.check) for path in paths]):
            print(words, flush=True)
            failed += not good
    print(f"{len(paths)} notebooks, {failed} {'stale or failing' if options.check else 'failing'}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
