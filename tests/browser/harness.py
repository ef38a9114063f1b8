"""Drive a real JupyterLab, or a page of Voila, in Chromium, as a learner would, with nothing but this machine's loopback to talk to.

    with serving() as server, Browser() as browser:
        page = browser.open(server, "00-start-here.ipynb")
        page.run_all()
        page.button("Attach").click()
        page.picture("iova map").wait_for()

The server is `vfiolab lab` itself, with throw-away settings, so every notebook opens untrusted, as from a fresh clone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import quote

from playwright.sync_api import Locator, Page, sync_playwright

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--force-device-scale-factor=1",
    "--font-render-hinting=none",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # a use of the internet fails, and is recorded
]
SETTINGS = {
    # Cells out of sight stay in the page, so that they can be found and clicked.
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    },
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
}
VOILA = ["--Voila.ip=127.0.0.1", "--Voila.port_retries=0"]
VOILA_READY = "/voila/static/favicon.ico"  # the page itself would start a kernel
OFF_LOOPBACK = re.compile(r"(https?|wss?)://(?!127\.0\.0\.1[:/])")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _environment(home: Path) -> dict[str, str]:
    """Keep this machine's own Jupyter settings and trusted notebooks out, and throw ours away afterwards."""
    for plugin, values in SETTINGS.items():
        file = home / "settings" / f"{plugin}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    own = {
        "IPYTHONDIR": "ipython",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
    }
    return os.environ | {name: str(home / folder) for name, folder in own.items()}


