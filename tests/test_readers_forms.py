"""Listings in the forms in which people have them: each kind of trouble by a small example of it."""

from __future__ import annotations

import random

import pytest

from vfiolab.__main__ import main
from vfiolab.model.pci.grouping import NotComputableError
from vfiolab.readers import lines
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pcifile import read_pci_text, read_recorded
from vfiolab.readers.pciids import pci_ids

ON = "SrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-"
OFF = ON.replace("+", "-")


def port(address, below, *, name="PCI bridge [0604]: Example Port [1234:0001]", ctrl=ON, cap=ON):
    bus = address[:2]
    return (
        f"{address} {name}\n\tBus: primary={bus}, secondary={below}, subordinate={below}, sec-latency=0\n"
        f"\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00\n\tCapabilities: [140 v1] Access Control Services\n"
        f"\t\tACSCap:\t{cap}\n\t\tACSCtl:\t{ctrl}\n"
    )


def card(address, name="Ethernet controller [0200]: Example Card [1234:0002]", kind="Endpoint"):
    return f"{address} {name}\n\tCapabilities: [40] Express (v2) {kind}, MSI 00\n"


def groups(text, kernel=None):
    found = read_lspci(text)
    return [[bdf[5:] for bdf in members] for members in found.machine().grouping(kernel or newest()).groups]


def newest():
    from vfiolab.model.kernel import Kernel

    return Kernel()


# Former names


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("100 Series/C230 Series Chipset Family PCI Express Root Port #{}", 2018),
        ("Sunrise Point-H PCI Express Root Port #{}", 2015),
        ("200 Series PCH PCI Express Root Port #{}", 2017),
        ("Sunrise Point-LP PCI Express Root Port #{}", 2016),
        ("100/C230 Series Chipset Family PCIe Root Port #{}", 2026),
    ],
)
def test_a_root_port_has_its_rule_by_the_name_of_any_year(name, year):
    title = f"PCI bridge: Intel Corporation {name} (rev f1)"
    text = port("00:1c.0", "01", name=title.format(1), ctrl=OFF) + port("00:1c.1", "02", name=title.format(2), ctrl=OFF)
    assert [["00:1c.0"], ["00:1c.1"], ["01:00.0"], ["02:00.0"]] == groups(text + card("01:00.0") + card("02:00.0")), year


@pytest.mark.parametrize(
    ("vendor", "number"),
    [
        ("Advanced Micro Devices [AMD]", 0x1022),
        ("ATI Technologies Inc", 0x1002),
        ("Solarflare Communications", 0x1924),
        ("Broadcom Corporation", 0x14E4),
    ],
)
def test_a_vendor_is_known_by_its_former_name(vendor, number):
    assert (number, "Thing") == pci_ids().find_vendor(f"{vendor} Thing")


@pytest.mark.parametrize(
    ("vendor", "name", "ids"),
    [
        (0x8086, "82576 Gigabit Network Connection", (0x10C9, 0x10E6, 0x10E7, 0x10E8, 0x1526)),
        (0x1924, "SFC9120", (0x0903,)),
        (0x1022, "Hudson PCI Bridge", (0x780F,)),
        (0x1002, "SB700/SB800 LPC host controller", (0x439D,)),
        (0x1B4B, "88SE9230 PCIe SATA 6Gb/s Controller", (0x9230,)),
        (0x14E4, "BCM57414 NetXtreme-E Dual-port 10Gb/25Gb RDMA Ethernet", (0x16D7,)),
        (0x0014, "PCI-to-PCI Bridge", (0x7A09, 0x7A19, 0x7A29)),
    ],
)
def test_a_device_with_a_rule_is_known_by_its_former_name(vendor, name, ids):
    assert ids == pci_ids().find_devices(vendor, name)


# Titles


@pytest.mark.parametrize(
    "piece",
    [
        "C610/X99 series\nchipset MEI Controller #{}",
        "C610/X99\n  series chipset MEI\n  Controller #{}",
        "C610/X99 series chipset MEI Controller #{}",
    ],
)
def test_a_wrapped_title_is_joined_and_no_port_is_made_of_a_controller(piece):
    title = f"Communication controller: Intel Corporation {piece} (rev 05)\n\tCapabilities: [50] Power Management version 3\n"
    text = card("00:00.0", "Host bridge [0600]: Intel [8086:2f00]", "Root Port") + "".join(
        f"00:16.{n} {title.format(n + 1)}" for n in (0, 1)
    )
    assert [["00:00.0"], ["00:16.0", "00:16.1"]] == groups(text)


