"""When each change landed, by behaviour: an older kernel answers in the old way, a newer one in the new way, and neither is in doubt.

The two versions of a row are releases, x.y.0: the last without the change and the first with it, or recorded kernels on both sides of it.
What stable releases took over is another test's.
"""

from __future__ import annotations

import pytest
from test_version_switches import PROBES

from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.acs import AcsTester
from vfiolab.model.pci.aliases import AliasFinder
from vfiolab.model.pci.bootparams import apply_acs_parameters
from vfiolab.model.pci.quirks import ACS_QUIRKS, ALIAS_QUIRKS, Quirks
from vfiolab.model.pci.topology import Acs, Function, Topology
from vfiolab.model.switches import SWITCHES
from vfiolab.readers.pciids import pci_ids

# switch: (a kernel without, a kernel with)
LANDED = {
    "ioas_map_needs_rights": ("6.10", "6.11"),
    "chosen_iova_within_huge_page": ("6.16", "6.17"),
    "hwpt_alloc_typed": ("6.6", "6.7"),
    "device_cdev": ("6.5", "6.6"),
    "info_pgsizes_flag": ("4.4", "4.5"),
    "copy_back_efault": ("4.4", "4.5"),
    "info_iova_ranges": ("5.3", "5.4"),
    "info_migration": ("5.7", "5.8"),
    "info_dma_avail": ("5.9", "5.10"),
    "info_avail_first": ("5.9", "5.10"),
    "info_caps_padded": ("6.5", "6.6"),
    "noiommu": ("4.4", "4.5"),
    "dma_ownership": ("5.18", "5.19"),
    "negative_fd_ebadf": ("6.0", "6.1"),
    "group_can_die": ("6.0", "6.1"),
    "last_unbind_blocks": ("4.4", "4.14"),
    "no_container_wait": ("5.18", "5.19"),
    "wrong_fd_ebadfd": ("6.1", "6.2"),
    "probe_errno_reaches_bind": ("5.13", "5.14"),
    "pf_with_vfs_refused": ("4.18", "4.19"),
    "leaving_device_hidden": ("6.5", "6.6"),
    "bus_reset_takes_lock": ("4.12", "4.13"),
    "close_takes_no_device_lock": ("5.0", "5.1"),
    "direct_blocks_ownership": ("6.5", "6.6"),
    "needs_coherent_iommu": ("5.18", "5.19"),
    "reserved_regions": ("4.10", "4.11"),
    "smmu_msi_not_remapped": ("4.10", "4.11"),
    "arm_hardware_msi": ("4.14", "4.15"),
    "hw_msi_overrides_sw_msi": ("4.13", "4.14"),
    "isolated_msi_per_group": ("6.2", "6.3"),
    "direct_relaxable": ("5.2", "5.3"),
    "touching_regions_merge": ("5.3", "5.4"),
    "valid_iova": ("5.3", "5.4"),
    "enforced_coherency": ("5.18", "5.19"),
    "no_nesting": ("6.12", "6.13"),
    "no_superpage_probe": ("6.15", "6.16"),
    "probe_in_valid_iova": ("6.1", "6.2"),
    "attach_needs_valid_vaddr": ("6.2", "6.3"),
    "smmu_other_unit_einval": ("6.1", "6.2"),
    "smmu_nesting_eperm": ("6.10", "6.11"),
    "intel_nesting_einval": ("5.13", "5.14"),
    "intel_nesting_enodev": ("5.5", "5.6"),
    "intel_aperture_by_width": ("5.10", "5.11"),
    "intel_real_page_sizes": ("5.14", "5.15"),
    "intel_page_sizes_per_unit": ("6.12", "6.13"),
    "intel_attach_einval": ("6.1", "6.2"),
    "intel_domain_fixed": ("6.12", "6.13"),
    "intel_no_rmrr_lock": ("6.5", "6.6"),
    "amd_v1_to_2_51": ("6.11", "6.12"),
    "dma_entry_limit": ("5.0", "5.1"),
    "vaddr_update": ("5.11", "5.12"),
    "update_vaddr_needs_backend": ("6.2", "6.3"),
    "wrap_eoverflow": ("6.17", "6.18"),
    "inclusive_ends": ("6.17", "6.18"),
    "unmap_wrap_check": ("4.14", "4.15"),
    "unmap_may_end_at_top": ("4.20", "5.0"),
    "unmap_all": ("5.11", "5.12"),
    "unmap_in_iova_order": ("5.11", "5.12"),
    "dirty_tracking": ("5.7", "5.8"),
    "runs_are_charged": ("4.11", "4.12"),
    "unmap_stops_at_others": ("4.9", "4.10"),
    "unmap_by_anyone": ("5.19", "6.0"),
    "vaddr_changes_owner": ("6.2", "6.3"),
    "read_pin_breaks_cow": ("5.7", "5.8"),
    "zero_page_pinned": ("5.8", "5.9"),
    "long_term_cow": ("6.1", "6.2"),
    "bar_needs_memory_space": ("5.7", "5.8"),
    "compat_unmap_nothing": ("6.17", "6.18"),
    "pch_workaround_lost": ("5.8", "5.9"),
    "pch_workaround_back": ("5.9", "5.10"),
    "vmd_real_dma": ("5.5", "5.6"),
    "virtio_groups_at_boot": ("6.14", "6.15"),
    "intel_map_erange": ("6.18", "6.19"),
    "fault_line_is_one": ("4.6", "4.7"),
    "fault_line_has_pasid": ("5.3", "5.4"),
    "fault_line_is_hex": ("5.13", "5.14"),
    "fault_line_is_plain": ("5.14", "5.15"),
    "msi_two_phase": ("5.1", "5.2"),
    "refused_block_masks": ("6.4", "6.5"),
    "no_vectors_enospc": ("4.20", "5.0"),
    "no_vectors_erange": ("5.8", "5.9"),
    "msix_mappable": ("4.15", "4.16"),
    "vf_token": ("5.6", "5.7"),
    "device_feature": ("5.6", "5.7"),
    "device_ioeventfd": ("4.16", "4.17"),
    "dynamic_msix_x86": ("6.4", "6.5"),
    "dynamic_msix_its": ("6.12", "7.3"),
}
# Where another rule hides the change from its probe at that version.
HIDDEN = {
    ("needs_coherent_iommu", "5.19"): "before 6.1 the bind file answers ENODEV, whatever the probe said",
    ("intel_no_rmrr_lock", "6.6"): "from 6.6 on a direct region blocks ownership, before the attach is reached",
    ("direct_relaxable", "5.2"): "before 5.4 no region stands in the way of a map",
    ("info_iova_ranges", "5.3"): "the probe's kernel has capability 3 besides, as stable 5.4 does",
    ("info_iova_ranges", "5.4"): "the probe's kernel has capability 3 besides, as stable 5.4 does",
    ("info_avail_first", "5.9"): "5.9 has no capability 3, which stable 5.4 has",
    ("hw_msi_overrides_sw_msi", "4.13"): "before 4.15 no SMMU reports a hardware window",
    ("hw_msi_overrides_sw_msi", "4.14"): "before 4.15 no SMMU reports a hardware window",
}
BOOT = {"disable_acs_redir": ("0000:00:01.0", "4.18", "4.19"), "config_acs": ("0000000@0000:00:01.0", "6.10", "6.11")}
# (vendor, device, kind of function, a kernel without the rule, one with it)
ISOLATION = [
    (0x8086, 0x9999, "rc-endpoint", "5.7", "5.8"),
    (0x17CB, 0x0400, "root-port", "4.10", "4.11"),
    (0x17CB, 0x0115, "root-port", "6.11", "6.12"),
    (0x8086, 0xA110, "root-port", "4.6", "4.7"),
    (0x8086, 0xA290, "root-port", "4.10", "4.11"),
    (0x8086, 0x9D10, "root-port", "4.17", "4.18"),
    (0x177D, 0xA000, "root-port", "4.5", "4.6"),
    (0x177D, 0xAF84, "root-port", "5.4", "5.5"),
    (0x177D, 0xA026, "endpoint", "5.14", "5.15"),
    (0x10E8, 0xE004, "root-port", "4.13", "4.14"),
    (0x1DEF, 0xE005, "root-port", "4.17", "4.18"),
    (0x14E4, 0x16D7, "endpoint", "5.12", "5.13"),
    (0x14E4, 0x1750, "endpoint", "5.19", "6.0"),
    (0x14E4, 0x1760, "endpoint", "6.12", "6.13"),
    (0x14E4, 0xD714, "root-port", "5.3", "5.4"),
    (0x0014, 0x3C09, "root-port", "6.15", "6.16"),
    (0x1C36, 0x0031, "root-port", "5.3", "5.4"),
    (0x1D17, 0x3038, "endpoint", "5.6", "5.7"),
    (0x1957, 0x8D80, "root-port", "5.14", "5.15"),
    (0x1D17, 0x0710, "root-port", "5.6", "5.7"),
    (0x1D17, 0x9999, "root-port", "5.6", "5.7"),
    (0x8088, 0x0100, "endpoint", "6.2", "6.3"),
    (0x8088, 0x5010, "endpoint", "6.12", "6.13"),
    (0x8088, 0x9999, "endpoint", "6.2", "6.3"),
]
ALIASES = [
    (0x6766, 0x3D40, "6.11", "6.12"),
    (0x1B4B, 0x9125, "5.16", "5.17"),
    (0x1B4B, 0x9128, "4.16", "4.17"),
    (0x1B4B, 0x9220, "4.16", "4.17"),
    (0x1B4B, 0x9170, "5.0", "5.1"),
    (0x1B4B, 0x9215, "5.11", "5.12"),
    (0x1B4B, 0x9235, "6.4", "6.5"),
    (0x1103, 0x0645, "4.15", "4.16"),
    (0x8086, 0x2260, "4.6", "4.7"),
    (0x8086, 0x2954, "5.5", "5.6"),
    (0x10B5, 0x87B0, "5.5", "5.6"),
]
TRANSLATING_ROOT = (0x14E4, 0x9000)


