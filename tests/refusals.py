"""Every way in which the model refuses a call: data. A case sets a host up and returns the call that will be refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from model_steps import LIMIT, PAGE, A, B, arm, container, fill, group, intel, machines, vaddr, with_params
from recorded import machine as recorded

from vfiolab.model.address import Span
from vfiolab.model.builder import MachineBuilder
from vfiolab.model.iommu.doorbells import Landed
from vfiolab.model.kernel import Kernel
from vfiolab.model.machine import Host
from vfiolab.model.uapi.iommufd import (
    CAP_SYS_RESOURCE,
    AllowIovas,
    Destroy,
    HwptAlloc,
    IoasAlloc,
    IoasCopy,
    IoasMap,
    IoasUnmap,
    IovaRanges,
    Option,
    Sized,
    VfioIoas,
)
from vfiolab.model.uapi.requests import CAP_SYS_RAWIO, DirtyPages, IrqInfo
from vfiolab.model.user.iommufd import VERBS

TOP = (1 << 64) - PAGE
SECOND = "0000:02:00.1"
Call = tuple[Any, Callable[[], Any]]


@dataclass(frozen=True)
class Case:
    """`errno` and words that `why` holds; `set_up` returns the host and the call. `leaves`: what the refused call changes all the same."""

    name: str
    errno: str
    why: str
    set_up: Callable[[], Call]
    leaves: tuple[str, ...] = ()


CASES: list[Case] = []


def case(errno: str, why: str, leaves: tuple[str, ...] = ()) -> Callable[[Callable[[], Call]], Callable[[], Call]]:
    def register(set_up: Callable[[], Call]) -> Callable[[], Call]:
        CASES.append(Case(set_up.__name__, errno, why, set_up, leaves))
        return set_up

    return register


def calls(
    verb: str, kernel: str, kind: int, *rows: tuple[dict[str, Any], str, str], machine: Any = None, maps: Any = ((0x1000, PAGE),)
) -> None:
    """Register refused calls of one verb on a container with a mapping at 0x1000."""
    for number, (args, errno, why) in enumerate(rows):

        def set_up(args: dict[str, Any] = args) -> Call:
            host = (machine or intel()).host(kernel)
            opened = container(host, A, kind=kind)
            for iova, size in maps:
                fill(host, opened, iova, size)
            base: dict[str, Any] = {"iova": 0x10000, "size": PAGE} if verb != "dirty_pages" else {}
            if verb == "map_dma":
                base["vaddr"] = vaddr(host)
            return host, lambda: getattr(opened, verb)(**base | args)

        CASES.append(Case(f"{verb} on {kernel}, type {kind}, {number}: {args}", errno, why, set_up))


calls(
    "map_dma", "6.12", 3,
    ({"ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"argsz": 31}, "EINVAL", "argsz 31 is below 32"),
    ({"flags": 8}, "EINVAL", "flags 0x8 holds 0x8, which kernel 6.12 does not know"),
    ({"flags": 0}, "EINVAL", "flags 0x0 asks for neither READ"),
    ({"flags": 7}, "EINVAL", "flags 0x7 joins VADDR"),
    ({"size": 0}, "EINVAL", "size 0 maps nothing"),
    ({"iova": 0x800}, "EINVAL", "iova 0x800 is not a multiple of 0x1000"),
    ({"size": 0x1800}, "EINVAL", "size 0x1800 is not a multiple of 0x1000"),
    ({"vaddr": 0x10}, "EINVAL", "vaddr 0x10 is not a multiple of 0x1000"),
    ({"iova": TOP, "size": 2 * PAGE}, "EINVAL", "iova 0xffff_ffff_ffff_f000 + size 0x2000 wraps past 2^64"),
    ({"iova": 0x1000}, "EEXIST", "0x1000-0x1fff overlaps the mapping 0x1000-0x1fff"),
    ({"iova": 0xFEE00000}, "EINVAL", "0xfee0_0000-0xfee0_0fff overlaps the MSI window 0xfee0_0000-0xfeef_ffff"),
    ({"iova": 1 << 48}, "EINVAL", "reaches past the aperture, whose last iova is 0xffff_ffff_ffff"),
    ({"vaddr": 0x1000}, "EFAULT", "the page at vaddr 0x1000 cannot be pinned"),
    ({"flags": 4}, "ENOENT", "no mapping at 0x1_0000-0x1_0fff whose vaddr could be updated"),
    ({"flags": 4, "iova": 0x1000}, "EINVAL", "the vaddr of 0x1000-0x1fff was not invalidated"),
)  # fmt: skip
calls(
    "map_dma", "7.3", 3,
    ({"size": 0, "flags": 0}, "EINVAL", "size 0 maps nothing"),
    ({"iova": TOP, "size": 2 * PAGE}, "EOVERFLOW", "iova 0xffff_ffff_ffff_f000 + size 0x2000 wraps past 2^64"),
)  # fmt: skip
calls("map_dma", "4.4", 3, ({"iova": 1 << 48}, "EFAULT", "reaches past 0xffff_ffff_ffff, the last iova that"))
calls(
    "unmap_dirty", "6.12", 3,
    ({"ptr": "null"}, "EFAULT", "the pointer to the struct is null"),
    ({"argsz": 23}, "EINVAL", "argsz 23 is below 24"),
    ({"flags": 8}, "EINVAL", "flags 0x8 holds 0x8, which kernel 6.12 does not know"),
    ({"flags": 3, "bm_pgsize": PAGE, "bm_size": 8}, "EINVAL", "flags 0x3 joins GET_DIRTY_BITMAP"),
    ({"flags": 1, "argsz": 24}, "EINVAL", "argsz 24 does not hold the dirty bitmap"),
    ({"flags": 1, "argsz": 48}, "EINVAL", "the bitmap's page size is 0"),
    ({"flags": 1, "bm_pgsize": PAGE, "bm_size": 0}, "EINVAL", "a bitmap of 0 bytes for 1 pages is outside 1..0x1000_0000 bytes"),
    ({"flags": 1, "size": 65 * PAGE, "bm_pgsize": PAGE, "bm_size": 8}, "EINVAL", "the bitmap has 8 bytes, 65 pages need 16"),
    ({"flags": 1, "bm_pgsize": PAGE, "bm_size": 8}, "EINVAL", "but dirty tracking was not started"),
    ({"iova": 0x800}, "EINVAL", "iova 0x800 is not a multiple"),
    ({"size": 0}, "EINVAL", "size 0 unmaps nothing"),
    ({"size": 0x1800}, "EINVAL", "size 0x1800 is not a multiple"),
    ({"flags": 2}, "EINVAL", "ALL goes with iova 0 and size 0, not iova 0x1_0000 size 0x1000"),
    ({"iova": TOP, "size": 2 * PAGE}, "EINVAL", "iova 0xffff_ffff_ffff_f000 + size 0x2000 wraps past 2^64"),
)  # fmt: skip
calls("unmap_dirty", "7.3", 3, ({"iova": TOP, "size": 2 * PAGE}, "EOVERFLOW", "wraps past 2^64"))
calls(
    "unmap_dirty", "6.12", 3,
    ({"iova": 0x2000, "size": PAGE}, "EINVAL", "the range's start 0x2000 would cut the mapping 0x1000-0x3fff in two"),
    ({"iova": 0, "size": 2 * PAGE}, "EINVAL", "the range's end 0x2000 would cut the mapping 0x1000-0x3fff in two"),
    maps=((0x1000, 3 * PAGE),),
)  # fmt: skip
calls("dirty_pages", "6.12", 1, ({"flags": 1}, "EACCES", "dirty tracking needs type1 v2"))
calls("dirty_pages", "5.7", 3, ({"flags": 1}, "ENOTTY", "kernel 5.7 does not know ioctl 0x3b75"))
GET = {"flags": 4, "iova": 0x1000, "size": PAGE}
calls(
    "dirty_pages", "6.12", 3,
    ({"flags": 1, "ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"flags": 1, "argsz": 7}, "EINVAL", "argsz 7 is below 8"),
    ({"flags": 0}, "EINVAL", "flags 0x0 is none of START"),
    ({"flags": 3}, "EINVAL", "flags 0x3 holds more than one"),
    (GET | {"argsz": 47}, "EINVAL", "argsz 47 does not hold the range and its bitmap"),
    (GET | {"iova": TOP, "size": 2 * PAGE}, "EINVAL", "wraps past 2^64"),
    (GET | {"bm_size": 0}, "EINVAL", "a bitmap of 0 bytes"),
    (GET | {"bm_pgsize": 2 * PAGE, "size": 2 * PAGE}, "EINVAL", "the bitmap's page size 0x2000 is not 0x1000"),
    (GET, "EINVAL", "dirty tracking was not started"),
)  # fmt: skip
calls("dirty_pages", "7.3", 3, (GET | {"iova": TOP, "size": 2 * PAGE}, "EOVERFLOW", "wraps past 2^64"))


def ready(machine: Any = None, kernel: str = "6.12", *devices: str, kind: int = 3) -> Any:
    host = (machine or intel()).host(kernel)
    return host, container(host, *(devices or (A,)), kind=kind)


def fresh(machine: Any = None, kernel: str = "6.12", device: str = A) -> Any:
    """Return a host, an empty container and an open group."""
    host = (machine or intel()).host(kernel)
    return host, host.process.open_container(), group(host, device)


# the backend


@case("EINVAL", "argsz 15 is below 16, the smallest struct")
def get_info_with_a_short_struct() -> Call:
    host, opened = ready()
    return host, lambda: opened.get_info(15)


@case("EFAULT", "the struct cannot be written back")
def get_info_into_read_only_memory() -> Call:
    host, opened = ready()
    return host, lambda: opened.get_info(24, writable=False)


@case("EINVAL", "0x1000-0x1fff is not exactly the mapping 0x1000-0x2fff")
def update_a_vaddr_of_a_part() -> Call:
    host, opened = ready()
    fill(host, opened, 0x1000, 2 * PAGE)
    opened.unmap_dma(0x1000, 2 * PAGE, 4)
    return host, lambda: opened.map_dma(0x1000, PAGE, vaddr(host), 4)


@case("EINVAL", "the vaddr of 0x1000-0x1fff is invalidated already")
def invalidate_a_vaddr_twice() -> Call:
    host, opened = ready()
    fill(host, opened, 0x1000, PAGE)
    opened.unmap_dma(0x1000, PAGE, 4)
    return host, lambda: opened.unmap_dma(0x1000, PAGE, 4)


@case("EBUSY", "VADDR cannot be invalidated while an emulated")
def invalidate_a_vaddr_beside_an_mdev() -> Call:
    host, opened = ready(intel(mdevs=1), "6.12", A, "mdev0")
    return host, lambda: opened.unmap_dma(0x1000, PAGE, 4)


@case("ENOMEM", "2 more pages on top of 1 locked ones exceed RLIMIT_MEMLOCK, 0x2fff bytes = 2 pages")
def lock_more_than_the_limit() -> Call:
    host, opened = ready()
    host.process.drop_capability()
    host.process.set_memlock(0x2FFF)
    fill(host, opened, 0, PAGE)
    return host, lambda: fill(host, opened, 0x10000, 2 * PAGE)


@case("ENOSPC", "all of dma_entry_limit is in use: 1 mapping")
def use_up_the_budget() -> Call:
    host, opened = ready(with_params(intel(), **{LIMIT: "1"}))
    fill(host, opened, 0, PAGE)
    return host, lambda: fill(host, opened, 0x10000, PAGE)


@case("EINVAL", "begins below the first usable iova, 0x1000")
def map_below_the_usable_iovas() -> Call:
    m = MachineBuilder("edge")
    unit = m.unit("dmar0", kind="intel-vtd", snoop_control=True)
    for bus in (1, 2):
        m.endpoint(f"{bus:02x}:00.0", below=m.root_port(f"00:{bus:02x}.0", unit=unit))
    m.region("02:00.0", 0, 0xFFF, "reserved")
    host = m.host("6.12")
    opened = container(host, A)
    group(host, "0000:02:00.0", opened).unset_container()
    return host, lambda: fill(host, opened, 0, PAGE)


@case("EEXIST", "covers the MSI doorbell page that the kernel has mapped in domain D1")
def map_over_a_doorbell_page_before_5_4() -> Call:
    host, opened, member = fresh(arm(), "4.15")
    member.set_container(opened)
    opened.set_iommu(3)
    member.get_device_fd(A).set_irqs(1)
    return host, lambda: fill(host, opened, 0x8000000, PAGE)


@case("EINVAL", "range's start 0x1_1000 would cut the mapping 0x1_0000-0x1_3fff in two")
def get_the_dirty_pages_of_a_part() -> Call:
    host, opened = ready()
    fill(host, opened, 0x10000, 4 * PAGE)
    opened.dirty_pages(1)
    return host, lambda: opened.dirty_pages(4, iova=0x11000, size=PAGE)


@case("EINVAL", "the bitmap's page size 0x2000 is not 0x1000, the smallest page")
def unmap_with_a_coarse_bitmap() -> Call:
    host, opened = ready()
    opened.dirty_pages(1)
    return host, lambda: opened.unmap_dirty(0, 2 * PAGE, 1, bm_pgsize=2 * PAGE, bm_size=8)


# attach


def late(machine: Any, kernel: str, device: str, *maps: tuple[int, int]) -> Call:
    """A container with a group and mappings, and another group that asks to come in."""
    host, opened = ready(machine, kernel)
    for iova, size in maps:
        fill(host, opened, iova, size)
    member = group(host, device)
    return host, lambda: member.set_container(opened)


@case("EBUSY", "a mapping's vaddr is invalidated")
def attach_while_a_vaddr_is_invalid() -> Call:
    host, call = late(intel(), "6.12", "0000:02:00.0", (0x1000, PAGE))
    next(file for file in host.process.descriptors.values() if hasattr(file, "unmap_dma")).unmap_dma(0x1000, PAGE, 4)
    return host, call


@case("EINVAL", "group 2 is attached already")
def attach_to_a_backend_twice() -> Call:
    host, opened = ready()
    return host, lambda: opened.backend.attach(host.group_of(A))


@case("EINVAL", "the mapping 0xff_ffff_f000-0x100_0000_0fff lies outside the aperture 0x0-0xff_ffff_ffff")
def attach_a_narrow_unit_under_a_high_mapping() -> Call:
    return late(arm({}, {"width": 40}), "6.12", B, ((1 << 40) - PAGE, 2 * PAGE))


@case("EINVAL", "the mapping 0xfee0_0000-0xfee0_0fff overlaps the MSI window 0xfee0_0000-0xfeef_ffff of group 2")
def attach_under_a_mapping_over_the_window() -> Call:
    host, opened = ready(intel(mdevs=1), "6.12", "mdev0")
    fill(host, opened, 0xFEE00000, PAGE)
    member = group(host, A)
    return host, lambda: member.set_container(opened)


@case("EINVAL", "no usable iova would be left")
def attach_what_leaves_nothing() -> Call:
    m = MachineBuilder("nothing left")
    unit = m.unit("dmar0", kind="intel-vtd", width=39)
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=unit))
    m.region(A, 0, (1 << 39) - 1, "reserved")
    host, opened, member = fresh(m.machine())
    member.set_container(opened)
    return host, lambda: opened.set_iommu(3)


@case("EPERM", "group 2 is behind unit0, where any device can raise any interrupt vector")
def attach_without_interrupt_remapping() -> Call:
    host, opened, member = fresh(intel({"width": 48, "isolated_msi": False}))
    member.set_container(opened)
    return host, lambda: opened.set_iommu(3)


@case("EINVAL", r"unit0 (intel-vtd) does not offer nesting (type 6) on kernel 6.12")
def nesting_on_vtd() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    return host, lambda: opened.set_iommu(6)


def with_rmrr(kernel: str, vfio: str = "type1") -> Any:
    m = MachineBuilder("rmrr")
    m.endpoint("01:00.0", below=m.root_port("00:01.0", unit=m.unit("dmar0", kind="intel-vtd")))
    m.region(A, 0xE8000, 0xE8FFF, "direct")
    return fresh(replace(m.machine(), vfio=vfio), kernel)


@case("EPERM", "group 1 is ineligible because of the platform's RMRR 0xe_8000-0xe_8fff")
def attach_an_rmrr_device_before_5_19() -> Call:
    host, opened, member = with_rmrr("5.10")
    member.set_container(opened)
    return host, lambda: opened.set_iommu(3)


@case("EPERM", "group 1 is ineligible because of the platform's RMRR")
def claim_an_rmrr_device_on_6_1() -> Call:
    host, opened, member = with_rmrr("6.1")
    return host, lambda: member.set_container(opened)


@case("EINVAL", "group 1 has the direct region 0xe_8000-0xe_8fff, which must stay mapped 1:1")
def claim_an_rmrr_device_from_6_6() -> Call:
    host, opened, member = with_rmrr("6.6")
    return host, lambda: member.set_container(opened)


@case("EFAULT", "the mapping 0x80_0000_0000-0x80_0000_0fff does not fit unit1")
def replay_past_the_width_of_a_unit() -> Call:
    host, opened = ready(intel({"width": 48}, {"width": 39}), "5.3")
    fill(host, opened, 1 << 39, PAGE)
    member = group(host, B)
    return host, lambda: member.set_container(opened)


# containers and groups


@case("EPERM", "the container holds groups of the other kind")
def mix_groups_with_and_without_an_iommu() -> Call:
    machine = with_params(arm({}, {}), vfio__enable_unsafe_noiommu_mode="Y")
    units = (machine.units[0],)
    machine = replace(machine, units=units)
    host, opened, member = fresh(machine)
    member.set_container(opened)
    other = group(host, B)
    return host, lambda: other.set_container(opened)


def noiommu() -> Any:
    return fresh(machines()["no iommu"])


@case("EPERM", "a no-IOMMU group needs CAP_SYS_RAWIO")
def put_a_noiommu_group_in_without_the_capability() -> Call:
    host, opened, member = noiommu()
    host.process.drop_capability(CAP_SYS_RAWIO)
    return host, lambda: member.set_container(opened)


@case("EPERM", "no-IOMMU group needs CAP_SYS_RAWIO")
def open_a_noiommu_group_without_the_capability() -> Call:
    host, _, member = noiommu()
    member.close()
    host.process.drop_capability(CAP_SYS_RAWIO)
    return host, lambda: host.process.open_group(A)


@case("EPERM", "a device of a no-IOMMU group needs CAP_SYS_RAWIO")
def open_a_noiommu_device_without_the_capability() -> Call:
    host, opened, member = noiommu()
    member.set_container(opened)
    opened.set_iommu(8)
    host.process.drop_capability(CAP_SYS_RAWIO)
    return host, lambda: member.get_device_fd(A)


@case("ENOTTY", "the no-IOMMU backend has no MAP_DMA")
def map_without_an_iommu() -> Call:
    host, opened, member = noiommu()
    member.set_container(opened)
    opened.set_iommu(8)
    return host, lambda: fill(host, opened, 0, PAGE)


@case("EINVAL", "the container holds no group yet")
def set_iommu_of_an_empty_container() -> Call:
    host, opened, _ = fresh()
    return host, lambda: opened.set_iommu(3)


@case("EINVAL", "the container has its backend already (Type1(v2, 0 mappings, 1 domains))")
def set_iommu_twice() -> Call:
    host, opened = ready()
    return host, lambda: opened.set_iommu(3)


@case("ENODEV", "no backend offers type 99 on kernel 6.12")
def set_an_unknown_iommu() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    return host, lambda: opened.set_iommu(99)


@case("EINVAL", "MAP_DMA before SET_IOMMU: the container has no backend")
def map_before_set_iommu() -> Call:
    host, opened, _ = fresh()
    return host, lambda: fill(host, opened, 0, PAGE)


@case("EINVAL", "an ioctl that needs a backend, before SET_IOMMU")
def unknown_ioctl_before_set_iommu() -> Call:
    host, opened, _ = fresh()
    return host, lambda: opened.ioctl(0x3BFF)


@case("ENOTTY", "kernel 6.12 does not know ioctl 0x3bff on a container")
def unknown_ioctl() -> Call:
    host, opened = ready()
    return host, lambda: opened.ioctl(0x3BFF)


@case("EFAULT", "the pointer to the struct vfio_iommu_type1_info is bad")
def get_info_by_number() -> Call:
    host, opened = ready()
    return host, lambda: opened.ioctl(0x3B70)


@case("EFAULT", "the pointer to the device's name is bad")
def get_device_fd_by_number() -> Call:
    host, _, member = fresh()
    return host, lambda: member.ioctl(0x3B6A)


@case("ENOTTY", "ioctl 0x3b64 is none of a group's")
def unknown_ioctl_of_a_group() -> Call:
    host, _, member = fresh()
    return host, lambda: member.ioctl(0x3B64)


@case("EBADF", "descriptor 3 is closed")
def use_a_closed_descriptor() -> Call:
    host, opened, _ = fresh()
    opened.close()
    return host, lambda: opened.check_extension(1)


def set_container(kernel: str, fd: int) -> Call:
    host, _, member = fresh(kernel=kernel)
    return host, lambda: member.set_container(fd)


@case("EINVAL", "the container's descriptor is -1")
def negative_descriptor_up_to_5_19() -> Call:
    return set_container("5.4", -1)


@case("EBADF", "descriptor 999 is not open")
def closed_descriptor_up_to_5_19() -> Call:
    return set_container("5.4", 999)


@case("EBADF", "descriptor -1 is not open")
def negative_descriptor_from_6_1() -> Call:
    return set_container("6.12", -1)


@case("EINVAL", "descriptor 0 is no container")
def wrong_descriptor_up_to_6_1() -> Call:
    return set_container("6.1", 0)


@case("EBADFD", "descriptor 0 is no container")
def wrong_descriptor_from_6_2() -> Call:
    return set_container("6.12", 0)


@case("EINVAL", "group 2 is in a container already")
def set_container_twice() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    return host, lambda: member.set_container(opened)


def dead_group() -> Any:
    host, opened, member = fresh()
    host.unbind(A)
    return host, opened, member


@case("ENODEV", "group 2 lost its last VFIO device: this descriptor is dead")
def put_a_dead_group_in() -> Call:
    host, opened, member = dead_group()
    return host, lambda: member.set_container(opened)


@case("ENODEV", "this descriptor is dead")
def ask_a_dead_group() -> Call:
    host, _, member = dead_group()
    return host, member.get_status


@case("EPERM", f"group 3 is not viable: {SECOND} is bound to a native driver")
def claim_a_group_that_is_not_viable() -> Call:
    host, opened, member = not_viable("6.12")
    return host, lambda: member.set_container(opened)


def not_viable(kernel: str, machine: Any = None) -> Any:
    host = (machine or intel()).host(kernel)
    host.bind(SECOND, "e1000e")
    return host, host.process.open_container(), group(host, "0000:02:00.0")


@case("EPERM", "group 2 is owned by another user already")
def claim_an_owned_group() -> Call:
    host, _, member = fresh()
    member.set_container(host.process.open_container())
    return host, lambda: host.core.claim(host.group_of(A), object())


@case("EFAULT", "the pointer to the struct is bad")
def status_with_a_bad_pointer() -> Call:
    host, _, member = fresh()
    return host, lambda: member.get_status(ptr="bad")


@case("EINVAL", "argsz 7 is below 8, the size of the struct")
def status_with_a_short_struct() -> Call:
    host, _, member = fresh()
    return host, lambda: member.get_status(7)


@case("EINVAL", "group 2 is in no container")
def unset_container_of_none() -> Call:
    host, _, member = fresh()
    return host, member.unset_container


@case("EBUSY", f"{A} of group 2 is open")
def unset_container_with_an_open_device() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    opened.set_iommu(3)
    member.get_device_fd(A)
    return host, member.unset_container


# opening groups and devices


@case("ENOENT", "/dev/vfio/999 does not exist")
def open_an_unknown_group() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.process.open_group(999)


@case("ENOENT", "there is no device 0000:ff:00.0")
def open_the_group_of_an_unknown_device() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.process.open_group("0000:ff:00.0")


@case("ENOENT", "/dev/vfio/2 does not exist: no device of the group is on a VFIO driver")
def open_a_group_without_a_vfio_device() -> Call:
    host = intel().host("6.12")
    host.unbind(A)
    return host, lambda: host.process.open_group(A)


@case("EBUSY", "/dev/vfio/2 is open already")
def open_a_group_twice() -> Call:
    host, _, _ = fresh()
    return host, lambda: host.process.open_group(A)


@case("EBUSY", "group 2 is still in a container from an earlier open")
def open_a_group_whose_device_is_open_up_to_5_17() -> Call:
    host, opened, member = fresh(kernel="5.10")
    member.set_container(opened)
    opened.set_iommu(3)
    member.get_device_fd(A)
    member.close()
    return host, lambda: host.process.open_group(A)


@case("ENODEV", "device bogus is not in group 2")
def open_an_unknown_device() -> Call:
    host, _, member = fresh()
    return host, lambda: member.get_device_fd("bogus")


@case("ENODEV", "device bogus is not in group 2")
def open_an_unknown_device_up_to_5_17() -> Call:
    host, opened, member = fresh(kernel="5.10")
    member.set_container(opened)
    opened.set_iommu(3)
    return host, lambda: member.get_device_fd("bogus")


@case("EINVAL", "group 2 is in no container")
def open_a_device_outside_a_container() -> Call:
    host, _, member = fresh()
    return host, lambda: member.get_device_fd(A)


@case("EINVAL", "the container of group 2 has no backend")
def open_a_device_before_set_iommu() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    return host, lambda: member.get_device_fd(A)


@case("EINVAL", f"group 3 is not viable: {SECOND} on a native driver")
def open_a_device_of_a_group_that_is_not_viable_up_to_5_17() -> Call:
    host, opened, member = not_viable("5.10")
    member.set_container(opened)
    opened.set_iommu(3)
    return host, lambda: member.get_device_fd("0000:02:00.0")


# drivers: the present driver goes first, whatever happens then

UNBOUND = ("drivers", "vfio groups", "groups")


@case("ENOENT", "there is no device 0000:ff:00.0 on this machine")
def bind_an_unknown_device() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.bind("0000:ff:00.0")


@case("ENOENT", "the driver tg3 is not loaded", UNBOUND)
def bind_an_unknown_driver() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.bind(A, "tg3")


@case("ENOENT", "mdev0 is an emulated device, no PCI function")
def bind_an_emulated_device() -> Call:
    host = intel(mdevs=1).host("6.12")
    return host, lambda: host.bind("mdev0")


@case("EINVAL", "0000:00:01.0 is a bridge", UNBOUND)
def bind_a_bridge() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.bind("0000:00:01.0")


@case("ENODEV", "0000:00:01.0 is a bridge", UNBOUND)
def bind_a_bridge_up_to_5_10() -> Call:
    host = intel().host("5.10")
    return host, lambda: host.bind("0000:00:01.0")


@case("EBUSY", "0000:10:00.0 has 2 virtual functions enabled", UNBOUND)
def bind_a_physical_function() -> Call:
    host = recorded("intel-6.12-ir").host()
    return host, lambda: host.bind("0000:10:00.0")


@case("EINVAL", f"{B} is in no IOMMU group", UNBOUND)
def bind_a_device_without_a_group() -> Call:
    machine = intel({"width": 48}, {"width": 48})
    host = replace(machine, units=machine.units[:1]).host("6.12")
    host.unbind(B)
    return host, lambda: host.bind(B)


@case("EINVAL", f"unit0 cannot do cache-coherent mappings for {A}", UNBOUND)
def bind_behind_an_incoherent_iommu() -> Call:
    host = arm({"coherent": False}).host("6.12")
    host.unbind(A)
    return host, lambda: host.bind(A)


@case("EBUSY", f"group 3 is owned by a user: e1000e would use the DMA of {SECOND}", UNBOUND)
def bind_a_native_driver_into_an_owned_group() -> Call:
    host, opened, member = fresh(device="0000:02:00.0")
    member.set_container(opened)
    return host, lambda: host.bind(SECOND, "e1000e")


@case("ENOENT", "kernel 6.12 has no module parameter nonsense")
def read_an_unknown_parameter() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.get_param("nonsense")


@case("EINVAL", "vfio_iommu_type1.allow_unsafe_interrupts is a boolean, not 'maybe'")
def write_no_boolean() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.set_param("vfio_iommu_type1.allow_unsafe_interrupts", "maybe")


@case("EINVAL", "vfio_iommu_type1.dma_entry_limit is a number of 32 bits, not '-1'")
def write_no_number() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.set_param(LIMIT, -1)


# interrupts


def shared_bus() -> Any:
    """Build a conventional bus with two functions, a port with two functions apart, and a function on the root bus."""
    m = MachineBuilder("shared bus")
    unit = m.unit("unit0", kind="intel-vtd")
    bridge = m.pci_bridge("0c:00.0", below=m.root_port("00:01.0", unit=unit))
    for slot in (1, 2):
        m.endpoint(f"0d:{slot:02}.0", below=bridge, kind="pci")
    m.endpoint("0e:00.0", below=m.root_port("00:02.0", unit=unit), functions=2, acs=True)
    m.endpoint("00:1f.0", unit=unit, kind="pci")
    return m.machine()


def open_device(kernel: str = "6.12", name: str = A, machine: Any = None) -> Any:
    host, opened, member = fresh(machine, kernel=kernel, device=name)
    member.set_container(opened)
    opened.set_iommu(3)
    return host, member, member.get_device_fd(name)


def device(
    index: int,
    start: int = 0,
    count: int = 1,
    flags: int | None = None,
    *,
    first: int | None = None,
    kernel: str = "6.12",
    machine: Any = None,
    **more: Any,
) -> Call:
    host, _, opened_device = open_device(kernel, machine=machine)
    if first is not None:
        opened_device.set_irqs(first, 0, 1)
    return host, lambda: opened_device.set_irqs(index, start, count, flags, **more)


@case("EINVAL", "index 5 is none of 0 INTx")
def unknown_interrupt_index() -> Call:
    return device(5)


@case("EINVAL", f"vectors 0..8 of 8 MSI-X vectors of {A}")
def more_vectors_than_there_are() -> Call:
    return device(2, 0, 9)


@case("EFAULT", "the pointer to the struct is bad")
def an_irq_set_that_cannot_be_read() -> Call:
    return device(1, ptr="bad")


@case("EFAULT", "the data of 2 vectors behind the struct cannot be read")
def an_irq_set_whose_descriptors_cannot_be_read() -> Call:
    return device(2, 0, 2, ptr="cut")


@case("EBADF", "descriptor 77 is not open", ("irqs",))
def one_closed_descriptor_in_a_list_of_eventfds() -> Call:
    return device(2, 0, 3, evfd=[None, -1, 77])


@case("EINVAL", "flags 0xb_0001 holds 0x8_0000, which no kernel knows")
def a_feature_that_is_asked_for_in_an_unknown_way() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.feature(0xB0001)


@case("EINVAL", "flags 0x3_0001 asks to get and to set")
def a_feature_that_is_got_and_set() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.feature(0x30001)


@case("ENOTTY", "vfio-pci itself has no feature 1")
def the_feature_of_migration() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.feature(0x40001)


@case("EINVAL", "no zero ends the device's name within 4096 bytes")
def a_device_name_without_an_end() -> Call:
    host = intel().host("6.12")
    opened = container(host, A)
    member = next(one for one in opened.process.descriptors.values() if one.KIND == "group")
    return host, lambda: member.ioctl(0x3B6A, bytearray(b"x" * 4096))


@case(
    "EFAULT", "the bitmap cannot be written to its address", leaves=("containers",)
)  # the mapping's own bits are set before they are copied
def a_bitmap_with_no_room_in_memory() -> Call:
    host = intel().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0x1000, PAGE)
    opened.dirty_pages(1)
    opened.process.copy_out = lambda _address, _data: False
    asked = bytearray(DirtyPages(48, 4, 0x1000, PAGE, PAGE, 8, 0x7000).pack())
    return host, lambda: opened.ioctl(0x3B75, asked)


@case("EINVAL", "argsz 19 is below 20")
def an_irq_set_that_is_too_short() -> Call:
    return device(1, argsz=19)


@case("EINVAL", "flags 0x64 holds 0x40, which no kernel knows")
def unknown_interrupt_flags() -> Call:
    return device(1, flags=0x64)


@case("EINVAL", "flags 0x23 is not one data type")
def senseless_interrupt_flags() -> Call:
    return device(1, flags=0x23)


@case("EINVAL", "argsz 23 does not hold the data of 1 vectors: 24 bytes do")
def eventfds_that_do_not_fit() -> Call:
    return device(1, argsz=23)


@case("ENOTTY", "flags 0x9 holds no action (8 mask, 16 unmask, 32 trigger), or one that MSI does not have")
def masking_an_msi() -> Call:
    return device(1, flags=9)


@case("EINVAL", f"INTx of {A} is not enabled, or start 0 and count 1 are not 0 and 1")
def masking_intx_that_is_not_enabled() -> Call:
    return device(0, flags=9)


@case("ENOTTY", "an eventfd that masks INTx is not implemented in Linux")
def an_eventfd_that_masks() -> Call:
    return device(0, flags=0xC, first=0)


@case("EBADF", "descriptor 999 is not open")
def a_closed_eventfd() -> Call:
    return device(0, flags=0x14, first=0, evfd=999)


@case("EINVAL", "descriptor 1 is no eventfd")
def another_file_as_eventfd() -> Call:
    return device(3, evfd=1)


@case("EBUSY", f"INTx of {A} has an eventfd that unmasks it already")
def a_second_eventfd_that_unmasks() -> Call:
    host, _, opened_device = open_device()
    opened_device.set_irqs(0)
    opened_device.set_irqs(0, flags=0x14)
    return host, lambda: opened_device.set_irqs(0, flags=0x14)


@case("EINVAL", "INTx has one vector, 0; start 0 and count 0 are not 0 and 1")
def intx_without_its_vector() -> Call:
    return device(0, 0, 0, 0x24, first=0)


@case("ERANGE", "MSI-X cannot be enabled with no vector at all")
def no_vector_with_data() -> Call:
    return device(2, 0, 0, flags=0x24)


@case("ENOSPC", "MSI-X cannot be enabled with no vector at all")
def no_vector_with_data_on_5_4() -> Call:
    return device(2, 0, 0, flags=0x24, kernel="5.4")


@case("EINVAL", f"ERR of {A} has no eventfd")
def an_error_signal_without_eventfd() -> Call:
    return device(3, flags=0x21)


@case("EINVAL", "count is 0: bools and eventfds need a vector")
def an_error_eventfd_without_vector() -> Call:
    return device(3, 0, 0, flags=0x24)


@case("EINVAL", "1 MSI-X vectors were allocated when it was enabled, vector 1 is not among them", ("irqs",))
def a_vector_of_a_block_that_was_not_allocated() -> Call:
    return device(2, 0, 2, first=2, machine=arm())


@case("EINVAL", f"{A} has no interrupt type 5")
def the_info_of_an_unknown_interrupt() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.get_irq_info(5)


@case("EINVAL", f"{A} has no region 9")
def the_info_of_an_unknown_region() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.get_region_info(9)


@case("EINVAL", f"region 0 of {A} has 0x2_0000 bytes to map, not 0x1000 from 0x2_0000")
def past_the_end_of_a_bar() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.mmap(0, PAGE, 0x10_0000, 0x2_0000)


@case("EINVAL", "0000:0d:01.0 has no reset of its own and shares its bus")
def a_reset_that_a_function_does_not_have() -> Call:
    host, _, opened_device = open_device(name="0000:0d:01.0", machine=shared_bus())
    return host, opened_device.reset


@case("ENODEV", "0000:00:1f.0 is on a root bus: there is no bridge that could reset it")
def a_hot_reset_on_a_root_bus() -> Call:
    host, _, opened_device = open_device(name="0000:00:1f.0", machine=shared_bus())
    return host, opened_device.get_hot_reset_info


@case("ENOSPC", "argsz 12 does not hold 2 devices: 36 bytes do")
def a_hot_reset_that_takes_along_more_than_fits() -> Call:
    host, _, opened_device = open_device(name="0000:0d:01.0", machine=shared_bus())
    return host, lambda: opened_device.get_hot_reset_info(12)


@case("EPERM", "0000:0e:00.1 would be reset too and is in no group")
def a_hot_reset_of_what_is_in_no_group() -> Call:
    host, _, opened_device = open_device(name="0000:0e:00.0", machine=shared_bus())
    host.core.remove(host.group_of("0000:0e:00.1"))
    return host, opened_device.get_hot_reset_info


@case("EINVAL", "0 groups were given, 2 devices are affected")
def a_hot_reset_without_groups() -> Call:
    host, _, opened_device = open_device(name="0000:0d:01.0", machine=shared_bus())
    return host, opened_device.hot_reset


@case("EBADF", "is closed")
def a_hot_reset_with_a_closed_group() -> Call:
    host, member, opened_device = open_device(name="0000:0d:01.0", machine=shared_bus())
    member.close()
    return host, lambda: opened_device.hot_reset(member)


@case("EINVAL", "0000:0d:02.0 would be reset too and is on no VFIO driver")
def a_hot_reset_of_the_hosts_device() -> Call:
    host, member, opened_device = open_device(name="0000:0d:01.0", machine=shared_bus())
    host.unbind("0000:0d:02.0")
    return host, lambda: opened_device.hot_reset(member)


@case("EINVAL", "0000:0e:00.1 would be reset too, and its group")
def a_hot_reset_of_another_users_group() -> Call:
    host, member, opened_device = open_device(name="0000:0e:00.0", machine=shared_bus())
    return host, lambda: opened_device.hot_reset(member)


@case("EFAULT", "the pointer to the struct is bad")
def a_device_ioctl_with_a_null_pointer() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.ioctl(0x3B6B)


@case("EINVAL", "'colour=blue' is no option of a device")
def an_unknown_option_behind_a_device() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    opened.set_iommu(3)
    return host, lambda: member.get_device_fd(f"{A} colour=blue")


@case("EINVAL", f"a VF token for {A}, neither a PF nor a VF")
def a_token_for_a_plain_device() -> Call:
    host, opened, member = fresh()
    member.set_container(opened)
    opened.set_iommu(3)
    return host, lambda: member.get_device_fd(f"{A} vf_token=01234567-89ab-cdef-0123-456789abcdef")


# several processes


@case("EBADF", "belongs to process P")
def a_container_of_another_process() -> Call:
    host, _, member = fresh()
    other = host.process.fork("P").open_container()
    return host, lambda: member.set_container(other)


@case("EBADF", "belongs to nobody: it is closed")
def a_closed_container() -> Call:
    host, opened, member = fresh()
    opened.close()
    return host, lambda: member.set_container(opened)


@case("ENOMEM", "2 pages of 0x1000-0x2fff on top of 0 locked ones exceed RLIMIT_MEMLOCK of process P, 0x1000 bytes")
def a_vaddr_taken_over_past_the_limit() -> Call:
    host = intel().host("6.12")
    opened = container(host, A)
    fill(host, opened, 0x1000, 2 * PAGE)
    opened.unmap_dma(0x1000, 2 * PAGE, 4)
    child = host.process.fork("P")
    child.drop_capability()
    child.set_memlock(PAGE)
    return host, lambda: child.descriptors[opened.fd].map_dma(0x1000, 2 * PAGE, vaddr(host), 4)


@case("ENODEV", f"device {A} is being unbound")
def a_device_that_is_being_unbound() -> Call:
    host, member, _ = open_device()
    child = host.process.fork("P")
    for fd in list(child.descriptors):
        child.close(fd)
    assert not child.unbind(A).done
    return host, lambda: member.get_device_fd(A)


@case("EINVAL", f"MSI is not enabled on {A}")
def disable_what_is_not_enabled() -> Call:
    return device(1, 0, 0)


@case("EINVAL", f"MSI-X is enabled on {A}: MSI cannot be used beside it")
def a_second_interrupt_type() -> Call:
    return device(1, first=2)


@case("EINVAL", "1 MSI-X vectors were allocated when it was enabled, vector 1 is not among them")
def a_vector_that_was_not_allocated() -> Call:
    return device(2, 0, 2, first=2, kernel="6.1")


# iommufd's compatibility layer


def layer(machine: Any = None, device: str = A, *, opened: bool = False, kind: int = 3, maps: Any = (), kernel: str = "6.12") -> Any:
    host, space, member = fresh(replace(machine or intel({"width": 39}), vfio="iommufd-compat"), kernel, device)
    member.set_container(space)
    space.set_iommu(kind)
    for iova, size in maps:
        fill(host, space, iova, size)
    if opened:
        member.get_device_fd(device)
    return host, space, member


def layer_calls(verb: str, *rows: tuple[dict[str, Any], str, str], **options: Any) -> None:
    for number, (args, errno, why) in enumerate(rows):

        def set_up(args: dict[str, Any] = args) -> Call:
            host, space, _ = layer(**options)
            base: dict[str, Any] = {"iova": 0x10000, "size": PAGE} | ({"vaddr": vaddr(host)} if verb == "map_dma" else {})
            return host, lambda: getattr(space, verb)(**base | args)

        CASES.append(Case(f"iommufd: {verb}, {sorted(options)} {number}: {args}", errno, why, set_up))


layer_calls(
    "map_dma",
    ({"ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"argsz": 31}, "EINVAL", "argsz 31 is below 32"),
    ({"flags": 4}, "EINVAL", "flags 0x4 holds 0x4, which the compatibility layer does not know"),
    ({"size": 0}, "EINVAL", "size 0 maps nothing"),
    ({"size": (1 << 64) - 1}, "EINVAL", "size 0xffff_ffff_ffff_ffff is within a page of 2^64"),
    ({"vaddr": TOP}, "EOVERFLOW", "vaddr 0xffff_ffff_ffff_f000 + size 0x1000 wraps past 2^64"),
    ({"iova": TOP, "size": 2 * PAGE}, "EOVERFLOW", "iova 0xffff_ffff_ffff_f000 + size 0x2000 wraps past 2^64"),
    ({"iova": 0x1000}, "EEXIST", "0x1000-0x1fff overlaps the mapping 0x1000-0x1fff"),
    ({"iova": 0xFEE00000}, "EINVAL", "0xfee0_0000-0xfee0_0fff is not inside one usable range"),
    ({"iova": 0x10800}, "EINVAL", "iova 0x1_0800 is not a multiple of 0x1000"),
    ({"size": 0x800}, "EINVAL", "size 0x800 is not a multiple of 0x1000"),
    ({"vaddr": 0x800}, "EINVAL", "vaddr 0x800 is not a multiple of 0x1000"),
    ({"vaddr": 0x1000}, "EFAULT", "the page at vaddr 0x1000 of 0x1_0000-0x1_0fff cannot be pinned"),
    ({"flags": 0}, "EINVAL", "the mapping 0x1_0000-0x1_0fff may be neither read nor written"),
    opened=True, maps=((0x1000, PAGE),),
)  # fmt: skip
layer_calls(
    "unmap_dirty",
    ({"ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"argsz": 23}, "EINVAL", "argsz 23 is below 24"),
    ({"flags": 4}, "EINVAL", "flags 0x4: the compatibility layer knows only ALL"),
    ({"flags": 2}, "EINVAL", "ALL goes with iova 0 and size 0, not iova 0x1_0000 size 0x1000"),
    ({"size": 0}, "EINVAL", "size 0 unmaps nothing"),
    ({"iova": TOP, "size": 2 * PAGE}, "EOVERFLOW", "iova 0xffff_ffff_ffff_f000 + size 0x2000 wraps past 2^64"),
    ({"iova": 0x2000}, "ENOENT", "the mapping 0x1000-0x3fff sticks out of 0x2000-0x2fff"),
    maps=((0x1000, 3 * PAGE),),
)  # fmt: skip
layer_calls(
    "unmap_dirty",
    ({"iova": 0x8000}, "ENOENT", "nothing is mapped in 0x8000-0x8fff"),
    maps=((0x1000, PAGE),),
    kernel="6.8",
)


@case("EFAULT", "the pointer to the struct is bad")
def iommufd_an_ioctl_of_its_own_with_a_null_pointer() -> Call:
    host, space, _ = layer()
    return host, lambda: space.ioctl(0x3B8B)


@case("EADDRINUSE", "the mapping 0x1001-0x2000 of vaddr")
def iommufd_version_1_with_an_odd_mapping() -> Call:
    host, space, _ = layer(maps=((0x1001, PAGE),))
    return host, lambda: space.set_iommu(1)


layer_calls(
    "unmap_dirty",
    ({"iova": 0x1800}, "EINVAL", "0x2800 would cut the mapping 0x1000-0x3fff inside a page"),
    maps=((0x1000, 3 * PAGE),),
    kind=1,
)


@case("ENODEV", "the descriptor has no address space: no group came through it yet")
def iommufd_map_before_the_first_group() -> Call:
    host, space, _ = fresh(replace(intel(), vfio="iommufd-compat"))
    return host, lambda: fill(host, space, 0, PAGE)


@case("ENODEV", "the descriptor has no address space: no group came through it yet")
def iommufd_set_iommu_before_the_first_group() -> Call:
    host, space, _ = fresh(replace(intel(), vfio="iommufd-compat"))
    return host, lambda: space.set_iommu(3)


@case("EINVAL", "the compatibility layer offers types 1 and 3, not 6")
def iommufd_nesting() -> Call:
    host, space, _ = layer()
    return host, lambda: space.set_iommu(6)


@case(
    "EFAULT",
    "0x80_0000_0000-0x80_0000_0fff reaches past 0x7f_ffff_ffff, the last iova of D1: "
    "it keeps the width of the narrowest unit it ever served",
)
def iommufd_map_past_the_width_that_a_closed_device_left_behind() -> Call:
    host = replace(intel({"width": 48}, {"width": 39}), vfio="iommufd-compat").host("6.6")
    space = host.process.open_container()
    group(host, A, space).get_device_fd(A)
    group(host, B, space).get_device_fd(B).close()
    return host, lambda: fill(host, space, 1 << 39, PAGE)


@case("ENOTTY", "iommufd's compatibility layer does not have this ioctl")
def iommufd_dirty_pages() -> Call:
    host, space, _ = layer()
    return host, lambda: space.dirty_pages(1)


@case("EPERM", f"group 3 is not viable: {SECOND}")
def iommufd_open_a_device_of_a_group_that_is_not_viable() -> Call:
    host, space, member = not_viable("6.12", replace(intel(), vfio="iommufd-compat"))
    member.set_container(space)
    return host, lambda: member.get_device_fd("0000:02:00.0")


@case("EINVAL", "the direct region 0xe_8000-0xe_8fff")
def iommufd_open_an_rmrr_device() -> Call:
    host, space, member = with_rmrr("6.12", "iommufd-compat")
    member.set_container(space)
    return host, lambda: member.get_device_fd(A)


@case("EPERM", "group 2 is behind unit0, whose interrupts are not isolated")
def iommufd_open_a_device_without_interrupt_remapping() -> Call:
    host, _, member = layer(intel({"width": 39, "isolated_msi": False}))
    return host, lambda: member.get_device_fd(A)


@case("EINVAL", "group 2 reports a hardware and a software MSI region")
def iommufd_open_a_device_with_both_msi_regions() -> Call:
    host, _, member = layer(arm({"hardware_msi": (0xC6010000, 0xC601FFFF)}))
    return host, lambda: member.get_device_fd(A)


@case("EADDRINUSE", "the mapping 0xfee0_0000-0xfee0_0fff is not inside 0x0-0xfedf_ffff")
def iommufd_open_a_device_under_a_mapping() -> Call:
    host, _, member = layer(maps=((0xFEE00000, PAGE),))
    return host, lambda: member.get_device_fd(A)


@case("EADDRINUSE", "the mapping 0x2000-0x27ff of vaddr 0x2000_0000_0000 is not made of whole pages")
def iommufd_open_a_device_over_half_a_page() -> Call:
    host, _, member = layer(maps=((0x2000, 0x800),))
    return host, lambda: member.get_device_fd(A)


@case("ENOMEM", "2 more pages exceed RLIMIT_MEMLOCK, 0x1000 bytes = 1 pages")
def iommufd_open_a_device_over_the_limit() -> Call:
    host, space, member = layer()
    host.process.drop_capability()
    host.process.set_memlock(PAGE)
    fill(host, space, 0, 2 * PAGE)
    return host, lambda: member.get_device_fd(A)


@case("EINVAL", "9 is an extension that type1 answers, but no type of a container")
def set_iommu_with_the_number_of_an_extension() -> Call:
    host = intel().host("6.12")
    opened = host.process.open_container()
    host.process.open_group(A).set_container(opened)
    return host, lambda: opened.set_iommu(9)


@case("EPERM", "capability 14 was given up for good")
def take_back_a_capability_given_up_for_good() -> Call:
    host = intel().host("6.12")
    host.process.drop_capability(14, keep=False)
    return host, lambda: host.process.restore_capability(14)


@case("ENOENT", "/dev/vfio/noiommu-7 does not exist")
def open_an_unprotected_group_that_is_not_there() -> Call:
    host = intel().host("6.12")
    return host, lambda: host.process.open_group("noiommu-7")


@case("EINVAL", "argsz 15 is below 16, what a struct vfio_irq_info needs")
def irq_info_with_a_struct_too_small() -> Call:
    host, _, opened_device = open_device()
    return host, lambda: opened_device.ioctl(0x3B6D, bytearray(IrqInfo(argsz=15).pack()))


class KeepsAPage(Landed):
    """A policy that keeps one page from every user."""

    def user_maps(self, domain: Any, span: Span) -> str | None:
        return f"{span} holds the doorbell's page in D{domain.number}" if span.contains(0x9000) else None


@case("EINVAL", "0x8000-0x9fff holds the doorbell's page in D1")
def map_over_what_a_policy_of_doorbells_keeps() -> Call:
    machine = intel().host("6.12").machine
    host = Host(machine, Kernel("6.12"), doorbells=KeepsAPage)
    opened = container(host, A)
    return host, lambda: fill(host, opened, 0x8000, 2 * PAGE)


# iommufd's own ioctls, and devices opened by nodes of their own

GONE = (1 << 64) - 1


def native(kernel: str = "6.12", machine: Any = None, *, attached: bool = False) -> Any:
    """Return a host, an iommufd with address space 1 and PAGE bytes mapped at 0x1000, and A's device: object 2, in domain 3."""
    host = replace(machine or intel({"width": 39}), vfio="iommufd-compat").host(kernel)
    fd = host.process.open_iommufd()
    fd.ioas_map(fd.ioas_alloc(), vaddr(host), PAGE, 0x1000, 4)
    device = host.process.open_cdev(A)
    device.bind_iommufd(fd)
    if attached:
        device.attach(1)
    return host, fd, device


