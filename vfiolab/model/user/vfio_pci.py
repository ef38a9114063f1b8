"""What vfio-pci tells of a device, and its resets: facts of functions, buses and groups. Knows no descriptors.

Sources: drivers/vfio/pci/vfio_pci_core.c (vfio_pci_ioctl_get_info, _get_region_info, _get_irq_info, _reset, _get_pci_hot_reset_info,
vfio_pci_dev_set_hot_reset, vfio_pci_core_match), read in 4.19 to 6.12; recorded are irq_info, resets that succeed, and BARs mapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from vfiolab.model.checks import Check, table
from vfiolab.model.errors import NotModelledError
from vfiolab.model.irq.msi import ERR, INDEX_NAMES, INTX, MSIX, vectors_of
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.bars import Bar, msix_bar
from vfiolab.model.pci.grouping import below
from vfiolab.model.pci.topology import Function, Topology
from vfiolab.model.uapi.requests import CapHeader, DeviceFeature, DeviceInfo, IrqInfo, RegionInfo
from vfiolab.model.user.checks import STRUCT_CHECKS, VFIO_PCI
from vfiolab.model.user.drivers import UserSystem

BARS, ROM, CONFIG, VGA, REGIONS = 6, 6, 7, 8, 9
READ, WRITE, MMAP, CAPS = 1, 2, 4, 8
MSIX_MAPPABLE = 3
COMMAND, MEMORY_SPACE = 4, 2
FEATURE_OPERATIONS = 0x7_0000
#: Features that vfio-pci answers for any function; the token of SR-IOV is a physical function's.
VF_TOKEN, LOW_POWER, DMA_BUF = 0, range(3, 6), 11


class Dependent(NamedTuple):
    """A function that a reset of the bus takes along, and its group."""

    device: str
    group: int


def device_info(topology: Topology, function: Function) -> DeviceInfo:
    """Return what GET_INFO says of a function."""
    return DeviceInfo(flags=2 | int(can_be_reset(topology, function)), num_regions=REGIONS, num_irqs=len(INDEX_NAMES))


def can_be_reset(topology: Topology, function: Function) -> bool:
    """Say whether the function has a reset: FLR (assumed of every PCI Express function), else its bus is its own and has a bridge above."""
    if function.express_type is not None:
        return True
    return topology.parent(function.bdf) is not None and len(topology.on_bus(function.bdf)) == 1


def irq_info(kernel: Kernel, function: Function, index: int, *, dynamic: bool) -> IrqInfo:
    """Return what GET_IRQ_INFO says: EINVAL for a type that does not exist, and for ERR on a conventional function (recorded)."""
    table(IRQ_INFO_CHECKS, kernel).run(Asked(function, index))
    fixed = 6 if index == INTX else 0 if index == MSIX and dynamic else 8
    return IrqInfo(flags=1 | fixed, index=index, count=vectors_of(function, index))


def region_info(kernel: Kernel, function: Function, bars: Sequence[Bar], index: int) -> RegionInfo:
    """Return what GET_REGION_INFO says. Region i begins at i << 40 in the descriptor."""
    table(REGION_INFO_CHECKS, kernel).run(Asked(function, index))
    offset = index << 40
    if index in (CONFIG, VGA):
        size = 0xC0000 if index == VGA else 4096 if function.express_type is not None else 256
        return RegionInfo(flags=READ | WRITE, index=index, size=size, offset=offset)
    if index >= len(bars) or not bars[index].size:
        return RegionInfo(index=index, offset=offset)
    size = bars[index].size
    mappable = index == msix_bar(function, bars) and size >= 4096 and kernel.has("msix_mappable")
    flags = READ | WRITE | (MMAP if size >= 4096 else 0) | (CAPS if mappable else 0)
    return RegionInfo(flags=flags, index=index, size=size, offset=offset, cap_ids=(MSIX_MAPPABLE,) if mappable else ())


def with_capabilities(info: RegionInfo) -> bytes:
    """Return the bytes of an answer to GET_REGION_INFO: the capabilities behind the struct if argsz has room, else argsz says how much."""
    tail = b""
    for place, number in enumerate(info.cap_ids, 1):
        following = RegionInfo.FORMAT.size + 8 * place if place < len(info.cap_ids) else 0
        tail += CapHeader(id=number, next=following).pack()
    start, whole = RegionInfo.FORMAT.size, RegionInfo.FORMAT.size + len(tail)
    fits = info.argsz >= whole
    argsz, cap_offset = max(info.argsz, whole) if tail else info.argsz, start if tail and fits else 0
    return RegionInfo(argsz, info.flags, info.index, cap_offset, info.size, info.offset).pack() + tail * fits


def feature(kernel: Kernel, function: Function, asked: DeviceFeature) -> None:
    """Answer FEATURE: EFAULT, EINVAL, and ENOTTY for what a plain vfio-pci device does not have. NotModelledError for what it has."""
    table(FEATURE_CHECKS, kernel).run(asked)
    number = asked.flags & 0xFFFF
    if number in LOW_POWER or number >= DMA_BUF or (number == VF_TOKEN and function.sriov_totalvfs):
        raise NotModelledError(f"feature {number} of {function.bdf}: what newer kernels do with it is not modelled")
    table(NO_FEATURE_CHECKS, kernel, before=FEATURE_CHECKS).run(asked)


def mmap_place(kernel: Kernel, bars: Sequence[Bar], function: Function, region: int, size: int, offset: int) -> int:
    """Return the bus address behind a piece of a BAR; EINVAL for what cannot be mapped (vfio_pci_core_mmap)."""
    room = -(-bars[region].size // 4096) * 4096 if region < min(BARS, len(bars)) else 0
    table(MMAP_CHECKS, kernel).run(Asked(function, region, size, offset, room))
    return bars[region].start + offset


def hot_reset_info(system: UserSystem, function: Function, argsz: int | None = None) -> list[Dependent]:
    """List every function that a reset of this one's bus takes along. ENODEV, EPERM (one is in no group), ENOSPC (argsz too small)."""
    reset = HotReset(system, function, argsz=argsz)
    table(HOT_RESET_INFO_CHECKS, system.kernel).run(reset)
    return reset.affected


