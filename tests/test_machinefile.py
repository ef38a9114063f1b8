"""Machine files: what is there is read, and what does not fit is named with its line and field."""

import json

import pytest
from recorded import TRACES

from vfiolab.kit import load, machines
from vfiolab.model.address import Span
from vfiolab.model.kernel import Kernel
from vfiolab.readers.errors import InputError
from vfiolab.readers.machinefile import read_machine, read_machine_file

SMALL = {
    "name": "small",
    "kernel": "6.12",
    "interrupts": {"controller": "gicv3-its", "doorbell": "0x8090040"},
    "units": [
        {"name": "smmu0", "kind": "arm-smmu-v3", "devices": ["0000:01:00.0"], "aperture": ["0x0", "0xffffffffff"], "page_sizes": 0x201000},
    ],
    "groups": [{"id": 7, "devices": ["0000:01:00.0"], "reserved": [["0x8000000", "0x80fffff", "msi"]]}],
    "groups_from": "recorded",
    "devices": [{"bdf": "0000:01:00.0", "kind": "endpoint", "driver": "vfio-pci", "msi": 1}],
    "page_size": 4096,
    "memlock": 65536,
    "params": {"vfio_iommu_type1.dma_entry_limit": "8"},
    "arena": {"base": "0x1000000", "size": "0x100000", "ro_base": "0x2000000", "ro_size": "0x1000"},
}  # fmt: skip


def text(**changes):
    return json.dumps(SMALL | changes, indent=1)


def test_each_field_has_its_place():
    machine = read_machine(text())
    unit = machine.units[0]
    assert ("small", "6.12", 4096, 65536) == (machine.name, machine.kernel, machine.page_size, machine.memlock)
    assert ("gicv3-its", 0x8090040) == (machine.interrupts.kind, machine.interrupts.doorbell)
    assert (40, 0x201000) == (unit.width, unit.page_sizes)
    assert Span(0, 1 << 40) == unit.aperture(Kernel("6.12"))
    assert "8" == machine.params["vfio_iommu_type1.dma_entry_limit"]
    assert (0x1000000, 0x1000) == (machine.arena.base, machine.arena.ro_size)
    assert [7] == [group.id for group in machine.host().groups]


def test_the_software_window_is_told_from_a_hardware_one_by_its_unit():
    assert ["sw-msi"] == [region.kind for region in read_machine(text()).groups[0].regions]
    vtd = [SMALL["units"][0] | {"kind": "intel-vtd"}]
    assert ["msi"] == [region.kind for region in read_machine(text(units=vtd)).groups[0].regions]


def test_no_limit_of_locked_memory_is_null_or_minus_one():
    assert [None, None] == [read_machine(text(memlock=value)).memlock for value in (None, -1)]


def unit(**changes):
    return {"units": [SMALL["units"][0] | changes]}