@pytest.mark.parametrize("device", ["1f.2 SATA controller", "1f.3 SMBus", "1b.0 Audio device"])
def test_what_is_no_port_never_gets_the_rule_of_ports_by_a_name_that_was_cut(device):
    slot, _, klass = device.partition(" ")
    text = "".join(
        f"00:{slot[:3]}{n} {klass}: Intel Corporation C610/X99 series\n\tCapabilities: [50] Power Management version 3\n" for n in (0, 2)
    )
    assert 1 == len(groups(text + port("00:01.0", "01"))) - 1


def test_a_title_alone_among_verbose_entries_says_nothing_of_capabilities():
    text = "00:00.0 Host bridge [0600]: Intel [8086:3ec2]\n" + port("00:1c.0", "01")
    two = "".join(f"01:00.{n} Ethernet controller [0200]: Mellanox [15b3:1017]\n" for n in (0, 1))
    with pytest.raises(NotComputableError, match=r"01:00\.0, 01:00\.1"):
        groups(text + two)


def test_a_status_that_promises_capabilities_and_shows_none_is_a_doubt():
    two = "".join(f"01:00.{n} Ethernet controller [0200]: X [15b3:1017]\n\tStatus: Cap+ 66MHz-\n" for n in (0, 1))
    with pytest.raises(NotComputableError):
        groups(port("00:1c.0", "01") + two)


# ACS while no IOMMU was in use


def test_acs_is_turned_on_as_linux_does_where_no_iommu_was_in_use():
    text = port("00:01.1", "01", ctrl=OFF) + port("00:01.2", "02", ctrl=OFF) + card("01:00.0") + card("02:00.0")
    found = read_lspci(text)
    assert [["00:01.1"], ["00:01.2"], ["01:00.0"], ["02:00.0"]] == groups(text)
    assert any("no IOMMU was in use" in warning for warning in found.warnings)


@pytest.mark.parametrize("hint", ["\tIOMMU group: 3\n", ""])
def test_acs_stays_as_it_is_where_an_iommu_was_in_use(hint):
    other = port("00:01.2", "02", ctrl=OFF if hint else ON)
    text = port("00:01.1", "01", ctrl=OFF) + hint + other + card("01:00.0") + card("02:00.0")
    assert {"00:01.1", "01:00.0"} <= set(groups(text)[0])
    assert not any("no IOMMU was in use" in warning for warning in read_lspci(text).warnings)


# Records of groups

RECORDED = [["0000:00:01.1", "0000:01:00.0"], ["0000:02:00.0"]]


def links(*names):
    return "".join(f"lrwxrwxrwx 1 root root 0 Nov 25 10:00 {name} -> ../../../../devices/pci0000:00/{name}\n" for name in names)


