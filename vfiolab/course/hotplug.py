"""The machines of the hotplug notebook: devices that want different things of the iova space, and firmware that does."""

from __future__ import annotations

from vfiolab.course.answer import answer
from vfiolab.kit import Host, MachineBuilder, Table
from vfiolab.model.iommu.unit import AMD_HYPERTRANSPORT

__all__ = ["EMULATED", "FIRMWARE", "NARROW", "PLAIN", "firmware_host", "hotplug_host", "region_answers"]

EMULATED = "mdev0"
PLAIN, NARROW = "0000:01:00.0", "0000:81:00.0"
FIRMWARE = "0000:02:00.0"
REGION = (0xE8000, 0xE8FFF)
KINDS = (
    ("VT-d", "intel-vtd", "direct"),
    ("VT-d", "intel-vtd", "direct-relaxable"),
    ("AMD-Vi", "amd-vi", "direct"),
    ("AMD-Vi", "amd-vi", "reserved"),
    ("SMMUv3", "arm-smmu-v3", "direct"),
    ("SMMUv3", "arm-smmu-v3", "direct-relaxable"),
)


def hotplug_host(kernel: str = "7.3", kind: str = "intel-vtd") -> Host:
    """Boot a host with an emulated device and a plain one; with `intel-vtd` two units, of 48 and 39 bits, and a device behind each.

    With `amd-vi` one unit: every device behind it has the HyperTransport range 0xfd_0000_0000-0xff_ffff_ffff as a `reserved` region
    (amd_iommu_get_resv_regions).

    >>> [group.devices for group in hotplug_host().groups if not group.devices[0].endswith("1.0")]
    [('0000:01:00.0',), ('0000:81:00.0',), ('mdev0',)]
    >>> [str(region) for region in hotplug_host(kind="amd-vi").group_of(PLAIN).reserved]
    ['0xfee0_0000-0xfeef_ffff msi', '0xfd_0000_0000-0xff_ffff_ffff reserved']
    """
    m = MachineBuilder(f"hotplug, {kind}")
    m.endpoint(PLAIN, below=m.root_port("00:01.0", unit=m.unit("ivhd0" if kind == "amd-vi" else "dmar0", kind=kind)))
    if kind == "intel-vtd":
        m.endpoint(NARROW, below=m.root_port("80:01.0", unit=m.unit("dmar1", kind=kind, width=39)))
    m.mdev(EMULATED)
    return m.host(kernel)


def firmware_host(kind: str, kernel: str, word: str = "direct") -> Host:
    """Boot a machine with one IOMMU unit and two devices; for FIRMWARE, the second, firmware demands 0xe8000-0xe8fff.

    `word`: how Linux prints the demand. For AMD-Vi that is `direct` since 5.10, exclusion ranges included (init_unity_map_range), so
    `reserved` adds nothing there: it is the HyperTransport range that every device has.

    >>> space = firmware_host("amd-vi", "6.1").address_space()
    >>> space.attach(FIRMWARE)
    >>> space.iova_ranges[0]
    Span(0x0, 0xe_8000)
    """
    m = MachineBuilder(f"{kind} with a {word} region")
    unit = m.unit("iommu0", kind=kind)
    m.endpoint(PLAIN, below=m.root_port("00:01.0", unit=unit))
    m.endpoint(FIRMWARE, below=m.root_port("00:02.0", unit=unit))
    if word != "reserved":
        m.region(FIRMWARE, *REGION, word)
    return m.host(kernel)


def region_answers(*kernels: str) -> Table:
    """Attach a device with each kind of region beside the MSI window, and say what VFIO did: refused, a hole, or no hole.

    >>> next(iter(region_answers("6.1")))["6.1"]
    'EPERM'
    """
    return Table(["IOMMU", "printed as", *kernels], [(name, word, *(_done(kind, word, k) for k in kernels)) for name, kind, word in KINDS])


def _done(kind: str, word: str, kernel: str) -> str:
    space = firmware_host(kind, kernel, word).address_space()
    if error := answer(space.attach, FIRMWARE).error:
        return error.name
    place = AMD_HYPERTRANSPORT.start if word == "reserved" else REGION[0]
    inside = any(usable.contains(place) for usable in space.iova_ranges)
    return "joins, no hole" if inside else "joins, a hole"
