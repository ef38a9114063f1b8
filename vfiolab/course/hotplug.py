"""The machines of the hotplug notebook: devices that want different things of the iova space, and firmware that does."""

from __future__ import annotations

from vfiolab.course.answer import answer
from vfiolab.kit import Host, MachineBuilder, Table

__all__ = ["DEVICES", "EMULATED", "FIRMWARE", "NARROW", "PLAIN", "RESERVED", "firmware_host", "hotplug_host", "region_answers"]

EMULATED = "mdev0"
PLAIN, RESERVED, NARROW = "0000:01:00.0", "0000:02:00.0", "0000:81:00.0"
FIRMWARE = "0000:02:00.0"
DEVICES = {EMULATED: "emulated (mdev)", PLAIN: "plain", RESERVED: "with a reserved region", NARROW: "behind a 39-bit unit"}
REGION = (0xE8000, 0xE8FFF)
KINDS = (
    ("VT-d", "intel-vtd", "direct"),
    ("VT-d", "intel-vtd", "direct-relaxable"),
    ("AMD-Vi", "amd-vi", "direct"),
    ("AMD-Vi", "amd-vi", "reserved"),
    ("SMMUv3", "arm-smmu-v3", "direct"),
    ("SMMUv3", "arm-smmu-v3", "direct-relaxable"),
)


def hotplug_host(kernel: str = "7.3") -> Host:
    """Boot a machine with two VT-d units, of 48 and 39 bits, and an AMD-Vi unit; behind that, a device with an exclusion range.

    No real machine has both: VT-d prints no region `reserved`, AMD-Vi does so for the exclusion ranges of firmware
    (amd_iommu_get_resv_regions). The range is 0xe8000-0xe8fff.

    >>> [group.devices for group in hotplug_host().groups if not group.devices[0].endswith("1.0")]
    [('0000:00:02.0',), ('0000:01:00.0',), ('0000:02:00.0',), ('0000:81:00.0',), ('mdev0',)]
    """
    m = MachineBuilder("hotplug")
    wide, narrow = m.unit("dmar0", kind="intel-vtd", width=48), m.unit("dmar1", kind="intel-vtd", width=39)
    m.endpoint(PLAIN, below=m.root_port("00:01.0", unit=wide))
    m.endpoint(RESERVED, below=m.root_port("00:02.0", unit=m.unit("ivhd0", kind="amd-vi")))
    m.endpoint(NARROW, below=m.root_port("80:01.0", unit=narrow))
    m.region(RESERVED, *REGION, "reserved")
    m.mdev(EMULATED)
    return m.host(kernel)


def firmware_host(kind: str, kernel: str, word: str = "direct") -> Host:
    """Boot a machine with one IOMMU unit and two devices; for FIRMWARE, the second, firmware demands 0xe8000-0xe8fff.

    >>> space = firmware_host("amd-vi", "6.1").address_space()
    >>> space.attach(FIRMWARE)
    >>> space.iova_ranges[0]
    Span(0x0, 0xe_8000)
    """
    m = MachineBuilder(f"{kind} with a {word} region")
    unit = m.unit("iommu0", kind=kind)
    m.endpoint(PLAIN, below=m.root_port("00:01.0", unit=unit))
    m.endpoint(FIRMWARE, below=m.root_port("00:02.0", unit=unit))
    m.region(FIRMWARE, *REGION, word)
    return m.host(kernel)


def region_answers(*kernels: str) -> Table:
    """Attach a device with each kind of region that firmware can cause, and say what VFIO did: refused, a hole, or no hole.

    >>> next(iter(region_answers("6.1")))["6.1"]
    'EPERM'
    """
    return Table(["IOMMU", "printed as", *kernels], [(name, word, *(_done(kind, word, k) for k in kernels)) for name, kind, word in KINDS])


def _done(kind: str, word: str, kernel: str) -> str:
    space = firmware_host(kind, kernel, word).address_space()
    if error := answer(space.attach, FIRMWARE).error:
        return error.name
    inside = any(usable.contains(REGION[0]) for usable in space.iova_ranges)
    return "joins, no hole" if inside else "joins, a hole"
