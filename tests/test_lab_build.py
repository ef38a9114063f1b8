"""The lab in which a machine is built: the code shown makes an equal one, and what makes no sense is refused in words."""

import random

import pytest

import vfiolab as vl
from vfiolab.lab.build import ENDPOINT, KINDS, ROOT_PORT, SWITCH, THINGS, UNIT


@pytest.fixture
def lab():
    return vl.lab.BuildLab()


def add(lab, thing, below=None, **chosen):
    """Choose a thing and press Add, as a learner does."""
    lab.thing.value = thing
    if below is not None:
        lab.place.value = below
    for name, value in chosen.items():
        getattr(lab, name).value = value
    lab.add.click()


def ran(code):
    names = {}
    exec(code, names)
    return names


def bdfs(lab):
    return list(lab.machine.topology)


def test_three_presses_make_a_unit_a_port_and_a_card_at_the_next_free_addresses(lab):
    for thing in (UNIT, ROOT_PORT, ENDPOINT):
        add(lab, thing)
    assert ["0000:00:01.0", "0000:01:00.0"] == bdfs(lab)
    assert "Added endpoint 01:00.0 with 1 function below root port 00:01.0. 2 functions in 2 groups, 0 of them" in lab.status.value
    assert "<svg" in lab.picture.value


def test_the_button_says_what_it_would_add_and_where(lab):
    said = []
    for thing in (UNIT, ROOT_PORT, SWITCH, ENDPOINT):
        lab.thing.value = thing
        said.append(lab.add.description)
        lab.add.click()
    assert [
        "Add IOMMU unit dmar0",
        "Add root port 00:01.0 behind dmar0",
        "Add switch 01:00.0 with 2 ports below root port 00:01.0",
        "Add endpoint 03:00.0 with 1 function below switch port 02:00.0",
    ] == said
    lab.functions.value = 2
    assert "Add endpoint 04:00.0 with 2 functions below switch port 02:01.0" == lab.add.description


@pytest.mark.parametrize(("acs", "groups"), [("on", 6), ("off", 4)])
def test_without_acs_on_the_switch_what_is_below_it_is_one_group(lab, acs, groups):
    add(lab, UNIT)
    add(lab, ROOT_PORT)
    add(lab, SWITCH, acs=acs, ports=2)
    add(lab, ENDPOINT)
    add(lab, ENDPOINT)
    assert groups == len(lab.host.groups)


def test_a_card_of_two_functions_and_a_card_behind_a_bridge_are_each_one_group(lab):
    add(lab, UNIT)
    add(lab, ROOT_PORT)
    add(lab, ENDPOINT, functions=2)
    add(lab, ROOT_PORT)
    add(lab, "PCI bridge")
    add(lab, ENDPOINT, functions=1)
    add(lab, ENDPOINT)
    assert ["pci", "pci"] == [f.kind for f in lab.machine.topology.values() if f.bus == 0x12]
    assert [1, 1, 2, 3] == sorted(len(group.devices) for group in lab.host.groups)


def test_a_units_kind_brings_its_width_which_can_be_changed(lab):
    assert [48, 64, 48, 48] == [lab.width.value for lab.kind.value in KINDS]
    add(lab, UNIT, kind="intel-vtd", width=39)
    assert [("dmar0", "intel-vtd", 39)] == [(unit.name, unit.kind, unit.width) for unit in lab.machine.units]


def test_undo_takes_away_what_one_press_added_and_the_bottom_is_said(lab):
    for thing in (UNIT, ROOT_PORT, SWITCH):
        add(lab, thing)
    lab.undo.click()
    assert ["0000:00:01.0"] == bdfs(lab)
    assert "Taken away: 01:00.0. 1 function in 1 group" in lab.status.value
    lab.undo.click()
    lab.undo.click()
    assert "The machine is empty" in lab.status.value
    lab.undo.click()
    assert "Nothing is left to take away" in lab.status.value


def test_a_name_is_given_and_an_empty_one_is_the_first_one_again(lab):
    lab.name.value = "two cards"
    assert ("two cards", 'm = vl.MachineBuilder("two cards")') == (lab.machine.name, lab.code.splitlines()[1])
    lab.name.value = "  "
    assert "my machine" == lab.machine.name


