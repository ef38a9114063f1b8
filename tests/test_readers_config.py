"""Configuration space bytes, and everything made of them: hex dumps, sysfs trees, tar files."""

from __future__ import annotations

import random
import shutil

import pytest
from pci_bytes import as_tar, config_space, hex_dump, sysfs_tree
from real_machines import NAMES, grouping, machine, partition

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import NotComputableError, iommu_groups
from vfiolab.model.pci.topology import EXPRESS_TYPES, Acs, Function, Topology
from vfiolab.readers.config import decode
from vfiolab.readers.errors import InputError
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.sysfs import read_sysfs

PORT = Function(bdf="00:01.0", vendor=0x8086, device=0xA110, class_code=0x060400, kind="root-port", multifunction=True,
                secondary=1, subordinate=3, acs=Acs(0x0F, 0, 0x0D), msi=4)  # fmt: skip


@pytest.mark.parametrize("kind", sorted(set(EXPRESS_TYPES) - {"vf"}))
def test_each_express_type_is_recognised(kind):
    assert kind == decode(config_space(Function(bdf="00:01.0", kind=kind))).kind


def test_all_that_grouping_needs_is_in_the_bytes():
    found = decode(config_space(PORT))
    assert (0x8086, 0xA110, 0x060400) == (found.vendor, found.device, found.class_code)
    assert (True, 1, 3, 4) == (found.multifunction, found.secondary, found.subordinate, found.msi)
    assert PORT.acs == found.acs


def test_a_header_alone_leaves_the_capabilities_unknown():
    found = decode(config_space(PORT, size=64))
    assert (None, False, 1) == (found.kind, found.caps_known, found.secondary)


def test_256_bytes_know_the_port_type_but_not_acs():
    found = decode(config_space(PORT, size=256))
    assert ("root-port", None, False) == (found.kind, found.acs, found.caps_known)


def test_a_conventional_function_is_complete_in_64_bytes():
    found = decode(config_space(Function(bdf="00:1f.0", kind="pci"), size=64))
    assert ("pci", True) == (found.kind, found.caps_known)


@pytest.mark.parametrize("data", [b"", b"\x86\x80", b"\xff" * 256])
def test_no_header_is_no_device(data):
    assert decode(data) is None


def test_random_bytes_never_raise_and_end():
    rng = random.Random(11)
    for _ in range(2000):
        data = bytearray(config_space(PORT))
        for _ in range(rng.randrange(1, 40)):
            data[rng.randrange(0x200)] = rng.randrange(256)
        decode(bytes(data[: rng.choice([64, 255, 256, 300, 4096])]))


def complete(topology):
    """Give functions what a hex dump must show: ids, and control words at offset 8 as Linux sets them."""
    wide = {0xA110, 0xA111, 0xA112, 0xA113}
    changed = []
    for f in topology.values():
        acs = Acs(f.acs.cap, f.acs.ctrl, f.acs.cap & 0x1D if f.device in wide else None) if f.acs else None
        changed.append(
            Function(
                bdf=f.bdf, vendor=f.vendor, device=f.device, class_code=f.class_code, kind=f.kind, multifunction=f.multifunction,
                acs=acs, secondary=f.secondary, subordinate=f.subordinate, parent=f.parent, name=f.name, msi=f.msi,
            )
        )  # fmt: skip
    return Topology(changed)


def dump(topology, size=4096):
    """Print a machine as 'lspci -D -xxxx' does."""
    return "\n".join(f"{bdf} {f.name or 'Device: none'}\n{hex_dump(config_space(f, size))}" for bdf, f in topology.items())


@pytest.mark.parametrize("name", NAMES)
def test_a_full_hex_dump_gives_the_same_groups_as_the_decoded_listing(name):
    tree = complete(machine(name).topology)
    found = iommu_groups(read_lspci(dump(tree)).topology, Kernel(machine(name).kernel or "7.3"))
    assert partition(grouping(machine(name)).groups) == partition(found.groups)


