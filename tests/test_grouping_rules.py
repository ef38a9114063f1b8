"""How Linux forms groups: one rule, one test. Worked examples first, then aliases, ACS, quirks, boot parameters, versions."""

from __future__ import annotations

import pytest

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.bootparams import AcsOverride, BootParameterError
from vfiolab.model.pci.grouping import GroupingOptions, NotComputableError, iommu_groups
from vfiolab.model.pci.quirks import AcsQuirk, Quirks
from vfiolab.model.pci.reasons import between, chain
from vfiolab.model.pci.topology import Acs, Function, Topology

ON = Acs(0x5F, 0x1D)
OFF = Acs(0x5F, 0x00)
EMPTY = Acs(0, 0)
CONVENTIONAL, MARVELL, INTEL = "pci", 0x1B4B, 0x8086


def rp(bdf, bus=None, acs=None, **more):
    return Function(bdf=bdf, kind="root-port", secondary=bus, subordinate=bus, acs=acs, **more)


def fn(bdf, kind="endpoint", **more):
    return Function(bdf=bdf, kind=kind, **more)


def groups(*functions, kernel="6.12", **options):
    """Return groups with short addresses, as text."""
    found = iommu_groups(Topology(functions), Kernel(kernel), GroupingOptions(**options))
    return [" ".join(bdf.removeprefix("0000:") for bdf in members) for members in found.groups]


# Worked examples


def test_a_port_without_acs_takes_everything_below_into_its_group():
    assert ["00:01.0 01:00.0 01:00.1"] == groups(rp("00:01.0", 1), fn("01:00.0", multifunction=True), fn("01:00.1"))


def test_functions_without_acs_below_a_good_port_share_a_group():
    assert ["00:01.0", "01:00.0 01:00.1"] == groups(rp("00:01.0", 1, ON), fn("01:00.0", multifunction=True), fn("01:00.1"))


def test_functions_with_an_empty_acs_capability_stand_alone():
    found = groups(rp("00:01.0", 1, ON), fn("01:00.0", multifunction=True, acs=EMPTY), fn("01:00.1", acs=EMPTY))
    assert ["00:01.0", "01:00.0", "01:00.1"] == found


def test_ports_of_one_slot_without_acs_share_with_all_below_and_the_isolated_one_stands_alone():
    found = groups(
        rp("00:1c.0", 1, multifunction=True),
        rp("00:1c.1", 2),
        rp("00:1c.2", 3, ON),
        fn("01:00.0"),
        fn("02:00.0"),
        fn("03:00.0"),
    )
    assert ["00:1c.0 00:1c.1 01:00.0 02:00.0", "00:1c.2", "03:00.0"] == found


def switch(root_acs, port_acs):
    return [
        rp("00:01.0", 1, root_acs),
        fn("01:00.0", "upstream", secondary=2),
        fn("02:00.0", "downstream", secondary=3, acs=port_acs),
        fn("02:03.0", "downstream", secondary=4, acs=port_acs),
        fn("03:00.0"),
        fn("04:00.0"),
    ]


def test_a_switch_without_acs_below_a_good_port_pairs_each_card_with_its_own_port():
    assert ["00:01.0", "01:00.0", "02:00.0 03:00.0", "02:03.0 04:00.0"] == groups(*switch(ON, None))


def test_a_weak_hop_above_good_ones_collects_everything_below():
    assert ["00:01.0 01:00.0 02:00.0 02:03.0 03:00.0 04:00.0"] == groups(*switch(None, ON))


def test_the_proposal_of_2025_makes_an_open_switch_one_group():
    assert ["00:01.0", "01:00.0 02:00.0 02:03.0 03:00.0 04:00.0"] == groups(*switch(ON, None), proposal_2025=True)


def test_one_port_without_isolation_opens_the_whole_switch_by_the_proposal_of_2025():
    one_open = [f for f in switch(ON, ON) if f.bdf != "0000:02:00.0"] + [fn("02:00.0", "downstream", secondary=3)]
    assert ["00:01.0", "01:00.0", "02:00.0 03:00.0", "02:03.0", "04:00.0"] == groups(*one_open)
    assert ["00:01.0", "01:00.0 02:00.0 02:03.0 03:00.0 04:00.0"] == groups(*one_open, proposal_2025=True)