FORMS = {
    "dmesg": "[ 2.3] pcieport 0000:00:01.1: Adding to iommu group 4\n[ 2.3] nvme 0000:01:00.0: Adding to iommu group 4\n"
    "[ 2.3] pci 0000:02:00.0: Adding to iommu group 6\n",
    "journal": "Nov 25 10:00:00 h kernel: mlx5_core 0000:00:01.1: Adding to iommu group 4\n"
    "Nov 25 10:00:00 h kernel: xhci_hcd 0000:01:00.0: Adding to iommu group 4\n"
    "Nov 25 10:00:00 h kernel: pci 0000:02:00.0: Adding to iommu group 6\n",
    "lspci -vmm": "Slot:\t00:01.1\nIOMMUGroup:\t4\n\nSlot:\t01:00.0\nIOMMUGroup:\t4\n\nSlot:\t02:00.0\nIOMMUGroup:\t6\n",
    "find": "/sys/kernel/iommu_groups/4/devices/0000:00:01.1\n/sys/kernel/iommu_groups/4/devices/0000:01:00.0\n"
    "/sys/kernel/iommu_groups/6/devices/0000:02:00.0\n",
    "find from inside": "./4/devices/0000:00:01.1\n./4/devices/0000:01:00.0\n./6/devices/0000:02:00.0\n",
    "ls -l": f"/sys/kernel/iommu_groups/4/devices:\ntotal 0\n{links('0000:00:01.1', '0000:01:00.0')}\n"
    f"/sys/kernel/iommu_groups/6/devices:\ntotal 0\n{links('0000:02:00.0')}",
    "ls": "/sys/kernel/iommu_groups/4/devices:\n0000:00:01.1  0000:01:00.0\n\n/sys/kernel/iommu_groups/6/devices:\n0000:02:00.0\n",
    "tree": "/sys/kernel/iommu_groups\n├── 4\n│   ├── devices\n│   │   ├── 0000:00:01.1 -> ../a\n"
    "│   │   └── 0000:01:00.0 -> ../b/0000:00:01.1/x\n│   └── type\n"
    "└── 6\n    ├── devices\n    │   └── 0000:02:00.0 -> ../c\n    └── type\n",
    "links": "".join(
        f"lrwxrwxrwx 1 r r 0 /sys/bus/pci/devices/{bdf}/iommu_group -> ../../../kernel/iommu_groups/{number}\n"
        for bdf, number in (("0000:00:01.1", 4), ("0000:01:00.0", 4), ("0000:02:00.0", 6))
    ),
    "loop": "IOMMU Group 4:\n\t00:01.1 PCI bridge [0604]: AMD [1022:1633]\n\t01:00.0 SSD\nIOMMU Group 6:\n\t02:00.0 NIC\n",
    "loop in lines": "IOMMU Group 4 00:01.1 PCI bridge\nIOMMU Group 4 01:00.0 SSD\nIOMMU Group 6 02:00.0 NIC\n",
    "loop with ids": "Group 4:\t[1022:1633]     00:01.1  PCI\n\t\t[144d:a808] [R] 01:00.0  SSD\nGroup 6:\t[15b3:1017]     02:00.0  NIC\n",
    "quoted, in colour": "> \x1b[1mIOMMU group 4\x1b[0m\n> \t00:01.1 PCI\n> \t01:00.0 SSD\n> iommu group 6\n> \t02:00.0 NIC\n",
    "our own": "2 groups\n\ngroup 4    00:01.1  PCI\n           01:00.0  SSD\ngroup 6    02:00.0  NIC\n\nIn no group:\n  00:00.2  IOMMU\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_recorded_groups_are_read_in_every_form(form, tmp_path):
    path = tmp_path / "record.txt"
    path.write_text(FORMS[form], encoding="utf-8")
    assert RECORDED == [list(members) for members in read_recorded(path)[0]]


def test_names_without_capabilities_are_refused_with_what_to_give_instead():
    with pytest.raises(ValueError, match=r"lspci -vmm.*lspci -vvvnn"):
        read_pci_text("Slot:\t00:01.1\nClass:\tPCI bridge\n", source="x")


def test_a_record_with_driver_names_is_compared(tmp_path, capsys):
    (tmp_path / "lspci.txt").write_text(port("00:01.1", "01") + card("01:00.0"))
    (tmp_path / "dmesg.txt").write_text("pcieport 0000:00:01.1: Adding to iommu group 4\nnvme 0000:01:00.0: Adding to iommu group 5\n")
    assert 0 == main(["groups", str(tmp_path / "lspci.txt"), "--check", "--against", str(tmp_path / "dmesg.txt")])
    assert "2 devices in 2 groups" in capsys.readouterr().out


def test_no_colour_code_is_missed_by_the_look_that_spares_texts_without_one():
    rng = random.Random(5)
    pieces = ["\x1b", "[", "m", "K", "0", "1", ";", "x", "]", "^", "ESC[", "\x9b", " ", "[m[K", "?", "(B", "^[", "\x07", "ms"]
    for _ in range(20_000):
        text = "".join(rng.choices(pieces, k=rng.randrange(1, 9)))
        assert [lines._ESCAPES.sub("", text)] == lines.lines_of(text), repr(text)
