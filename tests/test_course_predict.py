"""A prediction stores the learner's answer; the reveal names it and, where it was wrong, says why."""

import pytest

from vfiolab.course import predict

WHY = {1: "Two `SMMU`s share no page table.", 3: "Only two <units> are there."}
BECAUSE = "One domain for each unit."


@pytest.fixture
def guess():
    return predict("How many domains has `one` container here?", 1, 2, 3)


def click(view_box, option):
    """Do what the browser does: send the chosen index as a comm message."""
    buttons = view_box.children[1]
    index = [value for _, value in buttons.options].index(option)
    data = {"method": "update", "state": {"index": index}, "buffer_paths": []}
    buttons._handle_msg({"content": {"data": data}, "buffers": []})


def test_a_question_starts_without_an_answer(guess):
    assert guess.answer is None
    assert guess.view().children[1].value is None
    assert "You have not chosen yet." in guess.view().children[2].value


def test_a_click_in_the_browser_stores_the_answer(guess):
    click(guess.view(), 3)
    assert guess.answer == 3
    assert "Your prediction: 3" in guess.view().children[2].value


def test_choosing_in_code_does_what_a_click_does(guess):
    view = guess.view()
    guess.choose(2)
    assert view.children[1].value == 2
    assert "Your prediction: 2" in view.children[2].value


def test_a_mind_may_be_changed_before_the_reveal(guess):
    click(guess.view(), 3)
    click(guess.view(), 2)
    assert guess.reveal(2, WHY, because=BECAUSE).verdict == "right"


def test_the_reveal_of_a_right_answer_names_it_and_says_why(guess):
    guess.choose(2)
    assert str(guess.reveal(2, WHY, because=BECAUSE)) == f"Right: you predicted 2.\n{BECAUSE}"


def test_the_reveal_of_a_wrong_answer_names_both_and_says_what_was_wrong(guess):
    guess.choose(3)
    reveal = guess.reveal(2, WHY, because=BECAUSE)
    assert reveal.verdict == "wrong"
    assert str(reveal) == f"Not quite: you predicted 3, and it is 2.\nOnly two <units> are there.\n{BECAUSE}"


def test_the_reveal_of_an_untouched_question_says_so_and_gives_every_reason(guess):
    reveal = guess.reveal(2, WHY, because=BECAUSE)
    assert reveal.verdict == "untouched"
    assert str(reveal).splitlines() == [
        "No prediction was made: choose an answer above, then run this cell again.",
        f"(The answer: It is 2. {BECAUSE} Not 1: Two SMMUs share no page table. Not 3: Only two <units> are there.)",
    ]


def test_an_untouched_question_shows_no_answer_before_its_details_are_opened(guess):
    shown, details, folded = guess.reveal(2, WHY, because=BECAUSE)._repr_mimebundle_()["text/html"].partition("<details>")
    assert details == "<details>"
    assert shown == "<div><p><strong>No prediction was made: choose an answer above, then run this cell again.</strong></p>"
    assert folded == (
        "<summary>Show the answer and the reasons without a prediction</summary><p><strong>It is 2.</strong></p>"
        f"<p>{BECAUSE}</p><p>Not 1: Two <code>SMMU</code>s share no page table.</p>"
        "<p>Not 3: Only two &lt;units&gt; are there.</p></details></div>"
    )


@pytest.mark.parametrize("option", [1, 2])
def test_who_made_a_prediction_sees_the_answer_at_once(guess, option):
    guess.choose(option)
    shown = guess.reveal(2, WHY, because=BECAUSE)._repr_mimebundle_()["text/html"]
    assert BECAUSE in shown
    assert "<details" not in shown


def test_an_untouched_question_can_still_be_answered_after_its_reveal(guess):
    guess.reveal(2, WHY, because=BECAUSE)
    click(guess.view(), 1)
    assert guess.reveal(2, WHY, because=BECAUSE).verdict == "wrong"


def test_an_answer_is_committed_once_it_was_revealed(guess):
    guess.choose(3)
    guess.reveal(2, WHY, because=BECAUSE)
    assert guess.view().children[1].disabled
    with pytest.raises(ValueError, match="stays 3"):
        guess.choose(2)
    assert guess.answer == 3


def test_the_view_is_built_from_the_answer_that_is_already_there(guess):
    guess.choose(2)
    assert guess.view().children[1].value == 2


def test_showing_a_question_twice_shows_the_same_buttons(guess):
    assert guess.view() is guess.view()


def test_what_is_none_of_the_options_is_refused_and_changes_nothing(guess):
    with pytest.raises(ValueError, match="4 is none of the options: 1, 2, 3"):
        guess.choose(4)
    assert guess.answer is None


def test_a_truth_that_the_question_does_not_offer_is_the_authors_error(guess):
    with pytest.raises(ValueError, match=r"the truth is 5, which .* does not offer: 1, 2, 3"):
        guess.reveal(5, WHY, because=BECAUSE)


@pytest.mark.parametrize("why", [{}, {1: "a reason"}, {1: "a reason", 3: "  "}])
def test_no_wrong_option_goes_without_a_reason(guess, why):
    with pytest.raises(ValueError, match=r"no reason is given why these are wrong"):
        guess.reveal(2, why, because=BECAUSE)


def test_a_reason_for_the_right_option_is_the_authors_error(guess):
    with pytest.raises(ValueError, match=r"no wrong option of .*: \[2\]"):
        guess.reveal(2, WHY | {2: "?"}, because=BECAUSE)


@pytest.mark.parametrize("options", [(), (1,), (1, "1")])
def test_a_question_needs_two_options_that_look_different(options):
    with pytest.raises(ValueError, match="option"):
        predict("?", *options)


def test_without_a_kernel_the_question_stands_there_with_its_options(guess):
    bundle = guess._repr_mimebundle_()
    assert bundle["text/plain"].splitlines() == [
        "Predict: How many domains has one container here?",
        "  ( ) 1   ( ) 2   ( ) 3",
    ]
    assert "<code>one</code>" in bundle["text/html"]
    assert "<li>1</li><li>2</li><li>3</li>" in bundle["text/html"]


def test_a_live_front_end_gets_the_buttons(guess):
    assert guess.view().model_id == guess._repr_mimebundle_()["application/vnd.jupyter.widget-view+json"]["model_id"]


def test_stored_outputs_are_the_same_every_time():
    shown = [predict("same?", "yes", "no")._repr_mimebundle_() for _ in range(2)]
    assert shown[0]["text/html"] == shown[1]["text/html"]
    assert shown[0]["text/plain"] == shown[1]["text/plain"]


def test_each_button_says_to_a_screen_reader_what_it_answers(guess):
    assert guess.view().children[1].tooltips == (
        "Predict 1: How many domains has one container here?",
        "Predict 2: How many domains has one container here?",
        "Predict 3: How many domains has one container here?",
    )


def test_the_choice_is_announced_as_a_status(guess):
    assert guess.view().children[2].value.startswith('<span role="status">')


def test_the_verdict_is_a_word_and_a_sign_not_a_colour(guess):
    guess.choose(1)
    shown = guess.reveal(2, WHY, because=BECAUSE)._repr_mimebundle_()["text/html"]
    assert shown.startswith("<div><p>× <strong>Not quite: you predicted 1, and it is 2.</strong></p>")
    assert "color" not in shown


def test_words_of_the_course_are_escaped(guess):
    guess.choose(3)
    assert "Only two &lt;units&gt; are there." in guess.reveal(2, WHY, because=BECAUSE)._repr_mimebundle_()["text/html"]