def nested(inner_acs):
    """A switch without isolation; below one of its ports another switch, and below the other a card of two functions."""
    return [
        *switch(ON, None)[:4],
        fn("03:00.0", "upstream", secondary=5),
        fn("05:00.0", "downstream", secondary=6, acs=inner_acs),
        fn("06:00.0"),
        fn("04:00.0", multifunction=True),
        fn("04:00.1"),
    ]


def test_the_proposal_of_2025_takes_in_every_level_below_the_switch():
    everything = "01:00.0 02:00.0 02:03.0 03:00.0 04:00.0 04:00.1 05:00.0 06:00.0"
    assert [["00:01.0", everything]] * 2 == [groups(*nested(acs), proposal_2025=True) for acs in (ON, None)]


def test_the_proposal_of_2025_moves_a_group_as_a_whole_and_each_member_keeps_its_own_reason():
    found = iommu_groups(Topology(nested(ON)), Kernel("6.12"), GroupingOptions(proposal_2025=True))
    steps = {bdf.removeprefix("0000:"): reason.step for bdf, reason in found.reasons.items()}
    assert ("proposal", "path", "path") == (steps["02:03.0"], steps["04:00.0"], steps["04:00.1"])


def test_the_proposal_of_2025_leaves_an_isolating_switch_as_it_is():
    assert groups(*switch(ON, ON)) == groups(*switch(ON, ON), proposal_2025=True)


def test_conventional_devices_are_in_the_group_of_the_bridge_that_hands_on_their_dma():
    bridge = fn("01:00.0", "pcie-to-pci", secondary=2)
    found = groups(rp("00:01.0", 1, ON), bridge, fn("02:00.0", CONVENTIONAL), fn("02:01.0", CONVENTIONAL))
    assert ["00:01.0", "01:00.0 02:00.0 02:01.0"] == found


def test_virtual_functions_have_a_group_each():
    pf = fn("01:00.0", sriov_numvfs=2)
    vfs = [fn(f"02:00.{n}", "vf", physfn="01:00.0") for n in (0, 1)]
    assert ["00:01.0", "01:00.0", "02:00.0", "02:00.1"] == groups(rp("00:01.0", 1, ON), pf, *vfs)


def test_conventional_functions_of_the_root_bus_share_by_slot():
    multi = [fn(f"00:1f.{n}", CONVENTIONAL, multifunction=True) for n in (0, 2, 3)]
    assert ["00:02.0", "00:19.0", "00:1f.0 00:1f.2 00:1f.3"] == groups(fn("00:02.0", CONVENTIONAL), *multi, fn("00:19.0", CONVENTIONAL))


def test_isolated_ports_beside_a_dummy_host_bridge_stand_alone_as_does_it():
    dummy = fn("00:01.0", CONVENTIONAL, multifunction=True, class_code=0x060000)
    found = groups(dummy, rp("00:01.1", 1, ON), rp("00:01.2", 2, ON), fn("01:00.0"), fn("02:00.0"))
    assert ["00:01.0", "00:01.1", "00:01.2", "01:00.0", "02:00.0"] == found


# Order


def test_groups_are_numbered_bus_by_bus_depth_first():
    found = groups(rp("00:01.0", 9, ON), rp("00:02.0", 3, ON), fn("09:00.0"), fn("03:00.0"))
    assert ["00:01.0", "00:02.0", "09:00.0", "03:00.0"] == found


def test_root_buses_follow_in_ascending_order_of_segment_and_bus():
    found = groups(fn("0001:00:01.0"), fn("40:01.0"), fn("00:01.0"))
    assert ["00:01.0", "40:01.0", "0001:00:01.0"] == found


# Aliases


def test_a_device_that_uses_its_function_1_shares_with_it():
    cards = [fn("01:00.0", vendor=MARVELL, device=0x9128, multifunction=True, acs=EMPTY), fn("01:00.1", acs=EMPTY)]
    assert ["00:01.0", "01:00.0 01:00.1"] == groups(rp("00:01.0", 1, ON), *cards)


def test_a_ghost_alias_joins_nobody():
    assert ["00:01.0", "01:00.0"] == groups(rp("00:01.0", 1, ON), fn("01:00.0", vendor=MARVELL, device=0x9172))


def test_alias_peers_are_followed_from_one_to_the_next():
    vca = [fn(f"01:{slot:02x}.0", vendor=INTEL, device=0x2954) for slot in (1, 2)]
    assert ["00:01.0", "01:01.0 01:02.0 01:03.0"] == groups(rp("00:01.0", 1, ON), *vca, fn("01:03.0"))


