"""The site, built and served as plain files from loopback: every page can be read, and in its kit notebook 00 runs from end to end."""

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser.harness import NotebookPage, js
from tools import lite, website

pytestmark = pytest.mark.browser


@dataclass
class Site:
    """The served site, and what its server was asked for."""

    address: str
    folder: Path
    size: int
    seconds: float
    missing: list[str] = field(default_factory=list)


class Files(SimpleHTTPRequestHandler):
    """Serves a folder; notes what is not there instead of writing a log."""

    def __init__(self, site, *args, **named):
        self.site = site
        super().__init__(*args, **named)

    def log_message(self, *_words):
        pass

    def log_request(self, code="-", _size="-"):
        if int(code) >= 400:
            self.site.missing.append(self.path)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    out = tmp_path_factory.mktemp("lite") / "site"
    start = time.perf_counter()
    website.build(out, kit=True)
    found = Site("", out, lite.size(out), time.perf_counter() - start)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, found, directory=str(out))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.address = f"http://127.0.0.1:{server.server_port}"
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def started(site, browser) -> Iterator[tuple[NotebookPage, dict[str, float]]]:
    """Open the site as a visitor does who knows only its address; run all of notebook 00; return it and the seconds that it took."""
    new = browser._new()
    page, start, seconds = new.page, time.perf_counter(), {}
    page.goto(site.address, wait_until="domcontentloaded")
    page.get_by_role("link", name="Run the notebooks in this browser").click()
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook .jp-Cell", timeout=60_000)
    seconds["notebook shown"] = time.perf_counter() - start
    page.wait_for_function("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel", timeout=120_000)
    js(page, "await panel.sessionContext.ready; await panel.sessionContext.session.kernel.info; return true", 180_000)
    seconds["kernel ready"] = time.perf_counter() - start
    js(page, "await app.commands.execute('notebook:clear-all-cell-outputs'); app.commands.execute('notebook:run-all-cells'); return true")
    page.wait_for_selector(".jp-OutputArea figure img", timeout=120_000)
    seconds["first computed picture"] = time.perf_counter() - start
    new.run_all(300_000)
    seconds["all cells"] = time.perf_counter() - start
    yield new, seconds
    page.close()


def test_notebook_00_runs_through_and_its_buttons_draw(started, site, capsys):
    page, seconds = started
    page.button(re.compile(r"^Attach group \d+: 0000:01:00.0")).click()
    page.inline(re.compile("D1: group 8")).wait_for()
    page.button("Map").click()
    page.inline(re.compile("^1 domain holds the user's 1 mapping")).wait_for()
    with capsys.disabled():
        print(f"\nsite {site.size / 1e6:.1f} MB, built in {site.seconds:.0f} s;", end=" ")
        print(", ".join(f"{what} after {value:.1f} s" for what, value in seconds.items()))
    assert [] == page.errors


#: JupyterLab also tries addresses that only look like files to it.
PARTS = tuple(f"/lite/{part}/" for part in ("build", "extensions", "files", "static"))


def test_no_request_leaves_this_machine_and_no_part_of_the_site_is_missing(started, site):
    page, _ = started
    assert [] == page.external
    assert [] == [path for path in site.missing if path.startswith(PARTS)]


ASKS = """import vfiolab as vl
space = vl.load("two-smmu-server").address_space()
for ask in (space.mappings.frame, lambda: vl.plot(space)):
    try:
        ask()
    except ModuleNotFoundError as error:
        print(error)"""


def test_where_pandas_and_matplotlib_are_missing_a_view_says_what_to_do(started):
    page, _ = started
    words = js(
        page.page,
        f"""const asked = panel.sessionContext.session.kernel.requestExecute({{code: {json.dumps(ASKS)}}}), said = [];
            asked.onIOPub = message => said.push(message.content.text ?? message.content.evalue ?? "");
            await asked.done; return said.join("")""",
    )
    advice = "(a page that runs in the browser alone has none: install vfiolab); without it, "
    wanted = [f"this needs {name} {advice}" for name in ("pandas", "matplotlib")]
    assert wanted == re.findall(r"^this needs .*; without it, ", words, re.MULTILINE)


def test_every_page_opens_with_its_heading_and_without_a_fault_and_asks_no_other_host(site, browser):
    new = browser._new()
    names = sorted(path.name for path in site.folder.glob("*.html"))
    for name in names:
        new.page.goto(f"{site.address}/{name}")
        heads = new.page.locator("h1, h2").all_inner_texts()
        assert heads, name
    assert ([], []) == (new.errors, new.external)
    assert [] == [path for path in site.missing if path.startswith("/_")]
    new.page.close()


@pytest.mark.parametrize("name", ["index.html", "00-start-here.html", "glossary.html", "slides.html", "card.html"])
def test_a_page_has_no_fault_that_axe_knows(site, browser, name):
    new = browser._new()
    new.page.goto(f"{site.address}/{name}")
    new.page.evaluate(Axe().axe_script)
    found = new.page.evaluate("axe.run(document.querySelector('main, [role=main]'), {resultTypes: ['violations']})")["violations"]
    assert [] == [(one["id"], node["html"][:160]) for one in found for node in one["nodes"]]
    new.page.close()
