"""Machines for experiments: units that differ in what you choose alone, devices that want different things of the iova space."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vfiolab.course.answer import answer
from vfiolab.kit import AddressSpace, Host, Machine, MachineBuilder, Table, load
from vfiolab.kit.host import boot
from vfiolab.model.iommu.unit import AMD_HYPERTRANSPORT
from vfiolab.model.irq.msi import InterruptController
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.grouping import GroupingOptions
from vfiolab.model.pci.topology import bdf_key

FIRST, SECOND = "0000:01:00.0", "0000:81:00.0"
EMULATED = "mdev0"
GRAPHICS = "0000:01:00.0"
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


def put(m: MachineBuilder, unit: str, *devices: str) -> None:
    """Put devices behind a unit, each below a root port of its own: 81:00.0 below 80:01.0."""
    for device in devices:
        bus = bdf_key(device)[1]
        m.endpoint(device, below=m.root_port(f"{bus & 0x80:02x}:{bus & 0x7F:02x}.0", unit=unit))


def attached(host: Host, *devices: str) -> AddressSpace:
    """Open an address space with the groups of these devices in it."""
    space = host.address_space()
    space.attach(*devices)
    return space


def arm_board(kernel: Kernel | str | None = None) -> Host:
    """Boot a kernel on the machine `one-smmu-its` whose ITS is where Arm's Foundation model has it: no two addresses look alike.

    >>> arm_board("6.12").interrupts
    InterruptController('gicv3-its', 0x2f03_0040)

    Source: its@2f020000 in arch/arm64/boot/dts/arm/foundation-v8-gicv3.dtsi (6.12), and GITS_TRANSLATER at 0x10040 in it.
    """
    machine = load("one-smmu-its", kernel).machine
    return boot(replace(machine, name="Arm board, one SMMU", interrupts=InterruptController("gicv3-its", 0x2F03_0040)), kernel)


def two_units(kind: str, kernel: Kernel | str | None = None, **facts: Any) -> Host:
    """Build a machine with two IOMMU units of one kind, and boot a kernel on it (the newest by default).

    `facts` are hardware facts of a unit, as `MachineBuilder.unit` takes them: one value for both units, or a pair. Behind
    the first unit, `iommu0`, are 0000:01:00.0 and 0000:02:00.0; behind `iommu1` 0000:81:00.0 and 0000:82:00.0, each a group of its own.

    >>> host = two_units("intel-vtd", width=(48, 39))
    >>> [str(unit) for unit in host.units]
    ['iommu0 (intel-vtd, 48-bit)', 'iommu1 (intel-vtd, 39-bit)']
    """
    m = MachineBuilder(f"two {kind} units")
    for number, bus in enumerate((0x00, 0x80)):
        chosen = {name: value[number] if isinstance(value, tuple) else value for name, value in facts.items()}
        put(m, m.unit(f"iommu{number}", kind=kind, **chosen), f"{bus + 1:02x}:00.0", f"{bus + 2:02x}:00.0")
    return m.host(kernel)


def two_below_a_switch(
    *, acs: bool, root: bool = True, kernel: Kernel | str | None = None, options: GroupingOptions | str | None = None
) -> Host:
    """Build a machine with two devices below a VT-d unit's switch, whose ports redirect requests upstream if `acs`.

    `root`: whether the root port above it has ACS. `options`: boot parameters, as for `vl.load`.

    0000:05:00.0 answers at the bus addresses 0xf000_0000-0xf000_ffff, its registers; 0000:04:00.0 is its neighbour.

    >>> [len(group.devices) for group in two_below_a_switch(acs=False).groups][-2:]
    [2, 2]
    """
    m = MachineBuilder(f"switch {'with' if acs else 'without'} ACS")
    switch = m.upstream("02:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd"), acs=root))
    for slot in (0, 1):
        m.endpoint(f"{slot + 4:02x}:00.0", below=m.downstream(f"03:{slot:02x}.0", below=switch, acs=acs), vendor=0x8086, device=0x10D3)
    m.bar("05:00.0", 0xF000_0000, 0xF000_FFFF)
    return m.host(kernel, options)


def three_ports(kernel: Kernel | str | None = None) -> Host:
    """Build a machine with three root ports of one slot, none with ACS, so that they are one group with all below: eight members.

    0000:01:00.0 and .1 are a graphics card on nouveau and its audio on snd_hda_intel, 0000:02:00.0 is a network card on e1000e,
    0000:03:00.0 and .1 are two more of one card, one on pci-stub and one without a driver. The ports are on pcieport.

    >>> host = three_ports()
    >>> len(host.group_of(GRAPHICS).devices), host.mates(GRAPHICS)["driver"][3:]
    (8, ['nouveau', 'snd_hda_intel', 'e1000e', 'pci-stub', 'none'])
    """
    m = MachineBuilder("three ports without ACS")
    unit = m.unit("dmar0", kind="intel-vtd")
    ports = [m.root_port(f"00:01.{n}", unit=unit, acs=False) for n in range(3)]
    m.endpoint("01:00.0", below=ports[0], driver="nouveau", class_code=0x030000, vendor=0x10DE, device=0x1B80)
    m.endpoint("01:00.1", below=ports[0], driver="snd_hda_intel", class_code=0x040300, vendor=0x10DE, device=0x10F0)
    m.endpoint("02:00.0", below=ports[1], driver="e1000e", vendor=0x8086, device=0x10D3)
    m.endpoint("03:00.0", below=ports[2], driver="pci-stub", vendor=0x8086, device=0x1521)
    m.endpoint("03:00.1", below=ports[2], driver=None, vendor=0x8086, device=0x1521)
    return m.host(kernel)


def no_iommu(kernel: Kernel | str | None = None) -> Host:
    """Boot a kernel that finds no IOMMU, as where the firmware has it off: no device is in a group. 0000:04:00.0 is on e1000e.

    >>> no_iommu().groups, no_iommu().mates("04:00.0")["driver"]
    ([], ['e1000e'])
    """
    m = MachineBuilder("no IOMMU in use")
    m.endpoint("04:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")), driver="e1000e")
    return Machine.of(replace(m.machine(), units=(), participants=frozenset())).host(kernel)


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
    put(m, m.unit("ivhd0" if kind == "amd-vi" else "dmar0", kind=kind), PLAIN)
    if kind == "intel-vtd":
        put(m, m.unit("dmar1", kind=kind, width=39), NARROW)
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
    put(m, m.unit("iommu0", kind=kind), PLAIN, FIRMWARE)
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
