"""The arguments of iommufd's own ioctls, and of those that tie a device to one: records as in `requests` (include/uapi/linux/iommufd.h, vfio.h).

Every struct of an iommufd begins with its `size` in bytes: the kernel reads so many, and wants zeros behind what it knows (`beyond`: there is
something else). An array that a struct points at lies behind those bytes.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from vfiolab.model.kernel import Kernel
from vfiolab.model.uapi.requests import U16, U32, U64, Struct, signed

ALL = (1 << 64) - 1
FIXED_IOVA, WRITEABLE, READABLE = 1, 2, 4
SET, GET = 0, 1
COMPAT_GET, COMPAT_SET, COMPAT_CLEAR = 0, 1, 2
CAP_SYS_RESOURCE = 24


class Sized(Struct, name=""):
    """What every struct of an iommufd has beside its fields. `fd`: the iommufd (`backends.compat.Compat`) that is asked."""

    size: U32 = 0
    ptr: str = "good"
    beyond: bool = False
    fd: Any = dataclasses.field(init=False)


class Destroy(Sized, name="iommu_destroy"):
    """IOMMU_DESTROY of an object."""

    size: U32 = 8
    id: U32 = 0


class IoasAlloc(Sized, name="iommu_ioas_alloc"):
    """IOMMU_IOAS_ALLOC: the number of the new address space comes back."""

    size: U32 = 12
    flags: U32 = 0
    out_ioas_id: U32 = 0


class IovaRange(Struct, name="iommu_iova_range"):
    """A range of iovas, `last` inclusive."""

    start: U64 = 0
    last: U64 = 0
    ptr: str = "good"


class IovaRanges(Sized, name="iommu_ioas_iova_ranges"):
    """IOMMU_IOAS_IOVA_RANGES with room for `num_iovas` ranges behind it: how many there are and the alignment of MAP come back.

    `room`: how many the array holds, None for as many as it says.
    """

    size: U32 = 32
    ioas_id: U32 = 0
    num_iovas: U32 = 0
    reserved: U32 = 0
    allowed_iovas: U64 = 0
    out_iova_alignment: U64 = 0
    room: Any = None
    found: Any = dataclasses.field(init=False)


class AllowIovas(Sized, name="iommu_ioas_allow_iovas"):
    """IOMMU_IOAS_ALLOW_IOVAS: `num_iovas` ranges behind it must stay usable; `ranges` are those that could be read."""

    size: U32 = 24
    ioas_id: U32 = 0
    num_iovas: U32 = 0
    reserved: U32 = 0
    allowed_iovas: U64 = 0
    ranges: tuple[tuple[int, int], ...] = ()


class IoasMap(Sized, name="iommu_ioas_map"):
    """IOMMU_IOAS_MAP; without flag FIXED_IOVA the kernel chooses `iova`. `name` is a label for pictures."""

    size: U32 = 40
    flags: U32 = FIXED_IOVA | WRITEABLE | READABLE
    ioas_id: U32 = 0
    reserved: U32 = 0
    user_va: U64 = 0
    length: U64 = 0
    iova: U64 = 0
    name: str = ""


class IoasCopy(Sized, name="iommu_ioas_copy"):
    """IOMMU_IOAS_COPY: what is mapped at `src_iova` of one address space is mapped in another too."""

    size: U32 = 40
    flags: U32 = FIXED_IOVA | WRITEABLE | READABLE
    dst_ioas_id: U32 = 0
    src_ioas_id: U32 = 0
    length: U64 = 0
    dst_iova: U64 = 0
    src_iova: U64 = 0


class IoasUnmap(Sized, name="iommu_ioas_unmap"):
    """IOMMU_IOAS_UNMAP; iova 0 and length 2^64 - 1 are everything. `length` comes back."""

    size: U32 = 24
    ioas_id: U32 = 0
    iova: U64 = 0
    length: U64 = 0


class Option(Sized, name="iommu_option"):
    """IOMMU_OPTION: set (op 0) or get (1) RLIMIT_MODE (0) of the descriptor, or HUGE_PAGES (1) of an address space."""

    size: U32 = 24
    option_id: U32 = 0
    op: U16 = GET
    reserved: U16 = 0
    object_id: U32 = 0
    val64: U64 = 0
    caller: Any = dataclasses.field(init=False)


class VfioIoas(Sized, name="iommu_vfio_ioas"):
    """IOMMU_VFIO_IOAS: get (op 0), set (1) or clear (2) the address space that a container's ioctls work on."""

    size: U32 = 12
    ioas_id: U32 = 0
    op: U16 = COMPAT_GET
    reserved: U16 = 0


class HwptAlloc(Sized, name="iommu_hwpt_alloc", minimum=24):
    """IOMMU_HWPT_ALLOC: a domain for a device, with the mappings of the address space `pt_id`; its number comes back."""

    size: U32 = 24
    flags: U32 = 0
    dev_id: U32 = 0
    pt_id: U32 = 0
    out_hwpt_id: U32 = 0
    reserved: U32 = 0
    data_type: U32 = 0
    data_len: U32 = 0
    data_uptr: U64 = 0
    fault_id: U32 = 0
    reserved2: U32 = 0


class BindIommufd(Struct, name="vfio_device_bind_iommufd", minimum=16):
    """VFIO_DEVICE_BIND_IOMMUFD: the device's number in that iommufd comes back. `device`: its descriptor."""

    argsz: U32 = 16
    flags: U32 = 0
    iommufd: U32 = 0
    out_devid: U32 = 0
    ptr: str = "good"
    device: Any = dataclasses.field(init=False)

    @property
    def fd(self) -> int:
        """The iommufd's descriptor, a C int."""
        return signed("iommufd", self.iommufd)


class AttachPt(Struct, name="vfio_device_attach_iommufd_pt", minimum=12):
    """VFIO_DEVICE_ATTACH_IOMMUFD_PT to an address space or a domain: the domain's number comes back."""

    argsz: U32 = 12
    flags: U32 = 0
    pt_id: U32 = 0
    ptr: str = "good"


class DetachPt(Struct, name="vfio_device_detach_iommufd_pt", minimum=8):
    """VFIO_DEVICE_DETACH_IOMMUFD_PT."""

    argsz: U32 = 8
    flags: U32 = 0
    ptr: str = "good"


Native = TypeVar("Native", bound=Sized)


def known(kind: type[Sized], kernel: Kernel) -> int:
    """Return how many bytes of a struct this kernel knows: HWPT_ALLOC grew in 6.7 and 6.11."""
    if kind is HwptAlloc:
        return 24 if kernel.version < (6, 7) else 40 if kernel.version < (6, 11) else 48
    return kind.FORMAT.size


def read(kind: type[Native], data: bytes | bytearray, kernel: Kernel) -> Native:
    """Return the record of an iommufd's struct, as its first field says how many bytes are read of it (copy_struct_from_user)."""
    size, most = int.from_bytes(data[:4], "little"), known(kind, kernel)
    record: Any = kind.unpack(data[: min(size, most)])
    readable = len(data) >= 4 and (size < kind.MINIMUM or len(data) >= size)
    record.ptr, record.beyond = "good" if readable else "bad", any(data[most:size])
    found: Native = record
    return found