def _wait_for(url: str, server: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with {server.returncode}:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise TimeoutError(f"{url} did not answer in {seconds:g} s:\n{log.read_text()[-3000:]}")


@contextlib.contextmanager
def running(options: list[str], ready: str, checkout: Path | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run `vfiolab lab` with these options on a free port until the block ends; yield its address and process.

    `ready` is what answers as soon as the server does. The learner's copy is made in a folder that goes away, or in `checkout`, whose
    vfiolab is then run.
    """
    port = _free_port()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        log = home / "log"
        with log.open("w") as out:
            server = subprocess.Popen(
                [sys.executable, "-m", "vfiolab", "lab", "--no-browser", f"--port={port}", *options],
                cwd=checkout or home,
                env=_environment(home) | ({"PYTHONPATH": str(checkout)} if checkout else {}),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{address}{ready}", server, log)
            yield address, server
        finally:
            server.terminate()  # the server ends its kernels first
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


@contextlib.contextmanager
def serving(root: Path | None = None, checkout: Path | None = None) -> Iterator[str]:
    """Run JupyterLab until the block ends; yield its address. `root` serves another folder than the learner's copy."""
    options = [
        "--ip=127.0.0.1",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
        *([f"--ServerApp.root_dir={root}"] if root else []),
    ]
    with running(options, "/api/status", checkout) as (address, _):
        yield address


@contextlib.contextmanager
def serving_voila(notebook: Path | str) -> Iterator[str]:
    """Run Voila on one notebook, of the learner's copy or any other, until the block ends; yield its address, which is the page's."""
    with running(["--voila", str(notebook), *VOILA], VOILA_READY) as (address, _):
        yield address


def js(page: Page, body: str, milliseconds: int = 120_000):
    """Run `body` as an async function in the page, where `app` is JupyterLab and `panel` its open notebook.

    Playwright's own evaluate() waits for ever; this one gives up.
    """
    code = f"""([limit]) => Promise.race([
        (async () => {{ const app = window.jupyterapp, panel = app?.shell.currentWidget; {body} }})(),
        new Promise((_, no) => setTimeout(() => no(new Error("no answer from the page in " + limit + " ms")), limit)),
    ])"""
    return page.evaluate(code, [milliseconds])


@dataclass(slots=True)
class NotebookPage:
    """One notebook, open in JupyterLab."""

    page: Page
    errors: list[str]
    external: list[str]

    def run_all(self, milliseconds: int = 120_000) -> None:
        """Run every cell; raise AssertionError with the words of the cells that failed or did not run."""
        js(self.page, "return await app.commands.execute('notebook:run-all-cells')", milliseconds)
        problems = js(
            self.page,
            """const cells = panel.content.widgets
                .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.source.trim());
                const failed = cell => cell.model.outputs.toJSON().some(output => output.output_type === 'error');
                // The command can come back a moment before the last cell's number does.
                for (let i = 0; i < 50 && !cells.some(failed) && !cells.every(cell => cell.model.executionCount); i++)
                    await new Promise(done => setTimeout(done, 100));
                return cells.flatMap(cell => {
                    const source = cell.model.sharedModel.source;
                    if (!cell.model.executionCount) return ['did not run: ' + source];
                    return cell.model.outputs.toJSON().filter(output => output.output_type === 'error')
                        .map(output => output.ename + ': ' + output.evalue + ' in: ' + source);
                });""",
        )
        assert not problems, "\n".join(problems)

    def run_cell(self, number: int) -> None:
        """Run the cell with this number, counted from 0, and leave the others alone."""
        js(
            self.page,
            f"""panel.content.deselectAll(); panel.content.activeCellIndex = {number};
                await app.commands.execute('notebook:run-cell')""",
        )

    def number_of(self, source: str) -> int:
        """Return the number of the first cell that holds exactly this text."""
        number = js(self.page, f"return panel.content.widgets.findIndex(cell => cell.model.sharedModel.source === {json.dumps(source)})")
        assert number >= 0, f"no cell holds {source!r}"
        return number

    def run_source(self, source: str) -> None:
        """Run the code cell that holds exactly this text."""
        self.run_cell(self.number_of(source))

    def select_source(self, source: str) -> None:
        """Select that cell in command mode, as the arrow keys do: the keyboard is then on the notebook."""
        number = self.number_of(source)
        js(self.page, f"panel.content.deselectAll(); panel.content.activeCellIndex = {number}; panel.content.activate()")
        js(self.page, "panel.content.mode = 'command'")

    def button(self, name: str | re.Pattern) -> Locator:
        """Find a button among the outputs by the words on it."""
        area = self.page.locator(".jp-OutputArea")
        return area.get_by_role("button", name=name, exact=isinstance(name, str)).first

    def picture(self, name: str | re.Pattern) -> Locator:
        """Find a picture among the outputs by its alternative text: what a screen reader says."""
        return self.page.locator(".jp-OutputArea").get_by_role("img", name=name).first

    def inline(self, name: str | re.Pattern) -> Locator:
        """Find a widget's live picture by its alternative text; stored outputs hold pictures of another kind."""
        return self.page.locator(".jp-OutputArea .widget-html").get_by_role("img", name=name)

    def text(self, words: str | re.Pattern) -> Locator:
        """Find words among the outputs."""
        return self.page.locator(".jp-OutputArea").get_by_text(words).first

    def focused(self) -> str:
        """Name what the keyboard is on: the words on a button, else the tag."""
        return self.page.evaluate("() => document.activeElement.textContent.trim() || document.activeElement.tagName")

    def time_click(self, name: str) -> float:
        """Click a button; return the milliseconds until a changed picture is painted.

        The clock runs inside the page: from the click to the second frame after the picture's node was replaced.
        """
        self.button(name).scroll_into_view_if_needed()
        handle = self.button(name).element_handle()
        return self.page.evaluate(
            """button => new Promise((done, no) => {
                const limit = setTimeout(() => no(new Error("no new picture in 10 s")), 10000);
                const area = button.closest('.jp-OutputArea');
                const isPicture = node => node.nodeType === 1 && (node.matches('svg, img') || node.querySelector('svg, img'));
                const watch = new MutationObserver(changes => {
                    if (!changes.some(change => [...change.addedNodes].some(isPicture))) return;
                    watch.disconnect(); clearTimeout(limit);
                    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
                });
                watch.observe(area, {subtree: true, childList: true});
                const start = performance.now();
                button.click();
            })""",
            handle,
        )


@dataclass(slots=True)
class Browser:
    """Chromium with every JavaScript error and every request off loopback recorded."""

    width: int = 1200
    height: int = 900
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _chromium: object = None

    def __enter__(self) -> Self:
        playwright = self._stack.enter_context(sync_playwright())
        self._chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        self._stack.callback(self._chromium.close)
        return self

    def __exit__(self, *problem: object) -> None:
        self._stack.close()

    def _new(self) -> NotebookPage:
        page = self._chromium.new_page(viewport={"width": self.width, "height": self.height}, reduced_motion="reduce")
        page.set_default_timeout(30_000)
        new = NotebookPage(page, [], [])
        page.on("pageerror", lambda error: new.errors.append(str(error)))
        page.on("request", lambda request: new.external.append(request.url) if OFF_LOOPBACK.match(request.url) else None)
        return new

    @property
    def chromium(self) -> object:
        """The running Chromium: one for all tests, since Playwright takes no second one beside it."""
        return self._chromium

    def visit(self, address: str) -> NotebookPage:
        """Open a page of Voila; wait until its cells are shown. What the console calls an error counts as one."""
        new = self._new()
        new.page.on("console", lambda message: new.errors.append(message.text) if message.type == "error" else None)
        new.page.goto(address, wait_until="domcontentloaded", timeout=60_000)
        new.page.wait_for_selector("#rendered_cells .jp-OutputArea-output", timeout=60_000)
        return new

    def open(self, address: str, notebook: str, *, kernel: bool = True) -> NotebookPage:
        """Open `notebook` in JupyterLab's single-document view; wait for its cells and, unless told not to, kernel."""
        new = self._new()
        page = new.page
        page.goto(f"{address}/doc/tree/{quote(notebook)}?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext", timeout=60_000)
        js(page, "await panel.context.ready; return true")
        if kernel:
            # JupyterLab shows "idle" before the kernel is connected, and then drops a run-all without a word.
            js(page, "await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info; return true")
        return new
