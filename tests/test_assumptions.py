"""What the model takes for granted is a list that a reader can ask for."""

from __future__ import annotations

import vfiolab as vl


def test_each_assumption_says_what_where_and_why():
    table = vl.assumptions()
    assert ["what is assumed", "where it shows", "why"] == table.columns
    assert all(cell.strip() for row in table.rows for cell in row)
    assert len(table) == len({row[0] for row in table.rows})


def test_a_machine_with_assumed_units_says_so():
    assert any("the units were not recorded" in doubt for doubt in vl.load("amd-matisse-desktop").doubts)


def test_a_recorded_machine_has_no_assumed_units():
    assert not any("units" in doubt for doubt in vl.load("two-smmu-server").doubts)