def test_an_alias_that_a_kernel_does_not_know_yet_does_not_join():
    mic = [fn("01:10.0", vendor=INTEL, device=0x2260), fn("01:11.0")]
    assert ["00:01.0", "01:10.0 01:11.0"] == groups(rp("00:01.0", 1, ON), *mic, kernel="4.7")
    assert ["00:01.0", "01:10.0", "01:11.0"] == groups(rp("00:01.0", 1, ON), *mic, kernel="4.6")


def test_a_conventional_bridge_hands_on_dma_under_its_own_id():
    found = iommu_groups(Topology([fn("00:1e.0", "pci-bridge", secondary=1), fn("01:00.0", CONVENTIONAL)]))
    assert "under its own id" in found.reasons["0000:01:00.0"].why


def test_a_bridge_known_to_hide_its_pcie_side_uses_its_secondary_bus():
    bridge = fn("01:00.0", "pci-bridge", secondary=2, vendor=0x1B21, device=0x1080)
    found = iommu_groups(Topology([rp("00:01.0", 1, ON), bridge, fn("02:05.0", CONVENTIONAL)]))
    assert "under one id, 02:00.0" in found.reasons["0000:02:05.0"].why


def test_stacked_conventional_bridges_end_at_the_topmost():
    tree = [
        fn("00:1e.0", "pci-bridge", secondary=1),
        fn("01:00.0", "pci-bridge", secondary=2),
        fn("02:00.0", CONVENTIONAL),
    ]
    assert ["00:1e.0 01:00.0 02:00.0"] == groups(*tree)


def test_a_translation_root_stops_the_walk_upward():
    root = fn("00:00.0", "pci-to-pcie", secondary=1)
    thunder = rp("01:00.0", 2, ON, vendor=0x14E4, device=0x9084)
    tree = Topology([root, thunder, fn("02:00.0")])
    assert "alias" == iommu_groups(tree, Kernel("4.11")).reasons["0000:02:00.0"].step
    assert "alias" != iommu_groups(tree, Kernel("4.12")).reasons["0000:02:00.0"].step


def vmd():
    controller = fn("00:0e.0", "rc-endpoint", vendor=INTEL, device=0x467F, class_code=0x010400)
    return [controller, rp("10000:e0:06.0", 0xE1, ON), fn("10000:e1:00.0")]


def test_what_is_behind_a_vmd_controller_is_in_its_group():
    assert ["00:0e.0 10000:e0:06.0 10000:e1:00.0"] == groups(*vmd())


def test_before_5_7_what_is_behind_a_vmd_controller_has_no_group():
    assert ["00:0e.0"] == groups(*vmd(), kernel="5.4")


def test_several_vmd_controllers_own_their_segments_in_order():
    two = [fn(f"{bus}:05.5", "rc-endpoint", vendor=INTEL, device=0x28C0, class_code=0x010400) for bus in ("16", "30")]
    found = groups(*two, fn("10000:00:00.0"), fn("10001:00:00.0"))
    assert ["16:05.5 10000:00:00.0", "30:05.5 10001:00:00.0"] == found


# ACS


@pytest.mark.parametrize("missing", [0x01, 0x04, 0x08, 0x10])
def test_each_needed_bit_that_is_advertised_must_be_on(missing):
    assert ["00:01.0 01:00.0"] == groups(rp("00:01.0", 1, Acs(0x5F, 0x1D & ~missing)), fn("01:00.0"))


@pytest.mark.parametrize("bit", [0x02, 0x20, 0x40])
def test_translation_blocking_egress_control_and_direct_translated_do_not_count(bit):
    assert ["00:01.0", "01:00.0"] == groups(rp("00:01.0", 1, Acs(0x7F, 0x7F & ~bit)), fn("01:00.0"))


def test_a_bit_that_is_not_advertised_need_not_be_on():
    assert ["00:01.0", "01:00.0"] == groups(rp("00:01.0", 1, Acs(0x0D, 0x0D)), fn("01:00.0"))


@pytest.mark.parametrize("kind", ["endpoint", "legacy-endpoint", "upstream", "rc-endpoint", "vf"])
def test_one_function_of_these_kinds_needs_no_acs(kind):
    assert ["00:01.0", "01:00.0"] == groups(rp("00:01.0", 1, ON), fn("01:00.0", kind))


def test_event_collectors_in_one_slot_are_not_isolated():
    assert ["00:00.0 00:00.1"] == groups(fn("00:00.0", "rc-event-collector"), fn("00:00.1", "rc-event-collector"))


