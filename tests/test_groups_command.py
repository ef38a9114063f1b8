"""The words of ``vfiolab groups``: what it prints, and its exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from pci_bytes import sysfs_tree
from real_machines import NAMES, kernel, listing, machine, partition, recorded_devices, without_groups

from vfiolab.__main__ import main
from vfiolab._paths import data_dir
from vfiolab.kit.asked import merge_warnings
from vfiolab.model.pci.grouping import iommu_groups
from vfiolab.readers import sysfs


def machine_file(name):
    return str(data_dir() / "machines" / f"{name}.json")


def lspci_file(name):
    return str(data_dir() / "lspci" / f"{name}.txt")


@pytest.mark.parametrize("name", NAMES)
def test_check_agrees_with_every_real_machine(name, capsys):
    assert 0 == main(["groups", machine_file(name), "--check"])
    assert "Check: the same." in capsys.readouterr().out
    assert 0 == main(["groups", lspci_file(name), "--check", "--against", machine_file(name)])


@pytest.mark.parametrize("name", NAMES)
def test_json_holds_groups_in_order_and_warnings(name, capsys):
    assert 0 == main(["groups", machine_file(name), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert ["groups", "warnings"] == list(answer)
    recorded = machine(name)
    assert partition(recorded.recorded) == partition(answer["groups"], recorded_devices(recorded))
    computed = iommu_groups(recorded.topology, kernel(recorded), participants=recorded.participants)
    assert list(map(list, computed.groups)) == answer["groups"], "members too stand in the order in which Linux adds them"
    assert set(merge_warnings(list(computed.warnings))) <= set(answer["warnings"])


def test_a_difference_is_named_and_ends_in_1(tmp_path, capsys):
    data = json.loads((data_dir() / "machines/radxa-orion-o6-arm64.json").read_text())
    data["groups"] = [{"id": 0, "devices": [bdf for group in data["groups"] for bdf in group["devices"]]}]
    (tmp_path / "m.json").write_text(json.dumps(data))
    assert 1 == main(["groups", str(tmp_path / "m.json"), "--check"])
    out = capsys.readouterr().out
    assert "Check: different. Compared 6 devices in 1 groups" in out
    assert "recorded as one group, not computed so: 00:00.0, 01:00.0, 30:00.0, 31:00.0, 90:00.0, 91:00.0" in out
    assert "computed as one group, not recorded so: 00:00.0, 01:00.0" in out


def test_a_recorded_device_that_is_not_in_the_topology_is_a_difference(tmp_path, capsys):
    (tmp_path / "dmesg").write_text("[ 0.1] pci 0000:77:00.0: Adding to iommu group 0\n")
    assert 1 == main(["groups", machine_file("radxa-orion-o6-arm64"), "--check", "--against", str(tmp_path / "dmesg")])
    assert "recorded, but not among the computed: 77:00.0" in capsys.readouterr().out


def test_nothing_to_compare_with_is_not_a_success(tmp_path, capsys):
    (tmp_path / "m.json").write_text(without_groups((data_dir() / "machines/radxa-orion-o6-arm64.json").read_text()))
    assert 2 == main(["groups", str(tmp_path / "m.json"), "--check"])
    assert "records no groups, so there is nothing to compare with; give a record by --against FILE" in capsys.readouterr().err


def test_a_listing_without_groups_is_compared_with_the_machine_file_beside_it(tmp_path, capsys):
    (tmp_path / "lspci.txt").write_text(listing("emerson-industrial"))
    (tmp_path / "machine.json").write_text((data_dir() / "machines/emerson-industrial.json").read_text())
    assert 0 == main(["groups", str(tmp_path / "lspci.txt"), "--check"])
    assert "machine.json, beside the input" in capsys.readouterr().out


def test_the_text_names_every_device_once(capsys):
    main(["groups", machine_file("amd-matisse-desktop")])
    out = capsys.readouterr().out
    assert out.startswith("25 groups, 41 devices: ")
    assert all(
        1 == sum(line[10:].startswith(f" {bdf[5:]} ") for line in out.splitlines())
        for bdf in recorded_devices(machine("amd-matisse-desktop"))
    )
    assert "00:00.2  IOMMU: Advanced Micro Devices, Inc. [AMD] Starship/Matisse IOMMU: it is an IOMMU itself" in out


def test_why_shows_the_chain_the_ties_and_what_would_free_the_device(capsys):
    assert 0 == main(["groups", machine_file("amd-matisse-desktop"), "--why", "2a:00.0"])
    out = capsys.readouterr().out
    assert "2a:00.0 joins 03:09.0 because the path to the root fails at 03:09.0: no ACS capability" in out
    assert "05:00.0  2a:00.0 - 03:09.0 - 02:00.2 - 03:07.0 - 05:00.0" in out
    assert "otherwise it would be alone" in out


def test_why_of_a_device_in_no_group_says_why_not(capsys):
    main(["groups", machine_file("amd-matisse-desktop"), "--why", "00:00.2"])
    assert "is in no group: it is an IOMMU itself" in capsys.readouterr().out


def test_why_all_is_a_table_with_a_row_a_device(capsys):
    main(["groups", machine_file("radxa-orion-o6-arm64"), "--why", "all"])
    lines = capsys.readouterr().out.splitlines()
    assert ["device", "group", "joins", "step", "because"] == lines[0].split()
    assert 7 == len(lines)


def test_why_of_a_device_that_is_not_there_names_its_neighbours(capsys):
    assert 2 == main(["groups", machine_file("radxa-orion-o6-arm64"), "--why", "01:00.5"])
    assert "no such device in the input; on that bus or at that place: 01:00.0" in capsys.readouterr().err


def test_why_in_json_has_chain_causes_and_mates(capsys):
    main(["groups", machine_file("radxa-orion-o6-arm64"), "--why", "01:00.0", "--json"])
    why = json.loads(capsys.readouterr().out)["why"]
    assert ["0000:00:00.0"] == list(why["mates"])
    assert ["00:00.0 does not isolate"] == why["causes"]


def test_another_kernel_gives_other_groups(capsys):
    main(["groups", machine_file("intel-skylake-plx-switch"), "--kernel", "4.4", "--json"])
    assert 17 > len(json.loads(capsys.readouterr().out)["groups"])


def test_boot_parameters_reshape_groups(capsys):
    main(["groups", machine_file("amd-matisse-desktop"), "--json", "--pcie-acs-override", "downstream,multifunction"])
    answer = json.loads(capsys.readouterr().out)
    assert 25 < len(answer["groups"])
    assert any("peer-to-peer DMA may bypass the IOMMU" in warning for warning in answer["warnings"])


def test_a_machine_whose_acs_is_not_known_is_not_computable(tmp_path, capsys):
    (tmp_path / "m.json").write_text('{"groups_from": "recorded", "devices": [{"bdf": "0000:00:02.0"}]}')
    assert 2 == main(["groups", str(tmp_path / "m.json")])
    assert "not computable: its ACS registers were not recorded" in capsys.readouterr().err


def test_with_json_a_refusal_is_json_too(tmp_path, capsys):
    (tmp_path / "m.json").write_text('{"groups_from": "recorded", "devices": [{"bdf": "0000:00:02.0"}]}')
    assert 2 == main(["groups", str(tmp_path / "m.json"), "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert [] == answer["groups"]
    assert "not computable" in answer["warnings"][0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.txt"], "nowhere.txt: no such file or folder"),
        ([machine_file("radxa-orion-o6-arm64"), "--kernel", "new"], "cannot read a kernel version from 'new'"),
        ([machine_file("radxa-orion-o6-arm64"), "--why", "x"], "--why x: PCI address 'x'"),
        ([machine_file("radxa-orion-o6-arm64"), "--pcie-acs-override", "all"], "'all' is none of downstream"),
        ([machine_file("radxa-orion-o6-arm64"), "--check", "--against", "nowhere"], "nowhere: no such file"),
    ],
)
def test_wrong_arguments_are_named(arguments, says, capsys):
    assert 2 == main(["groups", *arguments])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("release", ["3.10.0-1160.el7", "custom"])
def test_a_kernel_in_the_input_that_is_not_known_is_a_warning(release, tmp_path, capsys):
    data = json.loads((data_dir() / "machines/radxa-orion-o6-arm64.json").read_text())
    (tmp_path / "m.json").write_text(json.dumps(data | {"kernel": release}))
    assert 0 == main(["groups", str(tmp_path / "m.json")])
    assert "the input's kernel is not used" in capsys.readouterr().out


def test_standard_input_is_read(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(listing("radxa-orion-o6-arm64")))
    assert 0 == main(["groups", "-", "--check"])
    assert "recorded in standard input itself" in capsys.readouterr().out


def test_a_sysfs_folder_is_read(tmp_path, capsys):
    tree = sysfs_tree(tmp_path, machine("radxa-orion-o6-arm64").topology, machine("radxa-orion-o6-arm64").recorded)
    assert 0 == main(["groups", str(tree), "--check"])
    assert "Check: the same." in capsys.readouterr().out


def test_a_machine_without_an_iommu_is_told_so_and_how_to_turn_it_on(tmp_path, monkeypatch, capsys):
    tree = sysfs_tree(tmp_path, machine("radxa-orion-o6-arm64").topology)
    monkeypatch.setattr(sysfs, "SYS", tree)
    monkeypatch.setattr("vfiolab.readers.sysfs.read_sysfs.__defaults__", (tree,))
    assert 0 == main(["groups"])
    out = capsys.readouterr().out
    assert out.startswith("3 groups, 6 devices: this machine by the rules of Linux ")
    assert "this machine has no IOMMU groups: no IOMMU is in use" in out
    assert "intel_iommu=on" in out


def test_the_machine_at_hand_gives_an_answer_or_a_reason():
    done = subprocess.run([sys.executable, "-m", "vfiolab", "groups"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {0, 2}
    assert "Traceback" not in done.stderr
    assert "this machine" in done.stdout or "vfiolab groups: " in done.stderr


def test_a_reader_that_leaves_early_is_no_error():
    command = f"{sys.executable} -m vfiolab groups {machine_file('amd-matisse-desktop')} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert "" == done.stderr
    assert done.stdout.startswith("25 groups")
