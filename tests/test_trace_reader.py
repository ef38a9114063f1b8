"""Traces: operations and answers are apart from the first line on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfiolab.readers.errors import InputError
from vfiolab.readers.trace import Operation, questions, read_trace


def test_an_operation_is_its_word_names_and_arguments():
    scenario, = read_trace('## one\nmap A iova=0x1000 size=-1 flags=rw -> EINVAL {"why":"x"}\n')  # fmt: skip
    assert (
        Operation("map A iova=0x1000 size=-1 flags=rw", 2, "map", ("A",), {"iova": "0x1000", "size": "-1", "flags": "rw"})
        == scenario.operations[0]
    )
    assert ("EINVAL", {"why": "x"}) == (scenario.answers[0].result, scenario.answers[0].output)


def test_events_belong_to_the_operation_above():
    scenario, = read_trace("## one\nset_iommu A type=3 -> 0\n    alloc D1\n    attach D1 11 0\n\nget_info A -> 0\n")  # fmt: skip
    assert [["alloc D1", "attach D1 11 0"], []] == [answer.events for answer in scenario.answers]


@pytest.mark.parametrize("line", ["open_container A", "open_container A -> ?", "open_container A ->"])
def test_without_an_answer_an_operation_can_still_be_run(line):
    scenario, = read_trace(f"## one\n{line}\n")  # fmt: skip
    assert [None] == scenario.answers
    assert "open_container" == scenario.operations[0].verb


@pytest.mark.parametrize(
    ("word", "result"), [("skipped", "skipped"), ("crash", "crash"), ("-1", "-1"), ("EADDRINUSE", "EADDRINUSE"), ("16", "16")]
)
def test_every_kind_of_result_is_read(word, result):
    scenario, = read_trace(f"## one\nclose A -> {word}\n")  # fmt: skip
    assert result == scenario.answers[0].result


def test_comments_and_empty_lines_say_nothing():
    assert 1 == len(read_trace("# about\n\n## one\n# inside\nclose A -> 0\n\n")[0].operations)


def test_a_question_holds_nothing_of_its_answer():
    asked, answered = (questions(read_trace(f"## one\nget_info A{end}\n")) for end in ("", ' -> 0 {"flags":3}\n    alloc D1'))
    assert asked == answered


@given(st.text(alphabet=' #->{}"=:[]\n@0x1AEmap_ ?', max_size=80))
def test_any_text_is_a_trace_or_a_clear_error(text):
    try:
        read_trace(text)
    except InputError as error:
        assert error.line is not None  # noqa: PT017 # whichever of the two it is