# Quirks


def test_intel_root_complex_endpoints_are_isolated_from_5_8_on_and_in_older_stable_kernels():
    pair = [fn("00:0a.0", "rc-endpoint", vendor=INTEL), fn("00:0a.1", "rc-endpoint", vendor=INTEL)]
    for kernel in ("5.8", "5.7", "5.4", "5.4.48", "4.19.129", "4.14.185"):
        assert ["00:0a.0", "00:0a.1"] == groups(*pair, kernel=kernel)
    for kernel in ("5.7.4", "5.6", "5.4.47", "4.19.48", "4.14.177", "4.4"):
        assert ["00:0a.0 00:0a.1"] == groups(*pair, kernel=kernel)


def test_a_kernel_between_two_that_were_read_follows_the_older_and_says_so():
    rows = (AcsQuirk("made-up", INTEL, (0x1234,), "pass", None, "5.7", "5.4"),)
    pair = Topology([fn(f"00:0a.{n}", "rc-endpoint", vendor=INTEL, device=0x1234) for n in range(2)])
    found = iommu_groups(pair, Kernel("5.6"), GroupingOptions(quirks=Quirks(rows)))
    assert 1 == len(found.groups)
    assert any("kernel 5.6 lies between" in warning for warning in found.warnings)


def pch():
    return [
        rp("00:1c.0", 1, vendor=INTEL, device=0x8C10),
        rp("00:1c.1", 2, vendor=INTEL, device=0x8C12),
        fn("01:00.0"),
        fn("02:00.0"),
    ]


@pytest.mark.parametrize("kernel", ["4.4", "5.8", "5.10", "6.12"])
def test_intel_pch_ports_without_acs_are_isolated_by_linux(kernel):
    assert ["00:1c.0", "00:1c.1", "01:00.0", "02:00.0"] == groups(*pch(), kernel=kernel)


def test_early_releases_of_5_9_lost_the_isolation_of_intel_pch_ports():
    assert ["00:1c.0 00:1c.1 01:00.0 02:00.0"] == groups(*pch(), kernel="5.9.8")
    assert groups(*pch(), kernel="5.8") == groups(*pch(), kernel="5.9") == groups(*pch(), kernel="5.10")


def test_that_linux_could_program_the_pch_is_named_as_an_assumption():
    assert any("Linux managed to program" in warning for warning in iommu_groups(Topology(pch())).warnings)


def sunrise(wide):
    return [rp("00:1c.0", 1, Acs(0x0F, 0, wide), vendor=INTEL, device=0xA110), fn("01:00.0")]


def test_the_control_word_of_sunrise_point_ports_is_read_at_offset_8():
    assert ["00:1c.0", "01:00.0"] == groups(*sunrise(0x0D))
    assert ["00:1c.0 01:00.0"] == groups(*sunrise(0))


def test_where_nobody_read_offset_8_it_is_taken_to_be_on_and_said_so():
    found = iommu_groups(Topology(sunrise(None)))
    assert 2 == len(found.groups)
    assert any("0000:00:1c.0: its ACS control word lies at offset 8" in warning for warning in found.warnings)


def test_before_4_7_nobody_looked_at_offset_8():
    assert ["00:1c.0 01:00.0"] == groups(*sunrise(0x0D), kernel="4.6")


def test_functions_that_their_maker_certified_stand_alone():
    cards = [fn(f"01:00.{n}", vendor=INTEL, device=0x1521) for n in (0, 1)]
    assert ["00:01.0", "01:00.0", "01:00.1"] == groups(rp("00:01.0", 1, ON), *cards)


def test_a_south_bridge_of_an_amd_machine_is_isolated_only_with_an_amd_iommu():
    bridge = [
        fn("00:14.0", CONVENTIONAL, vendor=0x1002, device=0x4385),
        fn("00:14.2", CONVENTIONAL, vendor=0x1002, device=0x4383),
    ]
    iommu = fn("00:00.2", CONVENTIONAL, vendor=0x1002, device=0x5A23, class_code=0x080600)
    assert ["00:14.0 00:14.2"] == groups(*bridge)
    assert ["00:14.0", "00:14.2"] == groups(iommu, *bridge)


def test_a_zhaoxin_port_outside_the_list_fails_even_with_acs():
    assert ["00:01.0 01:00.0"] == groups(rp("00:01.0", 1, ON, vendor=0x1D17, device=0x9999), fn("01:00.0"))


