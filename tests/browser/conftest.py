"""One JupyterLab and one Chromium for all browser tests; a page for each test, with its picture kept when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

FAILURES = Path(__file__).parent / "failures"
REPORT = pytest.StashKey[pytest.TestReport]()


@pytest.fixture(scope="session")
def server():
    from browser.harness import serving

    with serving() as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    from browser.harness import Browser

    with Browser() as running:
        yield running


@pytest.fixture
def opened(server, browser, request):
    """Return a function that opens a notebook; afterwards no JavaScript error and no request off loopback is there."""
    pages = []

    def opener(notebook, **options):
        pages.append(browser.open(server, notebook, **options))
        return pages[-1]

    yield opener
    for page in pages:
        report = request.node.stash.get(REPORT, None)
        if report is None or report.failed:
            FAILURES.mkdir(exist_ok=True)
            page.page.screenshot(path=FAILURES / f"{request.node.name}.png")
        page.page.close()
        assert page.errors == []
        assert page.external == []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        item.stash[REPORT] = report
    return report
