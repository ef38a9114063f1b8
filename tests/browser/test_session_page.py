"""The page of a session, opened alone from a file: it asks for nothing beside itself, and axe finds nothing in it."""

from __future__ import annotations

import pytest

import vfiolab as vl

pytestmark = pytest.mark.browser

STEPS = (
    ("host.address_space",),
    ("space.attach", "01:00.0"),
    ("space.map", 0x4000_0000, "1G", "</title><script>alert(1)</script>"),
    ("space.map", 0x800_0000, "1M"),
    ("space.enable_msi", "01:00.0"),
    ("space.raise_msi", "01:00.0"),
)


@pytest.fixture
def page_file(tmp_path):
    session = vl.Session(vl.load("two-smmu-server"), name="a <refusal>")
    for verb, *args in STEPS:
        session.do(verb, *args)
    session.save(tmp_path / "session.html")
    return tmp_path / "session.html"


@pytest.fixture(scope="module")
def chromium(browser):
    return browser.chromium


def opened(chromium, file, **options):
    """Open a page; return it, what it asked for, and what it said."""
    page, asked, said = chromium.new_page(**options), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    return page, [url for url in asked if not url.startswith("data:")], said


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_asks_for_nothing_and_each_picture_is_seen(chromium, page_file, scheme):
    page, asked, said = opened(chromium, page_file, color_scheme=scheme)
    assert ([page_file.as_uri()], []) == (asked, said)
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.images.length") > 6
    assert "a <refusal> on two-smmu-server" == page.title()
    page.close()


@pytest.mark.parametrize("width", [360, 1100])
def test_no_line_of_the_page_is_wider_than_the_window(chromium, page_file, width):
    page, _, _ = opened(chromium, page_file, viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_the_page_with_all_that_folds_open(chromium, page_file, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page, _, _ = opened(chromium, page_file, color_scheme=scheme, bypass_csp=True)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert [] == [(found["id"], found["nodes"][0]["html"][:120]) for found in Axe().run(page).response["violations"]]
    page.close()
