"""Measure what a class costs: the memory of JupyterLab and of Voila with 1, 2 and 4 learners, each with a kernel of their own.

python tests/tools/memory.py [N ...]        # default: 1 2 4; Linux only, for it reads /proc

RSS counts a page that several processes share once for each; PSS divides it among them; USS is what a process has for itself. MiB.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from browser.harness import VOILA, VOILA_READY, Browser, running  # noqa: E402 - a script finds its neighbours only after the line above

NOTEBOOK = "00-start-here.ipynb"
LAB = ["--ip=127.0.0.1", "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True"]
SIZES = (1, 2, 4)
PACKAGES = ("vfiolab", "jupyterlab", "voila", "ipykernel", "ipywidgets")


def rollup(text: str) -> tuple[int, int, int]:
    """Read RSS, PSS and USS in KiB from the text of /proc/PID/smaps_rollup."""
    held = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in text.splitlines()) if rest.endswith("kB")}
    return held["Rss"], held["Pss"], held["Private_Clean"] + held["Private_Dirty"]


def kernels(server: int) -> list[int]:
    """List the processes below a server that run a kernel."""
    below, found = [server], []
    while below:
        pid = below.pop()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text()
        below += map(int, children.split())
        if b"ipykernel" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(pid)
    return found


def measured(server: int, learners: int) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield a row for the server, the mean of its kernels, and the sum: what, how many learners, RSS, PSS, USS in MiB."""
    pids = kernels(server)
    if len(pids) != learners:
        raise RuntimeError(f"{learners} learners have {len(pids)} kernels")
    own, each = held(server), [held(pid) for pid in pids]
    total = [sum(column) for column in zip(*each, strict=True)]
    yield "server", learners, *(kib / 1024 for kib in own)
    yield "a kernel", learners, *(kib / learners / 1024 for kib in total)
    yield "sum", learners, *((mine + theirs) / 1024 for mine, theirs in zip(own, total, strict=True))


def held(pid: int) -> tuple[int, int, int]:
    """Return what a process holds now, as `rollup`."""
    return rollup(Path(f"/proc/{pid}/smaps_rollup").read_text())


@contextmanager
def lab(browser: Browser, learners: int) -> Iterator[int]:
    """Run one JupyterLab in which notebook 00 is open and run through, in so many copies, each with its kernel."""
    with running(LAB, "/api/status") as (address, server):
        folder = Path(f"/proc/{server.pid}/cwd").resolve()
        for number in range(learners):
            copy = folder / f"{number}.ipynb"
            copy.write_bytes((folder / NOTEBOOK).read_bytes())
            browser.open(address, copy.name).run_all()
        yield server.pid


@contextmanager
def voila(browser: Browser, learners: int) -> Iterator[int]:
    """Run one Voila, with notebook 00 shown to so many visitors."""
    with running(["--voila", NOTEBOOK, *VOILA], VOILA_READY) as (address, server):
        for _ in range(learners):
            browser.visit(address).page.get_by_role("button", name="Map", exact=True).wait_for()
        yield server.pid


def main(argv: list[str]) -> int:
    """Print the table."""
    print(f"Python {platform.python_version()}; {', '.join(f'{name} {version(name)}' for name in PACKAGES)}; {NOTEBOOK}")
    print(f"{'':12}{'':10}{'learners':>9}{'RSS':>8}{'PSS':>8}{'USS':>8}   MiB")
    for name, start in (("JupyterLab", lab), ("Voila", voila)):
        for learners in map(int, argv or SIZES):
            with Browser() as browser, start(browser, learners) as server:
                for what, count, *sizes in measured(server, learners):
                    print(f"{name:12}{what:10}{count:9}{''.join(f'{size:8.0f}' for size in sizes)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
