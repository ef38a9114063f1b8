"""The eight questions about groups (notebooks/group-questions.md): each row's command and plan are run, and say what answers it."""

import re
import shlex

import nbformat
import pytest
from tools import notebooks

from vfiolab.__main__ import main

TABLE = notebooks.NOTEBOOKS / "group-questions.md"
#: What the command and the plan of each row must say, so that the question is answered.
SAID = {
    1: (["0f:00.1 joins 0f:00.0", "multifunction without an ACS capability"],
        ["Goes along:\n  0f:00.1", "group 24 is not viable", "vfio_take 0000:0f:00.1"]),
    2: (["25 groups, 41 devices: before", "33 groups, 41 devices: after", "No isolation, though in two groups"],
        ["splits the group in name only"]),
    3: (["no IOMMU was in use when this was taken", "turn it on in the firmware; Intel also needs intel_iommu=on"], []),
    4: (["0f:00.1"], ["Goes along:\n  0f:00.1", "without the rest of the group"]),
    5: (["00:06.0"], ["May stay:\n  00:06.0", "A bridge on pcieport does not stand in the way, and vfio-pci refuses bridges"]),
    6: (["merged: 00:0c.0 | 10:00.0 | 10:00.1 | 10:00.2", "because 00:0c.0 fails the ACS test now"], ["Goes along:\n  nothing else"]),
    7: (["ids=8086:10d3 of vfio-pci takes them all, driver_override takes 01:00.0 alone"],
        ["driver_override takes 01:00.0 alone", "vfio_take 0000:01:00.0"]),
    8: (["split:", "2a:00.0 is below 00:01.1 now (before: 03:09.0)"], ["in a slot below 00:01.1 (01:00.0 is there now)"]),
}  # fmt: skip


def rows():
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d ", line)]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
    monkeypatch.chdir(TABLE.parents[1])


def answer(command, capsys):
    assert main(shlex.split(command)[1:]) in (0, None)
    return capsys.readouterr().out


def test_all_eight_are_there_in_order():
    assert [str(number) for number in range(1, 9)] == [row[0] for row in rows()]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_command_and_the_plan_of_a_question_answer_it(row, capsys):
    by_command, by_plan = SAID[int(row[0])]
    said = answer(row[3].strip("`"), capsys)
    assert [] == [words for words in by_command if words not in said]
    if by_plan:
        planned = answer(row[4].strip("`"), capsys)
        assert [] == [words for words in by_plan if words not in planned]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_the_cell_of_a_question_is_there(row):
    name, cell = re.search(r"\]\(([\w-]+\.ipynb)#cell-id=([\w-]+)\)", row[2]).groups()
    assert cell in {found["id"] for found in nbformat.read(notebooks.NOTEBOOKS / name, 4).cells}


def test_where_there_is_no_group_the_cell_refuses_with_the_switches_to_turn():
    cells = nbformat.read(notebooks.NOTEBOOKS / "02-groups-and-viability.ipynb", 4).cells
    shown = next(cell for cell in cells if cell["id"] == "none").outputs[0].data["text/plain"]
    assert shown.startswith("EINVAL")
    assert "turn the IOMMU on (intel_iommu=on and the firmware's setting)" in shown
