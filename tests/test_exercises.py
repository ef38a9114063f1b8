"""The exercises: every solution passes, every stub is told what to do, and each likely mistake is told what is wrong with it."""

import sys
import tomllib
from collections import defaultdict
from functools import cache
from pathlib import Path

import pytest

from vfiolab.course import check, exercise
from vfiolab.course.exercises import exercises
from vfiolab.course.judges import JUDGES

NAMES = list(exercises())
WRONG = tomllib.loads((Path(__file__).parent / "wrong_solutions.toml").read_text(encoding="utf-8"))
EACH_WRONG = [pytest.param(name, wrong, id=f"{name}: {wrong['mistake']}") for name in NAMES for wrong in WRONG[name]]


def function(code, name):
    """Run code as a learner's cell, and return the function that the exercise asks for."""
    names = {}
    exec(compile(code.lstrip("\n"), f"<{name}>", "exec"), names)
    return names[exercise(name).function]


def learners(name, wrong):
    """Return the code of a wrong solution."""
    if "code" in wrong:
        return wrong["code"]
    before, after = wrong["swap"]
    assert before in exercise(name).answer, f"{name} has no {before!r} to change"
    return exercise(name).answer.replace(before, after)


@cache
def told(name, number):
    return check(name, function(learners(name, WRONG[name][number]), name))


def test_each_exercise_has_a_judge_and_each_judge_an_exercise():
    assert list(JUDGES) == NAMES == list(WRONG)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_passes_every_case_and_its_reasoning_is_told(name):
    found = check(name, function(exercise(name).answer, name))
    assert ("solved", found.tried) == (found.verdict, found.passed), str(found)
    assert found.tried >= 3
    assert exercise(name).reasoning.split("`")[0] in str(found)


@pytest.mark.parametrize("name", NAMES)
def test_the_stub_passes_nothing_and_is_told_kindly_what_to_do(name):
    found = check(name, function(exercise(name).stub, name))
    assert ("untouched", 0) == (found.verdict, found.passed)
    assert "Nothing to check yet" in str(found)
    assert f'vl.exercise("{name}").hint(1)' in str(found)
    assert "raised" not in str(found)


@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_returns_nothing_counts_as_the_stub(name):
    nothing = function(exercise(name).stub.replace("raise NotImplementedError", "return None"), name)
    assert "untouched" == check(name, nothing).verdict


@pytest.mark.parametrize("name", NAMES)
def test_task_hints_solution_and_reasoning_are_there_and_the_task_is_short(name):
    one = exercise(name)
    assert len(one.task.split()) <= 60
    assert 30 < len(one.hint(1)) < len(one.hint(2))
    assert one.function in one.stub
    assert f"def {one.function}(" in one.solution()
    assert one.answer not in one.stub
    assert len(one.reasoning) > 60
    assert one.answer.strip() in one.solution()._repr_mimebundle_()["text/plain"]


def test_each_exercise_has_ten_wrong_solutions():
    assert {} == {name: len(WRONG[name]) for name in NAMES if len(WRONG[name]) < 10}


@pytest.mark.parametrize(("name", "wrong"), EACH_WRONG)
def test_a_likely_mistake_is_told_its_case_and_its_reason(name, wrong):
    found = told(name, WRONG[name].index(wrong))
    assert "not yet" == found.verdict
    summary, first, given, *why = found.lines
    assert summary.startswith(f"Not yet: {found.passed} of {found.tried} cases hold. Tried: ")
    assert first.removeprefix("The first that fails: ").removesuffix(".") in summary
    assert given.startswith(f"Given: {exercise(name).function}(")
    assert wrong["says"] in why[-1]


ALSO_RIGHT = {
    "lost-ram": (  # one part for two pieces that meet inside the window
        "return found",
        "return [(found[0][0], found[-1][1])] if len(found) == 2 else found[::-1]",
    ),
    "same-group": ("return found", "return tuple(frozenset(group) for group in reversed(found))"),
    "in-the-way": ("return [device for device, driver in members.items() if driver not in quiet]",
                   "return {device for device, driver in members.items() if driver not in quiet}"),
    "first-refusal": ("return name, error.name", "return [name, error.name]"),
    "serves": ("[design for design in designs if design not in out]", "[design for design in reversed(designs) if design not in out]"),
    "who-leaves": ("[one for one in group if drivers[one] not in quiet]", "{one for one in group if drivers[one] not in quiet}"),
    "unsure": ("for device in group]", "for device in sorted(group)][::-1]"),
    "suspects": ("[rule for rule in broken if broken[rule]]",
                 "[rule for rule in ('alignment', 'width', 'reserved') if broken[rule]]"),
    "who-answers": ('call("choose without a group") == "ENODEV"', 'call("unmap half of a mapping") == "ENOENT"'),
}  # fmt: skip


