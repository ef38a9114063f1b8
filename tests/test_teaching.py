"""The instructor's guide: its sums are the counted minutes, its sections and questions are where it says, its files are not stale."""

import math
import re

import nbformat
import pytest
from tools import teaching
from tools.minutes import HEADING

from vfiolab._text import markup
from vfiolab.course import ask
from vfiolab.course.questions import questions
from vfiolab.course.words import html

PLAN = teaching.plan()
PROFILES = teaching.data()["profile"]
MISCONCEPTIONS = teaching.data()["misconception"]
GUIDE = teaching.guide()


def asked():
    """Say in which (notebook, section) each question is asked."""
    found = {}
    for path in teaching.notebooks_dir().glob("[0-9][0-9]-*.ipynb"):
        name = ""
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown" and (match := HEADING.match(cell.source)):
                name = match[1]
            found |= dict.fromkeys(re.findall(r"vl\.ask\(\"([\w-]+)\"\)", cell.source), (path.name[:2], name))
    return found


ASKED = asked()


@pytest.mark.parametrize("name", ["teaching.md", "votes.html", "slides.html"])
def test_the_stored_guide_and_form_are_as_the_data_and_the_notebooks_say(name, capsys):
    assert 0 == teaching.main(["--check"])
    assert f"{name}: as stored" in capsys.readouterr().out


def test_a_stale_guide_is_found_and_nothing_is_written(monkeypatch, capsys):
    before = (teaching.notebooks_dir() / "teaching.md").read_text(encoding="utf-8")
    monkeypatch.setattr(teaching, "guide", lambda: "fresh")
    assert 1 == teaching.main(["--check"])
    assert "teaching.md: stale; run python tests/tools/teaching.py" in capsys.readouterr().out
    assert before == (teaching.notebooks_dir() / "teaching.md").read_text(encoding="utf-8")


# The plan.


