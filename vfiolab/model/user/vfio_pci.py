"""What vfio-pci tells of a device, and its resets: facts of functions, buses and groups. Knows no descriptors.

Sources: drivers/vfio/pci/vfio_pci_core.c (vfio_pci_ioctl_get_info, _get_region_info, _get_irq_info, _reset, _get_pci_hot_reset_info,
vfio_pci_dev_set_hot_reset, vfio_pci_core_match), read in 4.19 to 6.12; recorded are irq_info, resets that succeed, and BARs mapped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vfiolab.model.address import Span
from vfiolab.model.errors import VfioError
from vfiolab.model.irq.msi import ERR, INDEX_NAMES, INTX, MSIX, vectors_of
from vfiolab.model.kernel import Kernel
from vfiolab.model.pci.topology import Function, Topology
from vfiolab.model.user.system import UserSystem

VFIO_PCI = "drivers/vfio/pci/vfio_pci_core.c"
BARS, ROM, CONFIG, VGA, REGIONS = 6, 6, 7, 8, 9
READ, WRITE, MMAP, CAPS = 1, 2, 4, 8
MSIX_MAPPABLE = 3
COMMAND, MEMORY_SPACE = 4, 2
#: ioctls of a device that take a struct: GET_INFO, GET_REGION_INFO, GET_IRQ_INFO, SET_IRQS, GET_PCI_HOT_RESET_INFO, PCI_HOT_RESET.
DEVICE_STRUCTS = frozenset({0x3B6B, 0x3B6C, 0x3B6D, 0x3B6E, 0x3B70, 0x3B71})
#: Size of BAR 0 by class where a machine file does not know the BARs: as QEMU's devices have them.
ASSUMED_BAR = {0x02: 128 << 10, 0x0108: 16 << 10}
ASSUMED_ELSE = 1 << 20
ASSUMED_BASE = 0xE0_0000_0000
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class DeviceInfo(NamedTuple):
    """VFIO_DEVICE_GET_INFO: flags (1 the function can be reset, 2 PCI), number of regions and of interrupt types."""

    flags: int
    num_regions: int
    num_irqs: int


class RegionInfo(NamedTuple):
    """VFIO_DEVICE_GET_REGION_INFO: flags (1 read, 2 write, 4 mmap, 8 has capabilities), size in bytes, offset in the descriptor.

    `cap_ids`: the capabilities, 3 that the MSI-X table may be mapped.
    """

    flags: int
    size: int
    offset: int
    cap_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class IrqInfo:
    """VFIO_DEVICE_GET_IRQ_INFO: flags (1 eventfd, 2 maskable, 4 automasked, 8 not resizable) and the number of vectors."""

    flags: int
    count: int


class Dependent(NamedTuple):
    """A function that a reset of the bus takes along, and its group."""

    device: str
    group: int


def device_info(topology: Topology, function: Function) -> DeviceInfo:
    """Return what GET_INFO says of a function."""
    return DeviceInfo(2 | int(can_be_reset(topology, function)), REGIONS, len(INDEX_NAMES))


def can_be_reset(topology: Topology, function: Function) -> bool:
    """Say whether the function has a reset: FLR (assumed of every PCI Express function), else its bus is its own and has a bridge above."""
    if function.express_type is not None:
        return True
    return topology.parent(function.bdf) is not None and len(topology.on_bus(function.bdf)) == 1


def irq_info(function: Function, index: int, *, dynamic: bool) -> IrqInfo:
    """Return what GET_IRQ_INFO says: EINVAL for a type that does not exist, and for ERR on a conventional function (recorded)."""
    if index >= len(INDEX_NAMES) or (index == ERR and function.express_type is None):
        raise VfioError(
            "EINVAL",
            f"{function.bdf} has no interrupt type {index}",
            f"vfio_pci_ioctl_get_irq_info, {VFIO_PCI}",
            f"types are {', '.join(f'{i} {n}' for i, n in enumerate(INDEX_NAMES))}; ERR exists on PCI Express only",
        )
    fixed = 6 if index == INTX else 0 if index == MSIX and dynamic else 8
    return IrqInfo(1 | fixed, vectors_of(function, index))


def bars_of(function: Function, known: Sequence[Span] = ()) -> tuple[Span, ...]:
    """Return the BARs: those of the machine file in its order, else one at an invented bus address, sized by class (an assumption)."""
    if known:
        return tuple(known)
    if function.is_bridge:
        return ()
    klass = (function.class_code or 0) >> 8
    size = ASSUMED_BAR.get(klass, ASSUMED_BAR.get(klass >> 8, ASSUMED_ELSE))
    return (Span.sized(ASSUMED_BASE + (function.segment << 16 | function.requester_id) * ASSUMED_ELSE, size),)


def bar_at(topology: Topology, known: Mapping[str, Sequence[Span]], physical: int) -> str | None:
    """Return the device in one of whose BARs a bus address lies; None where no BAR is."""
    if physical >= ASSUMED_BASE:
        names: Iterable[str] = topology
    else:
        names = known
    return next((bdf for bdf in names if any(bar.contains(physical) for bar in bars_of(topology[bdf], known.get(bdf, ())))), None)


def region_info(kernel: Kernel, function: Function, bars: Sequence[Span], index: int) -> RegionInfo:
    """Return what GET_REGION_INFO says. Region i begins at i << 40 in the descriptor."""
    vga = (function.class_code or 0) >> 8 == 0x0300
    if index >= REGIONS or (index == VGA and not vga):
        raise VfioError(
            "EINVAL",
            f"{function.bdf} has no region {index}",
            f"vfio_pci_ioctl_get_region_info, {VFIO_PCI}",
            "0 to 5 are the BARs, 6 the ROM, 7 config space, 8 VGA",
        )
    offset = index << 40
    if index == CONFIG:
        return RegionInfo(READ | WRITE, 4096 if function.express_type is not None else 256, offset)
    if index == VGA:
        return RegionInfo(READ | WRITE, 0xC0000, offset)
    if index >= len(bars):
        return RegionInfo(0, 0, offset)
    size = bars[index].size
    table = index == 0 and size < ASSUMED_BAR[0x02] and function.msix > 0 and kernel.has("msix_mappable")
    return RegionInfo(
        READ | WRITE | (MMAP if size >= 4096 else 0) | (CAPS if table else 0), size, offset, (MSIX_MAPPABLE,) if table else ()
    )


def mmap_place(bars: Sequence[Span], function: Function, region: int, size: int, offset: int) -> int:
    """Return the bus address behind a piece of a BAR; EINVAL for what cannot be mapped (vfio_pci_core_mmap)."""
    room = -(-bars[region].size // 4096) * 4096 if region < min(BARS, len(bars)) else 0
    if not size or offset + size > room:
        what = f"{room:#x} bytes" if room else "no memory"
        raise VfioError(
            "EINVAL",
            f"region {region} of {function.bdf} has {what} to map, not {size:#x} from {offset:#x}",
            f"vfio_pci_core_mmap, {VFIO_PCI}",
            "ask GET_REGION_INFO for the size and the MMAP flag",
        )
    return bars[region].start + offset


def check_token(function: Function, options: str) -> None:
    """Refuse options behind a device's name that are unknown, or a VF token for what is neither PF nor VF. EINVAL.

    A virtual function whose physical function sits on vfio-pci would need the token (EACCES): such VFs cannot be made in this model.
    """
    given = None
    for word in options.split():
        name, _, value = word.partition("=")
        if name != "vf_token" or given is not None or not _UUID.match(value):
            raise VfioError(
                "EINVAL", f"{word!r} is no option of a device", f"vfio_pci_core_match, {VFIO_PCI}", "vf_token=UUID is the one there is"
            )
        given = value
    if given is not None and not (function.kind != "vf" and function.sriov_totalvfs):
        what = "a VF whose PF is not on vfio-pci" if function.kind == "vf" else "neither a PF nor a VF"
        raise VfioError(
            "EINVAL", f"a VF token for {function.bdf}, {what}", f"vfio_pci_validate_vf_token, {VFIO_PCI}", "open the device without a token"
        )


def _reset_along(topology: Topology, function: Function) -> Iterator[Function]:
    if topology.parent(function.bdf) is None:
        raise VfioError(
            "ENODEV",
            f"{function.bdf} is on a root bus: there is no bridge that could reset it",
            f"vfio_pci_ioctl_get_pci_hot_reset_info, {VFIO_PCI}",
            "reset the function alone (DEVICE_RESET)",
        )
    stack = list(topology.on_bus(function.bdf))
    while stack:
        one = stack.pop()
        yield one
        stack.extend(topology.children(one.bdf))


def hot_reset_info(system: UserSystem, function: Function, argsz: int | None = None) -> list[Dependent]:
    """List every function that a reset of this one's bus takes along. ENODEV, EPERM (one is in no group), ENOSPC (argsz too small)."""
    found, source = [], f"vfio_pci_ioctl_get_pci_hot_reset_info, {VFIO_PCI}"
    for one in sorted(_reset_along(system.drivers.topology, function), key=lambda one: one.key):
        group = system.core.group_of(one.bdf)
        if group is None:
            raise VfioError("EPERM", f"{one.bdf} would be reset too and is in no group", source, "nothing: it cannot be reset safely")
        found.append(Dependent(one.bdf, group.id))
    need = 12 + 12 * len(found)
    if argsz is not None and argsz < need:
        raise VfioError("ENOSPC", f"argsz {argsz} does not hold {len(found)} devices: {need} bytes do", source, f"set argsz = {need}")
    return found


def hot_reset(system: UserSystem, function: Function, groups: set[int]) -> None:
    """Check a reset of the bus: every affected device on a VFIO driver, and its group among those that the caller holds. EINVAL.

    Why groups matter: who holds a part of a bus may not reset what another user, or the host, has on the rest of it.
    """
    affected, source = hot_reset_info(system, function), f"vfio_pci_dev_set_hot_reset, {VFIO_PCI}"
    if not groups or len(groups) > len(affected):
        raise VfioError(
            "EINVAL",
            f"{len(groups)} groups were given, {len(affected)} devices are affected",
            f"vfio_pci_ioctl_pci_hot_reset, {VFIO_PCI}",
            "give the descriptor of each affected group",
        )
    for device, group in affected:
        bridge = system.drivers.topology[device].is_bridge
        if not bridge and not system.drivers.on_vfio(device):
            raise VfioError("EINVAL", f"{device} would be reset too and is on no VFIO driver", source, f"bind {device} to vfio-pci")
        if not bridge and group not in groups:
            raise VfioError(
                "EINVAL", f"{device} would be reset too, and its group {group} is not yours", source, f"open group {group} as well"
            )