@pytest.mark.parametrize(
    ("thing", "address", "words"),
    [
        (ROOT_PORT, "00:01.0", "there is a function 0000:00:01.0 already"),
        (ROOT_PORT, "nonsense", "PCI address &#x27;nonsense&#x27;: must look like"),
        (ROOT_PORT, "01:01.0", "01:01.0 cannot be on a root bus: bus 01 is below 00:01.0"),
        (ROOT_PORT, "00:03.1", "00:03.1 is function 1 of a device that has no function 0: begin at 00:03.0"),
        (ENDPOINT, "00:05.0", "00:05.0 cannot be below 00:02.0: what is below has a higher bus number"),
        (ENDPOINT, "11:03.0", "11:03.0 cannot be below 00:02.0: a PCI Express link leads to one device, at slot 00"),
        (ENDPOINT, "01:00.0", "there is a function 0000:01:00.0 already"),
        (ENDPOINT, "10000:11:00.0", "10000:11:00.0 cannot be below 00:02.0: it is in another segment"),
        (SWITCH, "ff:00.0", "must look like"),
        (UNIT, "dmar0", "there is a unit &#x27;dmar0&#x27; already"),
        (UNIT, "0000:00:01.0", "0000:00:01.0 is a device&#x27;s address"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words_and_the_machine_stays(lab, thing, address, words):
    for given in (UNIT, ROOT_PORT, ENDPOINT):
        add(lab, given)
    add(lab, ROOT_PORT)
    before = lab.machine, lab.code
    add(lab, thing, address=address)
    assert words in lab.status.value
    assert 'role="alert"' in lab.status.value
    assert before == (lab.machine, lab.code)
    lab.address.value = ""
    lab.add.click()
    assert "Not added" not in lab.status.value


def test_a_bus_between_those_of_a_neighbour_is_refused(lab):
    add(lab, UNIT)
    add(lab, ROOT_PORT)
    add(lab, SWITCH, ports=2)
    add(lab, SWITCH, below="0000:02:00.0", ports=1)
    add(lab, ENDPOINT, below="0000:02:01.0")
    assert "Added endpoint 05:00.0" in lab.status.value
    add(lab, ENDPOINT, below="0000:04:00.0")
    assert "Not added: 02:00.0 would have bus 03 to 06, and 05:00.0 is not below it: choose another bus" in lab.status.value
    lab.undo.click()
    add(lab, ENDPOINT, below="0000:04:00.0")
    assert "Added endpoint 05:00.0 with 1 function below switch port 04:00.0" in lab.status.value


def test_units_of_two_makers_are_not_in_one_machine_but_a_virtual_one_may_be_beside(lab):
    add(lab, UNIT, kind="amd-vi")
    add(lab, UNIT, kind="virtio-iommu")
    add(lab, UNIT, kind="intel-vtd")
    assert "amd-vi and intel-vtd are not in one machine" in lab.status.value
    assert ["ivhd0", "viommu0"] == [unit.name for unit in lab.machine.units]


@pytest.mark.parametrize("thing", THINGS[1:])
def test_a_thing_without_a_place_says_what_comes_first(lab, thing):
    add(lab, thing)
    assert f"there is no place for this {thing}: add an IOMMU unit first" in lab.status.value
    add(lab, UNIT)
    if thing not in {ROOT_PORT, ENDPOINT}:
        add(lab, thing)
        assert f"there is no place for this {thing}: add a root port first" in lab.status.value


def test_a_machine_with_a_device_is_handed_on_with_its_code():
    handed = []
    lab = vl.lab.BuildLab(lambda *given: handed.append(given))
    add(lab, UNIT)
    add(lab, ROOT_PORT)
    lab.use.click()
    assert "Not used yet" in lab.status.value
    add(lab, ENDPOINT)
    lab.use.click()
    assert [(lab.machine, lab.code)] == handed
    assert "my machine is in use" in lab.status.value
    assert lab.use not in vl.lab.BuildLab().box.children[4].children


def test_enter_in_the_address_does_what_add_does(lab):
    lab.address.value = "dmar7"
    lab.address._handle_custom_msg({"event": "submit"}, [])
    assert ["dmar7"] == [unit.name for unit in lab.machine.units]


@pytest.mark.parametrize("seed", range(12))
def test_after_any_clicks_the_code_makes_an_equal_machine_whose_groups_can_be_told(seed):
    pick, lab, pressed = random.Random(seed), vl.lab.BuildLab(), 0
    for _ in range(50):
        act = pick.choice(["undo", *["add"] * 7])
        if act == "undo":
            lab.undo.click()
            continue
        lab.thing.value = pick.choice(THINGS)
        if lab.place.options:
            lab.place.value = pick.choice(lab.place.options)[1]
        lab.kind.value, lab.acs.value = pick.choice([*["intel-vtd"] * 3, *KINDS]), pick.choice(["on", "off"])
        lab.ports.value, lab.functions.value, lab.width.value = pick.randint(1, 4), pick.randint(1, 8), pick.randint(13, 64)
        lab.address.value = pick.choice(["", "", "", "", f"{pick.randrange(32):02x}:{pick.randrange(4):02x}.0"])
        before = lab.machine
        lab.add.click()
        pressed += before != lab.machine
        assert ("Not added" in lab.status.value) == (before == lab.machine)
    names = ran(lab.code)
    assert lab.machine == names["m"].machine() == names["host"].machine
    assert vl.loads(lab.machine.json()).machine.topology.warnings == ()
    assert [group.devices for group in names["host"].groups] == [group.devices for group in lab.host.groups]
    assert pressed > 10


def test_what_stands_in_a_page_without_a_front_end_is_the_picture(lab):
    add(lab, UNIT)
    add(lab, ROOT_PORT)
    text, html = lab.still()
    assert "00:01.0 root port" in text
    assert "<figure" in html
    assert "BuildLab('my machine', 2 things)" == repr(lab)
