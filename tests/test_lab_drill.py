"""The map drill: a seed is a problem, its answer and reason come from the model, and the first choice counts."""

import pytest

import vfiolab as vl
from vfiolab.lab import Drill, MapDrill
from vfiolab.lab.problems import CASES, OPTIONS, Problem

SEEDS = range(2 * len(CASES))
#: What each case must answer: the order of the kernel's checks, read in vfio_dma_do_map (6.12).
ANSWERS = {
    "free": {"0"}, "below the window": {"0"}, "above the window": {"0"}, "inside": {"EEXIST"}, "inside, full": {"EEXIST"},
    "odd address": {"EINVAL"}, "odd size on top of a mapping": {"EINVAL"}, "into the window": {"EINVAL"}, "past the width": {"EINVAL"},
    "bad memory": {"EFAULT"}, "bad memory in the window": {"EINVAL"}, "locked memory": {"0", "ENOMEM"}, "free, full": {"ENOSPC"},
    "into the window, full": {"ENOSPC"},
}  # fmt: skip


def click(buttons, option):
    data = {"method": "update", "state": {"index": buttons.options.index(option)}, "buffer_paths": []}
    buttons._handle_msg({"content": {"data": data}, "buffers": []})


@pytest.mark.parametrize("seed", SEEDS)
def test_a_problem_answers_as_the_kernels_order_of_checks_says(seed):
    problem = Problem(seed)
    assert problem.answer in ANSWERS[problem.case]


def test_fourteen_seeds_meet_every_case_once():
    assert sorted(CASES) == sorted(Problem(seed).case for seed in range(14, 28))


def test_every_answer_that_is_offered_is_right_at_some_seed():
    assert set(OPTIONS) == {Problem(seed).answer for seed in range(28)}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_code_shown_and_the_call_give_the_same_answer_in_a_cell(seed):
    problem = Problem(seed)
    names = {}
    exec(problem.code, names)
    try:
        exec(problem.call, names)
        answer = "0"
    except vl.VfioError as error:
        answer = error.name
    assert problem.answer == answer


def test_the_same_seed_is_the_same_problem():
    assert (Problem(5).call, Problem(5).code) == (Problem(5).call, Problem(5).code)
    assert Problem(5).call != Problem(6).call


def test_a_right_choice_counts_and_shows_the_reason():
    drill = MapDrill(1)
    click(drill.options, "EEXIST")
    assert "√ Right: EEXIST." in drill.verdict.value
    assert "overlaps the mapping" in drill.verdict.value
    assert "1 of 1 right so far." in drill.verdict.value
    assert "no existing mapping overlaps" in drill.checks.value


def test_a_wrong_choice_names_both_and_a_second_choice_does_not_count():
    drill = MapDrill(1)
    click(drill.options, "0")
    assert "× Not 0: the kernel answers EEXIST." in drill.verdict.value
    click(drill.options, "EEXIST")
    assert (0, 1) == (drill.right, drill.tried)


def test_before_the_choice_nothing_gives_the_answer_away():
    drill = MapDrill(1)
    assert "EEXIST" not in drill.question.value + drill.verdict.value + drill.picture.value + drill.checks.value
    assert "Choose an answer." in drill.verdict.value


def test_the_next_problem_starts_without_an_answer():
    drill = MapDrill(1)
    click(drill.options, "0")
    drill.next.click()
    assert 2 == drill.problem.seed
    assert drill.options.value is None
    assert "Problem 2." in drill.question.value
    assert drill.checks.value == ""
    assert "0 of 1 right so far." in drill.verdict.value


def test_an_accepted_map_has_no_failed_check_and_appears_in_the_picture():
    drill = MapDrill(3)
    click(drill.options, "0")
    assert "Every check passed" in drill.verdict.value
    assert "1 mapping appeared" in drill.picture.value


def test_without_a_front_end_the_problem_is_text_and_picture():
    bundle = MapDrill(1)._repr_mimebundle_()
    assert "Problem 1. After these steps" in bundle["text/plain"]
    assert '<img alt="' in bundle["text/html"]


# the drill of any topic


@pytest.mark.parametrize("topic", ["domains", "iova:unmap", "msi", "groups"])
def test_a_drill_counts_the_first_choice_and_goes_on_to_the_next_seed(topic):
    drill = Drill(topic, 4)
    assert "Problem 4. Choose an answer." in drill.score.value
    truth = drill.problem.found[0]
    click_on = drill.place.children[0].children[1]
    click_on.value = truth
    assert "1 of 1 right so far." in drill.score.value
    drill.next.click()
    wrong = next(option for option in drill.problem.options if option != drill.problem.found[0])
    drill.problem.choose(wrong)
    assert [(1, 2), 5] == [(drill.right, drill.tried), drill.seed]
    assert "Problem 5. 1 of 2 right so far." in drill.score.value


def test_a_drill_shows_nothing_of_the_answer_before_the_choice():
    drill = Drill("iova:map", 2)
    assert "" == drill.place.children[0].children[3].value
    assert "none" == drill.place.children[0].children[4].layout.display


def test_without_a_front_end_a_drill_is_its_problem():
    bundle = Drill("msi", 3)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("Problem 3.")
    assert "<ul><li>" in bundle["text/html"]


def test_a_drill_on_nothing_is_told_what_there_is():
    with pytest.raises(ValueError, match="there are: domains, iova, msi, groups"):
        Drill("moon")