def hot_reset(system: UserSystem, function: Function, groups: set[int]) -> None:
    """Check a reset of the bus: every affected device on a VFIO driver, and its group among those that the caller holds. EINVAL.

    Why groups matter: who holds a part of a bus may not reset what another user, or the host, has on the rest of it.
    """
    table(HOT_RESET_INFO_CHECKS + HOT_RESET_CHECKS, system.kernel).run(HotReset(system, function, groups))


@dataclass(frozen=True, slots=True)
class Asked:
    """A question about a region or an interrupt type of a function; or a piece of a region to map, which has `room` bytes for it."""

    function: Function
    index: int
    size: int = 0
    offset: int = 0
    room: int = 0


class HotReset(NamedTuple):
    """A reset of the bus that a function is on, asked for by who holds `groups`."""

    system: UserSystem
    function: Function
    groups: AbstractSet[int] = frozenset()
    argsz: int | None = None

    @property
    def along(self) -> list[Function]:
        """Every function that the reset takes along, in order of address."""
        topology = self.system.drivers.topology
        along = (one for top in topology.on_bus(self.function.bdf) for one in (top, *below(topology, top.bdf)))
        return sorted(along, key=lambda one: one.key)

    @property
    def affected(self) -> list[Dependent]:
        """The functions and their groups."""
        found = ((one.bdf, self.system.core.group_of(one.bdf)) for one in self.along)
        return [Dependent(bdf, group.id) for bdf, group in found if group is not None]


def _in_no_group(r: HotReset) -> str | None:
    without = next((one.bdf for one in r.along if r.system.core.group_of(one.bdf) is None), None)
    return f"{without} would be reset too and is in no group" if without else None


def _not_yours(r: HotReset) -> str | None:
    drivers = r.system.drivers
    for device, group in r.affected:
        if drivers.topology[device].is_bridge:
            continue
        if not drivers.on_vfio(device):
            return f"{device} would be reset too and is on no VFIO driver"
        if group not in r.groups:
            return f"{device} would be reset too, and its group {group} is not yours"
    return None


