"""A snapshot opens on another machine, and holds nothing that points back to its owner."""

from __future__ import annotations

import json

import pytest
from pci_bytes import HOST, MAC, SERIAL, as_tar, sysfs_tree
from real_machines import machine, partition

from vfiolab.__main__ import main
from vfiolab.model.pci.topology import Function, Topology
from vfiolab.readers.machinefile import read_machine
from vfiolab.readers.snapshot import snapshot

NAME = "amd-matisse-desktop"


@pytest.fixture
def tree(tmp_path):
    return sysfs_tree(tmp_path / "sys", machine(NAME).topology, machine(NAME).recorded)


def test_a_snapshot_opens_and_gives_the_groups_of_the_machine(tree, tmp_path, capsys):
    out = tmp_path / "snap.json"
    assert 0 == main(["snapshot", str(out), "--sysfs", str(tree)])
    assert 0 == main(["groups", str(out), "--check"])
    assert "Check: the same. Compared 41 devices in 25 groups" in capsys.readouterr().out


def test_a_snapshot_is_a_machine_file_like_any_other(tree):
    assert "Machine('snapshot', 43 functions, 0 IOMMU units)" == repr(read_machine(json.dumps(snapshot(tree))))


def test_nothing_of_serials_addresses_and_names_gets_in(tree, tmp_path):
    out = tmp_path / "snap.json"
    main(["snapshot", str(out), "--sysfs", str(tree)])
    text = out.read_text(encoding="utf-8").lower()
    secrets = [HOST, MAC, MAC.replace(":", ""), SERIAL.hex(), SERIAL[::-1].hex(), SERIAL.hex("-"), str(tree).lower()]
    assert [] == [secret for secret in secrets if secret in text]
    assert (tree / "kernel/hostname").read_text().strip() == HOST  # they were there to be found


def test_a_driver_or_kernel_with_a_name_of_its_own_is_not_passed_on(tree):
    at = next((tree / "bus/pci/devices").iterdir()).resolve()
    (tree / "bus/pci/drivers/my host's own driver").mkdir(parents=True)
    (at / "driver").symlink_to(tree / "bus/pci/drivers/my host's own driver")
    assert "my host" not in json.dumps(snapshot(tree))


def test_units_and_reserved_regions_are_kept(tree):
    unit = tree / "class/iommu/ivhd0/devices"
    unit.mkdir(parents=True)
    for bdf in [b for members in machine(NAME).recorded for b in members]:
        (unit / bdf).symlink_to("nowhere")
    found = snapshot(tree)
    assert ("amd-vi", 41) == (found["units"][0]["kind"], len(found["units"][0]["devices"]))
    assert ["0x00000000fee00000", "0x00000000feefffff", "msi"] == found["groups"][0]["reserved"][0]
    assert partition(machine(NAME).recorded) == partition(group["devices"] for group in found["groups"])


def test_a_packed_tree_gives_the_same_snapshot(tree, tmp_path):
    assert snapshot(tree)["devices"] == snapshot(as_tar(tree, tmp_path / "sys.tgz"))["devices"]


def test_an_existing_file_is_not_written_over(tree, tmp_path, capsys):
    out = tmp_path / "snap.json"
    out.write_text("precious")
    assert 2 == main(["snapshot", str(out), "--sysfs", str(tree)])
    assert "--force" in capsys.readouterr().err
    assert "precious" == out.read_text()


def test_a_snapshot_without_root_says_what_is_missing(tmp_path):
    tree = sysfs_tree(tmp_path / "sys", Topology([Function(bdf="00:01.0", kind="root-port", secondary=1)]), size=64)
    found = snapshot(tree)
    assert any("is cut" in note for note in found["notes"])
    assert found["devices"][0]["caps_known"] is False


def test_a_machine_without_pci_is_said_to_be_so(tmp_path, capsys):
    assert 2 == main(["snapshot", str(tmp_path / "out.json"), "--sysfs", str(tmp_path)])
    assert "no PCI device in the tree" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
