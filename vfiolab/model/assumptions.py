"""What the model takes for granted without a recording or a reading of the kernel: a list that readers see.

Everything else in the model names its source: the kernel function it mirrors, or a recorded run.
"""

from __future__ import annotations

from typing import NamedTuple


class Assumption(NamedTuple):
    """One guess: what is assumed, where it shows, and why something had to be assumed."""

    what: str
    where: str
    why: str


ASSUMPTIONS = (
    Assumption(
        "Each region of the process's memory is one contiguous piece of RAM.",
        "map and unmap events; page-table pictures",
        "how long physical runs are depends on the machine; recorded events are compared with runs merged",
    ),
    Assumption(
        "A MAP that fails while pinning asks nothing of the IOMMU.",
        "events under a refused MAP (EFAULT, ENOMEM)",
        "a real kernel may map and unmap some runs first; how many depends on physical memory",
    ),
    Assumption(
        "On VT-d from 4.4 to 5.3, one page mapped at the very top of the 64-bit space kills the kernel; a longer range is EFAULT.",
        "MAP",
        "the BUG is recorded on 4.4 only, and only for one page",
    ),
    Assumption(
        "On VT-d from 4.12 to 5.10, where a MAP exceeds both the memory limit and the unit's width, each page is a run of its own.",
        "MAP: ENOMEM or EFAULT",
        "those kernels charge and map a contiguous run of memory as a whole, and how long runs are depends on the machine",
    ),
    Assumption(
        "Before 4.10, the pages of a mapping that another process unmaps leave the account of the process that mapped it.",
        "locked memory of several processes",
        "no recording of those kernels has two processes",
    ),
    Assumption(
        "A virtio-iommu refuses a domain of another virtio-iommu with EINVAL, and reports no cache coherency before 5.19.",
        "attach; CHECK_EXTENSION 4",
        "no machine with two of them was recorded, and on the one kernel recorded before 5.19 (5.15) nobody asked",
    ),
    Assumption(
        "VT-d units use second-stage tables on every kernel.",
        "attach on 6.13 and later",
        "first-stage tables have other operations and never share a domain with second-stage ones; no recording has both",
    ),
    Assumption(
        "AMD-Vi units narrower than 64 bits use v2 page tables (4K, 2M, 1G).",
        "GET_INFO",
        "only v1 tables were recorded",
    ),
    Assumption(
        "These drivers remove a device's virtual functions when they are unbound: igb, ixgbe, i40e, ice, mlx5_core; others keep them.",
        "bind and unbind",
        "seen with igb (removes) and nvme (keeps)",
    ),
    Assumption(
        "Behind iommufd, interrupts that are not isolated are refused with EPERM when a device is opened.",
        "GET_DEVICE_FD with iommufd's compatibility layer",
        "the recorded machine isolates its interrupts",
    ),
    Assumption(
        "A device's write into the x86 MSI window is an interrupt, and never reaches a mapping that lies there.",
        "journeys on x86",
        "Documentation/arch/x86/iommu.rst and the mail of 2015 say that the window is not translated; no DMA was recorded",
    ),
    Assumption(
        "With interrupt remapping, a message that no entry allows raises nothing, and VT-d reports it; without, any device can raise any.",
        "journeys on x86: forged messages",
        "follows from what remapping is for and from the fault reasons that Linux knows (irq_remap_fault_reasons); not recorded",
    ),
    Assumption(
        "A request to another device's BAR below a port that does not redirect it goes there directly and never meets the IOMMU.",
        "journeys: peer-to-peer",
        "follows from what the ACS bits mean; real switches and root complexes differ in what they route",
    ),
    Assumption(
        "A machine known only by its lspci listing has one IOMMU in front of every device, of the kind its vendor builds.",
        "address spaces on such machines; every such host lists this in `host.doubts`",
        "lspci shows no IOMMU units",
    ),
    Assumption(
        "A kernel whose /dev/vfio/vfio is iommufd's gives devices nodes of their own from 6.6 on, and knows huge pages of memory.",
        "opening /dev/vfio/devices/vfioN; the iova that IOAS_MAP chooses from 6.17 on",
        "both are build options (VFIO_DEVICE_CDEV, TRANSPARENT_HUGEPAGE) that a machine file does not tell",
    ),
    Assumption(
        "All processes of a host belong to one user.",
        "IOAS_MAP: the limit of locked memory while RLIMIT_MODE is 0",
        "the model has no users",
    ),
)
