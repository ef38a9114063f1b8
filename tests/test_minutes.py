"""How long a notebook takes: counted by one pace, and printed honestly."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from tools import minutes
from tools.minutes import Count, total

PICTURE = new_output("display_data", {"text/html": '<img alt="a map" src="x">', "text/plain": "a map"})


@pytest.fixture
def notebook(tmp_path):
    def write(*cells):
        path = tmp_path / "a.ipynb"
        path.write_text(nbformat.writes(new_notebook(cells=list(cells))), encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("path", minutes.timed(), ids=lambda path: path.stem)
def test_the_printed_time_is_within_the_margin_of_the_counted_one(path):
    read, written = minutes.printed(path)
    assert read == pytest.approx(minutes.counted(path).minutes, abs=minutes.MARGIN)
    assert written == pytest.approx(minutes.exercises(path).minutes, abs=minutes.MARGIN)


@pytest.mark.parametrize("path", minutes.timed(), ids=lambda path: path.stem)
def test_each_notebook_has_two_exercises(path):
    assert 2 <= minutes.exercises(path).exercises


def test_words_are_counted_as_they_are_read_without_the_targets_of_links():
    assert Count(words=4) == minutes.prose("See [the other page](03-containers-and-domains.ipynb).")


def test_a_picture_of_a_text_counts_as_a_picture_and_its_alternative_text_is_not_read():
    assert Count(words=2, pictures=1) == minutes.prose("Look here: ![a map with many words](x.svg)")


def test_a_word_with_dots_colons_or_slashes_is_one_word():
    assert Count(words=4) == minutes.prose("0000:21:00.0 and `/dev/vfio/vfio` - 0x800_0000")


def test_a_code_cell_counts_what_it_asks_and_what_it_shows():
    assert Count(cells=1) == minutes.code(new_code_cell("1"))
    assert Count(cells=1, questions=1) == minutes.code(new_code_cell("a = vl.ask('two-units')"))
    assert Count(cells=1, pictures=1) == minutes.code(new_code_cell("space", outputs=[PICTURE, PICTURE]))
    assert Count(cells=1, exercises=1) == minutes.code(new_code_cell("vl.check('errnos', call)"))


def test_the_pace_is_170_words_a_minute_25_seconds_a_cell_40_a_question_and_50_a_picture():
    assert 1 == Count(words=170).minutes
    assert [25, 40, 50, 240] == [round(60 * Count(**{kind: 1}).minutes) for kind in ("cells", "questions", "pictures", "exercises")]


def test_a_section_begins_with_its_heading_and_the_title_is_the_first(notebook):
    path = notebook(
        new_markdown_cell("# A title\n\n**Time:** 12 minutes, and 5 for the exercises."),
        new_code_cell("1"),
        new_markdown_cell("## 1. Here"),
        new_code_cell("2"),
    )
    assert {"A title": Count(words=10, cells=1), "1. Here": Count(words=2, cells=1)} == minutes.sections(path)
    assert (12, 5) == minutes.printed(path)


@pytest.mark.parametrize("path", minutes.timed(), ids=lambda path: path.stem)
def test_the_sections_of_a_notebook_sum_up_to_the_notebook(path):
    cells = nbformat.read(path, 4).cells
    both = total((minutes.counted(path), minutes.exercises(path)))
    assert sum(cell.cell_type == "code" for cell in cells) == both.cells
    assert both.minutes == pytest.approx(sum(count.minutes for count in minutes.sections(path).values()))


def test_a_notebook_that_prints_no_time_has_none(notebook):
    assert minutes.printed(notebook(new_markdown_cell("# A title"))) is None


def test_the_tool_prints_a_line_for_each_section_and_the_difference(notebook, capsys):
    path = notebook(new_markdown_cell("# A title\n\n**Time:** 12 minutes, and 5 for the exercises."), new_code_cell("1"))
    assert 0 == minutes.main(["--sections", str(path)])
    head, section, line, written, whole, _ = capsys.readouterr().out.splitlines()
    assert ["words", "cells", "questions", "pictures", "exercises", "minutes", "printed", "differ"] == head.split()
    assert ["A", "title", "10", "1", "0", "0", "0", "0.5"] == section.split()
    assert ["a", "10", "1", "0", "0", "0", "0.5", "12", "+11.5"] == line.split()
    assert ["its", "exercises", "0", "0", "0", "0", "0", "0.0", "5", "+5.0"] == written.split()
    assert ["all", "10", "1", "0", "0", "0", "0.5", "12"] == whole.split()
