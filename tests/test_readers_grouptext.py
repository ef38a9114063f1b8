"""Groups that somebody recorded: boot messages and listings in the usual shapes."""

from __future__ import annotations

import pytest

from vfiolab.readers.errors import InputError
from vfiolab.readers.grouptext import read_groups
from vfiolab.readers.pcifile import read_pci_text

TWO = (("0000:00:01.0", "0000:01:00.0"), ("0000:00:02.0",))


@pytest.mark.parametrize(
    "text",
    [
        (
            "[    0.51] pci 0000:00:01.0: Adding to iommu group 0\n[    0.51] pci 0000:01:00.0: Adding to iommu group 0\n"
            "[    0.52] pci 0000:00:02.0: Adding to iommu group 1\n"
        ),
        (
            "iommu: Adding device 0000:00:01.0 to group 0\niommu: Adding device 0000:01:00.0 to group 0\n"
            "iommu: Adding device 0000:00:02.0 to group 1\n"
        ),
        (
            "Oct 25 host kernel: pci 0000:00:01.0: Adding to iommu group 0\nkernel: pci 0000:01:00.0: Adding to iommu group 0\n"
            "kernel: pci 0000:00:02.0: Adding to iommu group 1\n"
        ),
        (
            "/sys/kernel/iommu_groups/1/devices/0000:00:02.0\n/sys/kernel/iommu_groups/0/devices/0000:00:01.0\n"
            "/sys/kernel/iommu_groups/0/devices/0000:01:00.0\n"
        ),
        (
            "IOMMU Group 0 00:01.0 PCI bridge [0604]: Intel [8086:1901]\nIOMMU Group 0 01:00.0 VGA [0300]: NVIDIA [10de:1b80]\n"
            "IOMMU Group 1 00:02.0 VGA [0300]: Intel [8086:3e92]\n"
        ),
        (
            "IOMMU Group 0:\n\t00:01.0 PCI bridge [0604]: Intel [8086:1901] (rev 02)\n\t01:00.0 VGA [0300]: NVIDIA [10de:1b80]\n"
            "IOMMU Group 1:\n\t00:02.0 VGA [0300]: Intel [8086:3e92]\n"
        ),
        "### IOMMU group 0 ###\n  0000:00:01.0 bridge\n  0000:01:00.0 card\n### IOMMU group 1 ###\n  0000:00:02.0 graphics\n",
        "Group:  0   0000:00:01.0 bridge\nGroup:  0   0000:01:00.0 card\nGroup:  1   0000:00:02.0 graphics\n",
    ],
    ids=["dmesg", "old dmesg", "journal", "find", "shell loop", "headings", "fenced headings", "column"],
)
def test_each_usual_shape_is_read(text):
    assert TWO == tuple(tuple(sorted(members)) for members in read_groups(text).recorded)


def test_a_device_removed_and_added_again_is_where_it_was_last():
    text = (
        "[ 1.0] pci 0000:00:02.0: Adding to iommu group 3\n[ 9.0] pci 0000:00:02.0: Removing from iommu group 3\n"
        "[ 9.1] pci 0000:00:02.0: Adding to iommu group 1\n"
    )
    assert (("0000:00:02.0",),) == read_groups(text).recorded


def test_boot_messages_tell_the_kernel_and_the_iommu():
    text = (
        "[    0.00] Linux version 5.9.3-arch1 (gcc)\n[    0.00] DMAR: IOMMU enabled\n[    0.2] DMAR-IR: Enabled IRQ"
        " remapping in x2apic mode\n"
        "[    0.5] pci 0000:00:02.0: Adding to iommu group 0\n"
    )
    found = read_groups(text)
    assert "5.9.3-arch1" == found.kernel
    assert ("Intel VT-d is turned on by the boot parameter", "interrupt remapping is on (Intel)") == found.facts


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("DMAR: IOMMU enabled", "Intel VT-d is turned on by the boot parameter"),
        ("DMAR: Intel(R) Virtualization Technology for Directed I/O", "Intel VT-d is in use"),
        ("DMAR-IR: Enabled IRQ remapping in x2apic mode", "interrupt remapping is on (Intel)"),
        ("AMD-Vi: Interrupt remapping enabled", "interrupt remapping is on (AMD)"),
        ("AMD-Vi: Found IOMMU cap 0x40", "AMD-Vi is in use"),
        ("arm-smmu 5000000.iommu: SMMUv2 with:", "an Arm SMMU is in use"),
        ("pci 0000:00:1c.0: Failed to enable Intel PCH ACS quirk", "Linux could NOT program Intel PCH root ports to isolate"),
        (
            "pci 0000:00:1c.0: Intel SPT PCH root port ACS workaround enabled",
            "Linux turned on ACS of Intel root ports at offset 8",
        ),
        ("arm-smmu-v3 arm-smmu-v3.0.auto: ias 44-bit, oas 44-bit (features 0x1)", "an Arm SMMUv3 is in use"),
        (
            "pci 0000:00:1c.0: Intel PCH root port ACS workaround enabled",
            "Linux programmed Intel PCH root ports to isolate",
        ),
        ("Warning: PCIe ACS overrides enabled; This may allow", "pcie_acs_override is in force"),
    ],
)
def test_what_boot_messages_say_of_isolation_is_kept(line, fact):
    text = f"[    0.1] {line}\n[    0.5] pci 0000:00:02.0: Adding to iommu group 0\n"
    assert (fact,) == read_groups(text).facts


def test_addresses_in_a_description_are_not_members():
    text = "IOMMU Group 4:\n\t02:00.0 Ethernet [0200]: Intel I210 [8086:1533] (behind 00:1c.0)\n"
    assert (("0000:02:00.0",),) == read_groups(text).recorded


def test_text_without_groups_says_what_to_give():
    with pytest.raises(InputError, match="no IOMMU group in it; give dmesg"):
        read_groups("nothing here\n")


def test_a_group_listing_is_no_topology_and_the_advice_says_so():
    with pytest.raises(InputError, match=r"records groups, not what the devices are.*--against"):
        read_pci_text("IOMMU Group 0 00:01.0 PCI bridge\n", source="groups.txt")
