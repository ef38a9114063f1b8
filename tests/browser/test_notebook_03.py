"""Notebook 03 in a real JupyterLab, with the keyboard alone: from the cell into the widget, through its rows, to a refusal."""

import re

import pytest

pytestmark = pytest.mark.browser

FIRST, LAST = "VT-d, two equal units", "1 GiB at 0x100_0000_0000"


@pytest.fixture
def page(opened):
    page = opened("03-containers-and-domains.ipynb")
    page.run_all()
    return page


def tab_to(page, words, presses=40):
    """Press Tab until the keyboard is on the button with these words."""
    for _ in range(presses):
        if page.focused() == words:
            return
        page.page.keyboard.press("Tab")
    raise AssertionError(f"{words!r} was not reached; the keyboard is on {page.focused()!r}")


def test_the_keyboard_alone_goes_from_the_cell_into_the_widget_and_through_it(page):
    page.select_source("vl.lab.SplitLab()")
    tab_to(page, FIRST)
    tab_to(page, "SMMUv3, two equal units")
    page.page.keyboard.press("Space")
    page.text(re.compile("2 domains. The kernel tried the second group in D1, and the driver answered EINVAL")).wait_for()
    assert page.focused() == "SMMUv3, two equal units"
    page.inline(re.compile("2 domains, 2 IOMMU units")).wait_for()
    tab_to(page, "6.1")
    page.page.keyboard.press("Enter")
    page.text(re.compile("the driver answered ENXIO")).wait_for()
    page.page.keyboard.press("Shift+Tab")
    for _ in range(20):
        if page.focused() == "VT-d, 48 and 39 bits":
            break
        page.page.keyboard.press("Shift+Tab")
    page.page.keyboard.press("Space")
    tab_to(page, LAST)
    page.page.keyboard.press("Space")
    alert = page.page.get_by_role("alert").first
    alert.wait_for()
    assert "Refused. EINVAL: the mapping 0x100_0000_0000-0x100_3fff_ffff lies outside the aperture" in alert.inner_text()
    assert page.focused() == LAST


def test_the_panels_of_the_widget_can_be_reached_and_scrolled_with_the_keyboard(page):
    page.button(LAST).focus()
    for _ in range(6):
        page.page.keyboard.press("Tab")
        name = page.page.evaluate("() => document.activeElement.closest('[role=group]')?.getAttribute('aria-label') ?? ''")
        if name == "Events of the last step":
            return
    raise AssertionError("the panel of events was not reached")


def test_untrusted_and_before_it_is_run_the_verdict_and_the_chain_are_there(opened):
    page = opened("03-containers-and-domains.ipynb", kernel=False)
    page.picture(re.compile("2 devices, 2 groups, 1 container, 1 domain, 2 IOMMU units")).wait_for()
    page.text(re.compile("1 domain. The kernel tried the second group in D1")).wait_for()
