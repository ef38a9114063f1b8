"""A seeded problem is the same everywhere, the model answers it with one of its options, and every option has its reason."""

from collections import Counter
from functools import cache
from hashlib import sha256

import pytest

import vfiolab as vl
from vfiolab.course.questions import ask, questions
from vfiolab.course.seeded import TOPICS

KINDS = [f"{topic}:{kind}" for topic, kinds in TOPICS.items() for kind in kinds]
GENERATED = {name: entry["twin"] for name, entry in questions().items() if isinstance(entry["twin"], str)}
OWN = sorted(set(questions()) - set(GENERATED))


@cache
def truths(topic, seeds):
    """Answer the problems of the first seeds of a topic; each reveals its truth, or raises where an option has no reason."""
    found = []
    for seed in range(seeds):
        guess = vl.problem(topic, seed)
        revealed = guess.reveal()
        assert min(map(len, (revealed.because, *(why for _, why in revealed.reasons)))) > 12
        assert len(revealed.reasons) == len(guess.options) - 1
        found.append(revealed.truth)
    return found


@pytest.mark.parametrize("topic", TOPICS)
def test_each_of_200_seeds_is_answered_and_explained_and_no_answer_is_the_rule(topic):
    assert max(Counter(truths(topic, 200)).values()) <= 0.6 * 200


@pytest.mark.slow
@pytest.mark.parametrize("topic", TOPICS)
def test_each_of_2000_seeds_is_answered_and_explained(topic):
    assert len(truths(topic, 2000)) == 2000


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_of_no_kind_one_answer_is_right_for_more_than_60_of_100_seeds(kind):
    assert max(Counter(truths(kind, 200)).values()) <= 0.6 * 200


@pytest.mark.parametrize("topic", TOPICS)
def test_as_many_seeds_as_a_topic_has_kinds_meet_each_once(topic):
    number = len(TOPICS[topic])
    asked = [str(vl.problem(topic, seed)._twin) for seed in range(3 * number, 4 * number)]
    assert [1] * number == [sum(f"'{topic}:{kind}'" in one for one in asked) for kind in TOPICS[topic]]


@pytest.mark.parametrize(("topic", "digest"), [
    ("domains", "69a2ba6fda25eac8"), ("iova", "a640dc94b25ad463"), ("msi", "2353ae87256572bd"), ("groups", "97ad90d2c01ea380"),
])  # fmt: skip
def test_a_seed_is_the_same_problem_on_every_machine_and_python(topic, digest):
    asked = [vl.problem(topic, seed) for seed in range(60)]
    text = "\n".join(f"{one.question}\n{one.options}\n{one.experiment}" for one in asked)
    assert digest == sha256(text.encode()).hexdigest()[:16], "a class that shares a seed would see another problem"


@pytest.mark.parametrize("kind", KINDS)
def test_the_code_gives_the_truth_by_itself(kind):
    for seed in (-1, 7):
        guess = vl.problem(kind, seed)
        names = {}
        exec(guess.experiment, names)
        assert guess.found[0] == names["truth"]
        assert guess.found[1] is None or guess.found[1].alt


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_shown_before_the_choice_comes_first_in_the_code_and_does_not_hold_the_truth(kind):
    guess = vl.problem(kind, 3)
    assert guess.experiment.startswith(guess.given)
    assert "truth" not in guess.given
    assert guess.given in guess._text()


def test_problems_stand_on_many_machines_and_kernels():
    code = "".join(vl.problem(topic, seed).experiment for topic in TOPICS for seed in range(100))
    machines, kernels = (
        {name for name in vl.machines() if f'"{name}"' in code},
        {k for k in ("4.4", "5.10", "6.1", "6.12", "7.3") if f'"{k}"' in code},
    )
    assert (len(machines) >= 15, len(kernels)) == (True, 5)


@pytest.mark.parametrize(("topic", "seed", "words"), [
    ("moon", 1, "no problems are called 'moon'"), ("iova:moon", 1, "iova:unmap"), ("iova", True, "whole number"),
    ("iova", "1", "whole number"),
])  # fmt: skip
def test_what_is_no_topic_or_no_seed_is_told_what_is(topic, seed, words):
    with pytest.raises(ValueError, match=words):
        vl.problem(topic, seed)


# twins


@pytest.mark.parametrize("name", sorted(questions()))
def test_each_question_has_a_twin_with_its_truth_among_the_options_and_a_reason_for_each(name):
    twin = ask(name).twin()
    assert twin.question != ask(name).question
    assert twin.reveal().truth in twin.options


@pytest.mark.parametrize("kind", sorted(set(GENERATED.values())))
def test_a_generated_twin_has_other_numbers_each_time_and_not_one_answer(kind):
    asked = [vl.problem(kind, seed) for seed in range(12)]
    assert len({one.experiment for one in asked}) >= 10
    assert [] == [one.question for one in asked if one.twin().experiment == one.experiment]
    assert len({one.found[0] for one in asked}) > 1


@pytest.mark.parametrize("name", sorted(GENERATED))
def test_the_twin_of_a_twin_is_of_the_same_kind_and_has_the_next_seed(name):
    first = ask(name).twin()
    seed = sorted(questions(), key=list(questions()).index).index(name) + 1
    assert [vl.problem(GENERATED[name], n).experiment for n in (seed, seed + 1)] == [first.experiment, first.twin().experiment]


@pytest.mark.parametrize("name", OWN)
def test_the_twin_of_a_twin_that_is_data_is_the_question_again(name):
    assert ask(name).twin().twin().question == ask(name).question


def test_a_prediction_of_ones_own_has_no_twin():
    with pytest.raises(ValueError, match="has no twin"):
        vl.predict("?", 1, 2).twin()


def wrong(guess):
    return next(option for option in guess.options if option != guess.found[0])


def test_a_wrong_answer_brings_a_button_and_the_button_a_twin_below():
    guess = ask("two-units")
    again, below = guess.view().children[4:6]
    assert again.layout.display == "none"
    guess.choose(wrong(guess))
    assert (None, False) == (again.layout.display, again.disabled)
    again.click()
    again.click()
    assert [guess.twin().question in below.children[0].children[0].value, True] == [len(below.children) == 1, again.disabled]


def test_a_right_answer_brings_no_button():
    guess = ask("two-units")
    guess.view()
    guess.choose(guess.found[0])
    assert guess.view().children[4].layout.display == "none"


def test_a_wrong_answer_to_the_twin_brings_the_next_and_a_right_one_says_so():
    guess = vl.problem("domains:units", 5)
    guess.choose(wrong(guess))
    guess.view().children[4].click()
    twin = guess.view().children[5].children[0]
    truth = guess.twin().found[0]
    twin.children[1].value = truth
    assert f"Right: you predicted {truth}." in twin.children[3].value
    assert twin.children[4].layout.display == "none"


def test_the_button_says_what_it_does_and_to_which_question_it_belongs():
    again = ask("two-units").view().children[4]
    assert again.description == "Try one like it"
    assert again.tooltip.startswith("Try a question by the same rule, with other numbers; it appears below. It was: After the second")


def test_code_that_was_given_is_shown_before_the_question_and_escaped():
    guess = vl.problem("iova:map", 4)
    assert "<pre" in guess._html()
    assert guess.view().children[0].value.startswith("<pre")
    assert guess.code_given in guess._html()
