"""One machine, one answer: however it is opened, by whomever it is asked, the groups are the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pci_bytes import sysfs_tree

import vfiolab as vl
from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.detective import explain_map
from vfiolab.lab import Explorer
from vfiolab.lab.stage import users
from vfiolab.model.pci.topology import Topology
from vfiolab.readers.pcifile import read_pci
from vfiolab.readers.qemu import parse_dma_map_error

DATA = data_dir()
INPUTS = sorted([*DATA.glob("machines/*.json"), *DATA.glob("lspci/*.txt"), *DATA.glob("traces/*/machine.json")])
LINE = parse_dma_map_error("vfio_dma_map(0x1, 0x380010000000, 0x2000000, 0x7f0000000000) = -22 (Invalid argument)")


def name_of(path):
    return "/".join(path.relative_to(DATA).parts[:2])


def groups_of(host):
    return [list(group.devices) for group in host.groups]


def printed(path, capsys, *options):
    status = main(["groups", str(path), "--json", *options])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("path", INPUTS, ids=name_of)
def test_the_command_and_the_host_give_the_same_groups(path, capsys):
    host = vl.load(path)
    status, answer = printed(path, capsys)
    if "groups_from: recorded" in " ".join(answer["warnings"]):  # the command computes, and says that it cannot here
        assert (2, []) == (status, answer["groups"])
    else:
        assert {frozenset(one) for one in answer["groups"]} == {frozenset(one) for one in groups_of(host)}


@pytest.mark.parametrize("path", sorted(DATA.glob("machines/*.json")), ids=name_of)
def test_a_name_and_its_file_give_the_same_groups(path):
    assert groups_of(vl.load(path.stem)) == groups_of(vl.load(path)) == groups_of(vl.load(str(path)))


@pytest.mark.parametrize("path", sorted(DATA.glob("machines/*.json")), ids=name_of)
def test_the_explorer_offers_groups_of_the_host_and_no_bridge(path):
    host = vl.load(path.stem)
    view = Explorer(path.stem)
    offered = [group for group, _ in view.stage.buttons.values()]
    assert {tuple(group.devices) for group in offered} <= {tuple(one) for one in groups_of(host)}
    for group in offered:
        assert all(host.machine.topology[bdf].is_for_users for bdf in users(view.host, group) if bdf in host.machine.topology)


@pytest.mark.parametrize("path", INPUTS, ids=name_of)
def test_no_iommu_is_in_a_group_and_no_bridge_is_proposed(path):
    host = vl.load(path)
    topology = host.machine.topology
    assert [] == [bdf for members in groups_of(host) for bdf in members if bdf in topology and topology[bdf].is_iommu]
    found = explain_map(LINE, host)
    assert [] == [case.device for case in found.cases if not topology[case.device].is_for_users]


@pytest.mark.parametrize("name", ["amd-matisse-desktop", "hp-elitebook-630", "loongson-desktop"])
def test_a_tree_and_its_snapshot_give_the_same_groups(name, tmp_path, capsys):
    topology = read_pci(DATA / "machines" / f"{name}.json").topology
    tree = sysfs_tree(tmp_path / "sys", topology, ())
    assert 0 == main(["snapshot", str(tmp_path / "snap.json"), "--sysfs", str(tree)])
    capsys.readouterr()
    answers = [printed(path, capsys)[1]["groups"] for path in (tree, tmp_path / "snap.json")]
    assert answers[0] == answers[1]
    assert groups_of(vl.load(tree)) == groups_of(vl.load(tmp_path / "snap.json"))


def without_acs_on(function):
    return function if function.acs is None else replace(function, acs=replace(function.acs, ctrl=0))


def test_a_machine_without_an_iommu_in_use_keeps_its_registers_in_the_snapshot(tmp_path, capsys):
    idle = Topology(without_acs_on(f) for f in read_pci(DATA / "machines/amd-matisse-desktop.json").topology.values())
    tree = sysfs_tree(tmp_path / "sys", idle, ())
    assert 0 == main(["snapshot", str(tmp_path / "snap.json"), "--sysfs", str(tree)])
    written = json.loads((tmp_path / "snap.json").read_text())
    assert {0} == {device["acs"]["ctrl"] & 0x1D for device in written["devices"] if device["acs"]}
    capsys.readouterr()
    wanted = {frozenset(one) for one in groups_of(vl.load("amd-matisse-desktop"))}
    for path in (tree, tmp_path / "snap.json"):
        status, answer = printed(path, capsys)
        assert (0, wanted) == (status, {frozenset(one) for one in answer["groups"]})
        assert any("no IOMMU was in use" in warning for warning in answer["warnings"])


def test_a_machine_file_needs_no_ending(tmp_path):
    copy = tmp_path / "machine"
    copy.write_text((DATA / "machines/two-smmu-server.json").read_text())
    assert repr(vl.load("two-smmu-server").units) == repr(vl.load(Path(copy)).units)
