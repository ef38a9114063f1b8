"""The ioctls of containers, iommufds, groups and devices: one row each, with its number and its struct (include/uapi/linux/vfio.h, iommufd.h).

>>> IOCTLS["container"][0x3B71]
Ioctl(number=15217, name='VFIO_IOMMU_MAP_DMA', struct='vfio_iommu_type1_dma_map')
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vfiolab.model.uapi import iommufd
from vfiolab.model.uapi.requests import (
    DeviceFeature,
    DeviceInfo,
    DirtyPages,
    GroupStatus,
    HotReset,
    HotResetInfo,
    IommuInfo,
    IrqInfo,
    IrqSet,
    MapDma,
    RegionInfo,
    Struct,
    UnmapDma,
)

BASE = 0x3B64  # _IO(';', 100)
IOMMUFD_BASE = 0x3B80


class Ioctl(NamedTuple):
    """One ioctl: its number, its name, and what its argument points at ("" for one that takes a number or nothing)."""

    number: int
    name: str
    struct: str = ""


def _rows(*rows: tuple[int, str] | tuple[int, str, type[Struct] | str], base: int = BASE, of: str = "VFIO") -> dict[int, Ioctl]:
    made = {}
    for offset, name, *points in rows:
        (kind,) = points or ("",)
        made[base + offset] = Ioctl(base + offset, f"{of}_{name}", kind if isinstance(kind, str) else kind.NAME)
    return made


_CONTAINER = _rows(
    (0, "GET_API_VERSION"),
    (1, "CHECK_EXTENSION"),
    (2, "SET_IOMMU"),
    (12, "IOMMU_GET_INFO", IommuInfo),
    (13, "IOMMU_MAP_DMA", MapDma),
    (14, "IOMMU_UNMAP_DMA", UnmapDma),
    (17, "IOMMU_DIRTY_PAGES", DirtyPages),
)
_IOMMUFD = _rows(
    (0, "DESTROY", iommufd.Destroy),
    (1, "IOAS_ALLOC", iommufd.IoasAlloc),
    (2, "IOAS_ALLOW_IOVAS", iommufd.AllowIovas),
    (3, "IOAS_COPY", iommufd.IoasCopy),
    (4, "IOAS_IOVA_RANGES", iommufd.IovaRanges),
    (5, "IOAS_MAP", iommufd.IoasMap),
    (6, "IOAS_UNMAP", iommufd.IoasUnmap),
    (7, "OPTION", iommufd.Option),
    (8, "VFIO_IOAS", iommufd.VfioIoas),
    (9, "HWPT_ALLOC", iommufd.HwptAlloc),
    base=IOMMUFD_BASE,
    of="IOMMU",
)
_DEVICE = _rows(
    (7, "DEVICE_GET_INFO", DeviceInfo),
    (8, "DEVICE_GET_REGION_INFO", RegionInfo),
    (9, "DEVICE_GET_IRQ_INFO", IrqInfo),
    (10, "DEVICE_SET_IRQS", IrqSet),
    (11, "DEVICE_RESET"),
    (12, "DEVICE_GET_PCI_HOT_RESET_INFO", HotResetInfo),
    (13, "DEVICE_PCI_HOT_RESET", HotReset),
    (17, "DEVICE_FEATURE", DeviceFeature),
    (18, "DEVICE_BIND_IOMMUFD", iommufd.BindIommufd),
)
_CDEV = _rows((19, "DEVICE_ATTACH_IOMMUFD_PT", iommufd.AttachPt), (20, "DEVICE_DETACH_IOMMUFD_PT", iommufd.DetachPt))

#: By the kind of descriptor. A container that is an iommufd has the rows of both; a device that was opened by its own node has two more.
IOCTLS: Mapping[str, Mapping[int, Ioctl]] = MappingProxyType(
    {
        "container": _CONTAINER,
        "iommufd": _CONTAINER | _IOMMUFD,
        "group": _rows(
            (3, "GROUP_GET_STATUS", GroupStatus),
            (4, "GROUP_SET_CONTAINER", "int"),
            (5, "GROUP_UNSET_CONTAINER"),
            (6, "GROUP_GET_DEVICE_FD", "char[]"),
        ),
        "device": _DEVICE,
        "cdev": _DEVICE | _CDEV,
    }
)
NUMBERS: Mapping[str, int] = MappingProxyType({row.name: row.number for rows in IOCTLS.values() for row in rows.values()})
