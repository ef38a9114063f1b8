"""Notebook 04 in a real JupyterLab: the drill is answered with the keyboard, and its picture tells what was refused."""

import re

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(opened):
    page = opened("04-iova-maps.ipynb")
    page.run_all()
    return page


def test_an_answer_is_chosen_with_the_keyboard_and_the_deciding_check_is_named(page):
    page.button("ENOSPC").focus()
    page.page.keyboard.press("Space")
    page.text(re.compile("Not ENOSPC: the kernel answers EEXIST")).wait_for()
    assert page.focused() == "ENOSPC"
    page.inline(re.compile("Refused with EEXIST")).wait_for()
    page.text(re.compile("× no existing mapping overlaps")).wait_for()


def test_the_next_problem_takes_the_answer_back_and_keeps_the_score(page):
    page.button("ENOSPC").click()
    page.text(re.compile("0 of 1 right so far")).wait_for()
    page.button("Next problem").click()
    page.text("Problem 2.").wait_for()
    page.text(re.compile("0 of 1 right so far")).wait_for()
    assert page.page.locator(".jp-OutputArea button.mod-active", has_text="ENOSPC").count() == 0
