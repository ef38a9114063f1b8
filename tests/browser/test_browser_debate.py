"""Notebooks 07 and 11 in a real JupyterLab: the whole table before anything is run, and the two labs with mouse and keyboard."""

import re

import pytest

pytestmark = pytest.mark.browser

DEBATE, WENT = "07-the-debate.ipynb", "11-where-it-went.ipynb"


def test_before_the_debate_is_run_its_lab_shows_a_journey_and_the_table_is_folded(opened):
    page = opened(DEBATE, kernel=False)
    image = page.picture(re.compile("raises vector 0: delivered"))
    image.wait_for()
    assert image.bounding_box()["width"] > 600
    assert not page.picture(re.compile("How many of 12 scenarios work")).is_visible()


def test_the_debate_lab_goes_from_a_journey_to_a_refusal_with_mouse_and_keyboard(opened):
    page = opened(DEBATE)
    page.run_all()
    page.inline(re.compile("raises vector 0: delivered")).wait_for()
    page.button("own-layout").click()
    alert = page.page.get_by_role("alert").filter(has_text="P7 on own-layout: EINVAL map")
    alert.wait_for()
    assert page.focused() == "own-layout"
    page.page.keyboard.press("Shift+Tab")
    page.page.keyboard.press("Space")  # the button before it: arm-its
    page.inline(re.compile("raises vector 0: delivered")).wait_for()
    page.button("P0: nothing (4.4)").click()
    page.inline(re.compile("raises vector 0: lost")).wait_for()


def test_the_twin_lab_shows_both_answers_and_both_maps(opened):
    page = opened(WENT)
    page.run_all()
    page.page.get_by_role("alert").filter(has_text="iommufd's layer: ENOENT").wait_for()
    page.button("open a device after that").click()
    page.page.get_by_role("alert").filter(has_text="EADDRINUSE").wait_for()