@pytest.mark.parametrize("name", ALSO_RIGHT)
def test_an_answer_in_another_form_that_is_as_right_passes(name):
    found = check(name, function(learners(name, {"swap": ALSO_RIGHT[name]}), name))
    assert "solved" == found.verdict, str(found)


@pytest.mark.parametrize("name", NAMES)
def test_different_answers_get_different_words(name):
    words = defaultdict(set)
    for number in range(len(WRONG[name])):
        _, first, _, *came, why = told(name, number).lines
        words[why].add((first, *came))
    short = {why: answers for why, answers in words.items() if len(answers) > 1}
    assert {} == {why: answers for why, answers in short.items() if len({case for case, *_ in answers}) == 1 and "would do" not in why}


def test_an_error_in_the_learners_code_is_told_with_its_line():
    def layout(ranges, size):
        return [(0, size // len(ranges[5]))]

    found = check("layout", layout)
    line = layout.__code__.co_firstlineno + 1
    assert f"It raised IndexError: list index out of range (line {line}: return [(0, size // len(ranges[5]))])" == found.lines[-1]


def test_an_error_inside_the_kit_is_told_with_the_line_that_called_it():
    def call(_errno, space):
        space.map(0xFEE0_0000, "1M")

    found = check("map-errnos", call)
    assert "raised VfioError: EINVAL" in found.lines[-1]
    assert f'(line {call.__code__.co_firstlineno + 1}: space.map(0xFEE0_0000, "1M"))' in found.lines[-1]


@pytest.mark.parametrize(
    ("name", "ending"),
    [("acs-walk", "        bridge = parent(bridge)"), ("parse-info", "        at = number(at + 4, 4)\n"), ("layout", "")],
)
def test_a_loop_without_an_end_is_told_and_not_waited_for(name, ending):
    code = exercise(name).answer.replace(ending, "") if ending else "def layout(ranges, size):\n    while True:\n        pass\n"
    found = check(name, function(code, name))
    assert "not yet" == found.verdict
    assert f"EndlessError: {exercise(name).function} does not come to an end: 200,000 lines of it have run (line" in found.lines[-1]


def test_tracing_goes_on_as_before_a_check():
    seen = []
    before = sys.gettrace()
    watch = lambda *_: seen.append(1)
    sys.settrace(watch)
    try:
        check("layout", lambda _ranges, _size: [])
        after = sys.gettrace()
    finally:
        sys.settrace(before)
    assert watch is after


def test_what_a_learner_changes_in_the_arguments_does_not_reach_the_next_check():
    def containers(wishes, groups, widths):
        for given in (*wishes.values(), groups, widths):
            given.clear()
        return []

    check("few-containers", containers)
    assert "solved" == check("few-containers", function(exercise("few-containers").answer, "few-containers")).verdict


def test_a_built_in_function_is_told_what_it_raises():
    assert "It raised TypeError" in check("layout", max).lines[-1]


def test_a_function_with_other_arguments_is_told_both():
    found = check("layout", lambda _ranges: [])
    assert "The check passes 2 arguments, and yours is <lambda>(_ranges)" in found.lines[-1]


def test_what_is_no_function_and_what_is_no_exercise_are_refused():
    with pytest.raises(TypeError, match=r'takes the function itself: vl.check\("layout", layout\), not \[\]'):
        check("layout", [])
    with pytest.raises(ValueError, match="no exercise is called 'moon'; exercises: map-errnos, layout"):
        exercise("moon")
    with pytest.raises(ValueError, match="hints 1 and 2, not 3"):
        exercise("layout").hint(3)


@pytest.mark.parametrize(
    "rubbish",
    [7, -1, 2.5, "word", [], [None], {}, [[]], [[[]]], [{}], ([], "x"), object(), True, {"kernel": "moon"}],
    ids=lambda one: repr(one).partition(" at 0x")[0],
)
@pytest.mark.parametrize("name", NAMES)
def test_an_answer_of_any_form_is_judged_in_words(name, rubbish):
    found = check(name, lambda *_: rubbish)
    assert "not yet" == found.verdict
    assert found.lines[-2].startswith("Came: ")
    assert len(found.lines[-1].split()) >= 6


def test_a_page_shows_text_as_text():
    shown = check("layout", lambda *_: "<b>").__class__(exercise("layout"), "not yet", 1, 0, ("<b>",))._repr_mimebundle_()
    assert "&lt;b&gt;" in shown["text/html"]
    assert "<pre>" in exercise("layout")._repr_mimebundle_()["text/html"]


def test_every_machine_with_a_pci_tree_is_walked():
    found = check("acs-walk", function(exercise("acs-walk").answer, "acs-walk"))
    assert found.tried > 600
    for name in ("amd-vi-server", "intel-skylake-plx-switch", "radxa-orion-o6-arm64"):
        assert name in found.lines[0]
