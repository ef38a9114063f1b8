"""The table of what changed between kernels: data, read by `Kernel`.

`first_seen` is the first release that has the change, `absent_in` the newest older one without it: by `commit` where the kernel's history
is known, else by the trees and recordings that were looked at. `stable` lists older series whose stable releases took the change over.
`evidence` is "recording" where traces of both sides show the change, else "reading": the rule was read in the source and nothing recorded
tests it. A commit dates a change; it does not show an answer.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

Version: TypeAlias = tuple[int, int]

T1 = "drivers/vfio/vfio_iommu_type1.c"
CORE = "drivers/vfio/vfio.c, later vfio_main.c, container.c, group.c"
IOMMU = "drivers/iommu/iommu.c"
INTEL = "drivers/iommu/intel-iommu.c, later intel/iommu.c"
SMMU = "drivers/iommu/arm-smmu*.c"
AMD = "drivers/iommu/amd*"
DMA_IOMMU = "drivers/iommu/dma-iommu.c"


class StableFrom(NamedTuple):
    """A stable series that took a change over: x.y.`since` has it, x.y.`absent` has it not; between the two nobody looked."""

    series: Version
    since: int
    absent: int = -1

    @property
    def known_absent(self) -> int:
        """The last release that is known to lack the change: the one before `since` if that is exact."""
        return self.since - 1 if self.absent < 0 else self.absent


def taken_by(*releases: str) -> tuple[StableFrom, ...]:
    """Return the stable series that took a change over, from the first release of each that has it.

    >>> taken_by("5.4.90")
    (StableFrom(series=(5, 4), since=90, absent=-1),)
    """
    parts = [tuple(map(int, release.split("."))) for release in releases]
    return tuple(StableFrom((major, minor), number) for major, minor, number in parts)


class Switch(NamedTuple):
    """One behaviour that changed: what the newer kernels do, where, and since when."""

    name: str
    what: str
    source: str
    first_seen: Version
    absent_in: Version | None
    evidence: str = "reading"
    commit: str = ""
    stable: tuple[StableFrom, ...] = ()

    @property
    def landed(self) -> str:
        """The interval in which the change landed, and the stable releases that took it over."""
        old, new = (show(version) if version else "" for version in (self.absent_in, self.first_seen))
        text = f"by {new}" if not old else f"in {new}" if self.commit else f"after {old}, by {new}"
        taken = [f"{show(s.series)}.{s.since}" if s.absent < 0 else f"{show(s.series)}.{s.absent + 1} to .{s.since}" for s in self.stable]
        return text + (f"; stable {', '.join(taken)}" if taken else "")

    def landed_in(self, version: Version, stable: int | None) -> bool | None:
        """Say whether a release has the change, None inside a gap; `stable` None is the last release of the series."""
        if version >= self.first_seen:
            return True
        for taken in self.stable:
            if taken.series == version:
                if stable is None or stable >= taken.since:
                    return True
                return False if stable <= taken.known_absent else None
        return False if self.absent_in is None or version <= self.absent_in else None


def show(version: Version) -> str:
    """Return a version as people write it."""
    return f"{version[0]}.{version[1]}"


_RECORDED = "recording"

_TABLE = (
    # GET_INFO
    Switch("info_pgsizes_flag", "GET_INFO sets the PGSIZES flag", f"vfio_iommu_type1_ioctl, {T1}", (4, 5), (4, 4), _RECORDED, commit="d4f50ee2f5b4"),
    Switch("copy_back_efault", "a result that cannot be written back is EFAULT, no longer a positive count", f"vfio_iommu_type1_ioctl, {T1}", (4, 5), (4, 4), commit="8160c4e45582", stable=taken_by("4.4.5")),
    Switch("info_iova_ranges", "GET_INFO lists the usable iova ranges (capability 1)", f"vfio_iommu_type1_get_info, {T1}", (5, 4), (5, 3), _RECORDED, commit="a717072007e8"),
    Switch("info_migration", "GET_INFO has the migration capability (2)", f"vfio_iommu_migration_build_caps, {T1}", (5, 8), (5, 7), _RECORDED, commit="ad721705d09c"),
    Switch("info_dma_avail", "GET_INFO counts the mappings still allowed (capability 3)", f"vfio_iommu_dma_avail_build_caps, {T1}", (5, 10), (5, 9), _RECORDED, commit="7d6e1329652e", stable=taken_by("5.4.90")),
    Switch("info_avail_first", "GET_INFO puts capability 3 before the usable ranges, before (in stable 5.4) behind them", f"vfio_iommu_type1_get_info, {T1}", (5, 10), (5, 9), _RECORDED),
    Switch("info_caps_padded", "GET_INFO capabilities are padded to 8 bytes", "vfio_info_cap_add, drivers/vfio/vfio_main.c", (6, 6), (6, 5), _RECORDED, commit="a881b496941f"),
    # containers and groups
    Switch("noiommu", "no-IOMMU mode (type 8)", f"vfio_noiommu_*, {CORE}", (4, 5), (4, 4), _RECORDED, commit="03a76b60f8ba"),
    Switch("dma_ownership", "a group is claimed as a whole at SET_CONTAINER (EPERM if a native driver has a member) and sits in a blocking domain", f"iommu_group_claim_dma_owner, {IOMMU}", (5, 19), (5, 18), _RECORDED, commit="70693f470848"),
    Switch("negative_fd_ebadf", "SET_CONTAINER looks the descriptor up first: a negative one is EBADF", f"vfio_group_ioctl_set_container, {CORE}", (6, 1), (6, 0), _RECORDED, commit="67671f153e6b"),
    Switch("group_can_die", "unbinding the last VFIO device detaches the group at once and kills its descriptor (ENODEV)", f"vfio_group_remove, {CORE}", (6, 1), (6, 0), _RECORDED, commit="ca5f21b25749"),
    Switch("last_unbind_blocks", "unbinding the last VFIO device of a group in a container waits for the user", f"vfio_unregister_group_dev, {CORE}", (4, 14), (4, 4), _RECORDED),
    Switch("no_container_wait", "unbinding the last VFIO device of a group no longer waits until the group leaves its container", f"vfio_unregister_group_dev, {CORE}", (5, 19), (5, 18), _RECORDED, commit="dc15f82f5329"),
    Switch("wrong_fd_ebadfd", "SET_CONTAINER accepts an iommufd; any other wrong descriptor is EBADFD", "vfio_group_ioctl_set_container, drivers/vfio/group.c", (6, 2), (6, 1), _RECORDED, commit="2a3dab19a0a6"),
    Switch("probe_errno_reaches_bind", "the bind file gives the errno of the driver's probe, no longer ENODEV for all", "bind_store, drivers/base/bus.c", (5, 14), (5, 13), _RECORDED, commit="ef6dcbdd8eb2"),
    Switch("pf_with_vfs_refused", "a physical function with virtual functions enabled cannot be bound to vfio-pci", "vfio_pci_probe, drivers/vfio/pci/vfio_pci.c", (4, 19), (4, 18), _RECORDED, commit="0dd0e297f0ec"),
    Switch("leaving_device_hidden", "a device that is being unbound cannot be opened any more (ENODEV), before an open prolongs the wait", f"vfio_device_get_from_name, {CORE}", (6, 6), (6, 5), _RECORDED),
    Switch("bus_reset_takes_lock", "the last close of a device that is being unbound waits for the device lock of the unbinder for ever", "vfio_pci_try_bus_reset, drivers/vfio/pci/vfio_pci.c; pci_reset_bus, drivers/pci/pci.c", (4, 13), (4, 12), commit="b014e96d1abb", stable=taken_by("4.12.8")),
    Switch("close_takes_no_device_lock", "the last close of a device that is being unbound goes through again", "vfio_pci_try_bus_reset, drivers/vfio/pci/vfio_pci.c; pci_reset_bus, drivers/pci/pci.c", (5, 1), (5, 0), _RECORDED, commit="ddefc033eecf", stable=taken_by("4.19.99")),
    Switch("direct_blocks_ownership", "a group with a direct region cannot be claimed by a user (EINVAL)", f"__iommu_take_dma_ownership, {IOMMU}", (6, 6), (6, 5), _RECORDED, commit="a48ce36e2786"),
    Switch("needs_coherent_iommu", "a device whose IOMMU cannot do cache-coherent mappings cannot be bound", f"__vfio_register_dev, {CORE}", (5, 19), (5, 18), commit="e8ae0e140c05"),
    # attach
    Switch("reserved_regions", "IOMMU drivers report reserved regions; ARM gets the software MSI window and a cookie in each domain", f"iommu_get_group_resv_regions, {IOMMU}", (4, 11), (4, 10), _RECORDED, commit="5d704992189f"),
    Switch("smmu_msi_not_remapped", "ARM SMMU drivers no longer claim to remap interrupts", f"arm_smmu_capable, {SMMU}", (4, 11), (4, 10)),
    Switch("arm_hardware_msi", "an SMMU whose MSIs are not translated (HiSilicon HI161x) reports their range", "iort_iommu_msi_get_resv_regions, drivers/acpi/arm64/iort.c", (4, 15), (4, 14)),
    Switch("hw_msi_overrides_sw_msi", "a hardware MSI region makes VFIO ignore the software window of the same group", f"vfio_iommu_has_sw_msi, {T1}", (4, 14), (4, 13)),
    Switch("isolated_msi_per_group", "interrupts are judged for the devices of the group, before for every MSI controller of the host", f"iommu_group_has_isolated_msi, {IOMMU}", (6, 3), (6, 2), commit="6b1a7a00427c"),
    Switch("direct_relaxable", "direct-relaxable regions (USB, graphics) do not stand in the way", f"iommu_insert_resv_region, {IOMMU}", (5, 3), (5, 2), _RECORDED, commit="1c5c59fbad20"),
    Switch("touching_regions_merge", "touching reserved regions of one type merge", f"iommu_insert_resv_region, {IOMMU}", (5, 4), (5, 3), commit="4dbd258ff63e"),
    Switch("valid_iova", "the valid-iova list: apertures and reserved regions are checked at attach and at MAP (EINVAL)", f"vfio_iommu_type1_attach_group, vfio_iommu_iova_dma_valid, {T1}", (5, 4), (5, 3), _RECORDED, commit="af029169b8fd"),
    Switch("enforced_coherency", "domains are compared by enforced coherency (snoop control), no longer by the CACHE protection", f"vfio_iommu_type1_attach_group, {T1}", (5, 19), (5, 18), _RECORDED, commit="71cfafda9c9b"),
    Switch("no_nesting", "type 6 (nesting) is gone", f"vfio_iommu_type1_check_extension, {T1}", (6, 13), (6, 12), _RECORDED, commit="35890f85573c"),
    Switch("no_superpage_probe", "attach no longer probes for superpages", f"vfio_test_domain_fgsp, {T1}", (6, 16), (6, 15), _RECORDED, commit="07970d048cdd"),
    Switch("probe_in_valid_iova", "the superpage probe looks for a place in the valid-iova list instead of iova 0", f"vfio_test_domain_fgsp, {T1}", (6, 2), (6, 1), commit="895c0747f726", stable=taken_by("6.1.9")),
    Switch("attach_needs_valid_vaddr", "attach is EBUSY while a vaddr is invalidated", f"vfio_iommu_type1_attach_group, {T1}", (6, 3), (6, 2), _RECORDED, commit="ef3a3f6a294b", stable=taken_by("6.1.16", "6.2.3")),
    Switch("smmu_other_unit_einval", "a domain of another SMMU answers attach with EINVAL, before ENXIO (inside the kernel only)", f"arm_smmu_attach_dev, {SMMU}", (6, 2), (6, 1), _RECORDED, commit="f4a147735793"),
    Switch("smmu_nesting_eperm", "an SMMUv3 refuses nesting with EPERM", f"arm_smmu_enable_nesting, {SMMU}", (6, 11), (6, 10), _RECORDED),
    Switch("intel_nesting_einval", "VT-d refuses nesting with EINVAL, on 5.10 ENODEV", f"intel_iommu_attach_device, {INTEL}", (5, 14), (5, 13), _RECORDED, commit="521f546b4e4c"),
    Switch("intel_nesting_enodev", "VT-d refuses nesting with ENODEV, before with EINVAL", f"intel_iommu_domain_set_attr, {INTEL}", (5, 6), (5, 5), _RECORDED, commit="2cd1311a2667"),
    # what IOMMU units report
    Switch("intel_aperture_by_width", "VT-d reports an aperture by the unit's width, before always 2^57", f"intel_iommu_attach_device, {INTEL}", (5, 11), (5, 10), _RECORDED, commit="c062db039f40", stable=taken_by("5.10.9")),
    Switch("intel_real_page_sizes", "VT-d reports 4K, 2M, 1G as the units have them, before every multiple of 4K", f"intel_iommu_domain_alloc, {INTEL}", (5, 15), (5, 14), _RECORDED, commit="a886d5a7e67b"),
    Switch("intel_page_sizes_per_unit", "VT-d reports the page sizes of the device's own unit, before what all units share", f"paging_domain_alloc, {INTEL}", (6, 13), (6, 12), commit="5bdd86ec5d19"),
    Switch("intel_attach_einval", "VT-d answers a mismatched attach with EINVAL, before EFAULT or EOPNOTSUPP (inside the kernel only)", f"prepare_domain_attach_device, {INTEL}", (6, 2), (6, 1), commit="f4a147735793"),
    Switch("intel_domain_fixed", "a VT-d domain keeps the width and page sizes of its first unit: a narrower unit cannot join", f"paging_domain_compatible, {INTEL}", (6, 13), (6, 12), commit="a98db518dde2"),
    Switch("intel_no_rmrr_lock", "VT-d attach no longer refuses devices with a direct region (EPERM)", f"device_is_rmrr_locked, {INTEL}", (6, 6), (6, 5), _RECORDED, commit="d3aedf94f480"),
    Switch("amd_v1_to_2_51", "AMD-Vi v1 tables report pages up to 2^51", f"{AMD}: page-size bitmap", (6, 12), (6, 11), _RECORDED, commit="7a41dcb52f9d", stable=taken_by("6.10.13", "6.11.2")),
    # mapping
    Switch("dma_entry_limit", "at most dma_entry_limit mappings (65535) a container: ENOSPC", f"vfio_dma_do_map, {T1}", (5, 1), (5, 0), _RECORDED, commit="492855939bdb", stable=taken_by("4.4.180", "4.9.173", "4.14.115", "4.19.38", "5.0.11")),
    Switch("vaddr_update", "MAP and UNMAP take the VADDR flag (extension 10)", f"vfio_dma_do_map, vfio_dma_do_unmap, {T1}", (5, 12), (5, 11), _RECORDED, commit="c3cbab24db38"),
    Switch("update_vaddr_needs_backend", "extension 10 is 0 before SET_IOMMU and with emulated groups", f"vfio_iommu_type1_check_extension, {T1}", (6, 3), (6, 2), _RECORDED, commit="ef3a3f6a294b", stable=taken_by("6.1.16", "6.2.3")),
    Switch("wrap_eoverflow", "a range that wraps past 2^64 is EOVERFLOW, and MAP tests it before the alignment", f"vfio_dma_do_map, vfio_dma_do_unmap, {T1}", (6, 18), (6, 17), _RECORDED, commit="6012379ede6a"),
    Switch("inclusive_ends", "look-ups use inclusive ends: a mapping may end at 2^64 and is found again", f"vfio_find_dma, {T1}", (6, 18), (6, 17), commit="ef270ec44637"),
    Switch("unmap_wrap_check", "UNMAP refuses a range that wraps past 2^64", f"vfio_dma_do_unmap, {T1}", (4, 15), (4, 14), _RECORDED, commit="71a7d3d78e3c"),
    Switch("unmap_may_end_at_top", "UNMAP allows a range that ends exactly at 2^64", f"vfio_dma_do_unmap, {T1}", (5, 0), (4, 20), commit="58fec830fc19", stable=taken_by("4.19.16", "4.20.3")),
    Switch("unmap_all", "UNMAP takes the ALL flag (extension 9)", f"vfio_dma_do_unmap, {T1}", (5, 12), (5, 11), _RECORDED, commit="c19650995374"),
    Switch("unmap_in_iova_order", "UNMAP goes through the mappings in iova order, before as a root-first tree search meets them", f"vfio_dma_do_unmap, {T1}", (5, 12), (5, 11), _RECORDED, commit="0f53afa12bae"),
    Switch("dirty_tracking", "dirty-page tracking: DIRTY_PAGES, and UNMAP with a dirty bitmap", f"vfio_iommu_type1_dirty_pages, {T1}", (5, 8), (5, 7), _RECORDED, commit="d6a4c185660c"),
    Switch("runs_are_charged", "MAP charges a physically contiguous run as a whole before it maps it, before page by page", f"vfio_pin_pages_remote, {T1}", (4, 12), (4, 11), _RECORDED),
    Switch("unmap_stops_at_others", "UNMAP ends at the first mapping that another process made, before it took every process's", f"vfio_dma_do_unmap, {T1}", (4, 10), (4, 9)),
    Switch("unmap_by_anyone", "UNMAP takes mappings that another process made, before it ended at the first of them", f"vfio_dma_do_unmap, {T1}", (6, 0), (5, 19), _RECORDED, commit="ffed0518d871"),
    Switch("vaddr_changes_owner", "who updates a vaddr becomes the mapping's owner: its pages are charged to that process, within its limit (ENOMEM)", f"vfio_change_dma_owner, {T1}", (6, 3), (6, 2), _RECORDED, commit="90fdd158a695", stable=taken_by("6.1.16", "6.2.3")),
    Switch("read_pin_breaks_cow", "pinning a never-written private page for reading gives the process a page of its own first, so it is charged", f"vfio_pin_pages_remote, {T1}; should_force_cow_break, mm/gup.c", (5, 8), (5, 7), _RECORDED, commit="17839856fd58", stable=taken_by("4.4.289", "4.9.298", "4.19.189", "5.4.47", "5.6.19", "5.7.3")),
    Switch("zero_page_pinned", "a never-written private page that is pinned for reading is the kernel's shared page of zeros, which is not charged", f"vfio_pin_pages_remote, {T1}; mm/gup.c", (5, 9), (5, 8), _RECORDED, commit="a308c71bf1e6"),
    Switch("long_term_cow", "a never-written private page that is pinned for reading is the process's own again, and charged", f"vfio_pin_pages_remote, {T1}; mm/gup.c", (6, 2), (6, 1), _RECORDED, commit="84209e87c696"),
    Switch("bar_needs_memory_space", "MAP of a device's BAR is EFAULT while the device's memory space is off", f"vaddr_get_pfns, {T1}; vfio_pci_mmap_fault, drivers/vfio/pci/vfio_pci_core.c", (5, 8), (5, 7), _RECORDED, commit="abafbc551fdd", stable=taken_by("4.9.236", "4.14.198", "4.19.144", "5.4.64")),
    Switch("compat_unmap_nothing", "iommufd's layer: UNMAP of a range that holds no mapping is 0, before ENOENT", "iopt_unmap_iova_range, drivers/iommu/iommufd/io_pagetable.c", (6, 18), (6, 17), _RECORDED, commit="afb47765f923", stable=taken_by("6.6.117", "6.12.59", "6.17.9")),
    Switch("ioas_map_needs_rights", "iommufd: IOAS_MAP and IOAS_COPY without READABLE and WRITEABLE are EINVAL, before the domain refused them", "iommufd_ioas_map, iommufd_ioas_copy, drivers/iommu/iommufd/ioas.c", (6, 11), (6, 10), commit="996dc53ac289", stable=taken_by("6.6.49", "6.10.8")),
    Switch("chosen_iova_within_huge_page", "iommufd: an iova that the kernel chooses is a multiple of a huge page at most, before of the memory's alignment", "iopt_alloc_iova, drivers/iommu/iommufd/io_pagetable.c", (6, 17), (6, 16), commit="b42497e3c0e7", stable=taken_by("6.6.103", "6.12.43", "6.15.11", "6.16.2")),
    Switch("hwpt_alloc_typed", "iommufd: HWPT_ALLOC takes flags, data and a domain to nest in; an object that is none is EINVAL, before ENOENT", "iommufd_hwpt_alloc, drivers/iommu/iommufd/hw_pagetable.c", (6, 7), (6, 6)),
    Switch("device_cdev", "a device on a VFIO driver has a node of its own, /dev/vfio/devices/vfioN, for kernels with iommufd", "vfio_device_fops_cdev_open, drivers/vfio/device_cdev.c", (6, 6), (6, 5), commit="8b6f173a4ce4"),
    # groups and devices
    Switch("pch_workaround_lost", "Intel PCH root ports are not programmed to isolate (5.9 only)", "pci_quirk_enable_intel_pch_acs, drivers/pci/quirks.c", (5, 9), (5, 8)),
    Switch("pch_workaround_back", "Intel PCH root ports are programmed to isolate again", "pci_quirk_enable_intel_pch_acs, drivers/pci/quirks.c", (5, 10), (5, 9), stable=taken_by("5.9.9")),
    Switch("vmd_real_dma", "what is behind an Intel VMD controller is grouped by the controller's id", "pci_real_dma_dev, drivers/pci/search.c", (5, 6), (5, 5), commit="2b0140c69637"),
    Switch("virtio_groups_at_boot", "behind a virtio-iommu every device has its group at boot, before a device without driver gets it at its first bind", "of_iommu_configure, viommu_probe_device, drivers/iommu", (6, 15), (6, 14), commit="bcb81ac6ae3c"),
    Switch("intel_map_erange", "VT-d answers a mapping past its width with ERANGE, before EFAULT (inside the kernel; replay passes it on)", f"pt_check_range, drivers/iommu/generic_pt/pt_iter.h; before intel_iommu_map, {INTEL}", (6, 19), (6, 18), commit="d373449d8e97"),
    # what the host's log says of a blocked interrupt request
    Switch("fault_line_is_one", "an interrupt-remapping fault is one line in the log, before two", "dmar_fault_do_one, drivers/iommu/dmar.c", (4, 7), (4, 6), commit="a0fe14d7dcf5"),
    Switch("fault_line_has_pasid", "a DMA fault of VT-d is printed with a PASID, ffffffff for none", "dmar_fault_do_one, drivers/iommu/dmar.c", (5, 4), (5, 3)),
    Switch("fault_line_is_hex", "the numbers of an interrupt-remapping fault are printed as hex", "dmar_fault_do_one, drivers/iommu/intel/dmar.c", (5, 14), (5, 13), commit="719a19335692"),
    Switch("fault_line_is_plain", "the device of an interrupt-remapping fault is printed as lspci does again", "dmar_fault_do_one, drivers/iommu/intel/dmar.c", (5, 15), (5, 14), commit="0b482d0c75bf"),
    # interrupts
    Switch("msi_two_phase", "a doorbell page that cannot be mapped fails the allocation of the interrupt, before the message became all ones", f"iommu_dma_prepare_msi, {DMA_IOMMU}", (5, 2), (5, 1), commit="ece6e6f0218b"),
    Switch("refused_block_masks", "SET_IRQS for more vectors than were allocated leaves those of the block masked, before they stayed as they were", "vfio_msi_set_block, drivers/vfio/pci/vfio_pci_intrs.c", (6, 5), (6, 4), _RECORDED, commit="63972f63a63f"),
    Switch("no_vectors_enospc", "enabling MSI or MSI-X with no vector at all is ENOSPC, before ERANGE", "pci_alloc_irq_vectors_affinity, drivers/pci/msi.c", (5, 0), (4, 20), _RECORDED, commit="77f88abd4a6f", stable=taken_by("4.14.158", "4.19.88")),
    Switch("no_vectors_erange", "enabling MSI or MSI-X with no vector at all is ERANGE again", "pci_alloc_irq_vectors_affinity, drivers/pci/msi.c", (5, 9), (5, 8), _RECORDED, commit="30ff3e8c2874"),
    Switch("msix_mappable", "GET_REGION_INFO says that the MSI-X table may be mapped (capability 3)", "vfio_pci_ioctl_get_region_info, drivers/vfio/pci/vfio_pci_core.c", (4, 16), (4, 15)),
    Switch("vf_token", "GET_DEVICE_FD takes options behind the device's name: vf_token=UUID", "vfio_pci_core_match, drivers/vfio/pci/vfio_pci_core.c", (5, 7), (5, 6), commit="cc20d7999000"),
    Switch("device_feature", "a device has the FEATURE ioctl", "vfio_pci_core_ioctl_feature, drivers/vfio/pci/vfio_pci_core.c", (5, 7), (5, 6)),
    Switch("device_ioeventfd", "a device has the IOEVENTFD ioctl", "vfio_pci_ioctl_ioeventfd, drivers/vfio/pci/vfio_pci_core.c", (4, 17), (4, 16), commit="30656177c408"),
    Switch("dynamic_msix_x86", "more MSI-X vectors can be enabled later on x86", "vfio_msi_alloc_irq, drivers/vfio/pci/vfio_pci_intrs.c", (6, 5), (6, 4), _RECORDED, commit="e4163438e015"),
    Switch("dynamic_msix_its", "more MSI-X vectors can be enabled later behind an ITS", "vfio_msi_set_block, drivers/vfio/pci/vfio_pci_intrs.c", (7, 3), (6, 12), _RECORDED),
)  # fmt: skip

SWITCHES: dict[str, Switch] = {switch.name: switch for switch in _TABLE}

#: How many ioctls of its own an iommufd has, from which release on (enum of IOMMUFD_CMD_*, include/uapi/linux/iommufd.h): a reading.
IOMMUFD_IOCTLS = (((6, 2), 9), ((6, 6), 11), ((6, 7), 13), ((6, 8), 14), ((6, 11), 15), ((6, 13), 19), ((6, 15), 20), ((6, 17), 21))
