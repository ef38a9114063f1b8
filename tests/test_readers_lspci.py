"""What lspci prints, in the shapes people paste it."""

from __future__ import annotations

import re

import pytest
from pci_bytes import config_space, hex_dump
from real_machines import NAMES, from_lspci, listing, partition

from vfiolab.model.pci.grouping import NotComputableError, iommu_groups
from vfiolab.model.pci.topology import Acs, Function
from vfiolab.readers.errors import InputError
from vfiolab.readers.lspci import read_lspci
from vfiolab.readers.pcifile import read_pci_text, read_text

PORT = """\
00:1c.0 PCI bridge [0604]: Intel Corporation Device [8086:1234] (rev f1) (prog-if 00 [Normal decode])
\tControl: I/O+ Mem+ BusMaster+
\tInterrupt: pin A routed to IRQ 120
\tIOMMU group: 7
\tBus: primary=00, secondary=01, subordinate=01, sec-latency=0
\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00
\tCapabilities: [80] MSI: Enable+ Count=1/4 Maskable- 64bit-
\tCapabilities: [140 v1] Access Control Services
\t\tACSCap:\tSrcValid+ TransBlk+ ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
\t\tACSCtl:\tSrcValid+ TransBlk- ReqRedir+ CmpltRedir+ UpstreamFwd+ EgressCtrl- DirectTrans-
\tKernel driver in use: pcieport
"""
CARD = """\

01:00.0 Ethernet controller [0200]: Intel Corporation I210 Gigabit Network Connection [8086:1533] (rev 03)
\tIOMMU group: 8
\tCapabilities: [40] Express (v2) Endpoint, MSI 00
\tCapabilities: [70] MSI-X: Enable+ Count=5 Masked-
\tKernel driver in use: igb
"""
LISTING = PORT + CARD


def groups(text):
    return iommu_groups(read_lspci(text).topology).groups


def test_a_port_is_read_in_full():
    f = read_lspci(LISTING).topology["0000:00:1c.0"]
    assert Function(
        bdf="00:1c.0", vendor=0x8086, device=0x1234, class_code=0x060400, kind="root-port", acs=Acs(0x1F, 0x1D), secondary=1,
        subordinate=1, driver="pcieport", name="PCI bridge [0604]: Intel Corporation Device [8086:1234]", intx=1, msi=4,
    ) == f  # fmt: skip


def test_recorded_groups_are_kept_apart():
    assert (("0000:00:1c.0",), ("0000:01:00.0",)) == read_lspci(LISTING).recorded


def test_quoted_mail_reads_the_same():
    assert dict(read_lspci(LISTING).topology) == dict(read_lspci("".join(f"> {line}\n" for line in LISTING.splitlines())).topology)


def test_indented_text_with_carriage_returns_reads_the_same():
    assert dict(read_lspci(LISTING).topology) == dict(read_lspci("".join(f"    {line}\r\n" for line in LISTING.splitlines())).topology)


def test_tabs_turned_into_blanks_read_the_same():
    assert dict(read_lspci(LISTING).topology) == dict(read_lspci(LISTING.expandtabs()).topology)


def test_a_domain_in_front_reads_the_same():
    assert dict(read_lspci(LISTING).topology) == dict(read_lspci(re.sub(r"^(\d\d:)", r"0000:\1", LISTING, flags=re.MULTILINE)).topology)


def test_text_around_the_listing_is_passed_over():
    assert dict(read_lspci(LISTING).topology) == dict(read_lspci("$ sudo lspci -vvvnn\n" + LISTING).topology)


def test_utf_16_as_some_terminals_save_it_is_read(tmp_path):
    path = tmp_path / "lspci.txt"
    path.write_bytes(LISTING.encode("utf-16"))
    assert dict(read_lspci(LISTING).topology) == dict(read_pci_text(read_text(path), source="x").topology)