def ids(row):
    return f"{row[0]:04x}:{row[1]:04x}"


@pytest.mark.parametrize(("name", "versions"), LANDED.items(), ids=LANDED)
def test_a_change_shows_in_the_kernel_that_has_it_and_not_in_the_one_before(name, versions):
    _, ask, on, off = PROBES[name]
    for version, there in zip(versions, (False, True), strict=True):
        kernel = Kernel(f"{version}.0")
        assert there is kernel.has(name)
        assert [] == [doubt for doubt in kernel.doubts if SWITCHES[name].what in doubt]
        if (name, version) not in HIDDEN:
            assert (on if there else off) == ask(kernel)


def test_every_switch_has_its_two_kernels():
    assert set(SWITCHES) == set(LANDED)


@pytest.mark.parametrize(("name", "row"), BOOT.items(), ids=BOOT)
def test_a_boot_parameter_acts_in_the_kernel_that_knows_it_and_not_in_the_one_before(name, row):
    value, without, known = row
    port = Function(bdf="00:01.0", kind="root-port", acs=Acs(0x1D, 0x1D))
    for version, there in ((without, False), (known, True)):
        changed, warnings = apply_acs_parameters(Topology([port]), Kernel(f"{version}.0"), **{name: value})
        assert there is (changed[port.bdf].acs != port.acs)
        assert there is not any("does not know it" in warning for warning in warnings)


