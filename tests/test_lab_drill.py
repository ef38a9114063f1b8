"""The drill: a seed is a problem, its answer and reason come from the model, and the first choice counts."""

import pytest

from vfiolab.lab import Drill


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


def test_the_picture_shows_the_state_before_the_call_until_an_answer_is_chosen():
    drill = Drill("iova:map", 2)
    assert "RAM" in drill.state.value
    assert "efused" not in drill.state.value
    drill.place.children[0].children[1].value = "0"
    assert "" == drill.state.value
    drill.next.click()
    assert "<svg" in drill.state.value


def test_without_a_front_end_a_drill_is_its_problem_and_a_picture_of_the_state():
    bundle = Drill("iova:map", 2)._repr_mimebundle_()
    assert '<img alt="' in bundle["text/html"]
    assert bundle["text/plain"].startswith("Problem 2.")
    assert "<ul><li>" in bundle["text/html"]


def test_a_drill_on_nothing_is_told_what_there_is():
    with pytest.raises(ValueError, match="there are: domains, iova, msi, groups"):
        Drill("moon")
