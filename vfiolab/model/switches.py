"""The table of what changed between kernels: data, read by `Kernel`.

`first_seen` is the first tree that has the change, `absent_in` the newest older tree that was looked at. `evidence` is "recording" where
traces of both sides show the change, else "reading": the rule was read in the source and nothing recorded tests it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Version: TypeAlias = tuple[int, int]

T1 = "drivers/vfio/vfio_iommu_type1.c"
CORE = "drivers/vfio/vfio.c, later vfio_main.c, container.c, group.c"
IOMMU = "drivers/iommu/iommu.c"
INTEL = "drivers/iommu/intel-iommu.c, later intel/iommu.c"
SMMU = "drivers/iommu/arm-smmu*.c"
AMD = "drivers/iommu/amd*"
DMA_IOMMU = "drivers/iommu/dma-iommu.c"


@dataclass(frozen=True, slots=True)
class Switch:
    """One behaviour that changed: what the newer kernels do, where, and since when."""

    name: str
    what: str
    source: str
    first_seen: Version
    absent_in: Version | None
    evidence: str = "reading"

    @property
    def landed(self) -> str:
        """The interval in which the change landed."""
        old = f"after {self.absent_in[0]}.{self.absent_in[1]}, " if self.absent_in else ""
        return f"{old}by {self.first_seen[0]}.{self.first_seen[1]}"


_RECORDED = "recording"

_TABLE = (
    # GET_INFO
    Switch("info_pgsizes_flag", "GET_INFO sets the PGSIZES flag", f"vfio_iommu_type1_ioctl, {T1}", (4, 5), (4, 4), _RECORDED),
    Switch("copy_back_efault", "a result that cannot be written back is EFAULT, no longer a positive count", f"vfio_iommu_type1_ioctl, {T1}", (4, 5), (4, 4)),
    Switch("info_iova_ranges", "GET_INFO lists the usable iova ranges (capability 1)", f"vfio_iommu_type1_get_info, {T1}", (5, 4), (5, 3), _RECORDED),
    Switch("info_migration", "GET_INFO has the migration capability (2)", f"vfio_iommu_migration_build_caps, {T1}", (5, 8), (5, 7), _RECORDED),
    Switch("info_dma_avail", "GET_INFO counts the mappings still allowed (capability 3)", f"vfio_iommu_dma_avail_build_caps, {T1}", (5, 10), (5, 9), _RECORDED),
    Switch("info_caps_padded", "GET_INFO capabilities are padded to 8 bytes", "vfio_info_cap_add, drivers/vfio/vfio_main.c", (6, 6), (6, 2), _RECORDED),
    # containers and groups
    Switch("noiommu", "no-IOMMU mode (type 8)", f"vfio_noiommu_*, {CORE}", (4, 5), (4, 4)),
    Switch("dma_ownership", "a group is claimed as a whole at SET_CONTAINER (EPERM if a native driver has a member) and sits in a blocking domain", f"iommu_group_claim_dma_owner, {IOMMU}", (5, 19), (5, 17), _RECORDED),
    Switch("negative_fd_ebadf", "SET_CONTAINER looks the descriptor up first: a negative one is EBADF", f"vfio_group_ioctl_set_container, {CORE}", (6, 1), (5, 19), _RECORDED),
    Switch("group_can_die", "unbinding the last VFIO device detaches the group at once and kills its descriptor (ENODEV)", f"vfio_group_remove, {CORE}", (6, 1), (5, 19), _RECORDED),
    Switch("last_unbind_blocks", "unbinding the last VFIO device of a group in a container waits for the user", f"vfio_unregister_group_dev, {CORE}", (5, 10), (4, 4), _RECORDED),
    Switch("wrong_fd_ebadfd", "SET_CONTAINER accepts an iommufd; any other wrong descriptor is EBADFD", "vfio_group_ioctl_set_container, drivers/vfio/group.c", (6, 2), (6, 1), _RECORDED),
    Switch("probe_errno_reaches_bind", "the bind file gives the errno of the driver's probe, no longer ENODEV for all", "drivers/base/dd.c", (6, 1), (5, 10), _RECORDED),
    Switch("direct_blocks_ownership", "a group with a direct region cannot be claimed by a user (EINVAL)", f"__iommu_take_dma_ownership, {IOMMU}", (6, 6), (6, 2)),
    Switch("needs_coherent_iommu", "a device whose IOMMU cannot do cache-coherent mappings cannot be bound", f"__vfio_register_dev, {CORE}", (5, 19), (5, 17)),
    # attach
    Switch("reserved_regions", "IOMMU drivers report reserved regions; ARM gets the software MSI window and a cookie in each domain", f"iommu_get_group_resv_regions, {IOMMU}", (4, 11), (4, 10), _RECORDED),
    Switch("smmu_msi_not_remapped", "ARM SMMU drivers no longer claim to remap interrupts", f"arm_smmu_capable, {SMMU}", (4, 11), (4, 10)),
    Switch("arm_hardware_msi", "an SMMU whose MSIs are not translated (HiSilicon HI161x) reports their range", "iort_iommu_msi_get_resv_regions, drivers/acpi/arm64/iort.c", (4, 15), (4, 12)),
    Switch("hw_msi_overrides_sw_msi", "a hardware MSI region makes VFIO ignore the software window of the same group", f"vfio_iommu_has_sw_msi, {T1}", (4, 15), (4, 12)),
    Switch("isolated_msi_per_group", "interrupts are judged for the devices of the group, before for every MSI controller of the host", f"iommu_group_has_isolated_msi, {IOMMU}", (6, 6), (6, 2)),
    Switch("direct_relaxable", "direct-relaxable regions (USB, graphics) do not stand in the way", f"iommu_insert_resv_region, {IOMMU}", (5, 3), (4, 19)),
    Switch("touching_regions_merge", "touching reserved regions of one type merge", f"iommu_insert_resv_region, {IOMMU}", (5, 4), (5, 3)),
    Switch("valid_iova", "the valid-iova list: apertures and reserved regions are checked at attach and at MAP (EINVAL)", f"vfio_iommu_type1_attach_group, vfio_iommu_iova_dma_valid, {T1}", (5, 4), (5, 3), _RECORDED),
    Switch("enforced_coherency", "domains are compared by enforced coherency (snoop control), no longer by the CACHE protection", f"vfio_iommu_type1_attach_group, {T1}", (5, 19), (5, 17), _RECORDED),
    Switch("no_nesting", "type 6 (nesting) is gone", f"vfio_iommu_type1_check_extension, {T1}", (6, 13), (6, 12), _RECORDED),
    Switch("no_superpage_probe", "attach no longer probes for superpages", f"vfio_test_domain_fgsp, {T1}", (6, 19), (6, 13), _RECORDED),
    Switch("probe_in_valid_iova", "the superpage probe looks for a place in the valid-iova list instead of iova 0", f"vfio_test_domain_fgsp, {T1}", (6, 2), (6, 1)),
    Switch("attach_needs_valid_vaddr", "attach is EBUSY while a vaddr is invalidated", f"vfio_iommu_type1_attach_group, {T1}", (6, 1), (5, 19)),
    Switch("smmu_other_unit_einval", "a domain of another SMMU answers attach with EINVAL, before ENXIO (inside the kernel only)", f"arm_smmu_attach_dev, {SMMU}", (6, 12), (6, 1), _RECORDED),
    Switch("smmu_nesting_eperm", "an SMMU refuses nesting with EPERM", f"arm_smmu_enable_nesting, {SMMU}", (6, 12), (6, 1), _RECORDED),
    Switch("intel_nesting_einval", "VT-d refuses nesting with EINVAL, on 5.10 ENODEV", f"intel_iommu_enable_nesting, {INTEL}", (6, 1), (5, 10), _RECORDED),
    Switch("intel_nesting_enodev", "VT-d refuses nesting with ENODEV, before with EINVAL", f"intel_iommu_domain_set_attr, {INTEL}", (5, 10), (4, 4), _RECORDED),
    # what IOMMU units report
    Switch("intel_aperture_by_width", "VT-d reports an aperture by the unit's width, before always 2^57", f"intel_iommu_attach_device, {INTEL}", (5, 10), (5, 9), _RECORDED),
    Switch("intel_real_page_sizes", "VT-d reports 4K, 2M, 1G as the units have them, before every multiple of 4K", f"intel_iommu_domain_alloc, {INTEL}", (5, 15), (5, 12), _RECORDED),
    Switch("intel_page_sizes_per_unit", "VT-d reports the page sizes of the device's own unit, before what all units share", f"paging_domain_alloc, {INTEL}", (6, 13), (6, 12)),
    Switch("intel_attach_einval", "VT-d answers a mismatched attach with EINVAL, before EFAULT or EOPNOTSUPP (inside the kernel only)", f"prepare_domain_attach_device, {INTEL}", (6, 2), (6, 1)),
    Switch("intel_domain_fixed", "a VT-d domain keeps the width and page sizes of its first unit: a narrower unit cannot join", f"paging_domain_compatible, {INTEL}", (6, 19), (6, 13)),
    Switch("intel_no_rmrr_lock", "VT-d attach no longer refuses devices with a direct region (EPERM)", f"device_is_rmrr_locked, {INTEL}", (6, 6), (6, 2)),
    Switch("amd_v1_to_2_51", "AMD-Vi v1 tables report pages up to 2^51", f"{AMD}: page-size bitmap", (6, 12), (6, 1), _RECORDED),
    # mapping
    Switch("dma_entry_limit", "at most dma_entry_limit mappings (65535) a container: ENOSPC", f"vfio_dma_do_map, {T1}", (5, 3), (4, 19), _RECORDED),
    Switch("vaddr_update", "MAP and UNMAP take the VADDR flag (extension 10)", f"vfio_dma_do_map, vfio_dma_do_unmap, {T1}", (5, 12), (5, 11), _RECORDED),
    Switch("update_vaddr_needs_backend", "extension 10 is 0 before SET_IOMMU and with emulated groups", f"vfio_iommu_type1_check_extension, {T1}", (6, 1), (5, 19), _RECORDED),
    Switch("wrap_eoverflow", "a range that wraps past 2^64 is EOVERFLOW and is tested first", f"vfio_dma_do_map, vfio_dma_do_unmap, {T1}", (6, 19), (6, 13), _RECORDED),
    Switch("inclusive_ends", "look-ups use inclusive ends: a mapping may end at 2^64 and is found again", f"vfio_find_dma, {T1}", (6, 19), (6, 13)),
    Switch("unmap_wrap_check", "UNMAP refuses a range that wraps past 2^64", f"vfio_dma_do_unmap, {T1}", (4, 15), (4, 12), _RECORDED),
    Switch("unmap_may_end_at_top", "UNMAP allows a range that ends exactly at 2^64", f"vfio_dma_do_unmap, {T1}", (5, 3), (4, 19), _RECORDED),
    Switch("unmap_all", "UNMAP takes the ALL flag (extension 9)", f"vfio_dma_do_unmap, {T1}", (5, 12), (5, 11), _RECORDED),
    Switch("unmap_in_iova_order", "UNMAP goes through the mappings in iova order, before as a root-first tree search meets them", f"vfio_dma_do_unmap, {T1}", (5, 12), (5, 11), _RECORDED),
    Switch("dirty_tracking", "dirty-page tracking: DIRTY_PAGES, and UNMAP with a dirty bitmap", f"vfio_iommu_type1_dirty_pages, {T1}", (5, 8), (5, 7), _RECORDED),
    # interrupts
    Switch("msi_two_phase", "a doorbell page that cannot be mapped fails the allocation of the interrupt, before the message became all ones", f"iommu_dma_prepare_msi, {DMA_IOMMU}", (5, 3), (4, 19)),
    Switch("refused_block_masks", "SET_IRQS for more vectors than were allocated leaves those of the block masked, before they stayed as they were", "vfio_msi_set_block, drivers/vfio/pci/vfio_pci_intrs.c", (6, 12), (6, 1), _RECORDED),
    Switch("dynamic_msix_its", "more MSI-X vectors can be enabled later behind an ITS", "vfio_msi_set_block, drivers/vfio/pci/vfio_pci_intrs.c", (7, 3), (6, 12), _RECORDED),
)  # fmt: skip

SWITCHES: dict[str, Switch] = {switch.name: switch for switch in _TABLE}