def lines(guide=GUIDE):
    """List the plan's rows as printed: start, minutes, counted, on top."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in guide.splitlines() if re.match(r"\| \d:\d\d ", line)]
    return [(row[0], int(row[1].strip("*")), row[4], row[5]) for row in rows]


def test_the_plan_fits_its_half_day_with_room_to_be_late():
    planned = sum(block.minutes for block in PLAN)
    assert teaching.data()["length"] - 30 <= planned <= teaching.data()["length"] - 5


@pytest.mark.parametrize("block", PLAN, ids=lambda block: block.title)
def test_a_part_of_the_plan_has_at_least_the_minutes_that_its_sections_are_counted_to_take(block):
    counted = sum(teaching.counts(number)[name].minutes for number, name in block.sections)
    assert math.ceil(counted) + sum(block.extra.values()) == block.minutes
    assert block.minutes >= counted
    assert block.extra != {}


def test_the_printed_rows_sum_up_to_the_printed_sum_and_each_begins_where_the_one_before_ends():
    *parts, end = lines()
    passed = 0
    for start, minutes, counted, extra in parts:
        assert teaching.clock(passed) == start
        assert minutes == (0 if counted == "-" else int(counted)) + sum(map(int, re.findall(r"(\d+)(?:,|$)", extra)))
        passed += minutes
    assert (teaching.clock(passed), passed) == end[:2]
    assert f"{teaching.data()['length']} minutes are there, and {passed} are planned." in GUIDE


def test_nobody_sits_for_more_than_ninety_minutes_without_a_break():
    stretches, now = [], 0
    for block in PLAN:
        now = 0 if block.title == "Break" else now + block.minutes
        stretches.append(now)
    assert max(stretches) <= 90
    assert 2 == sum(block.title == "Break" for block in PLAN)


def test_each_vote_of_the_plan_is_a_question_of_a_section_that_is_gone_through():
    gone_through = {place for block in PLAN for place in block.sections}
    assert [] == [vote for block in PLAN for vote in block.votes if ASKED[vote] not in gone_through]


# Learners and what they believe.


def test_there_are_four_learners_each_with_a_path_whose_minutes_are_counted():
    assert 4 == len(PROFILES)
    for one in PROFILES:
        path = teaching.chosen(one["path"])
        counted = sum(teaching.counts(number)[name].minutes for number, name in path)
        (line,) = [line for line in GUIDE.splitlines() if line.startswith(f"| **{one['who']}** ")]
        assert f"| {math.ceil(counted)} |" in line


@pytest.mark.parametrize("one", MISCONCEPTIONS, ids=lambda one: one["thinks"])
def test_a_misconception_is_broken_in_a_section_that_is_there_by_the_question_that_is_asked_there(one):
    number, start = one["section"]
    place = (number, teaching.heading(number, start))
    if "question" in one:
        assert place == ASKED[one["question"]]
    assert f"{place[1]} | {one['breaks']} |" in GUIDE


def test_most_misconceptions_have_a_vote():
    assert 15 <= len(MISCONCEPTIONS)
    assert sum("question" in one for one in MISCONCEPTIONS) >= 0.7 * len(MISCONCEPTIONS)


def test_a_section_that_is_not_there_is_answered_with_those_that_are():
    with pytest.raises(ValueError, match=r"notebook 03 has 0 sections that begin with '9\.'; it has: 03: Containers and domains, 1\. Five"):
        teaching.heading("03", "9.")


def test_a_start_that_fits_several_sections_is_refused():
    with pytest.raises(ValueError, match="notebook 00 has 0 sections that begin with 'x'"):
        teaching.heading("00", "x")
    with pytest.raises(ValueError, match=r"notebook 03 has \d+ sections that begin with ''"):
        teaching.heading("03", "")


# The page and the form.


def test_nothing_of_the_template_is_left_to_be_filled_in():
    assert "{{" not in GUIDE


def test_each_link_of_the_guide_leads_to_a_file():
    targets = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", GUIDE)
    assert len(targets) > 20
    assert [] == [target for target in targets if not (teaching.notebooks_dir() / target).is_file() and not target.startswith("../README")]


def test_each_place_in_trouble_has_what_is_known_and_what_to_do():
    table = GUIDE.partition("## When something does not work")[2]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ") and not line.startswith("| what happens")]
    assert 10 <= len(rows)
    assert [] == [row for row in rows if len(row) != 3 or not all(cell.strip() for cell in row)]
    for word in ("buttons", "kernel", "proxy", "Windows"):
        assert any(word in row[0] for row in rows)
    assert all("Not tried." in row[1] for row in rows if row[0].strip() in ("Windows", "macOS"))


@pytest.mark.parametrize("name", teaching.voted())
def test_the_form_has_each_vote_with_all_its_answers_and_tells_none(name):
    form, entry = teaching.form(), questions()[name]
    (part,) = [part for part in form.split("<section>") if f"{teaching.html(entry['question'])}</h2>" in part]
    assert len(entry["options"]) == part.count("<th scope=row>")
    assert teaching.html(entry["because"]) not in form


def test_the_form_needs_nothing_but_itself():
    assert [] == re.findall(r"\b(?:src|href)=|url\(|@import|<script|<link|https?:", teaching.form())


# The slides.

SLIDES = re.findall(r"<section>.*?</section>", teaching.slides(), re.DOTALL)


def test_each_part_of_the_plan_has_its_slide_with_what_to_say():
    titles = [slide for slide in SLIDES if "<h1>" in slide][1:]
    assert len(PLAN) == len(titles)
    for block, slide in zip(PLAN, titles, strict=True):
        assert markup(block.title) in slide
        assert html(block.say) in slide


def test_each_question_of_the_parts_has_a_slide_with_its_options_and_the_next_one_has_the_models_answer():
    sections = {place for block in PLAN for place in block.sections}
    wanted = {name for name, place in teaching.asked().items() if (place.number, place.section) in sections} | set(teaching.voted())
    asked_at = {name: number for number, slide in enumerate(SLIDES) for name in wanted if f"<h2>{html(ask(name).question)}</h2>" in slide}
    assert wanted == set(asked_at)
    for name, number in asked_at.items():
        guess = ask(name)
        assert len(guess.options) == SLIDES[number].count("<li>")
        assert html(guess.because) not in SLIDES[number]
        assert f"<h2>{markup(guess.word(guess.found[0]))}</h2><p>{html(guess.because)}</p>" in SLIDES[number + 1]


def test_each_picture_of_a_slide_has_words_for_who_cannot_see_it():
    pictures = re.findall(r"<figure .*?</figure>", "".join(SLIDES), re.DOTALL)
    assert len(pictures) >= 10
    assert [] == [picture[:80] for picture in pictures if not re.search(r'<img alt="[^"]{20,}"', picture)]


def test_a_text_before_a_question_is_spoken_without_links_and_signs():
    assert "an IOMMU and a * b" == teaching.spoken('## Head\n\nan [IOMMU](x.md "y") and **a** * *b*')