@pytest.mark.parametrize("row", ISOLATION, ids=ids)
def test_a_rule_of_isolation_holds_in_the_kernel_that_has_it_and_not_in_the_one_before(row):
    vendor, device, kind, without, known = row
    function = Function(bdf="00:01.0", kind=kind, vendor=vendor, device=device, multifunction=True, acs=Acs(0x1D, 0))
    before, after = (AcsTester(Topology([function]), Kernel(f"{version}.0")) for version in (without, known))
    assert after.test(function.bdf).rule.startswith("quirk")
    assert before.test(function.bdf).rule != after.test(function.bdf).rule
    assert [{}, {}] == [before.doubts, after.doubts]


@pytest.mark.parametrize("row", ALIASES, ids=ids)
def test_an_alias_is_there_in_the_kernel_that_has_it_and_not_in_the_one_before(row):
    vendor, device, without, known = row
    function = Function(bdf="01:02.2", kind="endpoint", vendor=vendor, device=device)
    for version, there in ((without, False), (known, True)):
        finder = AliasFinder(Topology([function]), Kernel(f"{version}.0"))
        assert there is (len(list(finder.of(function.bdf))) > 1)
        assert {} == finder.doubts


@pytest.mark.parametrize(("version", "there"), [("4.11", False), ("4.12", True)])
def test_a_root_that_translates_ends_the_aliases_from_4_12_on(version, there):
    root = Function(bdf="00:01.0", kind="root-port", vendor=TRANSLATING_ROOT[0], device=TRANSLATING_ROOT[1], secondary=2, subordinate=3)
    bridge = Function(bdf="02:00.0", kind="pcie-to-pci", secondary=3)
    card = Function(bdf="03:00.0", kind="pci")
    finder = AliasFinder(Topology([root, bridge, card]), Kernel(f"{version}.0"))
    assert {} == finder.doubts
    assert there is finder._rewrites("translation-root", root)