_FEATURE = "vfio_ioctl_device_feature, drivers/vfio/vfio_main.c"
FEATURE_CHECKS = (
    *STRUCT_CHECKS,
    Check("only known flags are set", "EINVAL", _FEATURE, lambda r: f"flags {r.flags:#_x} holds {r.flags & ~0x7_FFFF:#_x}, which no kernel knows", "get is 0x1_0000, set 0x2_0000, probe 0x4_0000",
          test="r.flags & ~0x7_FFFF"),
    Check("get and set are not asked together", "EINVAL", _FEATURE, "flags {r.flags:#_x} asks to get and to set", "only a probe may ask for both", test=f"r.flags & {FEATURE_OPERATIONS} == 0x3_0000"),
)  # fmt: skip
NO_FEATURE_CHECKS = (
    Check("the device has the feature", "ENOTTY", _FEATURE, lambda r: f"vfio-pci itself has no feature {r.flags & 0xFFFF}", "drivers of single vendors have features such as migration", test="True"),
)  # fmt: skip
IRQ_INFO_CHECKS = (
    Check("the interrupt type exists", "EINVAL", f"vfio_pci_ioctl_get_irq_info, {VFIO_PCI}", "{r.function.bdf} has no interrupt type {r.index}",
          f"types are {', '.join(f'{i} {n}' for i, n in enumerate(INDEX_NAMES))}; ERR exists on PCI Express only",
          test=f"r.index >= {len(INDEX_NAMES)} or (r.index == {ERR} and r.function.express_type is None)"),
)  # fmt: skip
REGION_INFO_CHECKS = (
    Check("the region exists", "EINVAL", f"vfio_pci_ioctl_get_region_info, {VFIO_PCI}", "{r.function.bdf} has no region {r.index}", "0 to 5 are the BARs, 6 the ROM, 7 config space, 8 VGA",
          test=f"r.index >= {REGIONS} or (r.index == {VGA} and (r.function.class_code or 0) >> 8 != 0x0300)"),
)  # fmt: skip
MMAP_CHECKS = (
    Check("the piece lies inside a BAR", "EINVAL", f"vfio_pci_core_mmap, {VFIO_PCI}",
          lambda r: f"region {r.index} of {r.function.bdf} has {f'{r.room:#_x} bytes' if r.room else 'no memory'} to map, not {r.size:#_x} from {r.offset:#_x}",
          "ask GET_REGION_INFO for the size and the MMAP flag", test="not r.size or r.offset + r.size > r.room"),
)  # fmt: skip
RESET_CHECKS = (
    Check("the function has a reset of its own, or a bus to itself", "EINVAL", f"vfio_pci_ioctl_reset, {VFIO_PCI}", "{r.function.bdf} has no reset of its own and shares its bus",
          "reset the whole bus (PCI_HOT_RESET), if all its devices are yours", test="not r.index"),
)  # fmt: skip
HOT_RESET_INFO_CHECKS = (
    Check("there is a bridge above the bus", "ENODEV", f"vfio_pci_ioctl_get_pci_hot_reset_info, {VFIO_PCI}", "{r.function.bdf} is on a root bus: there is no bridge that could reset it",
          "reset the function alone (DEVICE_RESET)", test="r.system.drivers.topology.parent(r.function.bdf) is None"),
    Check("every affected function is in a group", "EPERM", f"vfio_pci_ioctl_get_pci_hot_reset_info, {VFIO_PCI}", _in_no_group, "nothing: it cannot be reset safely"),
    Check("argsz holds the list", "ENOSPC", f"vfio_pci_ioctl_get_pci_hot_reset_info, {VFIO_PCI}",
          lambda r: f"argsz {r.argsz} does not hold {len(r.affected)} devices: {12 + 12 * len(r.affected)} bytes do",
          "set argsz to 12 bytes and 12 more for each device", test="r.argsz is not None and r.argsz < 12 + 12 * len(r.affected)"),
)  # fmt: skip
HOT_RESET_CHECKS = (
    Check("the number of groups fits", "EINVAL", f"vfio_pci_ioctl_pci_hot_reset, {VFIO_PCI}", lambda r: f"{len(r.groups)} groups were given, {len(r.affected)} devices are affected",
          "give the descriptor of each affected group", test="not 0 < len(r.groups) <= len(r.affected)"),
    Check("every affected function is yours", "EINVAL", f"vfio_pci_dev_set_hot_reset, {VFIO_PCI}", _not_yours, "bind it to vfio-pci, and give the descriptor of its group"),
)  # fmt: skip
