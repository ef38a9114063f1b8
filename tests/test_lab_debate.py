"""The debate lab and the twin lab: what is chosen is run anew, and the words and pictures are the run's."""

import pytest

import vfiolab as vl
from vfiolab.course.twins import TWIN_CALLS, carry_out_twins
from vfiolab.lab import DebateLab, TwinLab
from vfiolab.lab.debate import TITLES, CellRun, TwinRun
from vfiolab.proposals import PROPOSALS, SCENARIOS


def click(buttons, option):
    """Do what the browser does: send the chosen index as a comm message."""
    data = {"method": "update", "state": {"index": buttons.options.index(option)}, "buffer_paths": []}
    buttons._handle_msg({"content": {"data": data}, "buffers": []})


def test_each_design_and_each_situation_has_a_button():
    lab = DebateLab()
    assert tuple(PROPOSALS) == tuple(TITLES[title] for title in lab.controls["proposal"].options)
    assert tuple(SCENARIOS) == lab.controls["scenario"].options


def test_a_click_runs_the_other_cell_and_says_what_was_wanted_and_what_came():
    lab = DebateLab()
    assert "P7 on arm-its: delivered" in lab.status.value
    click(lab.controls["scenario"], "hot-add")
    assert "EINVAL set_container" in lab.status.value
    assert 'role="alert"' in lab.status.value
    click(lab.controls["proposal"], "P6: the user registers a window")
    assert "P6 on hot-add: delivered" in lab.status.value
    assert "Wanted: to keep its RAM, and the interrupt." in lab.status.value
    assert 'role="status"' in lab.status.value
    click(lab.controls["scenario"], "many-doorbells")
    assert "ENOSPC set_irqs" in lab.status.value


@pytest.mark.parametrize(("title", "scenario", "shows"), [
    ("P7: what landed (4.11, 5.4)", "arm-its", "raises vector 0: delivered"),
    ("P7: what landed (4.11, 5.4)", "hot-add", "without a domain"),
])  # fmt: skip
def test_the_picture_is_the_journey_or_the_map_with_what_was_refused(title, scenario, shows):
    assert shows in CellRun(title, scenario).pictures[0].alt


def test_the_code_of_a_cell_gives_the_cell():
    run = CellRun("P4: idea 3: the raw domain", "two-domains")
    assert run.cell == eval(run.code, {"vl": vl})


@pytest.mark.parametrize("words", TWIN_CALLS)
def test_twins_answer_as_the_table_says_and_the_code_can_be_typed(words):
    spaces, answers = carry_out_twins("6.12", words)
    assert ["type1", "iommufd-compat"] == [space.host.machine.vfio for space in spaces]
    row = next(row for row in vl.course.twin_answers("6.12") if row["call"] == words)
    assert [row["type1"], row["iommufd's layer"]] == [str(said) for said in answers]
    run = TwinRun(words)
    refused = [said.error is not None for said in answers]
    if any(refused):
        with pytest.raises(vl.VfioError):
            exec(run.code, {"vl": vl})
    else:
        exec(run.code, {"vl": vl})
    assert any(refused) == (run.refused is not None)


def test_the_twin_lab_shows_both_maps():
    lab = TwinLab()
    assert 2 <= lab.picture.value.count("<svg")
    click(lab.controls["call"], "choose without a group")
    assert "type1: EINVAL" in lab.status.value
    assert "iommufd&#x27;s layer: ENODEV" in lab.status.value or "iommufd's layer: ENODEV" in lab.status.value
