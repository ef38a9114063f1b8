"""Progress: kept in the file that `vfiolab lab` names, nowhere else, and shown at the start of each notebook."""

import json

import pytest

import vfiolab as vl
from vfiolab.course.progress import VARIABLE, tasks
from vfiolab.lab import launch


@pytest.fixture
def kept(tmp_path, monkeypatch):
    file = tmp_path / "progress.jsonl"
    monkeypatch.setenv(VARIABLE, str(file))
    return file


def entry(kind, name, good):
    return json.dumps({"kind": kind, "name": name, "good": good}) + "\n"


def questions(notebook):
    return [name for kind, name in tasks()[notebook] if kind == "question"]


def test_without_a_named_file_nothing_is_kept_and_it_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vl.check("layout", lambda *_: [(0, 4096)])
    assert [] == list(tmp_path.iterdir())
    assert "here nothing is kept" in repr(vl.progress("03"))


def test_a_try_of_an_exercise_is_kept_and_the_stub_is_none(kept):
    def layout(ranges, size):
        raise NotImplementedError

    vl.check("layout", layout)
    assert not kept.exists()
    vl.check("layout", lambda *_: [(0, 4096)])
    assert entry("exercise", "layout", good=False) == kept.read_text(encoding="utf-8")


def test_an_answer_of_a_question_is_kept_once_and_one_of_a_twin_is_not(kept):
    asked = vl.ask("two-units")
    asked.choose(1)
    asked.choose(1)
    asked.twin().choose(1)
    vl.ask("equal-units").choose(1)
    assert entry("question", "two-units", good=False) + entry("question", "equal-units", good=True) == kept.read_text(encoding="utf-8")


def test_of_each_question_the_first_answer_counts_and_of_each_exercise_the_best_try(kept):
    one, two, *_ = questions("03")
    exercise = next(name for kind, name in tasks()["03"] if kind == "exercise")
    tries = [("question", one, True), ("question", two, False), ("question", two, True)]
    tries += [("exercise", exercise, good) for good in (False, True, False)]
    kept.write_text("".join(entry(*one) for one in tries), encoding="utf-8")
    found = vl.progress("03")
    assert (2, 1, 1) == (found.answered, found.right, found.solved)


def test_the_code_names_the_notebook_what_is_next_and_how_it_went(kept):
    names = questions("00")
    kept.write_text("".join(entry("question", name, good) for name, good in zip(names, (True, False), strict=False)), encoding="utf-8")
    assert "00-q3-1of2-0" == vl.progress("00").code
    kept.write_text("".join(entry(*task, good=True) for task in tasks()["00"]), encoding="utf-8")
    assert vl.progress("00").code.startswith("00-end-")


def test_a_line_of_another_form_is_told_and_left_out(kept):
    kept.write_text(
        'not json\n["list"]\n{"kind": "question", "name": 3, "good": true}\n' + entry("question", questions("00")[0], good=True)
    )
    with pytest.warns(UserWarning, match="line [123] of .* is left out") as told:
        assert 1 == vl.progress("00").answered
    assert 3 == len(told)


def test_a_file_that_cannot_be_written_is_told_and_the_answer_comes_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no" / "such" / "folder"))
    with pytest.warns(UserWarning, match="your progress is not kept"):
        assert "not yet" == vl.check("layout", lambda *_: [(0, 4096)]).verdict


def test_all_notebooks_are_a_table(kept):
    kept.write_text(entry("question", questions("03")[0], good=True))
    table = vl.progress()
    assert list(tasks()) == table["notebook"]
    assert 1 == sum(table["answered"])


def test_an_unknown_notebook_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="there is no notebook '99': 00, 01"):
        vl.progress("99")


def test_the_lab_names_a_file_beside_the_learners_copy_and_leaves_one_that_is_named_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(launch, "run", lambda _: 0)
    monkeypatch.setattr(launch, "find_spec", lambda _: True)
    monkeypatch.setenv(VARIABLE, "so that it is taken back")
    monkeypatch.delenv(VARIABLE)
    launch.main([])
    assert str(tmp_path / launch.COPY / "progress.jsonl") == launch.os.environ[VARIABLE]
    monkeypatch.setenv(VARIABLE, "mine")
    monkeypatch.chdir(tmp_path)
    launch.main([])
    assert "mine" == launch.os.environ[VARIABLE]