def native_calls(kind: type[Sized], base: dict[str, Any], *rows: tuple[dict[str, Any], str, str], **options: Any) -> None:
    """Register refused ioctls of an iommufd: the fields of the struct beside `base`."""
    verb = next(name for name, row in VERBS.items() if row.kind is kind)
    for number, (fields, errno, why) in enumerate(rows):

        def set_up(fields: dict[str, Any] = fields) -> Call:
            host, fd, _ = native(**options)
            given = {
                name: value + vaddr(host) if name == "user_va" and value < PAGE * PAGE else value for name, value in (base | fields).items()
            }
            return host, lambda: fd.ask(verb, kind(**given))

        CASES.append(Case(f"{verb} {sorted(options.items())} {number}: {fields}", errno, why, set_up))


native_calls(
    IoasAlloc, {},
    ({"ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"size": 11}, "EINVAL", "size 11 is below 12"),
    ({"size": 16, "beyond": True}, "E2BIG", "a struct iommu_ioas_alloc of 16 bytes has values"),
    ({"flags": 1}, "EOPNOTSUPP", "flags 0x1: there are none"),
)  # fmt: skip
native_calls(Destroy, {}, ({"id": 9}, "ENOENT", "no object 9"), ({"id": 2}, "EBUSY", "device 2 (0000:01:00.0) is in use"))
native_calls(Destroy, {}, ({"id": 1}, "EBUSY", "Ioas(1, 1 mappings, 1 domains) is in use"), ({"id": 3}, "EBUSY", "Hwpt(3"), attached=True)
native_calls(
    IoasMap, {"ioas_id": 1, "length": PAGE, "iova": 0x10000, "user_va": 0},
    ({"flags": 8}, "EOPNOTSUPP", "flags 0x8 hold others"),
    ({"reserved": 1}, "EOPNOTSUPP", "the reserved field is 1"),
    ({"length": GONE}, "EOVERFLOW", "0xffff_ffff_ffff_ffff is 2^64 - 1"),
    ({"flags": 1}, "EINVAL", "flags 0x1 ask for neither READABLE"),
    ({"ioas_id": 2}, "ENOENT", "no address space 2"),
    ({"length": 0}, "EINVAL", "size 0 maps nothing"),
    ({"user_va": TOP}, "EOVERFLOW", "wraps past 2^64"),
    ({"iova": 0x1000}, "EEXIST", "overlaps the mapping 0x1000-0x1fff"),
    ({"flags": 6, "length": (1 << 63) - 1}, "EOVERFLOW", "too large for a place that the kernel chooses"),
)  # fmt: skip
native_calls(
    IoasMap, {"ioas_id": 1, "length": PAGE, "iova": 0x10000, "user_va": 0},
    ({"flags": 6, "user_va": 0x800}, "EINVAL", "allow no iova on a multiple of 0x1000"),
    ({"iova": 0xFEE00000}, "EINVAL", "is not inside one usable range"),
    attached=True,
)  # fmt: skip
native_calls(
    IoasUnmap, {"ioas_id": 1, "iova": 0x8000, "length": PAGE},
    ({"ioas_id": 3}, "ENOENT", "no address space 3"),
    ({"length": GONE}, "EOVERFLOW", "is 2^64 - 1"),
    ({"length": 0}, "EINVAL", "size 0 unmaps nothing"),
    ({}, "ENOENT", "nothing is mapped in 0x8000-0x8fff"),
    ({"iova": 0x1000, "length": 1}, "ENOENT", "the mapping 0x1000-0x1fff sticks out"),
)  # fmt: skip
native_calls(
    IoasCopy, {"dst_ioas_id": 1, "src_ioas_id": 1, "length": PAGE, "src_iova": 0x1000, "dst_iova": 0x10000, "flags": 5},
    ({"flags": 8}, "EOPNOTSUPP", "flags 0x8 hold others"),
    ({"src_iova": GONE}, "EOVERFLOW", "an iova or the length is 2^64 - 1"),
    ({"flags": 0}, "EINVAL", "ask for neither READABLE"),
    ({"src_ioas_id": 7}, "ENOENT", "no address space 7 to copy from"),
    ({"length": 0}, "EINVAL", "length 0 copies nothing"),
    ({"src_iova": TOP, "length": 2 * PAGE}, "EOVERFLOW", "wraps past 2^64"),
    ({"length": 2 * PAGE}, "ENOENT", "0x1000-0x2fff of address space 1 is not mapped throughout"),
    ({"dst_ioas_id": 8}, "ENOENT", "no address space 8"),
    ({"flags": 7}, "EPERM", "the mapping at the source is read-only"),
)  # fmt: skip
native_calls(
    IovaRanges, {"ioas_id": 1, "num_iovas": 8},
    ({"reserved": 1}, "EOPNOTSUPP", "the reserved field is 1"),
    ({"ioas_id": 2}, "ENOENT", "no address space 2"),
    ({"room": 1}, "EFAULT", "the array holds 1 ranges, num_iovas says 8"),
    ({"num_iovas": 1}, "EMSGSIZE", "there are 2 ranges, and room for 1"),
    attached=True,
)  # fmt: skip
native_calls(
    AllowIovas, {"ioas_id": 1, "num_iovas": 1, "ranges": ((0x1000, 0x1FFF),)},
    ({"reserved": 1}, "EOPNOTSUPP", "the reserved field is 1"),
    ({"ioas_id": 2}, "ENOENT", "no address space 2"),
    ({"ranges": ((5, 5),)}, "EINVAL", "the range 0x5-0x5 does not end behind its start"),
    ({"num_iovas": 2, "ranges": ((0, 9), (9, 20))}, "EINVAL", "the range 0x9-0x14 overlaps another"),
    ({"num_iovas": 2}, "EFAULT", "the array holds 1 ranges, num_iovas says 2"),
    ({"ranges": ((0, 0xFEE00000),)}, "EADDRINUSE", "0x0-0xfee0_0000 is not inside one usable range"),
    attached=True,
)  # fmt: skip
native_calls(
    Option, {},
    ({"reserved": 1}, "EOPNOTSUPP", "the reserved field is 1"),
    ({"option_id": 2}, "EOPNOTSUPP", "there is no option 2"),
    ({"object_id": 1}, "EOPNOTSUPP", "not object 1's"),
    ({"option_id": 1, "object_id": 2}, "ENOENT", "no object 2, or it is of another kind"),
    ({"op": 2}, "EOPNOTSUPP", "op 2 is neither SET"),
    ({"op": 0}, "EBUSY", "the iommufd has 3 objects"),
    ({"op": 0, "option_id": 1, "object_id": 1, "val64": 2}, "EINVAL", "the value 2 is neither 0 nor 1"),
    ({"op": 0, "option_id": 1, "object_id": 1}, "EINVAL", "has mappings in a domain"),
    attached=True,
)  # fmt: skip
native_calls(
    VfioIoas, {},
    ({"reserved": 1}, "EOPNOTSUPP", "the reserved field is 1"),
    ({"op": 3}, "EOPNOTSUPP", "op 3 is neither GET"),
    ({}, "ENODEV", "no address space is set"),
    ({"op": 1, "ioas_id": 2}, "ENOENT", "no object 2, or it is of another kind"),
)  # fmt: skip
native_calls(
    HwptAlloc, {"dev_id": 2, "pt_id": 1},
    ({"reserved": 1}, "EOPNOTSUPP", "the reserved field is 1"),
    ({"data_type": 1}, "EINVAL", "data type 1 with 0 bytes"),
    ({"dev_id": 1}, "ENOENT", "no object 1, or it is of another kind"),
    ({"pt_id": 2}, "EINVAL", "no object 2, or it is of another kind"),
    ({"pt_id": 3}, "EOPNOTSUPP", "object 3 is a domain"),
    ({"flags": 8}, "EOPNOTSUPP", "flags 0x8 hold others than NEST_PARENT"),
    attached=True,
)  # fmt: skip
native_calls(
    HwptAlloc,
    {"dev_id": 2, "pt_id": 1},
    ({"flags": 1}, "EOPNOTSUPP", "flags 0x1 or the reserved field"),
    ({"pt_id": 9}, "ENOENT", "no object 9"),
    kernel="6.6",
)


@case("EPERM", "the process does not have CAP_SYS_RESOURCE")
def native_rlimit_mode_without_the_capability() -> Call:
    host = replace(intel(), vfio="iommufd-compat").host("6.12")
    fd = host.process.open_iommufd()
    host.process.drop_capability(CAP_SYS_RESOURCE)
    return host, lambda: fd.option(0, 1)


@case("ENOSPC", "no 0x4000_0000 bytes are free in the usable and allowed iovas")
def native_no_place_where_iovas_are_allowed() -> Call:
    host, fd, _ = native()
    fd.ioas_allow_iovas(1, (0, (1 << 30) - 1))
    return host, lambda: fd.ioas_map(1, vaddr(host), 1 << 30)


@case("EADDRINUSE", "which must stay usable, is not inside")
def native_attach_over_what_was_allowed() -> Call:
    host, fd, device = native()
    fd.ioas_allow_iovas(1, (0, 0xFEE00000))
    return host, lambda: device.attach(1)


@case("EADDRINUSE", "which must stay usable, is not inside 0x0-0x7f_ffff_ffff, what a domain of unit0 leaves")
def native_attach_a_narrow_domain_under_what_was_allowed() -> Call:
    host, fd, _ = native(kernel="7.3")
    fd.ioas_unmap(1)
    fd.ioas_allow_iovas(1, (1 << 40, 1 << 41))
    return host, lambda: fd.hwpt_alloc(2, 1)


@case("EADDRINUSE", "the mapping 0x80_0000_0000-0x80_0000_0fff is not inside 0x0-0x7f_ffff_ffff, what a domain of unit0 leaves usable")
def native_allocate_a_narrow_domain_under_a_high_mapping() -> Call:
    host, fd, _ = native(kernel="7.3")
    fd.ioas_map(1, vaddr(host), PAGE, 1 << 39)
    return host, lambda: fd.hwpt_alloc(2, 1)


@case("ENOENT", "the iommufd has no object 9")
def native_attach_to_nothing() -> Call:
    host, _, device = native()
    return host, lambda: device.attach(9)


@case("EINVAL", "object 2 is a device")
def native_attach_to_a_device() -> Call:
    host, _, device = native()
    return host, lambda: device.attach(2)


@case("EINVAL", "another device of group 3 is attached to another domain")
def native_attach_half_a_group_elsewhere() -> Call:
    host, fd, _ = native()
    devices = [host.process.open_cdev(f"0000:02:00.{number}") for number in (0, 1)]
    for one in devices:
        one.bind_iommufd(fd)
    devices[0].attach(1)
    other = fd.ioas_alloc()
    return host, lambda: devices[1].attach(other)


@case("EINVAL", "unit1 (intel-vtd, 48-bit) does not fit Domain(D1, unit0")
def native_attach_to_a_domain_of_another_unit() -> Call:
    host, _, device = native(machine=intel({"width": 39, "snoop_control": True}, {"width": 48}))
    hwpt = device.attach(1)
    other = host.process.open_cdev(B)
    other.bind_iommufd(3)
    return host, lambda: other.attach(hwpt)


@case("EINVAL", "the smallest page of unit0 (arm-smmu-v3 stage 1, 48-bit) is larger than the CPU's")
def native_attach_where_pages_are_large() -> Call:
    host, _, device = native(machine=arm({"page_sizes": 0x20010000}))
    return host, lambda: device.attach(1)


@case("ENODEV", "the container's address space was cleared or destroyed")
def iommufd_open_a_device_after_its_address_space_was_cleared() -> Call:
    host, space, member = layer()
    space.vfio_ioas(clear=True)
    return host, lambda: member.get_device_fd(A)


@case("EINVAL", "Ioas(1, 1 mappings, 1 domains) has mappings in a domain")
def iommufd_version_1_with_a_mapping_in_a_domain() -> Call:
    host, space, _ = layer(opened=True, maps=((0x1000, PAGE),))
    return host, lambda: space.set_iommu(1)


@case("ENOENT", "this kernel has no /dev/iommu")
def open_an_iommufd_where_there_is_none() -> Call:
    host = intel().host("6.12")
    return host, host.process.open_iommufd


@case("ENOENT", "devices have no nodes of their own here")
def open_a_device_by_its_node_on_6_2() -> Call:
    host = replace(intel(), vfio="iommufd-compat").host("6.2")
    return host, lambda: host.process.open_cdev(A)


@case("ENOENT", "it is not on a VFIO driver")
def open_a_device_of_a_native_driver_by_its_node() -> Call:
    host, _, _ = native()
    host.unbind(B.replace("11", "02"))
    return host, lambda: host.process.open_cdev(B.replace("11", "02"))


@case("EINVAL", "was opened by its own node, and is tied to no iommufd yet")
def use_a_device_before_it_is_tied() -> Call:
    host, _, device = native()
    device.close()
    again = host.process.open_cdev(A)
    return host, again.reset


@case("EBUSY", "0000:01:00.0 of group 2 is tied to an iommufd")
def open_the_group_of_a_device_that_is_tied() -> Call:
    host, _, _ = native()
    return host, lambda: host.process.open_group(A)


def tie(**given: Any) -> Callable[[], Call]:
    def set_up() -> Call:
        host = replace(intel(), vfio="iommufd-compat").host("6.12")
        fd, device = host.process.open_iommufd(), host.process.open_cdev(A)
        return host, lambda: device.bind_iommufd(**({"iommufd": fd} | given))

    return set_up


for given, errno, why in (
    ({"ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"argsz": 15}, "EINVAL", "argsz 15 is below 16"),
    ({"flags": 1}, "EINVAL", "flags 0x1: there are none"),
    ({"iommufd": -1}, "EINVAL", "the iommufd's descriptor is -1"),
    ({"iommufd": 99}, "EBADF", "descriptor 99 is not open"),
    ({"iommufd": 4}, "EBADFD", "descriptor 4 is no iommufd"),
):
    CASES.append(Case(f"bind_iommufd {given}", errno, why, tie(**given)))


@case("EINVAL", "0000:01:00.0 was opened through its group")
def tie_a_device_that_a_group_opened() -> Call:
    host, space, member = layer()
    device = member.get_device_fd(A)
    return host, lambda: device.bind_iommufd(space)


@case("EBUSY", "/dev/vfio/2 is open: a group is used in one of the two ways")
def tie_a_device_whose_group_is_open() -> Call:
    host, space, _ = layer()
    device = host.process.open_cdev(A)
    return host, lambda: device.bind_iommufd(space)


@case("EINVAL", "0000:01:00.0 is tied to an iommufd already")
def tie_a_device_twice() -> Call:
    host, fd, device = native()
    return host, lambda: device.bind_iommufd(fd)


@case("EINVAL", "0000:01:00.0 is in use by another descriptor")
def tie_a_device_that_is_in_use() -> Call:
    host, fd, _ = native()
    other = host.process.open_cdev(A)
    return host, lambda: other.bind_iommufd(fd)


for given, errno, why in (
    ({"ptr": "bad"}, "EFAULT", "the pointer to the struct is bad"),
    ({"argsz": 11}, "EINVAL", "argsz 11 is below 12"),
    ({"flags": 2}, "EINVAL", "flags 0x2: there are none"),
):

    def attach_with(given: dict[str, Any] = given) -> Call:
        host, _, device = native()
        return host, lambda: device.attach(1, **given)

    CASES.append(Case(f"attach_pt {given}", errno, why, attach_with))
