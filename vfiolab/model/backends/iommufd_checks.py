"""What iommufd's own ioctls test, in the kernel's order (drivers/iommu/iommufd, 6.2 to 6.14): all read, nothing recorded tests it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from vfiolab.model.address import Span, hexa
from vfiolab.model.checks import Check
from vfiolab.model.iommu.domain import Domain
from vfiolab.model.iommu.group import IommuGroup
from vfiolab.model.iommu.unit import IommuUnit
from vfiolab.model.uapi.iommufd import ALL, CAP_SYS_RESOURCE, AllowIovas

if TYPE_CHECKING:
    from vfiolab.model.backends.iommufd import Context

MAIN = "drivers/iommu/iommufd/main.c"
IOAS = "drivers/iommu/iommufd/ioas.c"
DEVICE = "drivers/iommu/iommufd/device.c"
HWPT = "iommufd_hwpt_alloc, drivers/iommu/iommufd/hw_pagetable.c"
IP = "drivers/iommu/iommufd/io_pagetable.c"
_OBJECT = "the iommufd has no object {r.%s}, or it is of another kind"

STRUCT_CHECKS = (
    Check("the struct can be read", "EFAULT", f"iommufd_fops_ioctl, {MAIN}", "the pointer to the struct is {r.ptr}", "pass a pointer to a struct {r.NAME}", test="r.ptr != 'good'"),
    Check("size holds the struct", "EINVAL", f"iommufd_fops_ioctl, {MAIN}", "size {r.size} is below {r.MINIMUM}, what a struct {r.NAME} needs", "set size to the struct's",
          test="r.size < r.MINIMUM"),
    Check("what lies behind the struct that the kernel knows is 0", "E2BIG", "copy_struct_from_user, include/linux/uaccess.h", "a struct {r.NAME} of {r.size} bytes has values that this kernel does not know",
          "leave them 0", test="r.beyond"),
)  # fmt: skip
_RESERVED = Check("the reserved field is 0", "EOPNOTSUPP", f"ioctls of an iommufd, {MAIN}", "the reserved field is {r.reserved}", "set it to 0", test="r.reserved")  # fmt: skip
_SPACE = Check("the address space exists", "ENOENT", f"iommufd_get_ioas, {IOAS}", "the iommufd has no address space {r.ioas_id}", "IOAS_ALLOC gives one",
               test="r.fd.ioas(r.ioas_id) is None")  # fmt: skip
_FLAGS = Check("only known flags are set", "EOPNOTSUPP", f"iommufd_ioas_map, iommufd_ioas_copy, {IOAS}", "flags {r.flags:#_x} hold others than FIXED_IOVA (1), WRITEABLE (2) and READABLE (4)",
               test="r.flags & ~7")  # fmt: skip
_RIGHTS = Check("the mapping may be read or written", "EINVAL", f"iommufd_ioas_map, iommufd_ioas_copy, {IOAS}", "flags {r.flags:#_x} ask for neither READABLE nor WRITEABLE", "set one of them",
                "ioas_map_needs_rights", "not r.flags & 6")  # fmt: skip
ALLOC_CHECKS = (
    Check("no flags are set", "EOPNOTSUPP", f"iommufd_ioas_alloc_ioctl, {IOAS}", "flags {r.flags:#_x}: there are none", "set flags = 0", test="r.flags"),
)  # fmt: skip
DESTROY_CHECKS = (
    Check("the object exists", "ENOENT", f"iommufd_object_remove, {MAIN}", "the iommufd has no object {r.id}", "", test="r.id not in r.fd.objects"),
    Check("nothing uses the object", "EBUSY", f"iommufd_object_remove, {MAIN}", lambda r: f"{r.fd.objects[r.id]!r} is in use", "detach or close what uses it first", test="r.fd.in_use(r.id)"),
)  # fmt: skip
NATIVE_MAP_CHECKS = (
    _FLAGS,
    _RESERVED,
    Check("iova and length are not 2^64 - 1", "EOVERFLOW", f"iommufd_ioas_map, {IOAS}", lambda r: f"iova {hexa(r.iova)} or length {hexa(r.length)} is 2^64 - 1", "", test=f"max(r.iova, r.length) == {ALL}"),
    _RIGHTS,
    _SPACE,
)  # fmt: skip
NATIVE_UNMAP_CHECKS = (
    _SPACE,
    Check("iova and length are not 2^64 - 1, but for everything", "EOVERFLOW", f"iommufd_ioas_unmap, {IOAS}", lambda r: f"iova {hexa(r.iova)} or length {hexa(r.length)} is 2^64 - 1",
          "iova 0 with that length unmaps everything", test=f"r.iova and max(r.iova, r.length) == {ALL}"),
)  # fmt: skip
SOMETHING_CHECKS = (
    Check("something is mapped in the range", "ENOENT", f"iopt_unmap_iova_range, {IP}; iommufd_ioas_unmap, {IOAS}", lambda r: f"nothing is mapped in {Span.sized(r.iova, r.size)}",
          "unmap what is mapped", test="next(r.backend.areas_in(r.iova, r.size), None) is None"),
)  # fmt: skip
COPY_CHECKS = (
    _FLAGS,
    Check("no iova and no length is 2^64 - 1", "EOVERFLOW", f"iommufd_ioas_copy, {IOAS}", "an iova or the length is 2^64 - 1", "", test=f"max(r.length, r.src_iova, r.dst_iova) == {ALL}"),
    _RIGHTS,
    Check("the source's address space exists", "ENOENT", f"iommufd_get_ioas, {IOAS}", "the iommufd has no address space {r.src_ioas_id} to copy from", "", test="r.fd.ioas(r.src_ioas_id) is None"),
    Check("the length is not 0", "EINVAL", f"iopt_get_pages, {IP}", "length 0 copies nothing", "give a length", test="not r.length"),
    Check("the source does not wrap", "EOVERFLOW", f"iopt_get_pages, {IP}", lambda r: f"iova {hexa(r.src_iova)} + length {r.length:#_x} wraps past 2^64", "", test="r.src_iova + r.length > U64"),
    Check("the source is mapped throughout", "ENOENT", f"iopt_get_pages, {IP}",
          lambda r: f"{Span.sized(r.src_iova, r.length)} of address space {r.src_ioas_id} is not mapped throughout", "map it first", test="r.fd.ioas(r.src_ioas_id).parts(r.src_iova, r.length) is None"),
    Check("the address space exists", "ENOENT", f"iommufd_get_ioas, {IOAS}", "the iommufd has no address space {r.dst_ioas_id}", "IOAS_ALLOC gives one", test="r.fd.ioas(r.dst_ioas_id) is None"),
)  # fmt: skip
RANGES_CHECKS = (_RESERVED, _SPACE)
ROOM_CHECKS = (
    Check("the ranges can be written back", "EFAULT", f"iommufd_ioas_iova_ranges, {IOAS}", "the array holds {r.room} ranges, num_iovas says {r.num_iovas}", "pass an array of num_iovas ranges",
          test="r.room < min(r.num_iovas, len(r.found))"),
    Check("there is room for every range", "EMSGSIZE", f"iommufd_ioas_iova_ranges, {IOAS}", lambda r: f"there are {len(r.found)} ranges, and room for {r.num_iovas}", "ask again with that many",
          test="r.num_iovas < len(r.found)"),
)  # fmt: skip


def _bad_range(r: AllowIovas) -> str | None:
    for number, (start, last) in enumerate(r.ranges):
        if start >= last:
            return f"the range {hexa(start)}-{hexa(last)} does not end behind its start"
        if any(start <= other_last and other <= last for other, other_last in r.ranges[:number]):
            return f"the range {hexa(start)}-{hexa(last)} overlaps another"
    return None


def _not_usable(r: AllowIovas) -> str | None:
    ioas = r.fd.ioas(r.ioas_id)
    lost = next((Span(start, last + 1) for start, last in r.ranges if not ioas.usable(start, last + 1 - start)), None)
    return f"{lost} is not inside one usable range: {', '.join(map(str, ioas.valid_iova))}" if lost else None


ALLOW_CHECKS = (
    _RESERVED,
    _SPACE,
    Check("the ranges end behind their starts, and do not overlap", "EINVAL", f"iommufd_ioas_load_iovas, {IOAS}", _bad_range, "the last iova of a range is part of it", test="r.ranges"),
    Check("the ranges can be read", "EFAULT", f"iommufd_ioas_load_iovas, {IOAS}", lambda r: f"the array holds {len(r.ranges)} ranges, num_iovas says {r.num_iovas}", "pass an array of num_iovas ranges",
          test="len(r.ranges) < r.num_iovas"),
    Check("the ranges are usable", "EADDRINUSE", f"iopt_set_allow_iova, {IP}", _not_usable, "IOAS_IOVA_RANGES lists what is", test="r.ranges"),
)  # fmt: skip
OPTION_CHECKS = (
    _RESERVED,
    Check("the option is known", "EOPNOTSUPP", f"iommufd_option, {MAIN}", "there is no option {r.option_id}", "0 is RLIMIT_MODE, 1 HUGE_PAGES", test="r.option_id > 1"),
    Check("RLIMIT_MODE is asked of no object", "EOPNOTSUPP", f"iommufd_option_rlimit_mode, {IOAS}", "RLIMIT_MODE is the iommufd's, not object {r.object_id}'s", "set object_id = 0",
          test="not r.option_id and r.object_id"),
    Check("HUGE_PAGES is asked of an address space", "ENOENT", f"iommufd_ioas_option, {IOAS}", _OBJECT % "object_id", "give an address space", test="r.option_id and r.fd.ioas(r.object_id) is None"),
    Check("it is set or got", "EOPNOTSUPP", f"iommufd_option, {MAIN}", "op {r.op} is neither SET (0) nor GET (1)", "", test="r.op > 1"),
    Check("the process may change RLIMIT_MODE", "EPERM", f"iommufd_option_rlimit_mode, {IOAS}", "the process does not have CAP_SYS_RESOURCE", "run as root",
          test=f"not r.op and not r.option_id and {CAP_SYS_RESOURCE} not in r.caller.capabilities"),
    Check("the iommufd has no object yet", "EBUSY", f"iommufd_option_rlimit_mode, {IOAS}", lambda r: f"the iommufd has {len(r.fd.objects)} objects", "set it first of all",
          test="not r.op and not r.option_id and r.fd.objects"),
    Check("the value is 0 or 1", "EINVAL", f"iommufd_option, {MAIN}", "the value {r.val64} is neither 0 nor 1", "", test="not r.op and r.val64 > 1"),
)  # fmt: skip
VFIO_IOAS_CHECKS = (
    _RESERVED,
    Check("it is got, set or cleared", "EOPNOTSUPP", "iommufd_vfio_ioas, drivers/iommu/iommufd/vfio_compat.c", "op {r.op} is neither GET (0), SET (1) nor CLEAR (2)", "", test="r.op > 2"),
    Check("there is one to get", "ENODEV", "iommufd_vfio_ioas, drivers/iommu/iommufd/vfio_compat.c", "no address space is set for a container's ioctls", "set one, or put a group in",
          test="not r.op and r.fd.space is None"),
    Check("there is one to set", "ENOENT", "iommufd_vfio_ioas, drivers/iommu/iommufd/vfio_compat.c", _OBJECT % "ioas_id", "IOAS_ALLOC gives one", test="r.op == 1 and r.fd.ioas(r.ioas_id) is None"),
)  # fmt: skip
HWPT_ALLOC_CHECKS = (
    Check("no flags are set, and the reserved field is 0", "EOPNOTSUPP", HWPT, "flags {r.flags:#_x} or the reserved field is not 0", "set both to 0", "not hwpt_alloc_typed", "r.flags or r.reserved"),
    Check("the reserved field is 0", "EOPNOTSUPP", HWPT, "the reserved field is {r.reserved}", "set it to 0", "hwpt_alloc_typed", "r.reserved"),
    Check("data comes with a type, and a type with data", "EINVAL", HWPT, "data type {r.data_type} with {r.data_len} bytes", "leave both 0", "hwpt_alloc_typed", "bool(r.data_type) != bool(r.data_len)"),
    Check("the device exists", "ENOENT", f"iommufd_get_device, {HWPT}", _OBJECT % "dev_id", "BIND_IOMMUFD gives a device's number", test="r.fd.bound(r.dev_id) is None"),
    Check("the address space exists", "ENOENT", HWPT, _OBJECT % "pt_id", "IOAS_ALLOC gives one", "not hwpt_alloc_typed", "r.fd.ioas(r.pt_id) is None"),
    Check("it is allocated in an address space or a domain", "EINVAL", HWPT, _OBJECT % "pt_id", "IOAS_ALLOC gives an address space", "hwpt_alloc_typed",
          "r.fd.ioas(r.pt_id) is None and r.fd.hwpt(r.pt_id) is None"),
    Check("a nested domain comes with data", "EOPNOTSUPP", f"iommufd_hwpt_nested_alloc, {HWPT}", "object {r.pt_id} is a domain, and a domain inside it needs data of its own", "give an address space",
          test="r.fd.ioas(r.pt_id) is None and not r.data_len"),
    Check("only known flags are set", "EOPNOTSUPP", f"iommufd_hwpt_paging_alloc, {HWPT}", "flags {r.flags:#_x} hold others than NEST_PARENT (1), DIRTY_TRACKING (2) and FAULT_ID_VALID (4)", "", test="r.flags & ~7"),
)  # fmt: skip


class Attach(NamedTuple):
    """A device that is to be attached: the object named, and a domain that is tried, None where there is none."""

    fd: Context
    pt_id: int
    group: IommuGroup
    unit: IommuUnit
    domain: Domain | None = None
    elsewhere: bool = False


PT_CHECKS = (
    Check("the object exists", "ENOENT", f"iommufd_device_change_pt, {DEVICE}", "the iommufd has no object {r.pt_id}", "IOAS_ALLOC gives one", test="r.pt_id not in r.fd.objects"),
    Check("it is an address space or a domain", "EINVAL", f"iommufd_device_change_pt, {DEVICE}", "object {r.pt_id} is a device", "give an address space or a domain",
          test="r.fd.bound(r.pt_id) is not None"),
)  # fmt: skip
GROUP_CHECKS = (
    Check("the group's devices are in no other domain", "EINVAL", f"iommufd_hw_pagetable_attach, {DEVICE}", "another device of group {r.group.id} is attached to another domain: a group is in one domain", "attach all to the same",
          test="r.elsewhere"),
)  # fmt: skip
TAKES_CHECKS = (
    Check("the unit's driver takes the device into this domain", "EINVAL", f"iommufd_hwpt_attach_device, {DEVICE}", "{r.unit} does not fit {r.domain}", "give the address space: the kernel makes a domain",
          test="r.domain.attach_errno(r.unit)"),
)  # fmt: skip
PAGE_CHECKS = (
    Check("the unit has pages as small as the CPU's", "EINVAL", f"iopt_table_add_domain, {IP}", "the smallest page of {r.unit} is larger than the CPU's", "use another device",
          test="r.fd.smallest_page(r.unit) > r.fd.system.core.page_size"),
)  # fmt: skip
CLEARED_CHECKS = (
    Check("a container's ioctls have an address space", "ENODEV", "vfio_iommufd_compat_attach_ioas, drivers/vfio/iommufd.c", "the container's address space was cleared or destroyed", "set one (VFIO_IOAS)",
          test="r.backend is None"),
)  # fmt: skip