@pytest.mark.parametrize("name", NAMES)
def test_a_sysfs_tree_gives_the_same_groups_and_its_record(name, tmp_path):
    tree = complete(machine(name).topology)
    found = read_sysfs(sysfs_tree(tmp_path, tree, machine(name).recorded))
    computed = iommu_groups(found.topology, Kernel(machine(name).kernel or "7.3"))
    assert partition(grouping(machine(name)).groups) == partition(computed.groups)
    assert partition(machine(name).recorded) == partition(found.recorded)


def test_a_tar_of_a_tree_reads_like_the_tree(tmp_path):
    tree = complete(machine("intel-alderlake-vmd").topology)
    folder = sysfs_tree(tmp_path / "sys", tree, machine("intel-alderlake-vmd").recorded)
    packed = as_tar(folder, tmp_path / "sys.tar.gz")
    assert dict(read_sysfs(folder).topology) == dict(read_sysfs(packed).topology)
    assert read_sysfs(folder).recorded == read_sysfs(packed).recorded


def test_a_copy_that_followed_the_links_reads_like_the_tree(tmp_path):
    tree = complete(machine("intel-alderlake-vmd").topology)
    folder = sysfs_tree(tmp_path / "sys", tree)
    flat = tmp_path / "flat/bus/pci/devices"
    flat.mkdir(parents=True)
    for link in (folder / "bus/pci/devices").iterdir():
        shutil.copytree(link, flat / link.name, symlinks=True, ignore=lambda _, names: [n for n in names if ":" in n])
    expected = partition(iommu_groups(read_sysfs(folder).topology).groups)
    assert expected == partition(iommu_groups(read_sysfs(tmp_path / "flat").topology).groups)


def test_devices_are_found_without_the_bus_folder(tmp_path):
    folder = sysfs_tree(tmp_path, machine("radxa-orion-o6-arm64").topology)
    for link in (folder / "bus/pci/devices").iterdir():
        link.unlink()
    assert set(machine("radxa-orion-o6-arm64").topology) == set(read_sysfs(folder).topology)


def test_the_vmd_controller_is_taken_from_the_path(tmp_path):
    tree = complete(machine("intel-alderlake-vmd").topology)
    assert "0000:00:0e.0" == read_sysfs(sysfs_tree(tmp_path, tree)).topology["10000:e1:00.0"].real_dma


def test_a_virtual_function_is_known_by_its_link(tmp_path):
    pf = Function(bdf="01:00.0", kind="endpoint", class_code=0x020000)
    tree = Topology(
        [
            Function(bdf="00:01.0", kind="root-port", secondary=1, subordinate=1),
            pf,
            Function(bdf="01:00.1", kind="vf", physfn="01:00.0"),
        ]
    )
    found = read_sysfs(sysfs_tree(tmp_path, tree)).topology["0000:01:00.1"]
    assert ("vf", "0000:01:00.0") == (found.kind, found.physfn)


def test_a_tree_read_without_root_says_what_is_cut_and_refuses_to_guess(tmp_path):
    found = read_sysfs(sysfs_tree(tmp_path, machine("amd-matisse-desktop").topology, size=64))
    assert "configuration space of" in found.warnings[0]
    with pytest.raises(NotComputableError, match="capabilities of"):
        iommu_groups(found.topology)


def test_a_folder_without_pci_devices_says_what_to_copy(tmp_path):
    with pytest.raises(InputError, match="no PCI device in the tree; copy /sys/bus/pci/devices"):
        read_sysfs(tmp_path)


def test_a_broken_tar_is_named(tmp_path):
    path = tmp_path / "sys.tar"
    path.write_bytes(b"not a tar")
    with pytest.raises(InputError, match=r"sys\.tar: not a readable tar file"):
        read_sysfs(path)


def test_a_cut_tar_is_refused_unless_all_of_it_is_there(tmp_path):
    packed = as_tar(sysfs_tree(tmp_path / "sys", machine("radxa-orion-o6-arm64").topology), tmp_path / "sys.tar.gz")
    whole, data = read_sysfs(packed).topology, packed.read_bytes()
    refused = 0
    for cut in range(0, len(data), 97):
        packed.write_bytes(data[:cut])
        try:
            assert whole == read_sysfs(packed).topology  # only the checksum behind the last byte is cut
        except InputError:
            refused += 1
    assert refused >= len(data) // 97
