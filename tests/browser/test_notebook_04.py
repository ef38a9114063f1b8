"""Notebook 04 in a real JupyterLab: the drill is answered with the keyboard, and its picture tells what was refused."""

import re

import pytest

pytestmark = pytest.mark.browser


@pytest.fixture
def page(opened):
    page = opened("04-iova-maps.ipynb")
    page.run_all()
    return page


CHOICE = "ENOSPC"


def test_an_answer_is_chosen_with_the_keyboard_and_the_deciding_check_is_named(page):
    page.button(CHOICE).focus()
    page.page.keyboard.press("Space")
    page.text("Not quite: you predicted ENOSPC, and it is EFAULT.").wait_for()
    page.inline(re.compile("Refused: map .* EFAULT")).wait_for()
    page.text(re.compile(r"That is check \d+ of \d+")).first.wait_for()


def test_the_next_problem_takes_the_answer_back_and_keeps_the_score(page):
    page.button(CHOICE).click()
    page.text(re.compile("0 of 1 right so far")).wait_for()
    page.button("Next problem").click()
    page.text(re.compile("Problem 2. 0 of 1 right so far")).wait_for()
    assert page.page.locator(".jp-OutputArea button.mod-active", has_text="ENOSPC").count() == 0


def test_a_wrong_answer_brings_a_twin_below_and_what_was_chosen_stays_where_it_is(page):
    wrong = page.button("512")
    wrong.click()
    again = page.button("Try one like it")
    again.wait_for()
    before = wrong.bounding_box()["y"] - again.bounding_box()["y"]
    again.focus()
    page.page.keyboard.press("Space")
    page.page.wait_for_function(
        "document.querySelectorAll('.jp-OutputArea button[title^=\"Try a question by the same rule\"]:disabled').length == 1"
    )
    assert before == wrong.bounding_box()["y"] - again.bounding_box()["y"]
