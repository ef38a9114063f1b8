"""The course's questions are data: each offers one right answer, and says of every other why it is wrong."""

import ast
import re
from html import escape

import nbformat
import pytest
from tools import notebooks

from vfiolab.course import ask
from vfiolab.course.questions import questions
from vfiolab.course.words import plain

NAMES = sorted(questions())


@pytest.mark.parametrize("name", NAMES)
def test_exactly_one_option_is_without_a_reason_why_it_is_wrong(name):
    guess = ask(name)
    assert len([option for option in guess.options if option not in guess.why]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_each_option_can_be_chosen_and_its_reveal_names_it_with_a_reason(name):
    (truth,) = [option for option in ask(name).options if option not in ask(name).why]
    for option in ask(name).options:
        guess = ask(name)
        guess.choose(option)
        words = str(guess.reveal(truth))
        assert f"you predicted {guess.word(option)}" in words
        assert len(words.splitlines()) == (2 if option == truth else 3)
        entry = questions()[name]
        assert plain(entry["because"] if option == truth else entry["why"][str(option)]) in words, (
            "the reason is the one that the file gives"
        )


@pytest.mark.parametrize("name", NAMES)
def test_the_model_answers_each_question_with_the_option_that_is_right(name):
    (right,) = [option for option in ask(name).options if option not in ask(name).why]
    truth, picture = ask(name).found
    assert (right, type(right)) == (truth, type(truth))
    assert picture is None or picture.alt


@pytest.mark.parametrize("name", NAMES)
def test_each_experiment_is_what_a_learner_could_type(name):
    code = ask(name).experiment
    assert [] == [line for line in code.splitlines() if len(line) > 140]
    imported = [line for line in code.splitlines() if re.match(r"\s*(?:from|import)\b", line)]
    assert [] == [line for line in imported if not re.match(r"from vfiolab(?:\.course)? import ", line)]
    assert code.strip().splitlines()[-1].startswith(("truth", " "))


@pytest.mark.parametrize("name", NAMES)
def test_a_choice_shows_the_answer_its_reason_and_the_code_in_the_same_place(name):
    guess = ask(name)
    told = guess.view().children[3]
    assert "" == told.value
    guess.choose(guess.options[0])
    for words in (guess.word(guess.options[0]), "How the model found out"):
        assert escape(str(words)) in told.value or str(words) in told.value


@pytest.mark.parametrize("name", NAMES)
def test_each_reason_is_for_an_option_that_is_there(name):
    assert set(questions()[name]["why"]) <= {str(option) for option in questions()[name]["options"]}


def test_options_that_are_bytes_are_shown_as_sizes_with_the_number():
    assert ["512 MiB (536870912)", "1 GiB (1073741824)", "EINVAL"] == [
        ask("half-unmap").word(option) for option in ask("half-unmap").options
    ]
    assert "( ) 0   ( ) 4 KiB (4096)   ( ) 20 KiB (20480)" in ask("whose-mapping")._text()


def calls(path):
    """List the calls in a notebook's cells."""
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return [node for source in cells for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("name", NAMES)
def test_each_question_is_asked_in_one_notebook(name):
    asked = [path.stem for path in notebooks.find() for call in calls(path) if ast.unparse(call) == f"vl.ask({name!r})"]
    assert len(asked) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_truth_is_the_models_not_the_authors(name):
    last = [node for node in ast.parse(ask(name).experiment).body if isinstance(node, ast.Assign)][-1]
    assert not isinstance(last.value, ast.Constant)


def test_a_question_that_is_not_there_is_told_which_are():
    with pytest.raises(ValueError, match=r"no question is called 'moon'; questions: .*two-units"):
        ask("moon")


def test_a_second_learner_starts_without_the_firsts_answer():
    ask("two-units").choose(2)
    assert ask("two-units").answer is None
