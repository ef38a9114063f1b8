"""What an address space and a host show of themselves in a notebook."""

import re
import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

import vfiolab as vl
from vfiolab._lazy import library


@pytest.fixture
def space():
    space = vl.load("two-smmu-server").address_space()
    space.attach("0000:01:00.0")
    return space


def test_a_table_of_some_columns_is_a_table(space):
    space.map(0x4000_0000, "1G", name="RAM")
    assert (["name", "size"], [["RAM", 1 << 30]]) == (space.mappings[["name", "size"]].columns, space.mappings[["name", "size"]].rows)


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
    assert "Ethernet, 8086:10d3" == vl.load("two-smmu-server").mates("0000:01:00.0")[0]["what it is"]


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


# tables hold values


def test_addresses_and_sizes_in_a_table_are_numbers_and_are_written_as_people_write_them(space):
    space.map(0x4000_0000, "1G", name="RAM")
    space.map(0x8000_0000, "64K")
    assert [1 << 30, 64 << 10] == space.mappings["size"]
    assert {"start": 0x4000_0000, "end": 0x7FFF_FFFF, "size": 1 << 30, "rights": "rw", "name": "RAM"} == space.mappings[0]
    assert "0x4000_0000  0x7fff_ffff  1 GiB   rw      RAM" == repr(space.mappings).splitlines()[1]
    assert '<td style="text-align:left">1 GiB</td>' in space.mappings._repr_html_()


def test_a_frame_of_a_table_counts(space):
    space.map(0x4000_0000, "1G")
    space.map(0x8000_0000, "1G")
    frame = space.mappings.frame()
    assert 2 << 30 == frame["size"].sum()
    assert ["int64", "int64", "int64"] == [str(frame.dtypes[name]) for name in ("start", "end", "size")]


MISSING = {
    "pandas": (lambda space: space.mappings.frame(), "(pip install pandas); without it, table.columns and table.rows"),
    "matplotlib": (vl.plot, '(pip install matplotlib); without it, a picture shows itself in a cell, and picture.save("map.svg")'),
}


@pytest.mark.parametrize("library", MISSING)
def test_a_view_whose_library_is_missing_says_how_to_get_it_and_what_serves_instead(space, library, monkeypatch):
    view, advice = MISSING[library]
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [])  # no finder finds anything
    with pytest.raises(ModuleNotFoundError, match=re.escape(f"this needs {library} {advice}")):
        view(space)


def test_a_part_that_a_library_itself_misses_is_named_as_it_is():
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'json\.nowhere'$"):
        library("json.nowhere", "")


def test_a_slice_of_a_table_is_a_table_with_the_same_columns(space):
    for page in range(4):
        space.map(page << 16, "64K")
    assert [0x10000, 0x20000] == space.mappings[1:3]["start"]
    assert space.mappings.columns == space.mappings[:0].columns
    assert 0x30000 == space.mappings[-1]["start"]


def test_a_column_that_is_not_there_is_named_with_those_that_are(space):
    for wrong in ("iova", ["size", "iova"]):
        with pytest.raises(KeyError, match="no column is called 'iova'; columns: start, end, size, rights, name"):
            space.mappings[wrong]


# short addresses


def test_every_verb_takes_the_address_of_a_device_as_lspci_writes_it():
    space = vl.load("two-smmu-server").address_space()
    space.attach("1:00.0", "21:00.0")
    assert (8, 10) == space.groups
    space.enable_msi("21:00.0")
    assert space.open("0000:21:00.0") is space.open("21:00.0")
    space.map(0x4000_0000, "1M")
    assert "memory" == space.dma_write("21:00.0", 0x4000_0000).outcome
    assert "memory" == space.dma_read("21:00.0", 0x4000_0000).outcome
    assert "delivered" == space.raise_msi("21:00.0").outcome
    assert ["0000:21:00.0"] == space.messages["device"]
    space.detach("21:00.0")
    host = space.host
    assert 10 == host.group_of("21:00.0").id
    assert space.host.mates("21:00.0").rows == host.mates("0000:21:00.0").rows
    host.unbind("21:00.0")
    host.bind("21:00.0", "vfio-pci")


@pytest.mark.parametrize("wrong", ["77:00.0", "nonsense", ""])
def test_an_address_that_is_none_is_named_as_it_was_written(space, wrong):
    with pytest.raises(vl.VfioError, match=f"ENOENT: there is no device {wrong} on"):
        space.attach(wrong)


# one line each


@pytest.mark.parametrize("name", vl.machines())
def test_each_object_of_a_host_is_one_short_line_that_does_not_depend_on_the_order_of_a_set(name):
    host = vl.load(name)
    assert f"Machine({name!r}, {len(host.machine.topology)} functions, {len(host.units)} IOMMU units)" == repr(host.machine)
    for unit in host.units:
        assert repr(unit).startswith(f"IommuUnit({unit.name!r}, {unit.kind}")
        assert repr(unit).endswith(f"{len(unit.devices)} devices)")


def test_an_answer_alone_in_a_cell_is_the_whole_case_and_beside_others_a_line():
    from IPython.core.formatters import DisplayFormatter

    from vfiolab.course import answer

    space = vl.load("two-smmu-server").address_space()
    space.attach("0000:01:00.0")
    done, refused = answer(space.map, 0x4000_0000, "1G"), answer(space.map, 0x800_0000, "1M")
    shown, _ = DisplayFormatter().format(refused)
    assert refused.error.explain() == shown["text/plain"]
    assert "× the range lies inside one usable iova range (does not hold)" in shown["text/html"]
    assert set() == set("✓✗") & set(shown["text/html"])  # signs that not every font has
    assert {"text/plain": "0"} == DisplayFormatter().format(done)[0]
    assert re.match(r"\[0,\s+EINVAL: 0x800_0000-", DisplayFormatter().format([done, refused])[0]["text/plain"])