def test_names_that_stand_for_several_ids_count_if_linux_treats_them_alike():
    port = rp("00:1c.0", 1, vendor=INTEL, candidates=(0x8C10, 0x8C12))
    assert ["00:1c.0", "01:00.0"] == groups(port, fn("01:00.0"))


def test_a_name_that_also_stands_for_ids_with_a_rule_is_taken_as_one_of_them_and_said_so():
    found = iommu_groups(Topology([rp("00:1c.0", 1, vendor=INTEL, candidates=(0x1D10, 0x1D11)), fn("01:00.0")]))
    assert 2 == len(found.groups)
    assert any("0000:00:1c.0: its name stands for several devices (1d10/1d11)" in warning for warning in found.warnings)


def test_an_unknown_id_of_a_maker_with_rules_is_named_as_an_assumption():
    found = iommu_groups(Topology([rp("00:1c.0", 1, vendor=INTEL), fn("01:00.0")]))
    assert any("0000:00:1c.0: its device id is not known" in warning for warning in found.warnings)


@pytest.mark.parametrize("known", [{}, {"candidates": (0x8C10, 0x8C12)}], ids=["no id", "a name of two ids"])
def test_a_rule_for_ports_is_no_assumption_about_a_card_of_the_same_maker(known):
    card = [fn("01:00.0", vendor=INTEL, class_code=0x010000, multifunction=True, **known), fn("01:00.1")]
    found = iommu_groups(Topology([rp("00:1c.0", 1, ON), *card]))
    assert 2 == len(found.groups)
    assert [] == [warning for warning in found.warnings if "intel-pch-port" in warning or "intel-wide-registers" in warning]


# Who takes part


def test_an_iommu_is_in_no_group_nor_is_the_amd_root_complex_beside_it():
    root = fn("00:00.0", CONVENTIONAL, vendor=0x1022, device=0x1480, class_code=0x060000)
    iommu = fn("00:00.2", CONVENTIONAL, vendor=0x1022, device=0x1481, class_code=0x080600)
    assert ["00:01.0"] == groups(root, iommu, fn("00:01.0", CONVENTIONAL, vendor=0x1022))


def test_an_intel_host_bridge_is_in_a_group():
    assert ["00:00.0"] == groups(fn("00:00.0", CONVENTIONAL, vendor=INTEL, class_code=0x060000))


def test_devices_that_are_known_not_to_be_behind_an_iommu_take_no_part():
    tree = Topology([fn("00:02.0"), fn("00:03.0")])
    found = iommu_groups(tree, participants=["0000:00:02.0"])
    assert (("0000:00:02.0",),) == found.groups
    assert {"0000:00:03.0": "it is not behind an IOMMU on this machine"} == found.left_out


# Boot parameters


def test_the_override_pretends_isolation_of_ports_without_acs():
    tree = [rp("00:01.0", 1), fn("01:00.0")]
    assert ["00:01.0", "01:00.0"] == groups(*tree, pcie_acs_override="downstream")


def test_the_override_changes_nothing_where_acs_is_there_but_off():
    assert ["00:01.0 01:00.0"] == groups(rp("00:01.0", 1, OFF), fn("01:00.0"), pcie_acs_override="downstream,multifunction")


def test_the_override_for_multifunction_separates_functions():
    tree = [rp("00:01.0", 1, ON), fn("01:00.0"), fn("01:00.1")]
    assert ["00:01.0", "01:00.0", "01:00.1"] == groups(*tree, pcie_acs_override="multifunction")


def test_the_override_by_id_touches_only_that_id():
    tree = [rp("00:01.0", 1, vendor=1, device=2), rp("00:02.0", 2, vendor=1, device=3), fn("01:00.0"), fn("02:00.0")]
    assert ["00:01.0", "00:02.0 02:00.0", "01:00.0"] == groups(*tree, pcie_acs_override="id:0001:0002")


def test_the_override_does_not_touch_conventional_devices():
    pair = [fn("00:1f.0", CONVENTIONAL), fn("00:1f.2", CONVENTIONAL)]
    assert ["00:1f.0 00:1f.2"] == groups(*pair, pcie_acs_override="downstream,multifunction")


@pytest.mark.parametrize("wrong", ["downstreams", "id:8086", "id:8086:zzzz"])
def test_a_word_that_the_override_does_not_know_is_named(wrong):
    with pytest.raises(BootParameterError, match=f"'{wrong}' is none of downstream"):
        AcsOverride.parse(wrong)


