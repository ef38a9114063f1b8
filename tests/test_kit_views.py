"""What an address space and a host show of themselves in a notebook."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import vfiolab as vl


@pytest.fixture
def space():
    space = vl.load("two-smmu-server").address_space()
    space.attach("0000:01:00.0")
    return space


def test_a_table_of_some_columns_is_a_table(space):
    space.map(0x4000_0000, "1G", name="RAM")
    assert (["name", "size"], [["RAM", "1 GiB"]]) == (space.mappings[["name", "size"]].columns, space.mappings[["name", "size"]].rows)


def test_what_changed_is_told_under_the_last_call_that_did_something(space):
    space.attach("0000:21:00.0")
    before = space.look()
    space.detach("0000:21:00.0")
    assert "close_group" == space.log.calls[-1].verb
    assert "UNSET_CONTAINER group 10 → 0" == space.changed(before).title


def test_a_refused_call_is_what_changed_even_if_nothing_did(space):
    before = space.look()
    with pytest.raises(vl.VfioError):
        space.map(0x800_0000, "1M")
    assert space.changed(before).title.endswith("→ EINVAL")


def test_the_mates_of_a_device_are_its_whole_group_with_names_and_drivers():
    desktop = vl.load("amd-matisse-desktop")
    mates = desktop.mates("0000:2a:00.0")
    assert list(desktop.group_of("0000:2a:00.0").devices) == [row["device"] for row in mates]
    assert "Realtek" in mates[-1]["what it is"]
    assert "8086:10d3" == vl.load("two-smmu-server").mates("0000:01:00.0")[0]["what it is"]


def test_a_refusal_in_a_cell_shows_its_case_instead_of_the_models_frames(space):
    with pytest.raises(vl.VfioError) as refused:
        space.map(0x800_0000, "1M")
    lines = refused.value._render_traceback_()
    assert ['space.map(0x800_0000, "1M")', "EINVAL (Invalid argument)"] == [lines[0].partition(": ")[2], lines[1]]
    assert not any("vfiolab/" in line or "Traceback" in line for line in lines)


def test_a_refusal_in_a_notebook_names_the_line_of_the_cell():
    shell = InteractiveShell.instance()
    define = 'import vfiolab as vl\nspace = vl.load("two-smmu-server").address_space()\n'
    cell = define + 'def far():\n    space.map(0x800_0000, "1M")\nspace.attach("0000:01:00.0")\nfar()'
    with capture_output() as output:
        shell.run_cell(cell)
    lines = output.stdout.splitlines()
    assert ["line 6: far()", 'line 4, in far: space.map(0x800_0000, "1M")', "EINVAL (Invalid argument)"] == lines[:3]