def test_the_plain_numeric_form_gives_ids_and_names():
    f = read_lspci("00:1f.6 0200: 8086:15b7 (rev 31)\n").topology["0000:00:1f.6"]
    assert (0x8086, 0x15B7, 0x020000) == (f.vendor, f.device, f.class_code)
    assert f.name.startswith("Ethernet controller: Intel Corporation Ethernet Connection")


def test_names_without_ids_are_looked_up():
    text = LISTING.replace(" [8086:1533]", "").replace(" [0200]", "")
    f = read_lspci(text).topology["0000:01:00.0"]
    assert (0x8086, 0x020000) == (f.vendor, f.class_code)
    assert 0x1533 in f.possible_devices


def test_a_name_that_pci_ids_has_since_changed_still_counts():
    name = "00:1c.0 PCI bridge: Intel Corporation Sunrise Point-H PCI Express Root Port #1 (rev f1)"
    f = read_lspci(PORT.replace(PORT.splitlines()[0], name)).topology["0000:00:1c.0"]
    assert 0xA110 in f.possible_devices


def test_a_device_listed_plain_and_verbose_is_one_device():
    plain = "".join(f"{line}\n" for line in LISTING.splitlines() if line[:1].isdigit())
    assert dict(read_lspci(LISTING).topology) == dict(read_lspci(plain + LISTING).topology)


def test_ids_of_one_entry_fill_up_the_other():
    bare = LISTING.replace(" [8086:1533]", "").replace("I210 Gigabit Network Connection", "Something Else")
    found = read_lspci("01:00.0 0200: 8086:1533 (rev 03)\n" + bare).topology["0000:01:00.0"]
    assert (0x8086, 0x1533) == found.ids


def test_two_entries_that_contradict_each_other_are_named_with_their_lines():
    other = CARD.replace("Express (v2) Endpoint", "Express (v2) Legacy Endpoint")
    assert any("01:00.0 is listed twice, at lines 13 and 19, with different content" in w for w in read_lspci(LISTING + other).warnings)


def test_denied_capabilities_are_said_and_groups_that_hang_on_them_refused():
    text = re.sub(r"\tCapabilities: \[.*\n(\t\t.*\n)*", "\tCapabilities: <access denied>\n", LISTING)
    found = read_lspci(text)
    assert any("denied" in warning and "root" in warning for warning in found.warnings)
    with pytest.raises(NotComputableError, match=r"00:1c\.0"):
        iommu_groups(found.topology)


def test_a_listing_without_capabilities_says_how_to_make_one():
    found = read_lspci("00:1f.0 ISA bridge: Intel Corporation Device 1234\n")
    assert any("without -vvv" in warning for warning in found.warnings)


def test_acs_without_its_registers_is_unknown_not_absent():
    text = "".join(f"{line}\n" for line in LISTING.splitlines() if "ACSC" not in line)
    found = read_lspci(text)
    assert not found.topology["0000:00:1c.0"].caps_known
    assert any("0000:00:1c.0: its ACS registers are not shown" in warning for warning in found.warnings)


def test_acs_lines_that_are_cut_name_what_is_missing():
    found = read_lspci(LISTING.replace(" UpstreamFwd+ EgressCtrl- DirectTrans-", ""))
    assert Acs(0x0F, 0x0D) == found.topology["0000:00:1c.0"].acs
    assert any("cut off before UpstreamFwd" in warning for warning in found.warnings)


def test_acs_lines_that_are_wrapped_are_read_to_their_end():
    text = LISTING.replace(" CmpltRedir+", "\n\t\t\tCmpltRedir+")
    assert Acs(0x1F, 0x1D) == read_lspci(text).topology["0000:00:1c.0"].acs


def test_a_bridge_without_bus_numbers_gets_the_bus_that_is_left_over():
    text = "".join(f"{line}\n" for line in LISTING.splitlines() if "Bus: primary" not in line)
    found = read_lspci(text)
    assert 1 == found.topology["0000:00:1c.0"].secondary
    assert any("0000:00:1c.0: the input does not say which bus lies below it" in warning for warning in found.warnings)


