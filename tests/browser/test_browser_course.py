"""Predict and reveal in a real JupyterLab, with the keyboard alone."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.browser

ASK = 'import vfiolab as vl\nguess = vl.predict("How many domains?", "one", "two", "three")\nguess'
REVEAL = 'guess.reveal("two", {"one": "One is too few.", "three": "Three is too many."}, because="Two units.")'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    notebook = new_notebook(cells=[new_code_cell(ASK), new_code_cell(REVEAL)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "predict.ipynb")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    from browser.harness import serving

    with serving(folder) as address:
        yield address


@pytest.fixture
def page(opened):
    page = opened("predict.ipynb")
    page.run_all()
    return page


def test_an_untouched_question_keeps_its_answer_until_the_reader_opens_it(page):
    page.text("You have not chosen yet.").wait_for()
    page.text("No prediction was made: choose an answer above, then run this cell again.").wait_for()
    assert not page.text("It is two.").is_visible()
    summary = page.text("Show the answer and the reasons without a prediction")
    summary.focus()
    page.page.keyboard.press("Enter")
    page.text("It is two.").wait_for()


def test_tab_and_space_choose_an_answer_and_the_reveal_names_it(page):
    page.button("one").focus()
    page.page.keyboard.press("Tab")
    assert page.focused() == "two"
    page.page.keyboard.press("Tab")
    page.page.keyboard.press("Space")
    page.text("Your prediction: three").wait_for()
    assert page.focused() == "three"
    page.run_cell(1)
    page.text("Not quite: you predicted three, and it is two.").wait_for()
    page.text("Three is too many.").wait_for()


def test_enter_chooses_too_and_a_revealed_answer_stays(page):
    page.button("two").focus()
    page.page.keyboard.press("Enter")
    page.text("Your prediction: two").wait_for()
    page.run_cell(1)
    page.text("Right: you predicted two.").wait_for()
    assert page.button("one").is_disabled()