def test_every_dated_rule_for_devices_has_its_two_kernels_and_no_other_dates():
    aliases = [(vendor, device, "endpoint", *kernels) for vendor, device, *kernels in ALIASES]
    for table, rows in ((ACS_QUIRKS, ISOLATION), (ALIAS_QUIRKS, [*aliases, (*TRANSLATING_ROOT, "root-port", "4.11", "4.12")])):
        for rule in table:
            met = {
                tuple(kernels)
                for vendor, device, kind, *kernels in rows
                if rule.matches(Function(bdf="00:01.0", kind=kind, vendor=vendor, device=device))
            }
            assert rule.first_seen is None or (rule.absent_in, rule.first_seen) in met, rule


# Ids that Linux has a rule for and that the public list of ids does not name (it may come to).
UNNAMED = {
    0x8086: "10fa 154f 1551 1c11 1c13 1c15 1c17 1c19 1c1b 1c1d 1c1f 1e11 1e13 1e15 1e17 1e19 1e1b 1e1d 1e1f 2260 2264"
    " 2954 2955 2956 2958 2959 295a 3b43 3b45 3b47 3b49 3b4b 3b4d 3b4f 3b51 9c91 9c93 9c95 9c97 9c99 9c9b 9d1b",
    0x17CB: "0115",
    0x177D: "b884",
    0x14E4: "1761 1762 1763 9000 9084 d714",
    0x1C36: "0031",
    0x1957: "8d80 8d81 8d82 8d83 8d88 8d89 8d8a 8d8b 8d90 8d91 8d92 8d93 8d98 8d99 8d9a 8d9b 8da0 8da1 8da8 8da9 8db0 8db1 8db8 8db9",
    0x1D17: "0723 0724 0725 0726 0727 0728 0729 072a 072b 072c 072d 072e 072f 0730",
    0x8088: "010c 010d 010e 010f 5010 5110",
}


def test_the_rules_are_about_devices_that_the_public_list_of_ids_names_or_are_listed_here():
    named = pci_ids().devices
    unnamed = {(vendor, int(device, 16)) for vendor, devices in UNNAMED.items() for device in devices.split()}
    for rule in (*ACS_QUIRKS, *ALIAS_QUIRKS):
        for ids_ in rule.devices or ():
            each = [ids_] if isinstance(ids_, int) else ids_ if len(ids_) <= 64 else []  # ThunderX: a block of 2,048 ids, few of them made
            assert [] == [f"{rule.vendor:04x}:{one:04x}" for one in each if (rule.vendor, one) not in named.keys() | unnamed]


def test_two_makers_may_use_one_number_and_each_keeps_its_rule():
    two = Quirks(ACS_QUIRKS)
    other = Function(bdf="00:02.0", kind="root-port", vendor=0x8086, device=0xE004)
    with_rule = Function(bdf="00:01.0", kind="root-port", vendor=0x10E8, device=0xE004)
    assert [0, 1] == [len(list(two.acs_rows(function))) for function in (other, with_rule)]
