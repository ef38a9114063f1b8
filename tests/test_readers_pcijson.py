"""The PCI part of machine files: what is wrong is named by line and field."""

from __future__ import annotations

import json

import pytest
from real_machines import NAMES, machine

from vfiolab.model.pci.topology import Topology
from vfiolab.readers.errors import InputError
from vfiolab.readers.pcijson import device_record, read_pci_json

GOOD = {
    "groups_from": "topology",
    "groups": [{"id": 0, "devices": ["0000:00:02.0"]}],
    "devices": [{"bdf": "0000:00:02.0", "kind": "pci"}],
}


def changed(**more):
    return json.dumps(GOOD | more, indent=1)


def device(**more):
    return changed(devices=[{"bdf": "0000:00:02.0", "kind": "pci"} | more])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"line 1: not JSON"),
        ('{\n "devices": [\n  {"bdf": }\n ]\n}', r"line 3: not JSON"),
        ("[1]", r"line 1: holds a list; a machine file is one JSON object"),
        ('{"devices": []}', r"field 'devices' is missing or empty"),
        (changed(devices={}), r"line \d+: field 'devices' is a dict; it must be a list"),
        (changed(devices=["x"]), r"field 'devices\[0\]' is a str"),
        (device(bdf="00:99.0"), r"line \d+: field 'devices\[0\].bdf' is '00:99.0'"),
        (device(vendor="intel"), r"line \d+: field 'devices\[0\].vendor' is 'intel'"),
        (device(kind="bridge"), r"line \d+: field 'devices\[0\].kind' is 'bridge'; use one of"),
        (device(acs=7), r"line \d+: field 'devices\[0\].acs' is 7; it must be an object or null"),
        (device(acs={"cap": "all"}), r"field 'devices\[0\].acs.cap' is 'all'"),
        (device(buses={"secondary": -1}), r"field 'devices\[0\].buses.secondary' is -1"),
        (device(parent=5), r"field 'devices\[0\].parent' is 5"),
        (changed(groups=[5]), r"field 'groups\[0\]' is a int"),
        (changed(units=[{"name": "dmar0", "devices": ["x"]}]), r"field 'units\[0\].devices\[0\]' is 'x'"),
        (changed(devices=[{"bdf": "0000:00:02.0"}, {"bdf": "00:02.0"}]), r"field 'devices\[1\].bdf' is 0000:00:02.0 for the second time"),
    ],
)
def test_what_is_wrong_is_named(text, says):
    with pytest.raises(InputError, match=says):
        read_pci_json(text, source="m.json")


def test_the_line_is_that_of_the_device():
    text = json.dumps({"devices": [{"bdf": "0000:00:02.0"}, {"bdf": "0000:00:03.0", "vendor": "?"}]}, indent=1)
    with pytest.raises(InputError, match=r"m.json, line 8: field 'devices\[1\].vendor'"):
        read_pci_json(text, source="m.json")


def test_groups_that_were_taken_from_the_record_are_not_computable():
    assert "ACS registers were not recorded" in read_pci_json(changed(groups_from="recorded")).not_computable


def test_the_devices_behind_units_are_the_participants():
    found = read_pci_json(changed(units=[{"name": "dmar0", "devices": ["0000:00:02.0"]}]))
    assert {"0000:00:02.0"} == found.participants


def test_units_without_devices_leave_participation_to_the_rules():
    assert read_pci_json(changed(units=[])).participants is None


@pytest.mark.parametrize("name", NAMES)
def test_a_device_record_reads_back_the_same(name):
    tree = machine(name).topology
    text = json.dumps({"devices": [device_record(f) for f in tree.values()]})
    again = read_pci_json(text).topology
    assert dict(Topology(tree.values())) == dict(again)
