"""Notebook 00, used with the mouse in a real JupyterLab: what a refused map says, and that predictions are kept."""

import re

import pytest

pytestmark = pytest.mark.browser

FIRST, SECOND = re.compile(r"^Attach group 8"), re.compile(r"^Attach group 10")


@pytest.fixture
def page(opened):
    page = opened("00-start-here.ipynb")
    page.run_all()
    return page


def fill(page, label, words):
    page.page.get_by_label(label).first.fill(words)
    page.page.keyboard.press("Tab")


def test_the_second_groups_lane_appears_and_the_mapping_is_in_it(page):
    page.button(FIRST).click()
    page.inline(re.compile("D1: group 8")).wait_for()
    page.button("Map").click()
    page.inline(re.compile("1 domain holds the user's 1 mapping")).wait_for()
    page.button(SECOND).click()
    picture = page.inline(re.compile("D2: group 10"))
    picture.wait_for()
    assert re.match(r"2 domains mirror the user's 1 mapping \(1 GiB\)", picture.first.get_attribute("aria-label"))


def test_a_refused_map_is_an_alert_with_rule_source_and_way_out(page):
    page.button(FIRST).click()
    fill(page, "iova", "0x800_0000")
    fill(page, "Size", "1M")
    page.button("Map").click()
    alert = page.page.get_by_role("alert").first
    alert.wait_for()
    words = alert.inner_text()
    assert "EINVAL: 0x800_0000-0x80f_ffff overlaps the software MSI window" in words
    assert "Source: vfio_iommu_iova_dma_valid" in words
    assert "Try: map around it" in words
    page.inline(re.compile("1 map was refused")).wait_for()


def test_a_prediction_made_with_the_mouse_is_named_by_the_reveal(page):
    page.button("1").click()
    page.text("Your prediction: 1").wait_for()
    page.run_source("domains.reveal(len(space.domains))")
    page.text("Not quite: you predicted 1, and it is 2.").wait_for()