def test_extended_capabilities_without_an_express_line_are_an_incomplete_entry():
    text = LISTING.replace("\tCapabilities: [40] Express (v2) Root Port (Slot+), MSI 00\n", "")
    assert any("0000:00:1c.0: it has extended capabilities but no Express line" in warning for warning in read_lspci(text).warnings)


def test_a_device_that_sleeps_is_taken_as_an_endpoint_and_named():
    text = PORT + "\n01:00.0 VGA compatible controller: NVIDIA Corporation Device 1234 (rev ff)\n\t!!! Unknown header type 7f\n"
    found = read_lspci(text)
    assert "endpoint" == found.topology["0000:01:00.0"].kind
    assert any("0000:01:00.0: it did not answer" in warning for warning in found.warnings)


def test_a_hex_dump_beats_the_decoded_lines():
    port = Function(
        bdf="00:1c.0",
        vendor=0x8086,
        device=0x1234,
        class_code=0x060400,
        kind="root-port",
        secondary=1,
        subordinate=1,
        acs=Acs(0x1F, 0),
    )
    found = read_lspci(PORT + hex_dump(config_space(port)) + CARD).topology["0000:00:1c.0"]
    assert 0 == found.acs.ctrl


def test_a_hex_dump_with_a_gap_is_used_up_to_it():
    lines = hex_dump(config_space(Function(bdf="00:1c.0", kind="pci"))).splitlines()
    text = PORT + "\n".join([*lines[:8], *lines[9:]]) + "\n"
    assert any("hex dump of 0000:00:1c.0 has a gap before 90" in warning for warning in read_lspci(text).warnings)


def test_virtual_functions_follow_from_offset_and_stride():
    pf = (
        CARD
        + "\t\tInitial VFs: 7, Total VFs: 7, Number of VFs: 2, Function Dependency Link: 00\n"
        + "\t\tVF offset: 128, stride: 2, Device ID: 1520\n"
    )
    vf = "\n01:10.{} Ethernet controller: Intel Corporation I350\n\tCapabilities: [a0] Express (v2) Endpoint, MSI 00\n"
    tree = read_lspci(PORT + pf + vf.format(0) + vf.format(2)).topology
    assert ["0000:01:00.0"] * 2 == [tree[f"0000:01:10.{n}"].physfn for n in (0, 2)]


@pytest.mark.parametrize("text", ["", "hello\n", "00:zz.0 nothing\n"])
def test_text_without_a_device_says_what_to_give(text):
    with pytest.raises(InputError, match="lspci -vvvnn"):
        read_pci_text(text, source="notes.txt")


def test_bridges_that_form_a_loop_name_the_line():
    loop = PORT.replace("00:1c.0", "01:00.0").replace("secondary=01", "secondary=01")
    with pytest.raises(InputError, match=r"line \d+: bridges form a loop"):
        read_lspci(
            loop.replace("primary=00, secondary=01", "primary=01, secondary=02")
            + loop.replace("01:00.0", "02:00.0").replace("secondary=01", "secondary=01")
        )


@pytest.mark.parametrize("name", NAMES)
def test_removing_or_shuffling_the_group_lines_changes_nothing(name):
    numbers = iter(range(999, 0, -1))
    shuffled = re.sub(r"IOMMU group: \d+", lambda _: f"IOMMU group: {next(numbers) % 7}", listing(name))
    removed = re.sub(r".*IOMMU group.*\n", "", listing(name))
    expected = iommu_groups(from_lspci(name).topology).groups
    assert expected == groups(removed)
    assert expected == groups(shuffled)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_entries_changes_nothing(name):
    entries = re.split(r"\n(?=\S)", listing(name))
    assert partition(groups(listing(name))) == partition(groups("\n".join(reversed(entries))))