def device(**changes):
    return {"devices": [SMALL["devices"][0] | changes]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kernel": "newest"}, "kernel"),
        ({"vfio": "type2"}, "vfio"),
        ({"groups_from": "guess"}, "groups_from"),
        ({"page_size": 3000}, "page_size"),
        ({"page_size": "many"}, "page_size"),
        ({"memlock": "much"}, "memlock"),
        ({"interrupts": {"controller": "apic"}}, "interrupts"),
        ({"interrupts": {"controller": "gicv2m", "doorbell": "x"}}, "interrupts.doorbell"),
        ({"arena": {"base": "x"}}, "arena.base"),
        (unit(kind="vtd"), "units[0].kind"),
        (unit(aperture=["0x1000", "0x0"]), "units[0].aperture"),
        (unit(aperture="all"), "units[0].aperture"),
        (unit(page_sizes="4K"), "units[0].page_sizes"),
        (unit(width=[]), "units[0].width"),
        ({"groups": [{"id": "x", "devices": ["0000:01:00.0"]}]}, "groups[0].id"),
        ({"groups": [{"id": 0, "devices": ["0000:01:00.0"], "reserved": [["0x0", "0xfff", "soft"]]}]}, "groups[0].reserved[0][2]"),
        ({"groups": [{"id": 0, "devices": ["0000:01:00.0"], "reserved": [["0x0", "0xfff"]]}]}, "groups[0].reserved[0]"),
        ({"groups": [{"id": 0}]}, "groups[0].devices"),
        ({"groups": [{"id": 0, "devices": []}]}, "groups[0].devices"),
        ({"groups": [{"id": -1, "devices": ["0000:01:00.0"]}]}, "groups[0].id"),
        ({"groups": [{"id": 3, "devices": ["0000:01:00.0"]}, {"id": 3, "devices": ["0000:02:00.0"]}]}, "groups[1].id"),
        ({"groups": [{"id": n, "devices": ["0000:01:00.0"]} for n in (0, 1)]}, "groups[1].devices[0]"),
        ({"groups": [{"id": 0, "devices": ["0000:01:00.0"], "reserved": 5}]}, "groups[0].reserved"),
        ({"units": [SMALL["units"][0], SMALL["units"][0] | {"width": 200}]}, "units[1].width"),
        (unit(stage="two"), "units[0].stage"),
        (unit(stage=3), "units[0].stage"),
        (unit(page_sizes=-4096), "units[0].page_sizes"),
        (unit(stage2_bits=[]), "units[0].stage2_bits"),
        (unit(snoop_control="no"), "units[0].snoop_control"),
        (unit(hardware_msi=["0x0", 1 << 70]), "units[0].hardware_msi[1]"),
        (unit(kind="intel-vtd", width=39, aperture=["0x0", "0xffffffffffff"]), "units[0]"),
        ({"memlock": -5}, "memlock"),
        ({"page_size": 1 << 400}, "page_size"),
        ({"params": {"vfio_iommu_type1.dma_entry_limit": "x"}}, "params.vfio_iommu_type1.dma_entry_limit"),
        ({"arena": {"size": -1}}, "arena.size"),
        ({"arena": {"size": 0}}, "arena"),
        ({"arena": {"base": 0, "size": 0x2000, "ro_base": 0x1000}}, "arena"),
        ({"emulated": ["mdev0", "mdev0"]}, "emulated[1]"),
        ({"emulated": ["0000:01:00.0"]}, "emulated[0]"),
        ({"interrupts": {"controller": "gicv2m", "doorbell": 1 << 64}}, "interrupts.doorbell"),
        (device(buses={"secondary": 256}), "devices[0].buses.secondary"),
        ({"groups": 5}, "groups"),
        ({"devices": 5}, "devices"),
        (device(bdf="nowhere"), "devices[0].bdf"),
        (device(kind="thing"), "devices[0].kind"),
        (device(msi="x"), "devices[0].msi"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_named_with_line_and_field(changes, field):
    with pytest.raises(InputError) as caught:
        read_machine(text(**changes), source="small.json")
    words = str(caught.value)
    assert f"field '{field}'" in words
    assert "small.json, line " in words
    assert caught.value.advice


@pytest.mark.parametrize("value", [5, "x", True, 1.5, [5], ["x"], [None], {"a": 1}], ids=repr)
@pytest.mark.parametrize("field", ["units", "groups", "devices", "params", "drivers", "notes", "arena", "interrupts", "kernel", "emulated"])
def test_any_value_in_any_field_is_read_or_named(field, value):
    try:
        read_machine(text(**{field: value})).host()
    except InputError as error:
        assert "field '" in str(error)  # noqa: PT017 # whichever of the two it is


def leaves(value, path=()):
    """Yield the path of every value of a machine file."""
    yield path
    for step, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from leaves(one, (*path, step))


def put(path, value):
    """Return the small machine file with another value at a path, and the line on which that stands."""
    data = json.loads(json.dumps(SMALL))
    inner = data
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = "here"
    line = next(n for n, one in enumerate(json.dumps(data, indent=1).splitlines(), 1) if '"here"' in one)
    inner[path[-1]] = value
    return json.dumps(data, indent=1), line


@pytest.mark.parametrize("path", [path for path in leaves(SMALL) if path], ids=lambda path: ".".join(map(str, path)))
def test_an_error_stands_on_the_line_of_its_field_whatever_else_has_the_same_name(path):
    named = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    for value in ("?", -7, 1 << 80, 2.5, True, [], {}, ["?"], {"?": 1}):
        content, line = put(path, value)
        try:
            read_machine(content).host()
        except InputError as error:
            inside = f"field '{named}" in str(error)
            assert not inside or line <= error.line <= line + 2, (value, str(error))  # noqa: PT017 # most values are fine
            assert inside or "field '" in str(error)  # noqa: PT017


def test_the_same_width_twice_is_found_where_it_is_wrong():
    content = text(units=[SMALL["units"][0] | {"width": 40}, SMALL["units"][0] | {"name": "smmu1", "devices": [], "width": 200}])
    wrong = content.splitlines().index('   "width": 200') + 1
    with pytest.raises(InputError, match=rf"small.json, line {wrong}: field 'units\[1\].width' is 200; write a number from 13 to 64"):
        read_machine(content, source="small.json")


def test_a_field_that_is_there_twice_is_named_on_its_second_line():
    with pytest.raises(InputError, match=r"m.json, line 3: field 'devices\[0\].kind' is there twice; keep the one that is meant"):
        read_machine('{"devices": [{"bdf": "0000:00:02.0",\n"kind": "pci",\n"kind": "endpoint"}]}', source="m.json")


def test_a_number_that_nothing_can_hold_is_named_with_its_line():
    with pytest.raises(InputError, match=r"m.json, line 2: holds a number of more than 4,300 digits"):
        read_machine('{"name": "x",\n "memlock": ' + "9" * 5000 + "}", source="m.json")


def test_a_file_that_is_no_json_names_its_line():
    with pytest.raises(InputError, match="line 2"):
        read_machine('{"name": "x",\n "devices": [}', source="broken.json")


def test_a_file_that_is_not_there_is_an_oserror(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_machine_file(tmp_path / "none.json")


def test_a_broken_machine_file_is_named_by_load(tmp_path):
    path = tmp_path / "broken.json"
    path.write_text(text(**unit(kind="vtd")))
    with pytest.raises(ValueError, match=r"broken\.json, line 11: field 'units\[0\]\.kind' is 'vtd'; use one of intel-vtd"):
        load(path)


@pytest.mark.parametrize("name", machines())
def test_each_machine_that_comes_with_the_kit_loads_and_says_where_it_is_from(name):
    host = load(name)
    assert host.machine.source
    assert host.machine.notes
    assert host.groups
    host._check()


def test_every_recorded_machine_file_is_read():
    assert 62 == len([read_machine_file(path) for path in TRACES.glob("*/machine.json")])
