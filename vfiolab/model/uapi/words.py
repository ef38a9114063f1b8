"""What the ioctls of VFIO are called: by the log's verb their name in C, their struct and their flags (include/uapi/linux/vfio.h).

>>> WORDS["map"].name, WORDS["map"].known(0x13)
('VFIO_IOMMU_MAP_DMA', (['READ', 'WRITE'], 16))
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vfiolab.model.uapi import requests
from vfiolab.model.uapi.requests import Struct


class Word(NamedTuple):
    """An ioctl's name in C, its struct if the verb has the struct's fields, and its flags from bit 0 on, with what C has before each."""

    name: str
    struct: type[Struct] | None = None
    flags: tuple[str, ...] = ()
    prefix: str = ""

    def known(self, value: int) -> tuple[list[str], int]:
        """Return the names of the flags that are set in a value, and the bits of it that have no name."""
        names = [name for bit, name in enumerate(self.flags) if value >> bit & 1]
        return names, value >> len(self.flags) << len(self.flags)


_IRQS = ("DATA_NONE", "DATA_BOOL", "DATA_EVENTFD", "ACTION_MASK", "ACTION_UNMASK", "ACTION_TRIGGER")
WORDS: Mapping[str, Word] = MappingProxyType(
    {
        "get_api_version": Word("VFIO_GET_API_VERSION"),
        "check_extension": Word("VFIO_CHECK_EXTENSION"),
        "set_iommu": Word("VFIO_SET_IOMMU"),
        "get_info": Word("VFIO_IOMMU_GET_INFO", requests.IommuInfo),
        "map": Word("VFIO_IOMMU_MAP_DMA", requests.MapDma, ("READ", "WRITE", "VADDR"), "VFIO_DMA_MAP_FLAG_"),
        "unmap": Word("VFIO_IOMMU_UNMAP_DMA", requests.UnmapDma, ("GET_DIRTY_BITMAP", "ALL", "VADDR"), "VFIO_DMA_UNMAP_FLAG_"),
        "dirty": Word("VFIO_IOMMU_DIRTY_PAGES", requests.DirtyPages, ("START", "STOP", "GET_BITMAP"), "VFIO_IOMMU_DIRTY_PAGES_FLAG_"),
        "group_status": Word("VFIO_GROUP_GET_STATUS", requests.GroupStatus),
        "set_container": Word("VFIO_GROUP_SET_CONTAINER"),
        "unset_container": Word("VFIO_GROUP_UNSET_CONTAINER"),
        "get_device_fd": Word("VFIO_GROUP_GET_DEVICE_FD"),
        "device_info": Word("VFIO_DEVICE_GET_INFO", requests.DeviceInfo),
        "region_info": Word("VFIO_DEVICE_GET_REGION_INFO", requests.RegionInfo),
        "irq_info": Word("VFIO_DEVICE_GET_IRQ_INFO", requests.IrqInfo),
        "set_irqs": Word("VFIO_DEVICE_SET_IRQS", requests.IrqSet, _IRQS, "VFIO_IRQ_SET_"),
        "device_reset": Word("VFIO_DEVICE_RESET"),
        "device_feature": Word("VFIO_DEVICE_FEATURE"),
        "hot_reset_info": Word("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO"),
        "hot_reset": Word("VFIO_DEVICE_PCI_HOT_RESET"),
        "bind_iommufd": Word("VFIO_DEVICE_BIND_IOMMUFD"),
        "attach_pt": Word("VFIO_DEVICE_ATTACH_IOMMUFD_PT"),
        "detach_pt": Word("VFIO_DEVICE_DETACH_IOMMUFD_PT"),
    }
)
#: The numbers that SET_IOMMU and CHECK_EXTENSION take; what is no IOMMU is asked for by CHECK_EXTENSION alone.
TYPES = {1: "VFIO_TYPE1_IOMMU", 3: "VFIO_TYPE1v2_IOMMU", 6: "VFIO_TYPE1_NESTING_IOMMU", 8: "VFIO_NOIOMMU_IOMMU"}
EXTENSIONS = TYPES | {4: "VFIO_DMA_CC_IOMMU", 9: "VFIO_UNMAP_ALL", 10: "VFIO_UPDATE_VADDR"}
