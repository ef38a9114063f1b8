"""An app's click is one public verb, kept as the code that does the same."""

import pytest

import vfiolab as vl
from vfiolab.lab.choices import Run

FIRST, SECOND = "0000:01:00.0", "0000:21:00.0"


@pytest.fixture
def session():
    return Run("vl.load", "two-smmu-server")


def test_a_step_is_the_verb_as_one_would_type_it(session):
    session.do("space.attach", FIRST)
    assert 'space.map(0x4000_0000, "1G", name="guest RAM")' == session.do("space.map", 0x4000_0000, "1G", name="guest RAM").code


def test_a_step_does_what_it_says(session):
    session.do("space.attach", FIRST)
    assert [FIRST] == [device for group in session.space.domains[0].groups for device in group.devices]


def test_a_refusal_is_kept_and_changes_nothing(session):
    session.do("space.attach", FIRST)
    before = session.space.mappings.rows
    step = session.do("space.map", 0x800_0000, "1M")
    assert "EINVAL" == step.reason
    assert isinstance(step.refused, vl.VfioError)
    assert before == session.space.mappings.rows


def test_words_that_are_no_size_are_a_refusal_too(session):
    session.do("space.attach", FIRST)
    assert "ValueError" == session.do("space.map", "many", "1M").reason


def test_a_mistake_of_ours_is_no_refusal(session):
    with pytest.raises(AttributeError):
        session.do("space.fly")


def test_the_code_of_a_session_gives_the_same_state_when_it_is_run(session):
    session.do("space.attach", FIRST)
    session.do("space.map", 0x4000_0000, "1G", name="guest RAM")
    session.do("space.attach", SECOND)
    again = {}
    exec(session.code, again)
    assert str(session.space.transcript()) == str(again["space"].transcript())
    assert repr(session.space) == repr(again["space"])


def test_a_refused_line_says_so_behind_it(session):
    session.do("space.attach", FIRST)
    session.do("space.map", 0x800_0000, "1M")
    assert 'space.map(0x800_0000, "1M")  # refused: EINVAL' == session.code.splitlines()[-1]


def test_the_events_are_those_of_the_last_step(session):
    session.do("space.attach", FIRST)
    session.do("space.map", 0x4000_0000, "4K")
    assert ["map"] == [event.kind for event in session.events]