def test_the_override_takes_at_most_15_ids():
    with pytest.raises(BootParameterError, match="16 ids, the patch takes at most 15"):
        AcsOverride.parse(",".join(f"id:8086:{n:04x}" for n in range(16)))


def test_disable_acs_redir_opens_a_port():
    tree = [rp("00:01.0", 1, ON), fn("01:00.0")]
    assert ["00:01.0 01:00.0"] == groups(*tree, disable_acs_redir="0000:00:01.0")


def test_a_kernel_without_disable_acs_redir_ignores_it_and_says_so():
    found = iommu_groups(Topology([rp("00:01.0", 1, ON), fn("01:00.0")]), Kernel("4.17"), GroupingOptions(disable_acs_redir="00:01.0"))
    assert 2 == len(found.groups)
    assert any("pci=disable_acs_redir= is ignored" in warning for warning in found.warnings)


def test_config_acs_reads_its_bits_from_the_right():
    tree = [rp("00:01.0", 1, ON), fn("01:00.0")]
    assert ["00:01.0 01:00.0"] == groups(*tree, config_acs="xxxxxx0@00:01.0")
    assert ["00:01.0", "01:00.0"] == groups(*tree, config_acs="xxxxx0x@00:01.0")


def test_config_acs_can_turn_on_what_is_advertised():
    assert ["00:01.0", "01:00.0"] == groups(rp("00:01.0", 1, OFF), fn("01:00.0"), config_acs="0011101@pci:0:0")


@pytest.mark.parametrize("wrong", ["2@00:01.0", "1", "@00:01.0", "10101010@00:01.0"])
def test_config_acs_in_another_shape_is_refused(wrong):
    with pytest.raises(BootParameterError, match="must be BITS@DEVICE"):
        groups(rp("00:01.0", 1, ON), config_acs=wrong)


def test_a_parameter_may_name_a_device_by_its_path():
    tree = switch(ON, ON)
    assert groups(*tree, disable_acs_redir="02:00.0") == groups(*tree, disable_acs_redir="00:01.0/00.0/00.0")


# What is not known


def unknown(bdf, **more):
    return Function(bdf=bdf, caps_known=False, **more)


def test_groups_that_hang_on_unknown_capabilities_are_refused_naming_both_sides():
    tree = Topology([unknown("00:01.0", class_code=0x060400, secondary=1), fn("01:00.0")])
    with pytest.raises(NotComputableError, match=r"capabilities of 00:01.0 are not in the input.*01:00.0.*1 group if.*2 if they do"):
        iommu_groups(tree)


def test_unknown_capabilities_that_decide_nothing_are_only_a_warning():
    found = iommu_groups(Topology([unknown("00:02.0"), unknown("00:03.0")]))
    assert 2 == len(found.groups)
    assert "whatever they are" in found.warnings[-1]


# Reasons


def test_a_reason_names_who_is_joined_and_the_failing_hop():
    found = iommu_groups(Topology([rp("00:01.0", 1), fn("01:00.0")]))
    assert "01:00.0 joins 00:01.0 because the path to the root fails at 00:01.0: no ACS capability" == str(found.reasons["0000:01:00.0"])


def test_the_chain_leads_to_the_device_that_began_the_group():
    found = iommu_groups(Topology(switch(None, None)))
    steps = [reason.device for reason in chain(found.reasons, "0000:03:00.0")]
    assert ["0000:03:00.0", "0000:02:00.0", "0000:01:00.0", "0000:00:01.0"] == steps


def test_between_two_devices_the_fewest_joins_are_given():
    found = iommu_groups(Topology(switch(None, None)))
    assert 4 == len(between(found.reasons, "0000:03:00.0", "0000:04:00.0"))
    assert 1 == len(between(found.reasons, "0000:03:00.0", "0000:02:00.0"))


def test_between_devices_of_different_groups_there_is_nothing():
    found = iommu_groups(Topology(switch(ON, None)))
    assert [] == between(found.reasons, "0000:03:00.0", "0000:04:00.0")


def test_the_reasons_are_a_table_with_a_row_a_device():
    rows = iommu_groups(Topology([rp("00:01.0", 1), fn("01:00.0")])).rows()
    assert {
        "device": "01:00.0",
        "group": 0,
        "joins": "00:01.0",
        "step": "path",
        "because": "the path to the root fails at 00:01.0: no ACS capability",
        "stays while": "00:01.0 does not isolate",
    } == rows[1]
