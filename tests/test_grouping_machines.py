"""Real machines: the groups that their own kernels formed follow from their topologies."""

from __future__ import annotations

import json
import random

import pytest
from real_machines import (
    NAMES,
    computable_files,
    from_lspci,
    grouping,
    kernel,
    machine,
    partition,
    recorded_devices,
    without_groups,
)

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import GroupingOptions, iommu_groups
from vfiolab.model.pci.quirks import ACS_QUIRKS, ALIAS_QUIRKS, QUIRKS, Quirks
from vfiolab.readers.pcijson import read_pci_json

#: Machines whose groups come out wrong when Linux's knowledge of particular devices is taken away.
NEED_QUIRKS = {"hp-elitebook-630", "intel-alderlake-vmd", "intel-skylake-plx-switch", "loongson-desktop"}


def test_thirteen_real_machines_are_at_hand():
    assert 13 == len(NAMES)


@pytest.mark.parametrize("path", computable_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_machine_file_gives_the_recorded_partition(path):
    found = read_pci_json(path.read_text(encoding="utf-8"), source=path.name)
    assert partition(found.recorded) == partition(grouping(found).groups, recorded_devices(found))


@pytest.mark.parametrize("name", NAMES)
def test_the_lspci_listing_gives_the_recorded_partition(name):
    recorded = machine(name)
    computed = iommu_groups(from_lspci(name).topology, kernel(recorded))
    assert partition(recorded.recorded) == partition(computed.groups, recorded_devices(recorded))


@pytest.mark.parametrize("path", computable_files(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recorded_groups_are_never_used_to_compute(path):
    text = path.read_text(encoding="utf-8")
    data = json.loads(text)
    members = [bdf for group in data["groups"] for bdf in group["devices"]]
    random.Random(5).shuffle(members)
    for group in data["groups"]:
        group["devices"] = [members.pop() for _ in group["devices"]]
    expected = grouping(read_pci_json(text)).groups
    assert expected == grouping(read_pci_json(without_groups(text))).groups
    assert expected == grouping(read_pci_json(json.dumps(data))).groups


@pytest.mark.parametrize("name", NAMES)
def test_listing_and_machine_file_give_the_same_groups(name):
    assert partition(grouping(machine(name)).groups) == partition(iommu_groups(from_lspci(name).topology, kernel(machine(name))).groups)


def wrong_with(quirks):
    wrong = set()
    for name in NAMES:
        found = machine(name)
        computed = grouping(found, options=GroupingOptions(quirks=quirks))
        if partition(found.recorded) != partition(computed.groups, recorded_devices(found)):
            wrong.add(name)
    return wrong


def test_without_the_table_of_particular_devices_these_machines_come_out_wrong():
    assert NEED_QUIRKS == wrong_with(Quirks())


@pytest.mark.parametrize(
    ("family", "machines"),
    [
        ("intel-rc-endpoint", {"hp-elitebook-630", "intel-alderlake-vmd"}),
        ("intel-wide-registers", {"intel-skylake-plx-switch"}),
        ("no-peer-to-peer-port", {"loongson-desktop"}),
    ],
)
def test_each_family_of_the_table_is_needed_by_these_machines(family, machines):
    assert machines == wrong_with(Quirks([row for row in ACS_QUIRKS if row.family != family], ALIAS_QUIRKS))


def test_every_row_of_the_table_has_a_source_and_a_version_in_order():
    for row in (*QUIRKS.acs, *QUIRKS.aliases):
        assert "drivers/pci/quirks.c" in row.source
        assert (row.first_seen is None) == (row.absent_in is None)
        assert row.first_seen is None or Kernel(row.first_seen).version > Kernel(row.absent_in).version


def joins():
    for name in NAMES:
        for reason in grouping(machine(name)).reasons.values():
            if reason.joins is not None:
                yield pytest.param(name, reason.device, id=f"{name}-{reason.device}")


@pytest.mark.parametrize(("name", "device"), list(joins()))
def test_without_the_causes_of_its_reason_a_device_is_in_another_group(name, device):
    found = grouping(machine(name))
    reason = found.reasons[device]
    assert set(found.mates(device)) != set(found.without(*reason.causes).mates(device))


@pytest.mark.parametrize("name", NAMES)
def test_every_device_of_a_group_has_a_reason_and_every_other_an_excuse(name):
    found = grouping(machine(name))
    assert set(found.topology) == set(found.reasons) | set(found.left_out)
    assert not set(found.reasons) & set(found.left_out)


@pytest.mark.parametrize("name", NAMES)
def test_a_reason_joins_a_device_of_the_same_group_that_was_there_before(name):
    found = grouping(machine(name))
    order = list(found.reasons)
    for device, reason in found.reasons.items():
        if reason.joins is not None:
            assert reason.joins in found.mates(device)
            assert order.index(reason.joins) < order.index(device)


def test_the_skylake_machine_loses_the_ports_of_its_chipset_under_4_6():
    found = iommu_groups(machine("intel-skylake-plx-switch").topology, Kernel("4.6"))
    assert len(found.groups) < len(grouping(machine("intel-skylake-plx-switch")).groups)


def test_the_partial_listing_says_where_it_begins():
    assert "bus 03: the bridge that leads to it is not in the input" in from_lspci("asmedia-switch-part").warnings[0]


def test_devices_behind_the_vmd_controller_share_its_group():
    found = grouping(machine("intel-alderlake-vmd"))
    assert "0000:00:0e.0" in found.mates("10000:e1:00.0")


def test_the_2025_proposal_changes_none_of_these_machines():
    proposal = GroupingOptions(proposal_2025=True)
    changed = [name for name in NAMES if grouping(machine(name)).groups != grouping(machine(name), options=proposal).groups]
    assert [] == changed  # their open switches hang below ports that do not isolate either
