"""The questions that people ask, and the commands that answer them: the table is notebooks/questions.md."""

from __future__ import annotations

import json
import re
import shlex

import nbformat
import pytest
from tools import notebooks

from vfiolab.__main__ import main
from vfiolab.detective.families import families

TABLE = notebooks.NOTEBOOKS / "questions.md"
#: What the answer of a command holds that is no `vfiolab explain`.
SAYS = {
    2: "no ACS capability",
    4: "Goes along:\n  06:00.0",
    5: "A bridge on pcieport does not stand in the way",
    6: "is in group 26, alone",
    8: "group 30   41:00.0",
    12: "two users, a device each",
    25: "0x800_0000-0x80f_ffff software MSI window",
}


def table():
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ ", line)]
    return [re.fullmatch(r"\| (\d+) \| (.+?) \| `(vfiolab .+)` \| ?(.*?) ?\|", line).groups() for line in lines]


ROWS = table()


def test_the_31_questions_have_their_rows_in_order():
    assert [str(number) for number in range(1, 32)] == [row[0] for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_command_of_a_question_answers_it(row, capsys):
    number, words = int(row[0]), shlex.split(row[2])
    if words[1] == "explain":
        assert 0 == main([*words[1:], "--json"])
        found = json.loads(capsys.readouterr().out)
        assert number == found["question"]
        assert found["cause"] or found["candidates"]
        assert found["fix"]
    else:
        assert 0 == main(words[1:])
        assert SAYS[number] in capsys.readouterr().out


@pytest.mark.parametrize("row", [row for row in ROWS if row[3]], ids=lambda row: row[0])
def test_a_link_leads_to_a_cell(row):
    for name, cell in re.findall(r"\]\(([\w-]+\.ipynb)#cell-id=([\w-]+)\)", row[3]):
        book = nbformat.read(notebooks.NOTEBOOKS / name, 4)
        assert cell in {one.id for one in book.cells if one.cell_type == "code"}, f"{name} has no such cell"


def test_every_question_that_a_line_can_raise_has_a_family():
    asked = {example.get("question") for family in families() for example in family.data["examples"]}
    assert set(range(1, 32)) - asked == {12, 25}  # how many containers, and where a message goes: nobody prints a line of those
